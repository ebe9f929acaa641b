"""Teacher, student alone and student with BRCD, side by side: over hash models, and over pairs of backbones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import best_of_groups, cell, number, spread, usual
from brcd_core.tables.protocol import about, score_told
from brcd_core.tables.scores import (
    ALONE,
    BRCD,
    TEACHER,
    NoRecords,
    Row,
    Summary,
    bits_of,
    by_seed,
    of_kind,
    of_part,
    row_of,
    summary,
)
from brcd_core.tables.table import NOTHING, Table, headers, make

Pair = tuple[str, str, str]  # teacher, hash model, student
GAIN = "gain"
COLUMNS = (TEACHER, ALONE, f"{BRCD} SSHP", f"{BRCD} ASHP", GAIN)
HOW = (
    f"Teacher: it encodes queries and database. {ALONE}: the student without a teacher, SSHP. Gain: {BRCD}'s SSHP "
    "minus the student alone, seed by seed."
)


def hash_models_table(records: Iterable[Record]) -> Table:
    """Hash models: the teacher, the student alone, and BRCD. Those in closed form have no BRCD.

    NoRecords if no student belongs to this part.
    """
    question = (
        f"Does {BRCD} help whatever the hash model? A dash under {BRCD}: not run, as a hash model in closed form has "
        "no training to distil into."
    )
    return _pairs("hash_models", records, question, "hash_model", lambda pair: (pair[0], pair[2]))


def backbones_table(records: Iterable[Record]) -> Table:
    """Pairs of backbones: the teacher, the student alone, and BRCD. NoRecords if no student belongs to this part."""
    question = f"Does {BRCD} help whatever the backbones?"
    return _pairs("backbones", records, question, "teacher", lambda pair: pair[1:2])


def _pairs(
    name: str, records: Iterable[Record], question: str, subject: str, group: Callable[[Pair], tuple[str, ...]]
) -> Table:
    """A line for each teacher, hash model and student; bold the best of each column within its `group`."""
    chosen = [
        record
        for record in of_part(records, name)
        if row_of(record).method in (TEACHER, ALONE, BRCD)
    ]  # fmt: skip
    students = of_kind(chosen, "student")
    if not students:
        raise NoRecords(f"no record of a student in part {name}")
    with_brcd = {row_of(record).hash_model for record in students if row_of(record).method == BRCD}
    pairs = sorted({row_of(record).pair for record in students}, key=lambda p: (p[0], p[1] not in with_brcd, *p[1:]))
    scores = by_seed(chosen)

    values: list[dict[str, Any]] = []
    cells: dict[tuple[str, str], list[str]] = {}
    bold: dict[tuple[str, str], list[bool]] = {}
    for bits in bits_of(chosen):
        for heading in COLUMNS:
            column = [_score(scores, pair, bits, heading) for pair in pairs]
            if any(column):
                key = f"{bits} bits", heading
                expected = usual(found[2] for found in column if found)
                sign = "+" if heading == GAIN else ""
                cells[key] = [cell(*found, expected, sign=sign) if found else NOTHING for found in column]
                bold[key] = best_of_groups([group(pair) for pair in pairs], column)
                both = zip(pairs, column, strict=True)
                values += [_value(pair, bits, heading, found) for pair, found in both if found]

    table = pd.DataFrame(values)
    each = " for each teacher and student" if len({group(pair) for pair in pairs}) > 1 else ""
    caption = (
        f"{question} {score_told(chosen)} of the query images. {_finding(table)}{HOW} "
        f"{spread(table['n'].tolist()).capitalize()}; marked: the best of each column{each}."
    )
    columns = {field: [pair[place] for pair in pairs] for place, field in enumerate(Row._fields[:3])}
    heads = headers(columns, always=(subject, "student"))
    return make(name, caption, about(chosen, name), table, *heads, cells, bold)


def _score(scores: dict[tuple[Row, int, str], dict[int, float]], pair: Pair, bits: int, heading: str) -> Summary | None:
    teacher, hash_model, _ = pair
    alone = scores.get((Row(*pair, ALONE), bits, "SSHP"))
    if heading == TEACHER:
        return summary(scores.get((Row(teacher, hash_model, teacher, TEACHER), bits, TEACHER)))
    if heading == ALONE:
        return summary(alone)
    taught = scores.get((Row(*pair, BRCD), bits, "ASHP" if heading.endswith("ASHP") else "SSHP"))
    if heading == GAIN:
        return summary(taught, alone) if alone else None
    return summary(taught)


def _value(pair: Pair, bits: int, heading: str, found: Summary) -> dict[str, Any]:
    line = dict(zip(Row._fields[:3], pair, strict=True)) | {"bits": bits, "column": heading}
    return line | dict(zip(("mean", "std", "n"), found, strict=True))


def _finding(table: pd.DataFrame) -> str:
    """In how many lines BRCD gains, and the ends of the gain, in a sentence."""
    gains = table[table["column"] == GAIN]["mean"]
    if not len(gains):
        return ""
    least, most = (number(value, sign="+") for value in (gains.min(), gains.max()))
    between = f"between {least} and {most}" if least != most else least
    return f"{BRCD} is above the student alone in {int((gains > 0).sum())} of {len(gains)} cases (gain {between}). "
