"""What the contrastive methods share: trained embeddings of codes, a memory of them, and negatives drawn from it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_core.distillation.batch import TeacherKnowledge


class Embedding(nn.Linear):
    """A linear layer whose output has length 1: codes (..., K) to embeddings (..., D)."""

    def forward(self, codes: Tensor) -> Tensor:
        """Embeddings (..., D) of codes (..., K)."""
        return F.normalize(super().forward(codes), dim=-1)


class Memory(nn.Module):
    """The last embedding of every training image: `rows` (N, D) of length 1, random until an image is seen."""

    rows: Tensor
    log_mean: Tensor | None

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(rows, dim=1))
        self.register_buffer("log_mean", None)

    def cosines(self, embedded: Tensor, images: Tensor) -> Tensor:
        """Cosines (B, M) of embeddings (B, D) to the rows of images (B, M)."""
        # All N products and then a choice: cheaper than gathering B x M rows of length D.
        return (embedded @ self.rows.T).gather(1, images)

    def normalised(self, scores: Tensor) -> Tensor:
        """Scores minus the logarithm of their mean exponential, which is estimated once, at the first call.

        This is the constant Z of the noise-contrastive estimate: exp(score) / Z with Z = N mean(exp(score)) against
        the noise probability 1/N, so that N cancels.
        """
        if self.log_mean is None:
            self.log_mean = scores.detach().flatten().logsumexp(0) - math.log(scores.numel())
        return scores - self.log_mean

    @torch.no_grad()
    def update(self, images: Tensor, embedded: Tensor, momentum: float) -> None:
        """Move the rows of images (B,) to momentum * row + (1 - momentum) * embedding, rescaled to length 1."""
        moved = F.normalize(momentum * self.rows[images] + (1 - momentum) * embedded, dim=1)
        # A new tensor: the backward pass still needs the old one.
        self.rows = self.rows.index_copy(0, images, moved)


class Contrast(nn.Module):
    """Embeddings and memories of student and teacher, and negatives.

    `trained=False` leaves the embeddings as they were drawn; `by_label` draws negatives among the training images
    that share no true label with the anchor. Initial weights, memories and negatives depend on the teacher's seed
    alone. ValueError for fewer than two training images, and for `by_label` without labels or with an image that
    shares a label with every other.
    """

    labels: Tensor | None

    def __init__(
        self, teacher: TeacherKnowledge, dim: int, negatives: int, *, trained: bool = True, by_label: bool = False
    ) -> None:
        super().__init__()
        size, bits = teacher.codes.shape
        device, dtype = teacher.codes.device, teacher.codes.dtype
        if size < 2:
            raise ValueError(f"negatives are other training images, but there are {size} images in all")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(teacher.seed)  # torch.manual_seed would seed every GPU too
            self.student = Embedding(bits, dim, dtype=dtype)
            self.teacher = Embedding(bits, dim, dtype=dtype)
            self.student_memory = Memory(torch.randn(size, dim, dtype=dtype))
            self.teacher_memory = Memory(torch.randn(size, dim, dtype=dtype))
        self.register_buffer("labels", _labels(teacher) if by_label else None)
        self.to(device)
        for embedding in (self.student, self.teacher):
            embedding.requires_grad_(trained)
        self.size, self.count = size, min(negatives, size - 1)
        self.generator = torch.Generator(device).manual_seed(teacher.seed)

    def negatives(self, images: Tensor) -> Tensor:
        """For each of the images (B,), other training images (B, M), drawn uniformly with replacement."""
        shape = (len(images), self.count)
        if self.labels is None:
            drawn = torch.randint(self.size - 1, shape, generator=self.generator, device=images.device)
            return drawn + (drawn >= images[:, None])
        allowed = (self.labels[images] @ self.labels.T == 0).scatter(1, images[:, None], False)
        return torch.multinomial(allowed.float(), self.count, replacement=True, generator=self.generator)

    def candidates(self, images: Tensor) -> Tensor:
        """(B, 1 + M): the image itself, the positive, and its negatives."""
        return torch.cat([images[:, None], self.negatives(images)], dim=1)

    def remember(self, images: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """Update both memories with the embeddings (B, D) of images (B,)."""
        self.student_memory.update(images, student, momentum)
        self.teacher_memory.update(images, teacher, momentum)


def nce(scores: Tensor) -> Tensor:
    """Noise-contrastive loss of normalised scores (..., 1 + M), the positive first; the mean over the leading dims.

    -log h(positive) - sum over the negatives of log(1 - h(negative)), with h = e^score / (e^score + M).
    Source: Tian et al., ICLR 2020, section 3; Gutmann and Hyvarinen, AISTATS 2010.
    """
    logits = scores - math.log(scores.shape[-1] - 1)
    return -(F.logsigmoid(logits[..., 0]) + F.logsigmoid(-logits[..., 1:]).sum(-1)).mean()


def _labels(teacher: TeacherKnowledge) -> Tensor:
    """The true labels (N, L) as numbers, after a look whether each image has a negative."""
    if teacher.labels is None:
        raise ValueError("true_label_negatives needs the labels of the training images; turn it off or give labels")
    labels = teacher.labels.float()
    kinds = labels.unique(dim=0)
    crowded = (kinds @ labels.T > 0).all(1)
    if crowded.any():
        which = kinds[crowded][0].nonzero().flatten().tolist()
        raise ValueError(f"true_label_negatives: an image with labels {which} shares one with every training image")
    return labels
