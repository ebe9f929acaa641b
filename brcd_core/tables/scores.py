"""The numbers of the records in tidy form, and their means over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brcd_core.records import Record

TEACHER = "teacher"  # the method of the reference line, and the paradigm of a teacher that encodes both sides
PARADIGMS = ("SSHP", "ASHP")
MEASURES = {
    "map": "mAP@k",
    "map_stable": "mAP@k, stable order",
    "precision_at_k": "precision@k",
    "lookup_precision": "precision, radius 2",
    "lookup_empty": "nothing in radius 2",
}
BETTER_WHEN_LOW = ("lookup_empty",)
KINDS = ("features", "teacher", "student", "redundancy")


Summary = tuple[float, float, int]  # mean, sample standard deviation (NaN for one seed), number of seeds


class Row(NamedTuple):
    """A line of the study's tables: who teaches whom, and how. The teacher's own has method `TEACHER`."""

    teacher: str
    student: str
    method: str


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of one kind: features, teacher, student or redundancy."""
    return [record for record in records if record["kind"] == kind]


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records by kind, then backbones, method, bits and seed."""

    def key(record: Record) -> tuple[Any, ...]:
        run = record["run"]
        names = [run.get(name, "") for name in ("backbone", "teacher", "student", "method")]
        return (KINDS.index(record["kind"]), *names, run.get("bits", 0), run.get("seed", 0))

    return sorted(records, key=key)


def row_of(record: Record) -> Row:
    """The line to which a teacher's or student's record belongs."""
    run = record["run"]
    return Row(run["teacher"], run.get("student", run["teacher"]), run.get("method", TEACHER))


def rows(records: Iterable[Record]) -> list[Row]:
    """All lines in reading order: under each teacher its students, under each student its methods.

    First comes no distillation, then the baselines by name, last the profile's BRCD and its variants.
    """

    def key(record: Record) -> tuple[Any, ...]:
        row = row_of(record)
        # The teacher is the reference of the lines below it, so it leads them.
        return (row.teacher, record["kind"] != TEACHER, row.student, place_of_method(record), row.method)

    trained = [record for record in records if record["kind"] in ("teacher", "student")]
    return list(dict.fromkeys(row_of(record) for record in sorted(trained, key=key)))


def place_of_method(record: Record) -> int:
    """0 for students without distillation, 1 for baselines, 2 for BRCD: the order in tables and figures."""
    return {"none": 0, "brcd": 2}.get(record["settings"]["distillation"]["name"], 1)


def bits_of(records: Iterable[Record]) -> list[int]:
    """All code lengths of teachers and students, ascending."""
    return sorted({record["run"]["bits"] for record in records if record["kind"] in ("teacher", "student")})


def largest_common_bits(records: Iterable[Record]) -> int:
    """The greatest code length that every line has; where they share none, the greatest there is.

    ValueError if there is no record of a teacher or a student.
    """
    found: dict[Row, set[int]] = {}
    for record in records:
        if record["kind"] in ("teacher", "student"):
            found.setdefault(row_of(record), set()).add(record["run"]["bits"])
    if not found:
        raise ValueError("no record of a teacher or a student, so there are no scores to show")
    return max(set.intersection(*found.values()) or set.union(*found.values()))


def scores(records: Iterable[Record]) -> pd.DataFrame:
    """All retrieval measures of the query split, one row a run, paradigm and measure.

    Columns teacher, student, method, bits, seed, paradigm ("teacher", "SSHP", "ASHP"), measure, value.
    """
    table = []
    for record in in_order(records):
        if record["kind"] not in ("teacher", "student"):
            continue
        run = record["run"]
        for paradigm in [TEACHER, *PARADIGMS]:
            measures = record["metrics"].get(paradigm.lower(), {})
            for measure in (name for name in MEASURES if name in measures):
                line = (*row_of(record), run["bits"], run["seed"], paradigm, measure, measures[measure])
                table.append(line)
    columns = [*Row._fields, "bits", "seed", "paradigm", "measure", "value"]
    return pd.DataFrame(table, columns=columns).astype({"value": float})


def over_seeds(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, sample standard deviation (none for one seed) and number of the column `value`, per group."""
    groups = table.dropna(subset=["value"]).groupby(list(by), sort=False)["value"]
    return groups.agg(mean="mean", std="std", n="count").reset_index()


def by_key(values: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], Summary]:
    """What `over_seeds` gives, to be looked up by the values of its group."""
    lines = zip(*(values[name].tolist() for name in [*keys, "mean", "std", "n"]), strict=True)
    return {line[:-3]: (line[-3], line[-2], line[-1]) for line in lines}


def usual(counts: Iterable[int]) -> int:
    """The most frequent number of seeds, the larger one of two that are as frequent; 0 for none."""
    ranked = Counter(int(count) for count in counts)
    return max(ranked, key=lambda n: (ranked[n], n), default=0)


def cell(mean: float, std: float, n: int, expected: int, decimals: int = 3) -> str:
    """A mean and its spread for a reader: 0.812 ± 0.004; with (n=2) where another number is expected."""
    text = f"{mean:,.{decimals}f}"
    if n > 1 and np.isfinite(std):
        text += f" ± {std:,.{decimals}f}"
    return text if n == expected else f"{text} (n={n})"


def spread(counts: Iterable[int]) -> str:
    """What the cells of a table mean, where `counts` are its numbers of seeds; `cell` writes those unlike the usual."""
    counts = list(counts)
    expected = usual(counts)
    if max(counts, default=0) < 2:
        return "one seed, so no spread"
    if expected < 2:
        return "mean ± sample standard deviation over n seeds where n is given, elsewhere a single run"
    others = " (another number: n)" if set(counts) != {expected} else ""
    return f"mean ± sample standard deviation over {expected} seeds{others}"


def best(values: Sequence[float | None], low: bool = False, decimals: int = 3) -> list[bool]:
    """Which of the values are the best, as a reader sees them: rounded. None of them if there is only one."""
    shown = [None if value is None or np.isnan(value) else round(value, decimals) for value in values]
    there = [value for value in shown if value is not None]
    if len(there) < 2:
        return [False] * len(shown)
    top = min(there) if low else max(there)
    return [value == top for value in shown]
