"""Train a teacher: a hash head on a large frozen backbone, by the hash model alone."""

from __future__ import annotations

import time

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
    judge,
    load,
    one_at_a_time,
    outdated,
    save,
    validation_scores,
)
from brcd_core.study.runs import TeacherRun
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
        reason = "has no finished run"
        if records.finished(run.folder):
            record = records.read(run.folder)
            reason = outdated(run, record, load_inputs(run.settings, {"teacher": run.teacher}).checksums)
            if not reason:
                return load(run, record)
        report(f"{run.folder} {reason}: training it now")
        return _train(run, report)


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
