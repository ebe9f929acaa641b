"""NT-Xent and BRCD's loss as textbooks write them: two loops over the rows of a batch, one pair at a time.

Each returns the mean over some of the 2B rows, so that a large batch can be timed on a few of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from brcd_core.distillation import Batch
from brcd_core.distillation.brcd import Prepared, Settings


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """cos(a, b) of two vectors (K,); 0 where one of them is 0."""
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()).clamp_min(1e-24).sqrt()


def nt_xent(codes_i: Tensor, codes_j: Tensor, temperature: float, rows: Iterable[int]) -> Tensor:
    """Minus the log of the share that the other view of the same image has among all other rows."""
    size, losses = len(codes_i), []
    codes = [*codes_i, *codes_j]
    for a in rows:
        partner = (a + size) % (2 * size)
        weights = {c: (cosine(codes[a], codes[c]) / temperature).exp() for c in range(2 * size) if c != a}
        losses.append(-(weights[partner] / torch.stack(list(weights.values())).sum()).log())
    return torch.stack(losses).mean()


def meanings(batch: Batch, prepared: Prepared) -> list[int]:
    """The cluster of each of the 2B rows, the same for every row that compares."""
    cluster = [int(prepared.assignment[image]) for image in batch.images]
    return cluster + [int((prepared.centres - code).square().sum(1).argmin()) for code in batch.teacher_j.codes]


def brcd(batch: Batch, prepared: Prepared, settings: Settings, meaning: list[int], rows: Iterable[int]) -> Tensor:
    """The same with BRCD's two alignments, masks, and what its clusters leave out, for its default settings."""
    student, teacher, other = batch.student_i.codes, batch.teacher_i.codes, batch.teacher_j.codes
    size, tau, losses = len(student), settings.temperature, []
    codes = [*student, *other]
    for a in rows:
        image = a % size
        mask = prepared.mask[meaning[image]]
        share = settings.alpha if meaning[size + image] == meaning[image] else 1.0
        individual = cosine(student[image], teacher[image])
        structural = cosine(mask * student[image], mask * other[image])
        positive = ((share * individual + (1 - share) * structural) / tau).exp()
        total = positive
        for c in range(2 * size):
            if c % size != image and meaning[c] != meaning[a]:
                total = total + (cosine(mask * codes[a], mask * codes[c]) / tau).exp()
        losses.append(-(positive / total).log())
    return settings.weight * torch.stack(losses).mean()
