"""What a distillation method sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from brcd_core.hashing import Hashed


@dataclass(frozen=True)
class TeacherKnowledge:
    """What is known about the training set before the student starts."""

    codes: Tensor  # (N, K) in {-1, +1}: the trained teacher's codes of the clean training images
    seed: int  # for whatever a method draws from it
    # (N, L) bool, the true labels. Nothing unsupervised may look at them: they serve a `released` setting alone.
    labels: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One training step: B images in two views i and j, each seen by the student and by the teacher.

    The teacher's tensors carry no gradient. Both networks saw the same pixels.
    """

    images: Tensor  # (B,) positions in the training split
    student_i: Hashed
    student_j: Hashed
    teacher_i: Hashed
    teacher_j: Hashed
    # (3B, ...): a view of each image turned by 90 degrees (the first B rows), by 180, and by 270. Only for a
    # method whose module says ROTATED = True.
    student_rotated: Hashed | None = None
    teacher_rotated: Hashed | None = None
