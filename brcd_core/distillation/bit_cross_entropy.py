"""Bitwise cross-entropy with the teacher's bits: each bit is a label, the student K classifiers.

    L = weight * 1/(BK) * sum_rk -log P(b_rk),  P(+1) = p_rk, P(-1) = 1 - p_rk

p: the student's bit probabilities; b: the teacher's bits, both of view i. Learning given codes bit by bit is the
second step of Zhang, Wang, Cai and Lu, "Self-Taught Hashing for Fast Similarity Search", SIGIR 2010 (there with
support vector machines). What a practitioner would try first; the BRCD paper leaves it out. Chosen here: the mean
over bits, so that one weight serves every code length.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Settings(Frozen):
    """The weight of the term; 1 is no published value."""

    weight: float = Field(1.0, ge=0)


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * the mean cross-entropy of the teacher's bits, over images and bits."""
    logits = batch.student_i.logits  # not the probabilities: their logarithm overflows where a bit is sure and wrong
    return settings.weight * F.binary_cross_entropy_with_logits(logits, (batch.teacher_i.codes > 0).to(logits))
