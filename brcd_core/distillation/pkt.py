"""PKT (Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, 268-284).

The chance that an image picks another as its neighbour should be the teacher's. With f the codes of view i:

    P_ij = k_ij / sum_c k_ic,  k_ij = (cos(f_i, f_j) + 1) / 2
    L = weight * 1/B^2 * sum_ij P^t_ij log((P^t_ij + eps) / (P^s_ij + eps)),  eps = 1e-7

Chosen here: the mean runs over all B^2 entries, i = j included, as in the code of PKT's authors and in RepDistiller
(Tian et al., ICLR 2020), whose weight of 30000 goes with that mean; the paper writes the sum, without i = j.
eps keeps opposite codes (k = 0) finite. The code released with the BRCD paper weighs this mean by 1, where its
gradient is 5000 times smaller than that of the hash model's contrastive loss: hardly any distillation at all
(`released.unit_weight`).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch

EPS = 1e-7


class Released(Frozen):
    """What the released code does otherwise."""

    unit_weight: bool = False  # the weight is 1


class Settings(Frozen):
    """The weight of the term. ValueError for another weight than 1 together with `released.unit_weight`."""

    weight: float = Field(30000.0, ge=0)
    released: Released = Released()

    @model_validator(mode="before")
    @classmethod
    def _unit_weight(cls, values: dict[str, Any]) -> dict[str, Any]:
        if Released.model_validate(values.get("released", {})).unit_weight:
            if values.get("weight", 1.0) != 1.0:
                raise ValueError(f"pkt: released.unit_weight is on, and weight is {values['weight']}; leave one out")
            return values | {"weight": 1.0}
        return values


def neighbour_probabilities(codes: Tensor) -> Tensor:
    """P (B, B) of codes (B, K): rows sum to 1."""
    rows = F.normalize(codes, dim=1)
    kernel = (rows @ rows.T + 1) / 2
    return kernel / kernel.sum(dim=1, keepdim=True)


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * the mean over B x B of the terms of KL(P teacher || P student)."""
    student = neighbour_probabilities(batch.student_i.codes)
    teacher = neighbour_probabilities(batch.teacher_i.codes.detach())
    return settings.weight * (teacher * ((teacher + EPS) / (student + EPS)).log()).mean()
