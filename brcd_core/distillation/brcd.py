"""BRCD (He et al., WWW 2024, "Bit-mask Robust Contrastive Knowledge Distillation").

The student's codes are pulled to the teacher's in a contrastive loss over student and teacher rows.
Three parts, each a switch:

- two alignments: `individual`, the student's code equals the teacher's of the same view bit by bit
  (serves ASHP); `structural`, it agrees with the teacher's code of the other view (serves SSHP);
- `clusters`: k-means on the teacher's codes finds augmentations that changed the meaning (offset
  positives) and other images of the same meaning (false negatives), and removes both;
- `mask`: bits that are undecided inside a cluster carry no meaning for it and are left out of every
  structural comparison.

The published text was not available here: the loss follows its released command and method as
described in the README, section "What does not match the paper".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from brcd_core import bits
from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch, TeacherKnowledge


class Settings(Frozen):
    """Defaults are those of the published CIFAR-10 command."""

    alpha: float = Field(0.8, ge=0, le=1)  # weight of the individual alignment
    temperature: float = Field(0.3, gt=0)
    n_clusters: int = Field(10, ge=1)
    margin: float = Field(0.5, ge=0, le=1)  # a bit with |cluster mean| below it is redundant
    weight: float = Field(1.0, ge=0)
    individual: bool = True
    structural: bool = True
    clusters: bool = True
    mask: Literal["decided", "redundant", "none"] = "decided"  # which bits the structural part keeps

    @model_validator(mode="after")
    def _one_alignment(self) -> Settings:
        if not (self.individual or self.structural):
            raise ValueError("brcd: individual and structural are both off; turn one on or use method 'none'")
        return self

    def individual_weight(self) -> float:
        """alpha, or what is left of it when one of the two alignments is off."""
        if not self.structural:
            return 1.0
        return self.alpha if self.individual else 0.0


@dataclass(frozen=True)
class Prepared:
    """Clusters of the teacher's codes and their bit masks."""

    centres: Tensor  # (C, K)
    assignment: Tensor  # (N,) cluster of each training image
    mask: Tensor  # (C, K) 1 where a bit takes part


def prepare(teacher: TeacherKnowledge, settings: Settings) -> Prepared:
    """k-means on the teacher's codes of the clean training images, and each cluster's bit mask.

    ValueError where there are fewer training images than clusters.
    """
    codes = teacher.codes.cpu().numpy()
    found = bits.cluster(codes, settings.n_clusters, seed=teacher.seed)
    if settings.mask == "none":
        mask = torch.ones(found.centres.shape)
    else:
        means = bits.bit_means(codes, found.assignment, settings.n_clusters)
        mask = torch.as_tensor(bits.bit_mask(means, settings.margin, keep=settings.mask)).float()
    device = teacher.codes.device
    return Prepared(
        # In double precision, as the clusters were assigned: a near tie must not become an offset positive.
        torch.as_tensor(found.centres, dtype=torch.float64).to(device),
        torch.as_tensor(found.assignment).long().to(device),
        mask.to(device),
    )


def loss(batch: Batch, prepared: Prepared, settings: Settings) -> Tensor:
    """The contrastive term L_BRCD: mean cross-entropy over 2B rows Z = [m_r * s_r ; m_r * u_r].

    s: student's code of view i; t, u: teacher's codes of views i and j; m_r: mask of image r's cluster.
    Positive logit of rows r and B + r:  a_r cos(s_r, t_r)/tau + (1 - a_r) cos(m_r s_r, m_r u_r)/tau.
    Negative logits of row a: cos(Z_a, Z_c)/tau over all c but a and its partner, without false negatives.
    a_r = alpha, but 1 where view j is an offset positive (the teacher puts it into another cluster). With
    `individual` off, a_r = 0 and offset positives are left out of the mean.
    """
    student, teacher, other = batch.student_i.codes, batch.teacher_i.codes, batch.teacher_j.codes
    size, tau = len(student), settings.temperature
    cluster = prepared.assignment[batch.images]
    other_cluster = torch.cdist(other.to(prepared.centres), prepared.centres).argmin(1)

    mask = prepared.mask[cluster]
    rows = torch.cat([mask * student, mask * other])
    rows = F.normalize(rows, dim=1)  # a row whose mask is empty stays zero: cosine 0
    cosine = rows @ rows.T / tau

    individual = F.cosine_similarity(student, teacher) / tau
    structural = cosine.diagonal(size)
    share = torch.full_like(individual, settings.individual_weight())
    offset = other_cluster != cluster
    if settings.clusters:
        share = share.masked_fill(offset, 1.0)
    positive = (share * individual + (1 - share) * structural).repeat(2)

    image = torch.arange(size, device=student.device).repeat(2)
    excluded = image[:, None] == image[None, :]  # a row itself and its partner
    if settings.clusters:
        meaning = torch.cat([cluster, other_cluster])
        excluded = excluded | (meaning[:, None] == meaning[None, :])
    negative = cosine.masked_fill(excluded, -torch.inf)
    row_loss = torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive
    if settings.clusters and not settings.individual:
        # An offset positive has the individual alignment alone; without that its rows have no target.
        counts = (~offset).repeat(2)
        return settings.weight * (row_loss * counts).sum() / counts.sum().clamp_min(1)
    return settings.weight * row_loss.mean()
