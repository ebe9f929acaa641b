"""Train a teacher: a hash head on a large frozen backbone, by the hash model alone."""

from __future__ import annotations

import time

from torch import Tensor

from brcd_core import checkpoints, hashing, records
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import CHECKPOINT, Report, Trained, about, describe, judge, obtain, validation_map
from brcd_core.study.runs import TeacherRun
from brcd_core.training import Scores, fit


def train_teacher(run: TeacherRun, report: Report = print) -> Trained:
    """Train the teacher of a run, score it on the query split, leave checkpoint and record in its folder.

    The validation split alone picks the epoch. Teacher against teacher, the record's metrics, is the upper
    reference of every student.
    """
    started = time.perf_counter()
    settings = run.settings
    inputs = load_inputs(settings, {"teacher": run.teacher})
    hash_model, hash_settings = hashing.models.load(settings.hash_model.name), settings.hash_settings()
    head = inputs.new_head("teacher", run.bits, run.seed)

    def loss(images: Tensor, features_i: list[Tensor], features_j: list[Tensor]) -> Tensor:
        return hash_model.loss(head.hash(features_i[0]), head.hash(features_j[0]), hash_settings)

    def validate() -> Scores:
        return {"map": validation_map(inputs, *inputs.codes(head, "teacher", "validation", "database"))}

    records.forget(run.folder)
    done = fit(
        head,
        inputs.views("teacher"),
        settings.data.train,
        loss,
        validate,
        settings.teacher.training,
        select=lambda scores: scores["map"],
        seed=run.seed,
        keep=lambda epoch, scores: checkpoints.save_head(run.folder / CHECKPOINT, head, about(run, epoch)),
        report=report,
    )
    metrics, curves = judge(inputs, *inputs.codes(head, "teacher", "query", "database"))
    record = describe("teacher", run, head, done) | {
        "metrics": {"teacher": metrics},
        "curves": {"teacher": curves},
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, inputs.checksums),
    }
    records.write(run.folder, record)
    return Trained(head.eval(), record)


def teacher(run: TeacherRun, report: Report = print) -> Trained:
    """The teacher of a run: its checkpoint, or trained now where there is none with these settings."""
    return obtain(run, train_teacher, report)
