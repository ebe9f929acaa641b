"""The tables of retrieval scores: the main table, and all measures at one code length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brcd_core.records import Record
from brcd_core.tables.protocol import cut, protocol
from brcd_core.tables.scores import (
    BETTER_WHEN_LOW,
    MEASURES,
    PARADIGMS,
    TEACHER,
    Row,
    Summary,
    best,
    bits_of,
    by_key,
    cell,
    largest_common_bits,
    over_seeds,
    rows,
    scores,
    spread,
    usual,
)
from brcd_core.tables.table import NOTHING, Table, make

HOW = (
    "SSHP: the student encodes queries and database. ASHP: the teacher encodes the database, the student the "
    "queries. The teacher's row, where it encodes both, is the reference."
)


def main_table(records: Iterable[Record]) -> Table:
    """Tie-aware mAP@k of every student and method, per code length and paradigm; the teacher as reference.

    Mean and sample standard deviation over seeds. Bold: the best method of each student in each column.
    ValueError if there is no record of a teacher or a student.
    """
    records = list(records)
    lengths, lines = bits_of(records), rows(records)
    largest_common_bits(records)  # refuses records without scores
    table = scores(records)
    values = over_seeds(table[table["measure"] == "map"], [*Row._fields, "bits", "paradigm"])
    found = by_key(values, [*Row._fields, "bits", "paradigm"])
    expected = usual(values["n"])

    cells, bold = {}, {}
    for bits in lengths:
        for paradigm in PARADIGMS:
            column = [found.get((*line, bits, _paradigm(line, paradigm))) for line in lines]
            cells[f"{bits} bits", paradigm] = _texts(column, expected)
            bold[f"{bits} bits", paradigm] = _best_of_each_student(lines, column)
    caption = (
        f"Tie-aware mAP@{cut(records)} of the query images. {_finding(lines, found, lengths[-1])}{HOW} "
        f"{_marks(values['n'], bold.values())}"
    )
    return make("main", caption, protocol(records), values, *_index(lines), cells, bold)


def measures_table(records: Iterable[Record]) -> Table:
    """Every measure of every student, method and paradigm at the largest code length that all of them have.

    ValueError if there is no record of a teacher or a student.
    """
    records = list(records)
    bits = largest_common_bits(records)
    records = [record for record in records if record["run"].get("bits", bits) == bits]
    keys = [*Row._fields, "bits", "paradigm", "measure"]
    values = over_seeds(scores(records), keys)
    found, expected = by_key(values, keys), usual(values["n"])
    lines = [
        (row, paradigm)
        for row in rows(records)
        for paradigm in ((TEACHER,) if row.method == TEACHER else PARADIGMS)
    ]

    cells, bold = {}, {}
    for measure, heading in MEASURES.items():
        column = [found.get((*row, bits, paradigm, measure)) for row, paradigm in lines]
        cells[heading] = _texts(column, expected)
        groups = [
            (row.teacher, row.student, paradigm) if row.method != TEACHER else None for row, paradigm in lines
        ]
        bold[heading] = _best_of_groups(groups, column, low=measure in BETTER_WHEN_LOW)
    caption = (
        f"All measures at {bits} bits, k = {cut(records)}. {HOW} Stable order: ties in Hamming distance are "
        "broken by database index; every other measure is the mean over all orders of the ties. Radius 2: "
        "precision of what lies within Hamming distance 2 (0 where there is nothing), and the share of "
        "queries that find nothing there, where less is better. "
        f"{_marks(values['n'], bold.values())}"
    )
    index, names = _index([row for row, _ in lines])
    index = [(*key, paradigm) for key, (_, paradigm) in zip(index, lines, strict=True)]
    return make("measures", caption, protocol(records), values, index, [*names, "paradigm"], cells, bold)


def _paradigm(line: Row, paradigm: str) -> str:
    """A teacher has one score: it encodes both sides in either column."""
    return TEACHER if line.method == TEACHER else paradigm


def _texts(column: list[Summary | None], expected: int) -> list[str]:
    return [NOTHING if summary is None else cell(*summary, expected) for summary in column]


def _best_of_each_student(lines: list[Row], column: list[Summary | None]) -> list[bool]:
    groups = [(line.teacher, line.student) if line.method != TEACHER else None for line in lines]
    return _best_of_groups(groups, column)


def _best_of_groups(
    groups: Sequence[tuple[str, ...] | None], column: list[Summary | None], low: bool = False
) -> list[bool]:
    """The best mean within each group of lines; a line without a group takes no part."""
    marks = [False] * len(groups)
    for group in dict.fromkeys(group for group in groups if group is not None):
        places = [place for place, other in enumerate(groups) if other == group]
        means = [summary[0] if (summary := column[place]) else None for place in places]
        for place, mark in zip(places, best(means, low), strict=True):
            marks[place] = mark
    return marks


def _marks(counts: Iterable[int], bold: Iterable[list[bool]]) -> str:
    """How to read the cells: what ± and a mark mean, as far as they occur."""
    words = spread(counts)
    marked = "; marked: the best method of each student." if any(map(any, bold)) else "."
    return words[0].upper() + words[1:] + marked


def _finding(lines: list[Row], found: dict[tuple[object, ...], Summary], bits: int) -> str:
    """The best method of each student at the largest code length, beside the teacher, in a sentence."""
    sentences = []
    for teacher, student in dict.fromkeys(line[:2] for line in lines if line.method != TEACHER):
        own = [line for line in lines if line[:2] == (teacher, student) and line.method != TEACHER]
        reference = found.get((teacher, teacher, TEACHER, bits, TEACHER))
        leaders = []
        for paradigm in PARADIGMS:
            column = {line.method: found.get((*line, bits, paradigm)) for line in own}
            there = {method: summary[0] for method, summary in column.items() if summary}
            if len(there) > 1:
                name = max(there, key=there.__getitem__)
                leaders.append(f"best {paradigm} {there[name]:.3f} ({name})")
        if leaders:
            beside = f"; the teacher has {reference[0]:.3f}" if reference else ""
            sentences.append(f"{student} at {bits} bits: {', '.join(leaders)}{beside}. ")
    return "".join(sentences)


def _index(lines: list[Row]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Row headers; the teacher's name is one of them only where there are several teachers."""
    several = len({line.teacher for line in lines}) > 1
    first = 0 if several else 1
    return [tuple(line)[first:] for line in lines], list(Row._fields)[first:]
