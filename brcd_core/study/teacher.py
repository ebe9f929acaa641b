"""Train a teacher: a hash head on a large frozen backbone, by the hash model alone."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from brcd_core import checkpoints, hashing, records
from brcd_core.hashing import HashHead
from brcd_core.study.features import load_inputs
from brcd_core.study.heads import closed_form, fit_closed_form
from brcd_core.study.outcome import (
    CHECKPOINT,
    Report,
    Trained,
    about,
    describe,
    finished,
    judge,
    load,
    one_at_a_time,
    save,
    validation_scores,
)
from brcd_core.study.runs import StudentRun, TeacherRun
from brcd_core.training import Scores, fit


def train_teacher(run: TeacherRun, report: Report = print) -> Trained:
    """Train the teacher of a run, score it on the query split, leave checkpoint and record in its folder.

    The validation split alone picks the epoch. Teacher against teacher, the record's metrics, is the upper
    reference of every student. A shallow hash model is fitted instead of trained.
    """
    with one_at_a_time(run.folder):
        return _train(run, report)


def teacher(run: TeacherRun, report: Report = print) -> Trained:
    """The teacher of a run: its checkpoint, or trained now where there is none of these settings, code and inputs."""
    with one_at_a_time(run.folder):
        record = finished(run, lambda: load_inputs(run.settings, {"teacher": run.teacher}).checksums, report)
        return load(run, record) if record else _train(run, report)


def student_sources(run: StudentRun, report: Report) -> dict[str, Any]:
    """The checksums of all that a student is made from: data, features, and its teacher."""
    found = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher}).checksums
    return found | {"teacher": teacher(run.teacher_run(), report).record["checkpoint"]}


def _train(run: TeacherRun, report: Report) -> Trained:
    started = time.perf_counter()
    settings = run.settings
    inputs = load_inputs(settings, {"teacher": run.teacher})
    hash_model, hash_settings = hashing.models.load(run.hash_model), settings.hash_settings()

    def validate(head: HashHead) -> Scores:
        validation, database = inputs.codes(head, "teacher", "validation", "database")
        scores = validation_scores(inputs, validation, {"teacher": database})
        return {name.removesuffix("_teacher"): value for name, value in scores.items()}

    def keep(head: HashHead, epoch: int) -> None:
        checkpoints.save_head(run.folder / CHECKPOINT, head, about(run, epoch))

    records.forget(run.folder)
    if closed_form(hash_model):
        head, done = fit_closed_form(inputs, "teacher", run, validate)
        keep(head, 0)
    else:
        head = inputs.new_head("teacher", run.bits, run.seed)

        def loss(images: Tensor, features_i: list[Tensor], features_j: list[Tensor]) -> Tensor:
            return hash_model.loss(head.hash(features_i[0]), head.hash(features_j[0]), hash_settings)

        done = fit(
            head,
            inputs.views("teacher"),
            settings.data.train,
            loss,
            lambda: validate(head),
            settings.teacher.training,
            select=lambda scores: next(iter(scores.values())),
            seed=run.seed,
            keep=lambda epoch, scores: keep(head, epoch),
            report=report,
        )
    judged = judge(inputs, *inputs.codes(head, "teacher", "query", "database"))
    record = describe("teacher", run, head, done)
    record["provenance"] = records.provenance(inputs.device, time.perf_counter() - started, inputs.checksums)
    return Trained(head.eval(), save(run, record, {"teacher": judged}))
