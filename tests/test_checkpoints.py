"""Heads on disk: read as they were written, or refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from brcd_core import checkpoints
from brcd_core.checkpoints import CheckpointError
from brcd_core.hashing import HashHead


@pytest.mark.parametrize("hidden", [0, 7])
def test_a_checkpoint_gives_the_same_codes(tmp_path: Path, hidden: int) -> None:
    head = HashHead(6, 16, hidden, seed=1)
    head.fit_scaling(torch.randn(20, 6) * 3 + 1)
    path = tmp_path / "deep" / "head.safetensors"
    checkpoints.save_head(path, head, {"epoch": 3, "settings": {"lr": 0.1}})
    loaded, about = checkpoints.load_head(path)
    features = torch.randn(9, 6)
    assert torch.equal(loaded(features), head(features)) and not loaded.training
    assert about == {"epoch": 3, "settings": {"lr": 0.1}}
    assert [file.name for file in path.parent.iterdir()] == ["head.safetensors"]


@pytest.mark.parametrize("damage", ["truncate", "header", "weight", "empty", "other"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "head.safetensors"
    checkpoints.save_head(path, HashHead(6, 16, seed=1), {})
    whole = path.read_bytes()
    broken = {
        "truncate": whole[:-20],
        "header": b"\x00" + whole[1:],
        "weight": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "empty": b"",
        "other": b"not a checkpoint at all, but long enough to be read as one",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(CheckpointError, match=r"head\.safetensors is not a whole checkpoint.*train again"):
        checkpoints.load_head(path)


def test_a_checkpoint_with_nan_is_refused(tmp_path: Path) -> None:
    head = HashHead(4, 8)
    head.layers[0].weight.data[0, 0] = float("nan")
    checkpoints.save_head(tmp_path / "h.safetensors", head, {})
    with pytest.raises(CheckpointError, match="NaN"):
        checkpoints.load_head(tmp_path / "h.safetensors")


def test_a_missing_checkpoint_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train it first"):
        checkpoints.load_head(tmp_path / "h.safetensors")


@pytest.mark.parametrize("dtype", [torch.int32, torch.bfloat16])
def test_weights_of_another_type_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    """int32: the same bytes, read as other numbers."""
    path = tmp_path / "head.safetensors"
    checkpoints.save_head(path, HashHead(6, 16, seed=1), {})
    with safe_open(path, "pt") as stored:
        metadata = stored.metadata()
    tensors = load_file(path)
    tensors["layers.0.weight"] = tensors["layers.0.weight"].view(dtype)[:, :6].contiguous()
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(CheckpointError, match="it is not what was written"):
        checkpoints.load_head(path)


def test_a_full_disk_is_said_plainly_and_leaves_the_old_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "head.safetensors"
    checkpoints.save_head(path, HashHead(6, 16, seed=1), {"epoch": 1})
    old, write_bytes = path.read_bytes(), Path.write_bytes

    def full(target: Path, data: bytes) -> int:
        write_bytes(target, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"no space left to write .*head\.safetensors"):
        checkpoints.save_head(path, HashHead(6, 16, seed=2), {"epoch": 2})
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["head.safetensors"]
