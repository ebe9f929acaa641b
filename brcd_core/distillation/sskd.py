"""SSKD (Xu et al., ECCV 2020, "Knowledge Distillation Meets Self-Supervision").

The teacher tells, for an image that was turned, how similar it is to every upright image of the batch; the student
should find the same similarities, the teacher's errors among them.

As published for this term: rotations by 90, 180 and 270 degrees, cosine, temperature 0.5, KL divergence from teacher
to student times the squared temperature, weight 10. Of the rows where the turned image's own upright image is not the
teacher's nearest, the 25 % where it ranks worst are left out. What differs here:

- The paper puts a self-supervised head on both networks; the teacher's is trained on the pretext task first. Here the
  teacher is frozen and its codes stand for the output of that head, and so do the student's.
- The paper's other terms (cross-entropy, KL of the class probabilities of upright and of turned images) need a
  classifier: they are left out.
- Codes of few bits often tie: an image ranks behind those that are strictly more similar alone.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch

ROTATED = True  # the batch has to carry the turned views


class Settings(Frozen):
    """Defaults are the published ones."""

    weight: float = Field(10.0, ge=0)
    temperature: float = Field(0.5, gt=0)
    keep_wrong: float = Field(0.75, ge=0, le=1)  # share of the teacher's wrong rows that is distilled


def loss(batch: Batch, prepared: None, settings: Settings) -> Tensor:
    """T^2 * KL(softmax(teacher's cosines / T) || softmax(student's cosines / T)), the mean over the kept rows.

    A row is one of the 3B turned images, its entries are the B upright images of view i, whatever view was turned.
    ValueError where the batch has no turned views.
    """
    if batch.student_rotated is None or batch.teacher_rotated is None:
        raise ValueError("sskd needs turned views: give the batch student_rotated and teacher_rotated")
    student = cosines(batch.student_rotated.codes, batch.student_i.codes)
    teacher = cosines(batch.teacher_rotated.codes, batch.teacher_i.codes)
    t = settings.temperature
    log_target = (teacher / t).log_softmax(1)
    divergence = (log_target.exp() * (log_target - (student / t).log_softmax(1))).sum(1)
    keep = kept_rows(teacher, settings.keep_wrong)
    return settings.weight * t**2 * (divergence * keep).sum() / keep.sum().clamp_min(1)


def cosines(turned: Tensor, upright: Tensor) -> Tensor:
    """Cosines (3B, B) of codes (3B, K) and (B, K)."""
    # The product comes first: it is exact for codes of -1 and +1, so that equal similarities stay equal.
    return turned @ upright.T / (turned.norm(dim=1, keepdim=True) * upright.norm(dim=1))


def kept_rows(similarity: Tensor, keep_wrong: float) -> Tensor:
    """Which rows of the teacher's similarities (3B, B) are distilled, (3B,) bool.

    All rows in which no other upright image is more similar than the own one (column r mod B in row r), and of the
    others the share `keep_wrong` (rounded down) in which fewest are; of equals, the first.
    """
    rows, size = similarity.shape
    own = torch.arange(rows, device=similarity.device) % size
    rank = (similarity > similarity.gather(1, own[:, None])).sum(1)
    wrong = (rank > 0).sum()
    kept = rows - wrong + (keep_wrong * wrong.double()).floor()
    place = rank.argsort(stable=True).argsort()
    return place < kept
