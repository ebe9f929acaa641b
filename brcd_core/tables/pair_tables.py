"""Teacher, student alone, with BRCD and with its simplest rival: over hash models, and over pairs of backbones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import best_of_groups, cell, number, spread, usual
from brcd_core.tables.protocol import about, score_told
from brcd_core.tables.scores import (
    ALONE,
    BRCD,
    PARADIGMS,
    SIMPLE,
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


class Column(NamedTuple):
    """Scores of a method in a paradigm, or, with `minus`, how far they are above those of another method."""

    method: str
    paradigm: str
    minus: str | None = None


GAIN, LEAD = "gain", "lead"
COLUMNS = {
    TEACHER: Column(TEACHER, TEACHER),
    ALONE: Column(ALONE, "SSHP"),
    **{f"{method} {paradigm}": Column(method, paradigm) for method in (SIMPLE, BRCD) for paradigm in PARADIGMS},
    GAIN: Column(BRCD, "SSHP", minus=ALONE),
    **{f"{LEAD} {paradigm}": Column(BRCD, paradigm, minus=SIMPLE) for paradigm in PARADIGMS},
}
HOW = (
    f"Teacher: it encodes queries and database. {ALONE}: the student without a teacher, SSHP. Gain: {BRCD}'s SSHP "
    "minus the student alone, seed by seed."
)
HOW_LEAD = f" Lead: {BRCD} minus {SIMPLE}, the simplest rival, seed by seed."


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
    """Pairs of backbones: the teacher, the student alone, its simplest rival, and BRCD.

    NoRecords if no student belongs to this part.
    """
    question = f"Does {BRCD} help whatever the backbones?"
    return _pairs("backbones", records, question, "teacher", lambda pair: pair[1:2])


def _pairs(
    name: str, records: Iterable[Record], question: str, subject: str, group: Callable[[Pair], tuple[str, ...]]
) -> Table:
    """A line for each teacher, hash model and student; bold the best of each column within its `group`."""
    chosen = [
        record
        for record in of_part(records, name)
        if row_of(record).method in (TEACHER, ALONE, SIMPLE, BRCD)
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
        for heading, of in COLUMNS.items():
            column = [_score(scores, pair, bits, of) for pair in pairs]
            if any(column):
                key = f"{bits} bits", heading
                expected = usual(found[2] for found in column if found)
                sign = "+" if of.minus else ""
                cells[key] = [cell(*found, expected, sign=sign) if found else NOTHING for found in column]
                bold[key] = best_of_groups([group(pair) for pair in pairs], column)
                both = zip(pairs, column, strict=True)
                values += [_value(pair, bits, heading, found) for pair, found in both if found]

    table = pd.DataFrame(values)
    how = HOW + (HOW_LEAD if table["column"].str.startswith(LEAD).any() else "")
    each = " for each teacher and student" if len({group(pair) for pair in pairs}) > 1 else ""
    caption = (
        f"{question} {score_told(chosen)} of the query images. {_finding(table)}{how} "
        f"{spread(table['n'].tolist()).capitalize()}; bold: the best of each column{each}."
    )
    columns = {field: [pair[place] for pair in pairs] for place, field in enumerate(Row._fields[:3])}
    heads = headers(columns, always=(subject, "student"))
    return make(name, caption, about(chosen, name), table, *heads, cells, bold)


def _score(scores: dict[tuple[Row, int, str], dict[int, float]], pair: Pair, bits: int, of: Column) -> Summary | None:
    teacher, hash_model, student = pair
    row = Row(teacher, hash_model, teacher if of.method == TEACHER else student, of.method)
    found = scores.get((row, bits, of.paradigm))
    if of.minus is None:
        return summary(found)
    other = scores.get((row._replace(method=of.minus), bits, of.paradigm))
    return summary(found, other) if other else None


def _value(pair: Pair, bits: int, heading: str, found: Summary) -> dict[str, Any]:
    line = dict(zip(Row._fields[:3], pair, strict=True)) | {"bits": bits, "column": heading}
    return line | dict(zip(("mean", "std", "n"), found, strict=True))


def _finding(table: pd.DataFrame) -> str:
    """In how many cases BRCD is ahead, and the ends of its gain and leads, in a sentence."""
    parts = []
    for heading, of in COLUMNS.items():
        ahead = table[table["column"] == heading]["mean"]
        if of.minus and len(ahead):
            least, most = (number(value, sign="+") for value in (ahead.min(), ahead.max()))
            between = f"between {least} and {most}" if least != most else least
            whose = "the student alone" if of.minus == ALONE else f"{of.minus} in {of.paradigm}"
            parts.append(f"above {whose} in {int((ahead > 0).sum())} of {len(ahead)} cases ({heading} {between})")
    return f"{BRCD} is {', '.join(parts)}. " if parts else ""
