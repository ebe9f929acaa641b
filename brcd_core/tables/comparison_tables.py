"""Which differences to BRCD are significant, and how each method's loss weight was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import number
from brcd_core.tables.protocol import about, cut, sources
from brcd_core.tables.scores import (
    BRCD,
    PARADIGMS,
    NoRecords,
    Row,
    Seeds,
    by_seed,
    fits_teacher,
    in_order,
    of_kind,
    row_of,
)
from brcd_core.tables.table import NOTHING, Table, headers, make

Line = Mapping[str, Any]
MEASURED = ("seeds", "agreeing", "queries", "difference", "low", "high", "real")


def comparisons_table(records: Iterable[Record]) -> Table:
    """BRCD minus each method, for every student and code length: mean difference of mAP and its interval.

    NoRecords if there is no record of comparisons.
    """
    records = list(records)
    lines = _lines(records)
    if not lines:
        raise NoRecords("no record of comparisons, so there is nothing to compare")
    scores = by_seed(records)
    lines = [{**line, "agreeing": _agreeing(line, scores)} for line in lines]
    place = [*Row._fields, "bits"]
    found = {(*(line[name] for name in place), line["paradigm"]): line for line in lines}
    keys = sorted({key[:-1] for key in found}, key=lambda key: (*key[:3], key[4], key[3]))

    cells: dict[tuple[str, str], list[str]] = {}
    bold: dict[tuple[str, str], list[bool]] = {}
    for paradigm in PARADIGMS:
        column = [found.get((*key, paradigm)) for key in keys]
        difference = paradigm, f"{BRCD} minus method"
        cells[difference] = [NOTHING if line is None else number(line["difference"], sign="+") for line in column]
        bold[difference] = [line is not None and line["real"] for line in column]
        cells[paradigm, "interval"] = [NOTHING if line is None else _interval(line) for line in column]
        cells[paradigm, "seeds"] = [
            NOTHING if line is None else f"{line['agreeing']} of {len(line['seeds'])}" for line in column
        ]

    compared = {key[:-1] for key in found}
    runs = [r for r in of_kind(records, "student") if (*row_of(r)[:3], r["run"]["bits"]) in _settings(compared)]
    runs = [r for r in runs if r["run"]["method"] == BRCD or (*row_of(r), r["run"]["bits"]) in compared]
    caption = (
        f"Is {BRCD} better? Its tie-aware mAP{f'@{cut(runs)}' if runs else ''} minus that of each method, on "
        f"the same queries. {_finding(lines, scores)}Positive: {BRCD} finds more. Interval: paired bootstrap over the "
        f"{_either(line['queries'] for line in lines)} queries, each query's average precision averaged over the "
        f"seeds that both methods have, {family(records)}. Bold: significant, the interval leaves out 0. It covers "
        "the choice of queries, not the variation between training runs; of that the seeds tell: in how many of them "
        "the difference has the sign that it has on average."
    )
    note = about(runs, "main") if runs else sources(of_kind(records, "comparisons"))
    columns = {name: [key[position] for key in keys] for position, name in enumerate(place)}
    columns = {name: columns[name] for name in ("teacher", "hash_model", "student", "bits", "method")}
    heads = headers(columns, always=("student", "bits", "method"))
    values = pd.DataFrame(lines, columns=[*place, "paradigm", *MEASURED])
    values["seeds"] = [" ".join(map(str, line["seeds"])) for line in lines]
    return make("comparisons", caption, note, values, *heads, cells, bold)


def weights_table(records: Iterable[Record]) -> Table:
    """The grid of loss weights tried for each method, its validation scores, and the choice.

    NoRecords if no weight was chosen.
    """
    chosen = in_order(of_kind(records, "weights"))
    if not chosen:
        raise NoRecords("no record of a choice of weights, so there is no grid to show")
    tried = " or ".join(dict.fromkeys(f"{r['run']['bits']} bits, seed {r['run']['seed']}" for r in chosen))
    lines = [
        {name: record["run"][name] for name in ("teacher", "hash_model", "student")}
        | {"lengths": ", ".join(map(str, record["lengths"])), "tried_at": record["run"]["bits"]}
        | {"seed": record["run"]["seed"]}
        | {name: entry[name] for name in sorted(entry, key=lambda name: (name != "method", name))}
        for record in chosen
        for entry in sorted(record["grid"], key=lambda entry: (entry["method"], entry["factor"]))
    ]
    place = ("teacher", "hash_model", "student", "lengths", "method")
    grids: dict[tuple[str, ...], dict[float, Line]] = {}
    for line in lines:
        grids.setdefault(tuple(line[name] for name in place), {})[line["factor"]] = line
    factors = sorted({line["factor"] for line in lines})

    cells: dict[Any, list[str]] = {}
    bold: dict[Any, list[bool]] = {}
    for factor in factors:
        column = [grid.get(factor) for grid in grids.values()]
        scores = [None if line is None else line["score"] for line in column]
        cells[f"× {factor:g}"] = [NOTHING if score is None else f"{score:.3f}" for score in scores]
        bold[f"× {factor:g}"] = [line is not None and line["chosen"] for line in column]
    picked = [next((line for line in grid.values() if line["chosen"]), None) for grid in grids.values()]
    cells["weight chosen"] = [NOTHING if line is None else f"{line['weight']:g}" for line in picked]
    edges = [
        line["factor"] in (min(grid), max(grid))
        for line, grid in zip(picked, grids.values(), strict=True)
        if line is not None and len(grid) > 1
    ]
    caption = (
        f"How the weight of each method's loss was chosen: validation score at {tried} (by the rule that also picks a "
        "method's checkpoint) with the published weight times a factor. Bold: the choice, which all code lengths of a "
        f"line use. {sum(edges)} of {len(edges)} choices lie at an end of their grid, where a "
        "wider one might have helped the method. Queries took no part."
    )
    heads = headers(
        {name: [key[position] for key in grids] for position, name in enumerate(place)},
        always=("student", "lengths", "method"),
    )
    return make("weights", caption, about(chosen), pd.DataFrame(lines), *heads, cells, bold)


def alike(records: Iterable[Record]) -> set[tuple[Row, int, str]]:
    """Line, code length and paradigm of each method whose difference to BRCD is not significant."""
    return {
        (_row(line), line["bits"], line["paradigm"])
        for line in _lines(records)
        if not line["real"]
    }


def family(records: Iterable[Record]) -> str:
    """The confidence of the intervals, and of how many together."""
    found = of_kind(records, "comparisons")
    count, confidence = sum(len(record["lines"]) for record in found), [f"{r['confidence']:.0%}" for r in found]
    return f"{_either(confidence)} for all {count} comparisons together"


def _lines(records: Iterable[Record]) -> list[Line]:
    """All comparisons with BRCD, in an order that does not depend on that of the records."""
    found = [record for record in of_kind(records, "comparisons") if record["against"] == BRCD]
    place = ("teacher", "hash_model", "student", "bits", "method", "paradigm")
    return sorted((line for record in found for line in record["lines"]), key=lambda line: [line[n] for n in place])


def _agreeing(line: Line, scores: Mapping[tuple[Row, int, str], Seeds]) -> int:
    """In how many seeds the difference has the sign of the mean difference."""
    row = _row(line)
    theirs, ours = (scores[one, line["bits"], line["paradigm"]] for one in (row, row._replace(method=BRCD)))
    return sum((ours[seed] - theirs[seed]) * line["difference"] > 0 for seed in line["seeds"])


def _settings(compared: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Teacher, hash model, student and code length of the comparisons."""
    return {(*key[:3], key[4]) for key in compared}


def _finding(lines: list[Line], scores: Mapping[tuple[Row, int, str], Seeds]) -> str:
    """How many differences are significant, and in whose favour, in a sentence for each paradigm."""
    sentences = []
    for paradigm in PARADIGMS:
        own = [line for line in lines if line["paradigm"] == paradigm]
        better = sum(line["real"] and line["difference"] > 0 for line in own)
        worse = sum(line["real"] and line["difference"] < 0 for line in own)
        lost = sum(paradigm == "ASHP" and not fits_teacher(scores, _row(line), line["bits"]) for line in own)
        if own:
            aside = f" ({lost} of them to methods whose own ASHP is under half their SSHP)," if lost else ""
            sentences.append(
                f"{paradigm}: of {len(own)} differences{aside} {BRCD} is significantly better in {better} and "
                f"significantly worse in {worse}. "
            )
    return "".join(sentences)


def _row(line: Line) -> Row:
    return Row(*(line[name] for name in Row._fields))


def _interval(line: Line) -> str:
    """With the sign of an end that rounds to 0, which decides."""
    low, high = (f"{line[end]:+.3f}".replace("-", "−") for end in ("low", "high"))
    return f"[{low}, {high}]"


def _either(values: Iterable[Any]) -> str:
    return " or ".join(f"{value:,}" if isinstance(value, int) else value for value in dict.fromkeys(values))
