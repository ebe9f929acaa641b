"""What a run leaves behind: its scores on the query split, and the common part of its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brcd_core import checkpoints, records, retrieval
from brcd_core.agreement import agreement
from brcd_core.atomic import replacing
from brcd_core.config import shown
from brcd_core.fetching import lock
from brcd_core.hashing import HashHead
from brcd_core.settings import Evaluation
from brcd_core.study import code_version
from brcd_core.study.features import Inputs
from brcd_core.study.runs import TeacherRun
from brcd_core.training import Fit, Scores

Codes = np.ndarray  # (N, K) in {-1, +1}
Report = Callable[[str], None]  # takes a line of progress
CHECKPOINT, QUERIES = "head.safetensors", "queries.npz"


@dataclass(frozen=True)
class Trained:
    """A trained head, in eval mode, and the record of its run."""

    head: HashHead
    record: records.Record


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process has this run in hand: two would leave the head of one and the record of the other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        yield


def finished(run: TeacherRun, inputs: Callable[[], Mapping[str, Any]], report: Report) -> records.Record | None:
    """The record of a finished run, if it was made with these settings, by this code and from these inputs; else None.

    `inputs()`: the checksums that its record would name now. `report` is told why a run has to be done again.
    """
    if not records.finished(run.folder):
        report(f"{shown(run.folder)} has no finished run: doing it now")
        return None
    record = records.read(run.folder)
    reason = _outdated(run, record, inputs())
    if reason:
        report(f"{shown(run.folder)} {reason}: doing it now")
    return None if reason else record


def _outdated(run: TeacherRun, record: records.Record, inputs: Mapping[str, Any]) -> str:
    """What a finished run was made of that is not what there is now. Empty if there is nothing."""
    if record["settings"] != run.settings.model_dump(mode="json"):
        return "was made with other settings"
    if record.get("code") != code_version.of(run):
        return "was made by other code"
    names = [name for name, checksum in inputs.items() if record["provenance"]["inputs"].get(name) != checksum]
    return f"was made from another {', '.join(names)} than there is now" if names else ""


def load(run: TeacherRun, record: records.Record) -> Trained:
    """The head of a finished run. CheckpointError if it is missing, damaged, or not that of its record."""
    head, _ = checkpoints.load_head(run.folder / CHECKPOINT)
    if checkpoints.checksum(head) != record["checkpoint"]:
        raise checkpoints.CheckpointError(
            f"{run.folder / CHECKPOINT} is not the checkpoint of the record beside it; delete the folder and run again"
        )
    return Trained(head, record)


def validation_scores(inputs: Inputs, validation: Codes, databases: Mapping[str, Codes]) -> Scores:
    """What early stopping looks at: the validation images against each database, as MEASURE_NAME of its name.

    The measure is tie-aware mAP@k; of a dataset without labels it is the agreement with the teacher's features.
    """
    labels = inputs.labels
    if not inputs.labelled:
        return {f"agreement_{name}": _agreement(inputs, "validation", validation, codes)
                for name, codes in databases.items()}  # fmt: skip
    scores = {}
    for name, codes in databases.items():
        counts = retrieval.counts(validation, codes, labels["validation"], labels["database"])
        scores[f"map_{name}"] = retrieval.mean_average_precision(counts, inputs.settings.evaluation.k)
    return scores


@dataclass(frozen=True)
class Judged:
    """The measures of the query images, the curves that the figures draw, and each query's tie-aware AP@k (Q,).

    Curves: precision_at (one value for each k of the evaluation's list), and precision and recall within each
    Hamming radius 0..K. Without labels there is agreement alone.
    """

    metrics: Scores
    curves: dict[str, list[float]]
    average_precision: np.ndarray


def judge(inputs: Inputs, query: Codes, database: Codes) -> Judged:
    """How well the query images find what is relevant in the database."""
    if not inputs.labelled:
        return Judged({"agreement": _agreement(inputs, "query", query, database)}, {}, np.zeros(0))
    evaluation: Evaluation = inputs.settings.evaluation
    wanted, offered = inputs.labels["query"], inputs.labels["database"]
    counts = retrieval.counts(query, database, wanted, offered)
    curve = retrieval.precision_recall(counts)
    curves = {
        "precision_at": records.plain(retrieval.precision_at(counts, evaluation.precision_at)),
        "precision": records.plain(curve.precision),
        "recall": records.plain(curve.recall),
    }
    metrics = retrieval.evaluate(query, database, wanted, offered, evaluation.k)
    return Judged(metrics, curves, retrieval.average_precision(counts, evaluation.k))


def _agreement(inputs: Inputs, split: str, codes: Codes, database: Codes) -> float:
    return agreement(codes, database, inputs.features("teacher", split), inputs.features("teacher", "database"))


def save(run: TeacherRun, record: records.Record, judged: Mapping[str, Judged]) -> records.Record:
    """Complete a record by what was judged, leave each query's AP beside it, and write it, last of all."""
    path = run.folder / QUERIES
    with replacing(path) as part, part.open("wb") as file:
        arrays: dict[str, Any] = {name: one.average_precision.astype(np.float32) for name, one in judged.items()}
        np.savez(file, **arrays)
    record |= {
        "metrics": {name: one.metrics for name, one in judged.items()},
        "curves": {name: one.curves for name, one in judged.items()},
    }
    records.write(run.folder, record)
    return record


def describe(
    kind: str, run: TeacherRun, head: HashHead, done: Fit, distillation: Mapping[str, Any] | None = None
) -> records.Record:
    """The part of a record that teachers and students share: what ran, with what settings, and how it went.

    resolved: all settings of the hash model and the distillation method (`distillation`), also those that the
    profile leaves at their defaults or to be chosen.
    """
    hash_settings = run.settings.hash_settings().model_dump(mode="json")
    return {
        "kind": kind,
        "run": run.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "code": code_version.of(run),
        "resolved": {"hash_model": hash_settings, "distillation": dict(distillation or {})},
        "checkpoint": checkpoints.checksum(head),
        "training": {
            "best_epoch": done.best_epoch,
            "epochs": done.history[-1]["epoch"],
            "steps": done.steps,
            "seconds": round(done.seconds, 2),
            "validation": done.best_scores,
            "history": done.history,
        },
    }


def about(run: TeacherRun, epoch: int) -> dict[str, Any]:
    """What is written into a checkpoint."""
    return {"run": run.model_dump(mode="json"), "settings": run.settings.model_dump(mode="json"), "epoch": epoch}
