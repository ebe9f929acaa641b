"""What a run leaves behind: its scores on the query split, and the common part of its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from brcd_core import checkpoints, records, retrieval
from brcd_core.hashing import HashHead
from brcd_core.profiles import Evaluation
from brcd_core.study.features import Inputs
from brcd_core.study.runs import TeacherRun
from brcd_core.training import Fit, Scores

Codes = np.ndarray  # (N, K) in {-1, +1}
Report = Callable[[str], None]  # takes a line of progress
CHECKPOINT = "head.safetensors"
Run = TypeVar("Run", bound=TeacherRun)


@dataclass(frozen=True)
class Trained:
    """A trained head, in eval mode, and the record of its run."""

    head: HashHead
    record: records.Record


def obtain(run: Run, train: Callable[[Run, Report], Trained], report: Report) -> Trained:
    """A finished run of these settings from its folder, or `train` it now.

    CheckpointError if its checkpoint is missing, damaged, or not the one that its record speaks of.
    """
    if records.finished(run.folder):
        record = records.read(run.folder)
        if record["settings"] == run.settings.model_dump(mode="json") and record.get("resolved") == resolved(run):
            head, _ = checkpoints.load_head(run.folder / CHECKPOINT)
            if checkpoints.checksum(head) != record["checkpoint"]:
                raise checkpoints.CheckpointError(
                    f"{run.folder / CHECKPOINT} is not the checkpoint of the record beside it; "
                    "delete the folder and run again"
                )
            return Trained(head, record)
    report(f"{run.folder} has no finished run of these settings: training it now")
    return train(run, report)


def validation_map(inputs: Inputs, validation: Codes, database: Codes) -> float:
    """Tie-aware mAP@k of the validation images against the database; what early stopping looks at."""
    labels = inputs.labels
    counts = retrieval.counts(validation, database, labels["validation"], labels["database"])
    return retrieval.mean_average_precision(counts, inputs.settings.evaluation.k)


def judge(inputs: Inputs, query: Codes, database: Codes) -> tuple[Scores, dict[str, list[float]]]:
    """All measures of the query images against the database, and the curves that the figures draw.

    Curves: precision_at (one value for each k of the evaluation's list), and precision and recall within
    each Hamming radius 0..K.
    """
    evaluation: Evaluation = inputs.settings.evaluation
    wanted, offered = inputs.labels["query"], inputs.labels["database"]
    counts = retrieval.counts(query, database, wanted, offered)
    curve = retrieval.precision_recall(counts)
    return retrieval.evaluate(query, database, wanted, offered, evaluation.k), {
        "precision_at": records.plain(retrieval.precision_at(counts, evaluation.precision_at)),
        "precision": records.plain(curve.precision),
        "recall": records.plain(curve.recall),
    }


def describe(kind: str, run: TeacherRun, head: HashHead, done: Fit) -> records.Record:
    """The part of a record that teachers and students share: what ran, with what settings, and how it went."""
    return {
        "kind": kind,
        "run": run.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "resolved": resolved(run),
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


def resolved(run: TeacherRun) -> dict[str, Any]:
    """All settings of the hash model and the distillation method, also those that the profile leaves at default."""
    settings = run.settings
    return {
        "hash_model": settings.hash_settings().model_dump(mode="json"),
        "distillation": settings.distillation_settings().model_dump(mode="json"),
    }


def about(run: TeacherRun, epoch: int) -> dict[str, Any]:
    """What is written into a checkpoint."""
    return {"run": run.model_dump(mode="json"), "settings": run.settings.model_dump(mode="json"), "epoch": epoch}
