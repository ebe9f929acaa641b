"""Datasets by name, and their committed splits.

A dataset is a function that returns a `Dataset`, and one entry in DATASETS. Its splits are the lists in
splits/NAME; a smaller study takes the beginning of each list.

Command line: `python -m brcd_core.datasets fetch` (also: splits, sample; see --help), in __main__.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from brcd_core.datasets import cifar10, split_files
from brcd_core.datasets.drawing import from_grid
from brcd_core.datasets.split_files import PARTS

if TYPE_CHECKING:
    import torch

PACKAGE = Path(__file__).resolve().parent
SAMPLES = PACKAGE / "samples"
SPLITS = PACKAGE / "splits"
SAMPLE_TRAIN_IMAGES = 200  # of 300
SAMPLE_COLUMNS = 20
SAMPLE_FINGERPRINT = "cc722ba92fa4904127a2e7ebbef0e45a0235df18ca7ac5a0b21290a852cb0a07"
# of the train split: all images, and the train list's per class; of the test split: for validation
SPLIT_SIZES = {"cifar10": (cifar10.TRAIN_IMAGES, 500, 5_000), "sample": (SAMPLE_TRAIN_IMAGES, 10, 50)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels. pixels: uint8 (N, H, W, 3); labels: bool (N, L), one column a class.

    fingerprint: SHA-256 of the bytes of pixels, then of labels.
    """

    name: str
    classes: tuple[str, ...]
    pixels: np.ndarray
    labels: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.pixels)

    def tensor(self, ids: Any) -> torch.Tensor:
        """Images as uint8 (B, 3, H, W), a copy. ids: B indices. IndexError where one is out of range."""
        import torch  # here, because it takes seconds to load and the command line does without

        ids = np.atleast_1d(np.asarray(ids, dtype=np.int64))
        if ids.size and ids.min() < 0:
            raise IndexError(f"image index {ids.min()} is negative")
        return torch.from_numpy(np.ascontiguousarray(self.pixels[ids].transpose(0, 3, 1, 2)))


class Entry(NamedTuple):
    """How to read a dataset, given a folder that the user names or None, and how many images it has."""

    read: Callable[[Path | None], Dataset]
    images: int


def names() -> list[str]:
    """The known datasets."""
    return list(DATASETS)


def load(name: str, folder: Path | None = None) -> Dataset:
    """A dataset by name; a missing one is fetched into the cache, or read from `folder`, and checked.

    Raises ValueError: unknown name, or wrong content; FileNotFoundError: `folder` lacks it;
    fetching.FetchError: no source could be reached.
    """
    return _entry(name).read(folder)


def split(name: str, sizes: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """The indices (int64) of train, validation, query and database: the first sizes[part] of each list.

    A part that `sizes` does not name is taken whole. The database begins with the train list, so it contains
    the train images at every size. Raises ValueError: unknown dataset or part, a size that is not there, or a
    list that was changed or breaks a rule (range, duplicates, overlap).
    """
    entry = _entry(name)
    sizes = dict(sizes or {})
    if unknown := sorted(set(sizes) - set(PARTS)):
        raise ValueError(f"unknown part of a split: {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    whole = split_files.read(SPLITS / name, entry.images)
    for part, size in sizes.items():
        if not 1 <= size <= len(whole[part]):
            raise ValueError(f"{name}: {part} size {size} is not in 1 .. {len(whole[part])}")
    parts = {part: whole[part][: sizes.get(part, len(whole[part]))] for part in PARTS}
    if len(parts["database"]) < len(parts["train"]):
        raise ValueError(
            f"{name}: a database of {len(parts['database'])} images cannot contain the "
            f"{len(parts['train'])} train images"
        )
    return parts


def fingerprint_of(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of the bytes of pixels, then of labels (C order)."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()


def _cifar10(folder: Path | None) -> Dataset:
    pixels, numbers = cifar10.read(folder)
    labels = _one_hot(numbers)
    return Dataset("cifar10", cifar10.CLASSES, pixels, labels, fingerprint_of(pixels, labels))


def _sample(folder: Path | None) -> Dataset:
    """300 images of CIFAR-10 that are part of this package."""
    del folder
    path = SAMPLES / "cifar10_sample.png"
    with Image.open(path) as sheet:
        pixels = from_grid(np.asarray(sheet), SAMPLE_COLUMNS)
    numbers = np.array(json.loads(path.with_suffix(".json").read_text())["labels"])
    labels = _one_hot(numbers)
    found = fingerprint_of(pixels, labels)
    if found != SAMPLE_FINGERPRINT:
        raise ValueError(f"{path} or its labels were changed: SHA-256 {found}, expected {SAMPLE_FINGERPRINT}")
    return Dataset("sample", cifar10.CLASSES, pixels, labels, found)


DATASETS: dict[str, Entry] = {
    "cifar10": Entry(_cifar10, cifar10.IMAGES),
    "sample": Entry(_sample, 300),
}


def _entry(name: str) -> Entry:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name]


def _one_hot(numbers: np.ndarray) -> np.ndarray:
    return numbers[:, None] == np.arange(len(cifar10.CLASSES))
