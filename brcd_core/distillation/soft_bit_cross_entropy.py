"""Bitwise cross-entropy with the teacher's bit probabilities at a temperature: Hinton's distillation, bit by bit.

    L = weight * T^2 * 1/(BK) * sum_rk -(q_rk log p_rk + (1 - q_rk) log(1 - p_rk)),  p = sigmoid(s/T), q = sigmoid(t/T)

s, t: the logits of view i. It is Hinton, Vinyals and Dean, arXiv 1503.02531, with one Bernoulli variable a bit in
the place of a softmax over classes; Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023, distil one-versus-all
probabilities alike. T^2 keeps the gradient's size when T changes. The least value is T^2 times the entropy of q, not 0.
What a practitioner would try first; the BRCD paper leaves it out. Chosen here: the mean over bits, so that one weight
serves every code length, and the temperature of `kl`, 4; neither is published. At a large T the gradient is 1/8 of
that of `logit_mse`; at a small T the term is T^2 times `bit_cross_entropy` at the logits s/T.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Settings(Frozen):
    """Temperature of both sigmoids, and the weight of the term."""

    temperature: float = Field(4.0, gt=0)
    weight: float = Field(1.0, ge=0)


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * T^2 * the mean cross-entropy of the teacher's bit probabilities, over images and bits."""
    student = batch.student_i.logits / settings.temperature
    teacher = (batch.teacher_i.logits.detach() / settings.temperature).sigmoid()
    return settings.weight * settings.temperature**2 * F.binary_cross_entropy_with_logits(student, teacher)
