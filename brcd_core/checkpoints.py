"""Trained heads on disk: safetensors, with the settings that made them inside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from brcd_core.atomic import replacing
from brcd_core.hashing import HashHead


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged; the message names the file and the way out."""


def checksum(head: HashHead, about: str = "") -> str:
    """SHA-256 (hex) of a head's weights and scaling, and of what is said about it."""
    digest = hashlib.sha256()
    for name, value in sorted(_tensors(head).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    digest.update(about.encode())
    return digest.hexdigest()


def save_head(path: Path, head: HashHead, about: dict[str, Any]) -> None:
    """Write a head and what it is (JSON-able: run, settings, epoch) atomically."""
    text = json.dumps(about, sort_keys=True)
    metadata = {"about": text, "sha256": checksum(head, text)}
    with replacing(path) as part:
        part.write_bytes(save(_tensors(head), metadata))  # save_file would hide a full disk in an error of its own


def load_head(path: Path) -> tuple[HashHead, dict[str, Any]]:
    """A head as it was saved, on the CPU in eval mode, and what was said about it.

    CheckpointError if the file is missing, truncated, changed, or not a head of this project.
    """
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}; train it first (notebooks 02 and 04, or make study)")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            text, written = metadata["about"], metadata["sha256"]
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        weights = [tensors[f"layers.{i}.weight"] for i in range(sum(n.endswith(".weight") for n in tensors))]
        hidden = len(weights[0]) if len(weights) == 2 else 0
        head = HashHead(dim=weights[0].shape[1], bits=len(weights[-1]), hidden=hidden)
        head.load_state_dict(tensors)
        if checksum(head, text) != written:
            raise ValueError("it is not what was written, or of an earlier version")
        about = json.loads(text)
    except (SafetensorError, KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}); delete it and train again") from error
    if any(not torch.isfinite(value).all() for value in tensors.values()):
        raise CheckpointError(f"{path} holds NaN or infinite weights; delete it and train again")
    return head.eval(), about


def _tensors(head: HashHead) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
