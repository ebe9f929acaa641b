"""Head files of the smoke profile's tiny encoders, untrained: enough to encode, to search and to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from brcd_core import backbones, checkpoints, datasets
from brcd_core.config import fingerprint
from brcd_core.hashing import HashHead
from brcd_core.study import outcome, runs
from brcd_core.views.augmentation import clean


def student_run(bits: int = 16, seed: int = 0) -> runs.StudentRun:
    """A student of the smoke profile."""
    return runs.StudentRun(profile="smoke", method="brcd", bits=bits, seed=seed)


def about_of(role: str, bits: int = 16, seed: int = 0) -> dict[str, Any]:
    """What the study writes into the head of a student or of its teacher."""
    run = student_run(bits, seed)
    return outcome.about(run if role == "student" else run.teacher_run(), 4)


def save_head(path: Path, role: str = "student", bits: int = 16, seed: int = 0, hidden: int = 8) -> Path:
    """Save an untrained head whose scaling is that of the committed images, as a run would."""
    backbone = backbones.load(f"tiny_{role}")
    head = HashHead(backbone.dim, bits, hidden, seed)
    head.fit_scaling(backbone(clean(sample(), 32)))
    checkpoints.save_head(path, head, about_of(role, bits, seed))
    return path


def change_about(path: Path, about: dict[str, Any]) -> Path:
    """The same head, said to be something else."""
    checkpoints.save_head(path, checkpoints.load_head(path)[0], about)
    return path


def sealed(index: dict[str, Any]) -> dict[str, Any]:
    """What an index's JSON file says, with its checksum: of whatever it says now."""
    said = {name: value for name, value in index.items() if name != "checksum"}
    return said | {"checksum": fingerprint(said)}


def sample() -> torch.Tensor:
    """The 300 committed images, uint8 (300, 3, 32, 32)."""
    return datasets.load("sample").tensor(range(300))
