"""Variations of a method beside the method itself: BRCD's parts, and what the released code does otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import cell, number, spread, usual
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.scores import (
    PARADIGMS,
    NoRecords,
    Row,
    Seeds,
    Summary,
    by_seed,
    fits_teacher,
    of_kind,
    of_part,
    place_of_method,
    plain_method,
    row_of,
    summary,
)
from brcd_core.tables.table import NOTHING, Table, headers, make

Scores = Mapping[tuple[Row, int, str], Seeds]
SAME = "as it is"  # what a plain method changes


class Line(NamedTuple):
    """A method at one code length, the plain method it is compared with, and what it changes."""

    row: Row
    bits: int
    plain: str
    changed: str

    @property
    def varied(self) -> bool:
        """Whether this is a variation, and not the plain method itself."""
        return self.row.method != self.plain


def ablation_table(records: Iterable[Record]) -> Table:
    """Methods, chiefly BRCD, minus each of their parts or with one of them otherwise, and the difference.

    NoRecords if there is no such variation.
    """
    question = "What is each part of a method worth? Each method as it is, and with one thing changed."
    return _variations("ablation", records, question)


def released_table(records: Iterable[Record]) -> Table:
    """What each deviation of the released code costs: the method with it, beside the method without.

    NoRecords if there is no such variation.
    """
    question = (
        "What does it cost to do as the released code does? Each method as its paper defines it, and with one "
        "deviation of the released code (or several)."
    )
    return _variations("released", records, question)


def _variations(name: str, records: Iterable[Record], question: str) -> Table:
    records = list(records)
    students = of_kind(of_part(records, name), "student")
    variants = [record for record in students if record["run"]["method"] != plain_method(record)]
    if not variants:
        raise NoRecords(f"no record of a variation of a method in part {name}")
    # The plain method may have been run for another part.
    plains = {_identity(record): record for record in of_kind(records, "student")}
    found = {_identity(record, plain_method(record)) for record in variants}
    shown = [*variants, *(plains[key] for key in sorted(found) if key in plains)]
    lines = _lines(shown, plains)
    scores = by_seed(shown)

    values: list[dict[str, Any]] = []
    texts: dict[tuple[str, str], list[str]] = {}
    changes: dict[str, list[Summary | None]] = {}
    for paradigm in PARADIGMS:
        own = [summary(scores.get((line.row, line.bits, paradigm))) for line in lines]
        change = changes[paradigm] = [_change(scores, line, paradigm) for line in lines]
        texts[paradigm, score_name(shown)] = _texts(own)
        texts[paradigm, "change"] = _texts(change, sign="+")
        values += [_values(line, paradigm, *both) for line, *both in zip(lines, own, change, strict=True)]

    # As objects, so that a whole number stays one where other lines have nothing.
    table = pd.DataFrame(values, dtype=object)
    counts = table["n"].dropna().astype(int).tolist()
    caption = (
        f"{question} {score_told(shown)} of the query images. Change: the row's score minus that of the plain "
        f"method of the same teacher, student and seed; below 0 the variation is worse. "
        f"{_finding(scores, lines, changes)}{spread(counts).capitalize()}."
    )
    columns: dict[str, list[str]] = {field: [getattr(line.row, field) for line in lines] for field in Row._fields}
    method = columns.pop("method")
    columns |= {"bits": [str(line.bits) for line in lines], "method": method}
    columns["changed"] = [line.changed for line in lines]
    heads = headers(columns, always=("student", "bits", "method", "changed"))
    return make(name, caption, about(shown, name), table, *heads, texts)


def _lines(shown: Iterable[Record], plains: Mapping[tuple[Any, ...], Record]) -> list[Line]:
    """The lines in reading order: below each plain method its variations, by name."""
    found: dict[tuple[Any, ...], Line] = {}
    for record in sorted(shown, key=lambda record: record["run"]["seed"]):
        row, bits, plain = row_of(record), record["run"]["bits"], plain_method(record)
        other = plains.get(_identity(record, plain))
        changed = SAME if row.method == plain else differences(record, other) if other else NOTHING
        key = (*row.pair, bits, place_of_method(record), plain, row.method != plain, row.method)
        found.setdefault(key, Line(row, bits, plain, changed))
    return [found[key] for key in sorted(found)]


def differences(record: Record, other: Record) -> str:
    """The settings in which a run differs from another one, e.g. "mask: none; student.hidden: 0"."""
    own, plain = _flat(record), _flat(other)
    changed = [name for name in sorted(own) if own[name] != plain.get(name)]
    return "; ".join(f"{name}: {_word(own[name])}" for name in changed) or "nothing"


def _flat(record: Record) -> dict[str, Any]:
    """All settings of a run by dotted name; those of the methods as the run resolved them."""
    resolved = record.get("resolved", {})
    others = {k: v for k, v in record["settings"].items() if k not in ("distillation", "hash_model", "weights")}
    flat: dict[str, Any] = {}
    for tree in (resolved.get("distillation", {}), resolved.get("hash_model", {}), others):
        flat |= _dotted(tree)
    return flat


def _dotted(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _dotted(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return flat


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _identity(record: Record, method: str | None = None) -> tuple[Any, ...]:
    row, run = row_of(record), record["run"]
    return (*row._replace(method=method or row.method), run["bits"], run["seed"])


def _change(scores: Scores, line: Line, paradigm: str) -> Summary | None:
    """The line's scores minus those of its plain method, seed by seed; None for the plain method itself."""
    plain = scores.get((line.row._replace(method=line.plain), line.bits, paradigm))
    return summary(scores.get((line.row, line.bits, paradigm)), plain) if line.varied and plain else None


def _texts(column: list[Summary | None], sign: str = "") -> list[str]:
    expected = usual(found[2] for found in column if found)
    return [cell(*found, expected, sign=sign) if found else NOTHING for found in column]


def _values(line: Line, paradigm: str, own: Summary | None, change: Summary | None) -> dict[str, Any]:
    nothing = (None, None, None)
    head = line.row._asdict() | {"bits": line.bits, "plain": line.plain, "changed": line.changed, "paradigm": paradigm}
    scored = dict(zip(("mean", "std", "n"), own or nothing, strict=True))
    return head | scored | dict(zip(("change", "change_std", "change_n"), change or nothing, strict=True))


def _finding(scores: Scores, lines: list[Line], changes: Mapping[str, list[Summary | None]]) -> str:
    """How many variations lose, and which loses most, in a sentence for each paradigm."""
    sentences = []
    for paradigm, column in changes.items():
        found = {line: change[0] for line, change in zip(lines, column, strict=True) if change}
        counted = {line: change for line, change in found.items() if paradigm == "SSHP" or _fits(scores, line)}
        if counted:
            lowest = min(counted, key=counted.__getitem__)
            worse, where = sum(change < 0 for change in counted.values()), f"{lowest.row.student}, {lowest.bits} bits"
            furthest = f", the furthest {lowest.row.method} ({number(counted[lowest], sign='+')}; {where})"
            sentences.append(
                f"{paradigm}: {worse} of {len(counted)} rows are below their plain method{furthest if worse else ''}. "
            )
        if left_out := len(found) - len(counted):
            sentences.append(f"Not counted in ASHP: {left_out} of methods whose ASHP is under half their SSHP. ")
    return "".join(sentences)


def _fits(scores: Scores, line: Line) -> bool:
    """Whether the plain method of a line can search the teacher's database at all."""
    return fits_teacher(scores, line.row._replace(method=line.plain), line.bits)
