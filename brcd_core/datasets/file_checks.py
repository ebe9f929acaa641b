"""SHA-256 of many files, and whether they are images that can be read; kept, so that no file is read twice.

What was found is kept in the cache as JSON, one file a folder: name -> size, time of change, SHA-256, problem.
A file whose size or time of change differs is read again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from brcd_core.atomic import write_text
from brcd_core.bars import track
from brcd_core.config import cache_dir
from brcd_core.datasets.image_files import DECODING, ImageError, decode, in_threads
from brcd_core.fetching import lock, sha256_of

SAVE_EVERY_SECONDS = 60.0
BLOCK = 256  # files between two looks at the clock


class Found(NamedTuple):
    """What is known of a file. problem: why it is no usable image, "" if it is, None if nobody has tried."""

    size: int
    changed: int  # modification time in ns
    sha256: str
    problem: str | None


def check_files(root: Path, names: Iterable[str], decoding: bool) -> dict[str, Found]:
    """What is known of each file root/name; `decoding`: each is decoded once, so `problem` is no longer None.

    A file that is missing or cannot be opened is left out.
    """
    kept = kept_at(root)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with lock(kept):
        known = _read(kept)
        found: dict[str, Found] = {}
        todo = []
        for name in names:
            try:
                status = (root / name).stat()
            except OSError:
                continue
            old = known.get(name)
            if old and old[:2] == (status.st_size, status.st_mtime_ns) and not (decoding and old.problem is None):
                found[name] = old
            else:
                todo.append((name, status.st_size, status.st_mtime_ns))
        if todo:
            _look(root, todo, decoding, kept, known, found)
    return found


def fingerprint_of_files(names: Iterable[str], found: Mapping[str, Found], labels: np.ndarray, upright: bool) -> str:
    """SHA-256 over how images are decoded, the files' names and SHA-256, and the bytes of labels (bool)."""
    digest = hashlib.sha256(f"decoding {DECODING}, upright {upright}\n".encode())
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + f"\0{found[name].sha256}\n".encode())
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def kept_at(root: Path) -> Path:
    """Where the findings about a folder are kept."""
    place = str(root.resolve()).encode("utf-8", "surrogateescape")
    return cache_dir() / "data" / "files" / f"{hashlib.sha256(place).hexdigest()[:16]}.json"


def _look(
    root: Path,
    todo: list[tuple[str, int, int]],
    decoding: bool,
    kept: Path,
    known: dict[str, Found],
    found: dict[str, Found],
) -> None:
    """Read the files of `todo` into `found` and `known`; save now and then, and when interrupted."""

    def look(one: tuple[str, int, int]) -> Found | None:
        name, size, changed = one
        try:
            return Found(size, changed, sha256_of(root / name), _problem(root / name) if decoding else None)
        except OSError:
            return None  # gone, or not ours to read

    saved = time.monotonic()
    try:
        with track(len(todo), f"reading {root.name}", unit="file") as bar:
            for start in range(0, len(todo), BLOCK):
                block = todo[start : start + BLOCK]
                for (name, *_), one in zip(block, in_threads(look, block), strict=True):
                    if one is not None:
                        found[name] = known[name] = one
                bar.update(len(block))
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    _write(kept, known)
                    saved = time.monotonic()
    finally:
        _write(kept, known)


def _problem(path: Path) -> str:
    try:
        decode(path)
    except ImageError as error:
        return error.reason
    return ""


def _read(kept: Path) -> dict[str, Found]:
    """The findings that are kept; without the problems that another Pillow had."""
    try:
        content = json.loads(kept.read_text())
        known = {name: Found(*values) for name, values in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none yet, or damaged: looked at anew
    same = content.get("decoder") == _decoder()
    return {name: found for name, found in known.items() if same or not found.problem}


def _write(kept: Path, known: Mapping[str, Found]) -> None:
    write_text(kept, json.dumps({"decoder": _decoder(), "files": known}, separators=(",", ":")) + "\n")


def _decoder() -> str:
    return f"{DECODING}, Pillow {PIL.__version__}"
