"""SP (Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, pp. 1365-1374).

Images that are alike for the teacher are alike for the student. With F (B, K) the codes of view i:

    G = F F^T, each row divided by its L2 norm
    L = weight * |G^s - G^t|_F^2 / B^2

The weight of 3000 is RepDistiller's (Tian et al., ICLR 2020).

`released.over_bits`: the released code compares the bits of one code instead of the images of a batch. It is known
here by its description alone ("over the bits of one code, not over the batch, and ignores sign"), and taken as SP
with a code in the place of the batch: G_r = f_r f_r^T (K, K), rows normalised, squared difference / K^2, mean over
the images. A code and its opposite have the same G_r, and the loss of codes in {-1, +1} is
2 (1 - cos(s_r, t_r)^2) / K: it pulls the student to the teacher's code or to its opposite, whichever is nearer,
and not at all from halfway. The released command also has `weight: 1`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Released(Frozen):
    """What the released code does otherwise."""

    over_bits: bool = False  # similarities between the bits of one code, not between the images of the batch


class Settings(Frozen):
    """The weight of the term."""

    weight: float = Field(3000.0, ge=0)
    released: Released = Released()


def similarities(codes: Tensor, over_bits: bool = False) -> Tensor:
    """Gram matrices of codes (B, K), rows of unit length: one of the images (1, B, B), or B of the bits (B, K, K)."""
    items = codes[:, :, None] if over_bits else codes[None]
    return F.normalize(items @ items.mT, dim=2)


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * the mean squared difference of the entries of the student's and the teacher's matrices."""
    student = similarities(batch.student_i.codes, settings.released.over_bits)
    teacher = similarities(batch.teacher_i.codes.detach(), settings.released.over_bits)
    return settings.weight * F.mse_loss(student, teacher)
