"""Writing a head to a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from brcd_core import checkpoints
from brcd_core.hashing import HashHead


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
