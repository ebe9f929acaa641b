"""Train a student: a hash head on a small frozen backbone, by the hash model and a distillation method."""

from __future__ import annotations

import time

from brcd_core import checkpoints, hashing, records
from brcd_core.config import shown
from brcd_core.study import weights
from brcd_core.study.distil import distil, student_scores
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
)
from brcd_core.study.runs import StudentRun, StudentsRun
from brcd_core.study.teacher import student_sources, teacher


def train_student(run: StudentRun, report: Report = print) -> Trained:
    """Train the student of a run, score it on the query split, leave checkpoint and record in its folder.

    Both paradigms come from one checkpoint, which the validation split alone picks: SSHP (the student encodes
    database and queries) and ASHP (the teacher encodes the database, the student the queries).
    A shallow hash model is fitted on the student's features instead; ValueError if it is to be distilled.
    """
    with one_at_a_time(run.folder):
        return _train(run, report)


def student(run: StudentRun, report: Report = print) -> Trained:
    """The student of a run: its checkpoint, or trained now where there is none of these settings, this code, these
    inputs (the teacher is one) and this choice of weight."""
    with one_at_a_time(run.folder):
        record = finished(run, lambda: student_sources(run, report), report)
        if record:
            used = weights.method_settings(run, report).model_dump(mode="json")
            if record["resolved"]["distillation"] == used:
                return load(run, record)
            report(f"{shown(run.folder)} was trained with another weight than is chosen now: doing it now")
        return _train(run, report)


def students(run: StudentsRun, report: Report = print) -> list[records.Record]:
    """The records of a group of students, one after another; those that are finished are not trained again."""
    found = []
    for one in run.student_runs():
        report(f"--- {one.method}")
        found.append(student(one, report).record)
    return found


def _train(run: StudentRun, report: Report) -> Trained:
    started = time.perf_counter()
    fitted = closed_form(hashing.models.load(run.hash_model))
    if fitted and run.settings.distillation.name != "none":
        raise ValueError(f"hash model {run.hash_model} is fitted, not trained: it cannot be distilled")
    method_settings = weights.method_settings(run, report)
    inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    taught_by = teacher(run.teacher_run(), report).head.to(inputs.device)
    (teacher_database,) = inputs.codes(taught_by, "teacher", "database")

    records.forget(run.folder)
    if fitted:
        head, done = fit_closed_form(
            inputs, "student", run, lambda head: student_scores(inputs, head, teacher_database)
        )
        checkpoints.save_head(run.folder / CHECKPOINT, head, about(run, 0))
    else:
        head, done = distil(
            inputs, taught_by, method_settings, run.bits, run.seed,
            keep=lambda head, epoch: checkpoints.save_head(run.folder / CHECKPOINT, head, about(run, epoch)),
            report=report,
        )  # fmt: skip
    query, database = inputs.codes(head, "student", "query", "database")
    sources = inputs.checksums | {"teacher": checkpoints.checksum(taught_by)}
    record = describe("student", run, head, done, method_settings.model_dump(mode="json"))
    record["provenance"] = records.provenance(inputs.device, time.perf_counter() - started, sources)
    judged = {"sshp": judge(inputs, query, database), "ashp": judge(inputs, query, teacher_database)}
    return Trained(head.eval(), save(run, record, judged))
