"""BRCD (He et al., WWW 2024, "Bit-mask Robust Contrastive Knowledge Distillation").

The student's codes are pulled to the teacher's in a contrastive loss over student and teacher rows.
Three parts, each a switch:

- two alignments: `individual`, the student's code equals the teacher's of the same view bit by bit
  (serves ASHP); `structural`, it agrees with the teacher's code of the other view (serves SSHP);
- `clusters`: k-means on the teacher's codes finds augmentations that changed the meaning (offset
  positives) and other images of the same meaning (false negatives), and removes both;
- `mask`: bits that are undecided inside a cluster carry no meaning for it and are left out of every
  structural comparison, by the mask of the row that compares (the anchor).

The published text was not available here: the loss follows a description of the released code, and its
command. `released` turns on, one by one, what the released code does otherwise.
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


class Released(Frozen):
    """What the released code does otherwise. With all four on and the published settings, the loss is
    mean log(1 + n_a exp(-a_r cos(s_r, t_r)/tau)), n_a being the negatives left: individual alignment alone."""

    zero_mask: bool = False  # every bit is masked out, so every masked cosine is 0
    mask_before_clusters: bool = False  # view j is masked first, then assigned: most images count as offset
    repeated_false_negatives: bool = False  # the teacher's rows take the student's rows' false negatives
    own_masks: bool = False  # each row of a negative pair is masked by its own cluster, not by the anchor's


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
    released: Released = Released()

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

    ValueError where the training images have fewer different codes than there are clusters.
    """
    codes = teacher.codes.cpu().numpy()
    found = bits.cluster(codes, settings.n_clusters, seed=teacher.seed)
    if settings.released.zero_mask:
        mask = torch.zeros(found.centres.shape)
    elif settings.mask == "none":
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
    """The contrastive term L_BRCD: mean cross-entropy over 2B rows Z = [s_r ; u_r].

    s: student's code of view i; t, u: teacher's codes of views i and j; m_r: mask of image r's cluster.
    Positive logit of rows r and B + r:  a_r cos(s_r, t_r)/tau + (1 - a_r) cos(m_r s_r, m_r u_r)/tau.
    Negative logits of row a: cos(m_a Z_a, m_a Z_c)/tau over all c but a and its partner, without false
    negatives. a_r = alpha, but 1 where view j is an offset positive (the teacher puts it into another cluster).
    With `individual` off, a_r = 0 and offset positives are left out of the mean.
    """
    student, teacher, other = batch.student_i.codes, batch.teacher_i.codes, batch.teacher_j.codes
    size, tau, released = len(student), settings.temperature, settings.released
    cluster = prepared.assignment[batch.images]
    mask = prepared.mask[cluster]
    assigned = mask * other if released.mask_before_clusters else other
    other_cluster = torch.cdist(assigned.to(prepared.centres), prepared.centres).argmin(1)

    cosine = masked_cosines(torch.cat([student, other]), mask.repeat(2, 1), released.own_masks) / tau
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
        anchors = cluster.repeat(2) if released.repeated_false_negatives else meaning
        excluded = excluded | (anchors[:, None] == meaning[None, :])
    negative = cosine.masked_fill(excluded, -torch.inf)
    row_loss = torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive
    if settings.clusters and not settings.individual:
        # An offset positive has the individual alignment alone; without that its rows have no target.
        counts = (~offset).repeat(2)
        return settings.weight * (row_loss * counts).sum() / counts.sum().clamp_min(1)
    return settings.weight * row_loss.mean()


def masked_cosines(rows: Tensor, masks: Tensor, own: bool = False) -> Tensor:
    """cos(m_a Z_a, m_a Z_c) of rows (R, K) under masks of 0 and 1 (R, K), as (R, R); 0 where no bit is kept.

    `own`: cos(m_a Z_a, m_c Z_c), each row under its own mask.
    """
    if own:
        masked = F.normalize(masks * rows, dim=1)
        return masked @ masked.T
    norms = (masks @ rows.square().T).clamp_min(1e-12).sqrt()  # |m_a Z_c|
    return (masks * rows) @ rows.T / (norms.diagonal()[:, None] * norms)
