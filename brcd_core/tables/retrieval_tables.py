"""The tables of retrieval scores: the main table, and all measures at one code length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from brcd_core.records import Record
from brcd_core.tables.cells import best_of_groups, cell, spread, usual
from brcd_core.tables.comparison_tables import alike, family
from brcd_core.tables.protocol import about, cut, score_told
from brcd_core.tables.scores import (
    BETTER_WHEN_LOW,
    BRCD,
    MEASURES,
    PARADIGMS,
    TEACHER,
    Row,
    Summary,
    bits_of,
    by_key,
    largest_common_bits,
    of_kind,
    of_part,
    over_seeds,
    rows,
    score_of,
    scores,
)
from brcd_core.tables.table import ALIKE, NOTHING, Table, headers, make

HOW = (
    "SSHP: the student encodes queries and database. ASHP: the teacher encodes the database, the student the "
    "queries. The teacher's row, where it encodes both, is the reference."
)


def main_table(records: Iterable[Record]) -> Table:
    """Tie-aware mAP@k of every student and method, per code length and paradigm; the teacher as reference.

    Mean and sample standard deviation over seeds. Bold: the best method of each student in each column. A dagger:
    the bootstrap cannot tell the method from BRCD. NoRecords if there is no record of a teacher or a student.
    """
    records = list(records)
    chosen = of_part(records, "main")
    largest_common_bits(chosen)  # refuses records without scores
    lengths, lines = bits_of(chosen), rows(chosen)
    table = scores(chosen)
    values = over_seeds(table[table["measure"] == score_of(chosen)], [*Row._fields, "bits", "paradigm"])
    found = by_key(values, [*Row._fields, "bits", "paradigm"])
    expected, same = usual(values["n"]), alike(records)

    cells, bold = {}, {}
    for bits in lengths:
        for paradigm in PARADIGMS:
            column = [found.get((*line, bits, _paradigm(line, paradigm))) for line in lines]
            daggers = [ALIKE if (line, bits, paradigm) in same else "" for line in lines]
            texts = zip(_texts(column, expected), daggers, strict=True)
            cells[f"{bits} bits", paradigm] = [text + dagger for text, dagger in texts]
            bold[f"{bits} bits", paradigm] = _best_of_each_student(lines, column)
    caption = (
        f"{score_told(chosen)} of the query images. {finding(lines, found, lengths[-1])}{HOW} "
        f"{_marks(values['n'], bold.values())}{_of_comparisons(records, cells)}"
    )
    if of_kind(records, "weights"):
        caption += " The weight of each method's loss was chosen on validation (table weights)."
    heads = headers(_columns(lines), always=("student", "method"))
    return make("main", caption, about(chosen, "main"), values, *heads, cells, bold)


def measures_table(records: Iterable[Record]) -> Table:
    """Every measure of every student, method and paradigm at the largest code length that all of them have.

    NoRecords if there is no record of a teacher or a student.
    """
    records = of_part(records, "main")
    bits = largest_common_bits(records)
    records = [record for record in records if record["run"].get("bits", bits) == bits]
    keys = [*Row._fields, "bits", "paradigm", "measure"]
    values = over_seeds(scores(records), keys)
    found, expected = by_key(values, keys), usual(values["n"])
    lines = [
        (row, paradigm) for row in rows(records) for paradigm in ((TEACHER,) if row.method == TEACHER else PARADIGMS)
    ]

    cells, bold = {}, {}
    for measure, heading in MEASURES.items():
        column = [found.get((*row, bits, paradigm, measure)) for row, paradigm in lines]
        if not any(column):
            continue
        cells[heading] = _texts(column, expected)
        groups = [(*row.pair, paradigm) if row.method != TEACHER else None for row, paradigm in lines]
        bold[heading] = best_of_groups(groups, column, low=measure in BETTER_WHEN_LOW)
    caption = (
        f"All measures at {bits} bits, k = {cut(records)}. {HOW} Stable order: ties in Hamming distance are "
        "broken by database index; every other measure is the mean over all orders of the ties. Radius 2: "
        "precision of what lies within Hamming distance 2 (0 where there is nothing), and the share of "
        "queries that find nothing there, where less is better. "
        f"{_marks(values['n'], bold.values())}"
    )
    columns = _columns([row for row, _ in lines]) | {"paradigm": [paradigm for _, paradigm in lines]}
    heads = headers(columns, always=("student", "method", "paradigm"))
    return make("measures", caption, about(records, "main"), values, *heads, cells, bold)


def _paradigm(line: Row, paradigm: str) -> str:
    """A teacher has one score: it encodes both sides in either column."""
    return TEACHER if line.method == TEACHER else paradigm


def _texts(column: list[Summary | None], expected: int) -> list[str]:
    return [NOTHING if summary is None else cell(*summary, expected) for summary in column]


def _best_of_each_student(lines: list[Row], column: list[Summary | None]) -> list[bool]:
    groups = [line.pair if line.method != TEACHER else None for line in lines]
    return best_of_groups(groups, column)


def _marks(counts: Iterable[int], bold: Iterable[list[bool]]) -> str:
    """How to read the cells: what ± and a mark mean, as far as they occur."""
    words = spread(counts)
    marked = "; bold: the best method of each student." if any(map(any, bold)) else "."
    return words[0].upper() + words[1:] + marked


def finding(lines: list[Row], found: dict[tuple[object, ...], Summary], bits: int) -> str:
    """The best method of each student at the largest code length, beside the teacher, in a sentence."""
    sentences = []
    for pair in dict.fromkeys(line.pair for line in lines if line.method != TEACHER):
        own = [line for line in lines if line.pair == pair and line.method != TEACHER]
        teacher, hash_model, student = pair
        reference = found.get((teacher, hash_model, teacher, TEACHER, bits, TEACHER))
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


def _of_comparisons(records: list[Record], cells: Mapping[tuple[str, str], list[str]]) -> str:
    """What a dagger says, and where it could stand."""
    if not of_kind(records, "comparisons"):
        return ""
    count = sum(text.endswith(ALIKE) for column in cells.values() for text in column)
    marked = f"{ALIKE} (in {count} cells): a paired bootstrap" if count else "In every cell a paired bootstrap"
    cannot = "cannot" if count else "can"
    return f" {marked} over the queries {cannot} tell the method from {BRCD}, {family(records)} (table comparisons)."


def _columns(lines: Sequence[Row]) -> dict[str, list[str]]:
    """The fields of the lines, to head their rows."""
    return {name: [getattr(line, name) for line in lines] for name in Row._fields}
