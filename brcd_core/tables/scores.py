"""The numbers of the records in tidy form, and their means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brcd_core.records import Record

ALONE, BRCD = "alone", "brcd"  # the method without distillation, and the study's own
SIMPLE = "bit_cross_entropy"  # the simplest method that copies the teacher's code: BRCD's closest rival
TEACHER = "teacher"  # the method of the reference line, and the paradigm of a teacher that encodes both sides
PARADIGMS = ("SSHP", "ASHP")
MEASURES = {
    "map": "mAP@k",
    "map_stable": "mAP@k, stable order",
    "precision_at_k": "precision@k",
    "lookup_precision": "precision, radius 2",
    "lookup_empty": "nothing in radius 2",
    "agreement": "agreement",
}
BETTER_WHEN_LOW = ("lookup_empty",)
KINDS = ("features", "teacher", "student", "redundancy", "weights", "view_counts", "comparisons")
TRAINED = ("teacher", "student")  # kinds of record with scores

Summary = tuple[float, float, int]  # mean, sample standard deviation (NaN for one seed), number of seeds


class NoRecords(ValueError):
    """There is no record of what a table or figure is to show."""


class Row(NamedTuple):
    """A line of the study's tables: who teaches whom, and how. The teacher's own has method `TEACHER`."""

    teacher: str
    hash_model: str
    student: str
    method: str

    @property
    def pair(self) -> tuple[str, str, str]:
        """Teacher, hash model and student."""
        return self[:3]


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of one kind of `KINDS`."""
    return [record for record in records if record["kind"] == kind]


def of_part(records: Iterable[Record], part: str) -> list[Record]:
    """The students of one part of the profile and their teachers, in order. Without a part: "main"."""
    trained = [record for record in records if record["kind"] in TRAINED]
    inside = [part in record.get("parts", ["main"]) for record in trained]
    needed = {_teacher_key(record) for record, there in zip(trained, inside, strict=True) if there}
    return in_order(
        record
        for record, there in zip(trained, inside, strict=True)
        if there or (record["kind"] == TEACHER and _teacher_key(record) in needed)
    )


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records by kind, then backbones, hash model, method, bits and seed."""

    def key(record: Record) -> tuple[Any, ...]:
        run = record["run"]
        names = [run.get(name, "") for name in ("backbone", "teacher", "hash_model", "student", "method")]
        return (KINDS.index(record["kind"]), *names, run.get("bits", 0), run.get("seed", 0))

    return sorted(records, key=key)


def hash_model_of(record: Record) -> str:
    """The hash model of a run; older records name it in their settings only."""
    return str(record["run"].get("hash_model") or record["settings"]["hash_model"]["name"])


def row_of(record: Record) -> Row:
    """The line to which a teacher's or student's record belongs."""
    run = record["run"]
    return Row(run["teacher"], hash_model_of(record), run.get("student", run["teacher"]), run.get("method", TEACHER))


def was_trained(record: Record) -> bool:
    """Whether a run trained its head; that of a hash model in closed form has no epoch."""
    return bool(record.get("training", {}).get("epochs"))


def plain_method(record: Record) -> str:
    """The method of which a student's method is a variation: that with its distillation's own name."""
    name = str(record["settings"]["distillation"]["name"])
    return ALONE if name == "none" else name


def rows(records: Iterable[Record]) -> list[Row]:
    """All lines in reading order: under each teacher its students, under each student its methods.

    First comes no distillation, then the baselines by name, last the profile's BRCD and its variants.
    """

    def key(record: Record) -> tuple[Any, ...]:
        row = row_of(record)
        # The teacher is the reference of the lines below it, so it leads them.
        leads = record["kind"] != TEACHER
        return (row.teacher, row.hash_model, leads, row.student, place_of_method(record), row.method)

    trained = [record for record in records if record["kind"] in TRAINED]
    return list(dict.fromkeys(row_of(record) for record in sorted(trained, key=key)))


def place_of_method(record: Record) -> int:
    """0 for students without distillation, 1 for baselines, 2 for BRCD: the order in tables and figures."""
    return {"none": 0, "brcd": 2}.get(record["settings"]["distillation"]["name"], 1)


def bits_of(records: Iterable[Record]) -> list[int]:
    """All code lengths of teachers and students, ascending."""
    return sorted({record["run"]["bits"] for record in records if record["kind"] in TRAINED})


def largest_common_bits(records: Iterable[Record]) -> int:
    """The greatest code length that every line has; where they share none, the greatest there is.

    NoRecords if there is no record of a teacher or a student.
    """
    found: dict[Row, set[int]] = {}
    for record in records:
        if record["kind"] in TRAINED:
            found.setdefault(row_of(record), set()).add(record["run"]["bits"])
    if not found:
        raise NoRecords("no record of a teacher or a student, so there are no scores to show")
    return max(set.intersection(*found.values()) or set.union(*found.values()))


def scores(records: Iterable[Record]) -> pd.DataFrame:
    """All retrieval measures of the query split, one row a run, paradigm and measure.

    Columns teacher, hash_model, student, method, bits, seed, paradigm ("teacher", "SSHP", "ASHP"), measure, value.
    """
    table = []
    for record in in_order(records):
        if record["kind"] not in TRAINED:
            continue
        run = record["run"]
        for paradigm in [TEACHER, *PARADIGMS]:
            measures = record["metrics"].get(paradigm.lower(), {})
            for measure in (name for name in MEASURES if measures.get(name) is not None):
                line = (*row_of(record), run["bits"], run["seed"], paradigm, measure, measures[measure])
                table.append(line)
    columns = [*Row._fields, "bits", "seed", "paradigm", "measure", "value"]
    return pd.DataFrame(table, columns=columns).astype({"value": float})


def score_of(records: Iterable[Record]) -> str:
    """The measure that everything is compared by: mAP@k, or agreement where no image has a label."""
    scored = [record for record in records if record["kind"] in (*TRAINED, "view_counts")]
    labelled = any("map" in measures for record in scored for measures in record["metrics"].values())
    labelled = labelled or any(record.get("measure") == "map" for record in scored)
    return "map" if labelled or not scored else "agreement"


Seeds = dict[int, float]  # a score of each seed


def by_seed(records: Iterable[Record]) -> dict[tuple[Row, int, str], Seeds]:
    """The score of each seed, for every line, code length and paradigm."""
    records = list(records)
    table = scores(records)
    found: dict[tuple[Row, int, str], Seeds] = {}
    for *row, bits, seed, paradigm, _, value in table[table["measure"] == score_of(records)].itertuples(index=False):
        found.setdefault((Row(*row), bits, paradigm), {})[seed] = value
    return found


def summary(seeds: Seeds | None, minus: Seeds | None = None) -> Summary | None:
    """Mean, deviation and number of the seeds' scores, or of their differences over the seeds both have."""
    if not seeds:
        return None
    if minus is not None:
        seeds = {seed: value - minus[seed] for seed, value in seeds.items() if seed in minus}
    values = np.array([seeds[seed] for seed in sorted(seeds)])
    if not len(values):
        return None
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan"), len(values)


def mean_of(seeds: Seeds) -> float:
    """The mean over the seeds, of which there is one at least."""
    return sum(seeds.values()) / len(seeds)


def fits_teacher(scores: Mapping[tuple[Row, int, str], Seeds], row: Row, bits: int) -> bool:
    """Whether a student's codes can search its teacher's database: its mean ASHP is at least half its mean SSHP."""
    own, cross = (summary(scores.get((row, bits, paradigm))) for paradigm in PARADIGMS)
    return own is not None and cross is not None and cross[0] >= own[0] / 2


def _teacher_key(record: Record) -> tuple[Any, ...]:
    run = record["run"]
    return run["teacher"], hash_model_of(record), run["bits"], run["seed"]


def over_seeds(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, sample standard deviation (none for one seed) and number of the column `value`, per group."""
    groups = table.dropna(subset=["value"]).groupby(list(by), sort=False)["value"]
    return groups.agg(mean="mean", std="std", n="count").reset_index()


def by_key(values: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], Summary]:
    """What `over_seeds` gives, to be looked up by the values of its group."""
    lines = zip(*(values[name].tolist() for name in [*keys, "mean", "std", "n"]), strict=True)
    return {line[:-3]: (line[-3], line[-2], line[-1]) for line in lines}
