"""Squared error on the teacher's logits (Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014).

    L = weight * 1/(BK) * sum_rk (s_rk - t_rk)^2,  s, t the logits of view i

What a practitioner would try first; the BRCD paper leaves it out. Chosen here: the mean over bits, so that one
weight serves every code length, and without the paper's factor of 1/2. The student has to meet the size of the
teacher's logits too, of which the code keeps nothing.
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
    """weight * the mean squared difference of the logits, over images and bits."""
    return settings.weight * F.mse_loss(batch.student_i.logits, batch.teacher_i.logits.detach())
