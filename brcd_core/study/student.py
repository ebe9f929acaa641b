"""Train a student: a hash head on a small frozen backbone, by the hash model and a distillation method."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from brcd_core import checkpoints, distillation, hashing, records
from brcd_core.distillation import Batch, TeacherKnowledge
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import CHECKPOINT, Report, Trained, about, describe, judge, obtain, validation_map
from brcd_core.study.runs import StudentRun
from brcd_core.study.teacher import teacher
from brcd_core.training import Scores, fit


def train_student(run: StudentRun, report: Report = print) -> Trained:
    """Train the student of a run, score it on the query split, leave checkpoint and record in its folder.

    Both paradigms come from one checkpoint, which the validation split alone picks: SSHP (the student encodes
    database and queries) and ASHP (the teacher encodes the database, the student the queries).
    """
    started = time.perf_counter()
    settings = run.settings
    inputs = load_inputs(settings, {"student": run.student, "teacher": run.teacher})
    taught_by = teacher(run.teacher_run(), report).head.to(inputs.device)
    train_codes, teacher_database = inputs.codes(taught_by, "teacher", "train", "database")

    hash_model, hash_settings = hashing.models.load(settings.hash_model.name), settings.hash_settings()
    method, method_settings = distillation.methods.load(settings.distillation.name), settings.distillation_settings()
    knowledge = TeacherKnowledge(torch.as_tensor(train_codes).float().to(inputs.device), run.seed)
    prepared = method.prepare(knowledge, method_settings) if hasattr(method, "prepare") else None
    head = inputs.new_head("student", run.bits, run.seed)

    def loss(images: Tensor, features_i: list[Tensor], features_j: list[Tensor]) -> Tensor:
        student_i, student_j = head.hash(features_i[0]), head.hash(features_j[0])
        with torch.no_grad():
            teacher_i, teacher_j = taught_by.hash(features_i[1]), taught_by.hash(features_j[1])
        batch = Batch(images, student_i, student_j, teacher_i, teacher_j)
        own = hash_model.loss(student_i, student_j, hash_settings)
        return own + method.loss(batch, prepared, method_settings)

    def validate() -> Scores:
        validation, database = inputs.codes(head, "student", "validation", "database")
        return {
            "map_sshp": validation_map(inputs, validation, database),
            "map_ashp": validation_map(inputs, validation, teacher_database),
        }

    records.forget(run.folder)
    done = fit(
        head,
        inputs.views("student", "teacher"),
        settings.data.train,
        loss,
        validate,
        settings.student.training,
        select=settings.score(),
        seed=run.seed,
        extra=prepared if isinstance(prepared, torch.nn.Module) else None,
        keep=lambda epoch, scores: checkpoints.save_head(run.folder / CHECKPOINT, head, about(run, epoch)),
        report=report,
    )
    query, database = inputs.codes(head, "student", "query", "database")
    sshp, sshp_curves = judge(inputs, query, database)
    ashp, ashp_curves = judge(inputs, query, teacher_database)
    sources = inputs.checksums | {"teacher": checkpoints.checksum(taught_by)}
    record = describe("student", run, head, done) | {
        "metrics": {"sshp": sshp, "ashp": ashp},
        "curves": {"sshp": sshp_curves, "ashp": ashp_curves},
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, sources),
    }
    records.write(run.folder, record)
    return Trained(head.eval(), record)


def student(run: StudentRun, report: Report = print) -> Trained:
    """The student of a run: its checkpoint, or trained now where there is none of these settings and this teacher."""
    found = obtain(run, train_student, report)
    if found.record["provenance"]["inputs"]["teacher"] == teacher(run.teacher_run(), report).record["checkpoint"]:
        return found
    report(f"{run.folder} learnt from another teacher than there is now: training it again")
    return train_student(run, report)
