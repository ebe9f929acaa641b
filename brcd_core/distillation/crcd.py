"""CRCD (Zhu et al., CVPR 2021, "Complementary Relation Contrastive Distillation").

CRD on relations. The relation of an image to an anchor image is the direction of the difference of their embeddings.
An image in the student's embedding, seen from an anchor in the teacher's, should have the relation that the same image
has in the teacher's, and not the relation that another image has there: the relation student-to-teacher across the two
spaces is told apart by noise-contrastive estimation among relations teacher-to-teacher.

As in the authors' partial code: linear embeddings to 128 dimensions, both directions (the second because the teacher's
embedding is trained too), memories with momentum 0.5, temperature 0.05, 500 negatives, weight 1. Only the paper's
abstract and that code could be consulted; what is uncertain or chosen here:

- The paper has a second relation between the gradients of the classification loss in the features. There is no
  classifier here, so only the relation between features is distilled.
- The authors' code takes the whole batch as anchors of each image, the image itself among them, where the relation has
  no direction. Here an image has `anchors` other images of the batch, drawn anew in each step.
- Two embeddings closer than 0.01 have no direction: their relation has cosine 0 to every other.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch, TeacherKnowledge
from brcd_core.distillation.memory import Contrast, Memory, nce

SHORTEST = 0.01  # length of a difference of unit vectors below which it is rounding noise


class Released(Frozen):
    """What the BRCD paper's released code does otherwise."""

    untrained_projections: bool = False  # the embeddings stay as they were drawn


class Settings(Frozen):
    """Defaults are those of the authors' code, but for the number of anchors."""

    weight: float = Field(1.0, ge=0)
    temperature: float = Field(0.05, gt=0)
    negatives: int = Field(500, ge=1)
    anchors: int = Field(4, ge=1)  # at most the other images of a batch
    dim: int = Field(128, ge=1)
    momentum: float = Field(0.5, ge=0, lt=1)
    released: Released = Released()


def prepare(teacher: TeacherKnowledge, settings: Settings) -> Contrast:
    """Embeddings, memories and the source of negatives. ValueError as Contrast says."""
    return Contrast(teacher, settings.dim, settings.negatives, trained=not settings.released.untrained_projections)


def loss(batch: Batch, prepared: Contrast, settings: Settings) -> Tensor:
    """NCE over relations of the student's embeddings to the teacher's memory, plus the reverse; the mean over anchors.

    Codes are those of view i. Anchors, the positive and the negatives are rows of one memory as it was before this
    batch. ValueError for a batch of one image, which has no anchor.
    """
    student = prepared.student(batch.student_i.codes)
    teacher = prepared.teacher(batch.teacher_i.codes)
    candidates = prepared.candidates(batch.images)
    anchors = draw_anchors(len(student), settings.anchors, prepared.generator)
    total = student.new_zeros(())
    for embedded, memory in ((student, prepared.teacher_memory), (teacher, prepared.student_memory)):
        cosines = relation_cosines(embedded, memory, batch.images, candidates, anchors)
        total = total + nce(memory.normalised(cosines / settings.temperature))
    prepared.remember(batch.images, student, teacher, settings.momentum)
    return settings.weight * total


def draw_anchors(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Positions in the batch (B, S) of S different anchors for each image, never itself."""
    if size < 2:
        raise ValueError("crcd: a relation needs two images in the batch")
    device = generator.device
    shifts = 1 + torch.randperm(size - 1, generator=generator, device=device)[:count]
    return (torch.arange(size, device=device)[:, None] + shifts) % size


def relation_cosines(embedded: Tensor, memory: Memory, images: Tensor, candidates: Tensor, anchors: Tensor) -> Tensor:
    """cos(v_b - w_a, w_c - w_a) (B, S, M) of embeddings v (B, D) and memory rows w; all have length 1.

    a runs over the S anchors of image b, positions in the batch of `images` (B,); c over its candidates (B, M).
    """
    # Written out in products of the vectors, as B x S x M differences of length D would be slow.
    rows = memory.rows[images]
    to_candidates = memory.cosines(embedded, candidates)[:, None]
    to_anchors = (embedded @ rows.T).gather(1, anchors)[:, :, None]
    between = (rows @ memory.rows.T).take(anchors[:, :, None] * len(memory.rows) + candidates[:, None])
    product = to_candidates - to_anchors - between + 1
    return product * _inverse_length(to_anchors) * _inverse_length(between)


def _inverse_length(cosine: Tensor) -> Tensor:
    """1 / |x - y| of unit vectors from their cosine; 0 where the difference is too short to have a direction."""
    squared = 2 - 2 * cosine
    return torch.where(squared > SHORTEST**2, squared.clamp_min(SHORTEST**2).rsqrt(), 0.0)
