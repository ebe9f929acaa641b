"""No distillation: the student learns from its hash model alone. The reference that every method must beat."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.distillation.batch import Batch


class Settings(Frozen):
    """Nothing to choose."""


def loss(batch: Batch, prepared: Any, settings: Settings) -> Tensor:
    """Zero."""
    return batch.student_i.logits.new_zeros(())
