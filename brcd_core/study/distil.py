"""How a student learns: the loss of its hash model plus that of a distillation method, on one pair of views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from brcd_core import distillation, hashing
from brcd_core.config import Frozen
from brcd_core.distillation import Batch, TeacherKnowledge
from brcd_core.hashing import Hashed, HashHead
from brcd_core.study.features import Inputs
from brcd_core.study.outcome import Codes, Report, validation_scores
from brcd_core.training import Fit, Scores, fit


def distil(
    inputs: Inputs,
    taught_by: HashHead,
    method_settings: Frozen,
    bits: int,
    seed: int,
    keep: Callable[[HashHead, int], None],
    report: Report,
) -> tuple[HashHead, Fit]:
    """Train a student's head by the settings of `inputs`, those of the distillation method being given apart.

    The validation split alone picks the epoch. `keep(head, epoch)` is called at each new best.
    """
    settings = inputs.settings
    hash_model, hash_settings = hashing.models.load(settings.hash_model.name), settings.hash_settings()
    method = distillation.methods.load(settings.distillation.name)
    train_codes, teacher_database = inputs.codes(taught_by, "teacher", "train", "database")
    knowledge = TeacherKnowledge(
        torch.as_tensor(train_codes).float().to(inputs.device),
        seed,
        torch.as_tensor(inputs.labels["train"]).to(inputs.device) if inputs.labelled else None,
    )
    prepared = method.prepare(knowledge, method_settings) if hasattr(method, "prepare") else None
    head = inputs.new_head("student", bits, seed)
    views, rotated = inputs.views("student", "teacher"), settings.uses_rotated()

    def loss(images: Tensor, features_i: list[Tensor], features_j: list[Tensor]) -> Tensor:
        student_i, student_j = hash_both(head, features_i[0], features_j[0])
        with torch.no_grad():
            teacher_i, teacher_j = hash_both(taught_by, features_i[1], features_j[1])
        batch = Batch(images, student_i, student_j, teacher_i, teacher_j)
        if rotated:
            batch = with_rotated(batch, head, taught_by, *views.rotated(images))
        own = hash_model.loss(student_i, student_j, hash_settings)
        return own + method.loss(batch, prepared, method_settings)

    done = fit(
        head,
        views,
        settings.data.train,
        loss,
        lambda: student_scores(inputs, head, teacher_database),
        settings.student.training,
        select=settings.score(),
        seed=seed,
        extra=prepared if isinstance(prepared, torch.nn.Module) else None,
        keep=lambda epoch, scores: keep(head, epoch),
        report=report,
    )
    return head, done


def hash_both(head: HashHead, features_i: Tensor, features_j: Tensor) -> tuple[Hashed, Hashed]:
    """Both views of a batch in one pass of the head, which is faster than two."""
    both = head.hash(torch.cat([features_i, features_j]))
    view_i, view_j = zip(*(part.chunk(2) for part in both), strict=True)
    return Hashed(*view_i), Hashed(*view_j)


def with_rotated(batch: Batch, head: HashHead, taught_by: HashHead, own: Tensor, teachers: Tensor) -> Batch:
    """A batch with what both networks see of the rotated views; features (3B, D) of each."""
    with torch.no_grad():
        teacher_rotated = taught_by.hash(teachers)
    return replace(batch, student_rotated=head.hash(own), teacher_rotated=teacher_rotated)


def student_scores(inputs: Inputs, head: HashHead, teacher_database: Codes) -> Scores:
    """A student's validation scores in both paradigms."""
    validation, database = inputs.codes(head, "student", "validation", "database")
    return validation_scores(inputs, validation, {"sshp": database, "ashp": teacher_database})
