"""CRD (Tian, Krishnan and Isola, ICLR 2020, "Contrastive Representation Distillation").

Among many images, the student's code of an image should be told apart as the one that goes with the teacher's code of
the same image, and the reverse: noise-contrastive estimation between learnt embeddings of the two codes, with negatives
from a memory of all training images.

As published: linear embeddings to 128 dimensions of length 1, both directions, a memory with momentum 0.5 that starts
at random, temperature 0.07, weight 0.8, the constant Z estimated at the first batch. Chosen here:

- 500 negatives, not 16384: the training sets have 1,000 to 5,000 images, and a step stays at a few milliseconds on a
  CPU core. Where there are fewer other images than that, as many as there are.
- Negatives are drawn with replacement, as published, from all other images and without labels; the published CIFAR-100
  runs took them from other classes, which an unsupervised method may not know.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch, TeacherKnowledge
from brcd_core.distillation.memory import Contrast, nce


class Released(Frozen):
    """What the BRCD paper's released code does otherwise."""

    untrained_projections: bool = False  # the embeddings stay as they were drawn
    true_label_negatives: bool = False  # no negative shares a true label with the anchor


class Settings(Frozen):
    """Defaults are the authors' own, but for the number of negatives."""

    weight: float = Field(0.8, ge=0)
    temperature: float = Field(0.07, gt=0)
    negatives: int = Field(500, ge=1)
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
    """NCE of the student's embeddings against the teacher's memory plus NCE of the teacher's against the student's.

    Codes are those of view i. The positive is the image's own row in the memory, as it was before this batch; then the
    batch's embeddings are taken into both memories.
    """
    student = prepared.student(batch.student_i.codes)
    teacher = prepared.teacher(batch.teacher_i.codes)
    candidates = prepared.candidates(batch.images)
    total = student.new_zeros(())
    for embedded, memory in ((student, prepared.teacher_memory), (teacher, prepared.student_memory)):
        scores = memory.cosines(embedded, candidates) / settings.temperature
        total = total + nce(memory.normalised(scores))
    prepared.remember(batch.images, student, teacher, settings.momentum)
    return settings.weight * total
