"""PACKD (Yu et al., ACM Multimedia 2022, "Pay Attention to Your Positive Pairs: Positive Pair Aware Contrastive
Knowledge Distillation").

InfoNCE between student and teacher with several positive pairs per image. An entropic optimal transport plan between
the student's and the teacher's embeddings of one group of positives says how much each pair counts.

As in the authors' code: embeddings to 128 dimensions of length 1, epsilon 0.1, no gradient through the plan,
temperature 0.07, a memory of the teacher's embeddings with momentum 0.5 that gives the negatives, and the negatives of
all views of an image in one denominator. Chosen here:

- The transport's cost is 1 - cosine; the authors' could not be seen.
- The paper's group is made of images of the same class. Without labels it is the two views of an image, seen by the
  student and by the teacher: four pairs. The plan of so few is written down, where the authors iterate 100 times.
- The paper trains the teacher's projection by its labels beforehand. Here it is trained with the student's, and since
  a projection that only follows positives may collapse, the loss is the mean of both directions, as in CRD.
- 500 negatives, not 16384, drawn as in CRD; the paper takes them from other classes.
- The authors' weight is not known: 1.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch, TeacherKnowledge
from brcd_core.distillation.memory import Contrast


class Released(Frozen):
    """What the BRCD paper's released code does otherwise."""

    untrained_projections: bool = False  # the embeddings stay as they were drawn
    true_label_negatives: bool = False  # no negative shares a true label with the anchor


class Settings(Frozen):
    """Defaults are the authors' own, but for the number of negatives and the weight."""

    weight: float = Field(1.0, ge=0)
    temperature: float = Field(0.07, gt=0)
    negatives: int = Field(500, ge=1)
    epsilon: float = Field(0.1, gt=0)  # of the transport's entropy
    dim: int = Field(128, ge=1)
    momentum: float = Field(0.5, ge=0, lt=1)
    released: Released = Released()


def prepare(teacher: TeacherKnowledge, settings: Settings) -> Contrast:
    """Embeddings, memories and the source of negatives. ValueError as Contrast says."""
    return Contrast(
        teacher,
        settings.dim,
        settings.negatives,
        trained=not settings.released.untrained_projections,
        by_label=settings.released.true_label_negatives,
    )


def loss(batch: Batch, prepared: Contrast, settings: Settings) -> Tensor:
    """Mean over images and both directions of -log(e^p / (e^p + sum of e^n over the negatives of both views)).

    p: the cosines of the image's four pairs (student's view, teacher's view), weighted by the transport plan, over the
    temperature. n: cosine of a view's embedding to a negative's row in the other network's memory, over the
    temperature. Afterwards both memories take in the embeddings of view i.
    """
    student = prepared.student(torch.stack([batch.student_i.codes, batch.student_j.codes], dim=1))  # (B, 2, D)
    teacher = prepared.teacher(torch.stack([batch.teacher_i.codes, batch.teacher_j.codes], dim=1))
    cosines = student @ teacher.mT
    plan = transport_plan(1 - cosines.detach(), settings.epsilon)
    positive = (plan * cosines).sum((1, 2)) / settings.temperature

    negatives = prepared.negatives(batch.images).repeat_interleave(2, dim=0)  # the same for both views
    total = student.new_zeros(())
    for embedded, memory in ((student, prepared.teacher_memory), (teacher, prepared.student_memory)):
        negative = memory.cosines(embedded.flatten(0, 1), negatives).view(len(positive), -1) / settings.temperature
        total = total + (torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive).mean()
    prepared.remember(batch.images, student[:, 0], teacher[:, 0], settings.momentum)
    return settings.weight * total / 2


def transport_plan(cost: Tensor, epsilon: float) -> Tensor:
    """Entropic optimal transport of two points to two, all of the same mass: plans (..., 2, 2) of costs (..., 2, 2).

    Minimises <plan, cost> - epsilon * entropy(plan) where every row and column sums to 1/2. These sums leave one free
    number, the mass on the diagonal, which is what Sinkhorn's iterations converge to (Cuturi, NeurIPS 2013).
    """
    gain = cost[..., 0, 1] + cost[..., 1, 0] - cost[..., 0, 0] - cost[..., 1, 1]
    straight, crossed = (gain / (2 * epsilon)).sigmoid() / 2, (-gain / (2 * epsilon)).sigmoid() / 2
    return torch.stack([straight, crossed, crossed, straight], dim=-1).view_as(cost)
