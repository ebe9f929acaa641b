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


def checksum(head: HashHead) -> str:
    """SHA-256 (hex) of a head's weights and scaling."""
    return _checksum({name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()})


def save_head(path: Path, head: HashHead, about: dict[str, Any]) -> None:
    """Write a head and what it is (JSON-able: run, settings, epoch) atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    metadata = {"about": json.dumps(about, sort_keys=True), "sha256": _checksum(tensors)}
    with replacing(path) as part:
        part.write_bytes(save(tensors, metadata))  # save_file would hide a full disk in an error of its own


def load_head(path: Path) -> tuple[HashHead, dict[str, Any]]:
    """A head as it was saved, on the CPU in eval mode, and what was said about it.

    CheckpointError if the file is missing, truncated, changed, or not a head of this project.
    """
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}; train it first (notebooks 02 and 04, or make study)")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            about = json.loads(metadata["about"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if _checksum(tensors) != metadata["sha256"]:
            raise ValueError("its weights are not those that were written")
        weights = [tensors[f"layers.{i}.weight"] for i in range(sum(n.endswith(".weight") for n in tensors))]
        hidden = len(weights[0]) if len(weights) == 2 else 0
        head = HashHead(dim=weights[0].shape[1], bits=len(weights[-1]), hidden=hidden)
        head.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint ({error}); delete it and train again") from error
    if any(not torch.isfinite(value).all() for value in tensors.values()):
        raise CheckpointError(f"{path} holds NaN or infinite weights; delete it and train again")
    return head.eval(), about


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
