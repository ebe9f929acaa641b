"""RKD (Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, pp. 3967-3976).

The student's codes lie to each other as the teacher's do, by distances of pairs and angles of triplets:

    D_ij  = |f_i - f_j| / (mean of |f_a - f_b| over all pairs a != b)
    A_ijk = cos of the angle at j between f_i - f_j and f_k - f_j
    L = weight * (distance * mean_ij h(D^s_ij - D^t_ij) + angle * mean_ijk h(A^s_ijk - A^t_ijk))

h is smooth-L1 (Huber, delta 1), f the codes of view i; 25 and 50 are RepDistiller's (Tian et al., ICLR 2020).

Chosen here: pairs and triplets of different images, as the paper's X^2 and X^3 (RepDistiller's means also run over
the B pairs and B(3B - 2) triplets that repeat an image, by which they are 2 and 5 % smaller at B = 64; and its mean
distance leaves distances of 0 out). Two images may well share a code. Their distance is then 0 and every angle with
that side has cosine 0, both without a gradient: dividing by max(length, eps), as is usual, would give such a pair a
gradient of the order of 1/eps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Settings(Frozen):
    """Weights of the two parts, and of their sum."""

    distance: float = Field(25.0, ge=0)
    angle: float = Field(50.0, ge=0)
    weight: float = Field(1.0, ge=0)


def relations(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised distances (B, B) and cosines of angles (B, B, B), the apex first, of codes (B, K)."""
    sides = codes[None, :] - codes[:, None]  # [j, i] = f_i - f_j
    lengths = torch.linalg.vector_norm(sides, dim=2)  # its gradient at 0 is 0
    mean = lengths.sum() / (len(codes) * (len(codes) - 1))
    units = sides / torch.where(lengths > 0, lengths, torch.inf)[:, :, None]  # a side of length 0 stays 0
    return lengths / mean.clamp_min(1e-12), units @ units.mT


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """weight * (distance part + angle part) of view i; a batch of two has no triplet, so no angle part."""
    distances, angles = relations(batch.student_i.codes)
    teacher_distances, teacher_angles = relations(batch.teacher_i.codes.detach())
    size = len(distances)
    different = ~torch.eye(size, dtype=torch.bool, device=distances.device)
    triplets = different[:, :, None] & different[:, None, :] & different[None, :, :]

    by_distance = F.smooth_l1_loss(distances, teacher_distances, reduction="sum") / (size * (size - 1))
    by_angle = (F.smooth_l1_loss(angles, teacher_angles, reduction="none") * triplets).sum()
    by_angle = by_angle / max(size * (size - 1) * (size - 2), 1)
    return settings.weight * (settings.distance * by_distance + settings.angle * by_angle)
