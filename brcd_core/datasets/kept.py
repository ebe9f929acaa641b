"""Decoded arrays that are kept in the cache, checked whenever they are opened, and made anew if damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from brcd_core.atomic import replacing, write_text
from brcd_core.fetching import lock

Arrays = tuple[np.ndarray, np.ndarray]  # pixels, labels
Check = Callable[[np.ndarray, np.ndarray, object], None]  # of pixels and labels from somewhere; raises ValueError


def kept(folder: Path, check: Check, make: Callable[[], tuple[str, Arrays]]) -> Arrays:
    """Pixels, memory-mapped, and labels of `folder`. `make` gives their origin in words, and the arrays.

    Raises what `make` raises; ValueError: what it made is not what `check` expects.
    """
    arrays = _open(folder, check)
    if arrays is not None:
        return arrays
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "pixels.npy"):
        arrays = _open(folder, check)  # another process may have made them meanwhile
        if arrays is None:
            origin, made = make()
            check(*made, origin)
            for name, array in zip(("pixels.npy", "labels.npy"), made, strict=True):
                with replacing(folder / name) as part:
                    np.save(part, array)
            write_text(folder / "about.json", json.dumps({"origin": origin}, indent=1) + "\n")
            arrays = _open(folder, check)
    if arrays is None:
        raise ValueError(f"{folder}: what was just written reads back differently; check the disk")
    return arrays


def _open(folder: Path, check: Check) -> Arrays | None:
    """The kept arrays if they are whole, else None."""
    paths = folder / "pixels.npy", folder / "labels.npy"
    if not all(path.exists() for path in paths):
        return None
    try:
        pixels, labels = np.load(paths[0], mmap_mode="r"), np.load(paths[1])
        check(pixels, labels, folder)
    except (ValueError, OSError, EOFError) as error:
        print(f"damaged, will be made anew: {error}", file=sys.stderr)
        return None
    return np.asarray(pixels), labels
