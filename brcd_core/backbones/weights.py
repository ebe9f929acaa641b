"""Pretrained weights in the cache: fetched, converted, and kept as cache/weights/NAME.safetensors.

The table of sources is in weight_sources.py.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from brcd_core.atomic import replacing
from brcd_core.backbones.weight_formats import State, WeightsError
from brcd_core.backbones.weight_sources import SOURCES, WeightFile
from brcd_core.config import cache_dir
from brcd_core.fetching import obtain, sha256_of

BY_HAND = "Place it under its own name; the folder is cache/downloads, or $BRCD_CACHE/downloads where that is set."


def load_state(name: str) -> tuple[State, str]:
    """The pretrained weights of one backbone, and their checksum.

    They come from the cache, or else from the first source that delivers (seconds to minutes). A cached file
    that is damaged is named, removed and made again.
    ValueError for an unknown name, FetchError if no source delivers, WeightsError for a file of wrong form.
    """
    files = _files(name)
    path = cached_path(name)
    if path.exists():
        try:
            return _read_cached(path)
        except WeightsError as error:
            print(f"{error}: removed, and made again", file=sys.stderr)
            path.unlink(missing_ok=True)
    delivery = obtain([file.source for file in files], cache_dir() / "downloads", BY_HAND)
    file = next(file for file in files if file.source == delivery.source)
    print(f"{name}: reading {delivery.path.name}", file=sys.stderr)
    state = file.read(delivery.path)
    about = {"source": delivery.source.description, "source_sha256": sha256_of(delivery.path)}
    _write_cached(path, state, about)
    return state, checksum(state)


def known_names() -> list[str]:
    """The backbones that have pretrained weights."""
    return list(SOURCES)


def cached_path(name: str) -> Path:
    """Where the weights of a backbone are kept once they are there."""
    return cache_dir() / "weights" / f"{name}.safetensors"


def source_of(name: str) -> str:
    """Which source the cached weights came from, in words."""
    path = cached_path(name)
    if not path.exists():
        return "not in the cache"
    with safe_open(path, framework="pt") as stored:
        return str((stored.metadata() or {}).get("source", "unknown"))


def checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _files(name: str) -> tuple[WeightFile, ...]:
    if name not in SOURCES:
        raise ValueError(f"no pretrained weights for {name!r}; there are: {', '.join(known_names())}")
    return SOURCES[name]


def _read_cached(path: Path) -> tuple[State, str]:
    try:
        with safe_open(path, framework="pt") as stored:
            expected = (stored.metadata() or {}).get("checksum")
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error})") from error
    if checksum(state) != expected:
        raise WeightsError(f"{path} is damaged (its tensors do not have the checksum written beside them)")
    return state, expected


def _write_cached(path: Path, state: State, about: dict[str, str]) -> None:
    # safetensors takes no shared memory
    whole = {key: value.contiguous().clone() for key, value in state.items()}
    with replacing(path) as part:
        # save_file would hide a full disk in an error of its own
        part.write_bytes(save(whole, {**about, "checksum": checksum(whole)}))
