"""KL (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 workshop, arXiv 1503.02531).

With P = softmax over the K bits of the logits z divided by T:

    L = weight * T^2 * mean_r KL(P(t_r / T) || P(s_r / T))

Chosen here: the softmax is taken of the logits, because logits are what the method's own paper softens (the code
released with the BRCD paper takes the codes). Bits are no exclusive classes, so the softmax sees only how the logits
of one image stand to each other: a shift common to all its bits costs nothing, though it flips signs.
`soft_bit_cross_entropy` is the variant that fits bits. Temperature 4 is RepDistiller's (Tian et al., ICLR 2020);
its weight of 0.9 shares with a label loss of 0.1 that does not exist here, so the weight is 1.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Settings(Frozen):
    """Temperature of both softmaxes, and the weight of the term."""

    temperature: float = Field(4.0, gt=0)
    weight: float = Field(1.0, ge=0)


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * T^2 * KL(teacher || student) of the softened logits of view i, mean over images."""
    student = F.log_softmax(batch.student_i.logits / settings.temperature, dim=1)
    teacher = F.log_softmax(batch.teacher_i.logits.detach() / settings.temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return settings.weight * settings.temperature**2 * divergence
