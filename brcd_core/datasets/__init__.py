"""Datasets by name, and their splits. README.md in this folder says what there is and how to place or add one.

A dataset is a function that returns a `Dataset`, and one entry in DATASETS. The splits of the sets that
everybody has are the committed lists in splits/NAME; a smaller study takes the beginning of each list.

Command line: `python -m brcd_core.datasets fetch` (also: splits, sample; see --help), in __main__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brcd_core.datasets import cifar10, fashion_mnist, image_folder, image_lists, mosaic, sample, split_files
from brcd_core.datasets.dataset import Dataset, fingerprint_of, from_arrays
from brcd_core.datasets.drawing import SEED, draw_parts
from brcd_core.datasets.image_files import ImageError, ImageFiles
from brcd_core.datasets.split_files import PARTS

__all__ = [
    "DATASETS",
    "Dataset",
    "Entry",
    "ImageError",
    "ImageFiles",
    "fingerprint_of",
    "from_arrays",
    "load",
    "names",
    "split",
]

SPLITS = Path(__file__).resolve().parent / "splits"
# of the train split: all images, and the train list's per class; of the test split: for validation
SPLIT_SIZES = {
    "cifar10": (cifar10.TRAIN_IMAGES, 500, 5_000),
    "fashion_mnist": (fashion_mnist.TRAIN_IMAGES, 500, 5_000),
    "cifar10_mosaic": (mosaic.TRAIN_IMAGES, 5_000, 1_250),  # several labels: all mosaics count as one class
    "sample": (sample.TRAIN_IMAGES, 10, 50),
}
Splitter = Callable[[Path | None, Mapping[str, int]], Mapping[str, np.ndarray]]


class Entry(NamedTuple):
    """How to read a dataset, given a folder that the user names or None; and how to split it.

    split: from the folder and the sizes asked for to the four whole lists. None: drawn from all images.
    """

    read: Callable[[Path | None], Dataset]
    split: Splitter | None = None


def names() -> list[str]:
    """The known datasets."""
    return list(DATASETS)


def load(name: str, folder: Path | None = None) -> Dataset:
    """A dataset by name; a missing one is fetched into the cache, or read from `folder`, and checked.

    Sets that nothing can fetch (coco, imagenet100, nuswide, folder) are read from `folder`, else from
    $BRCD_DATA/NAME. Raises ValueError: unknown name, or wrong content; FileNotFoundError: `folder` lacks it;
    fetching.FetchError: no source could be reached.
    """
    return _entry(name).read(folder)


def split(name: str, sizes: Mapping[str, int] | None = None, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The indices (int64) of train, validation, query and database: the first sizes[part] of each list.

    A part that `sizes` does not name is taken whole. The database begins with the train list, so it contains
    the train images at every size. Raises ValueError: unknown dataset or part, a size that is not there, or a
    list that was changed or breaks a rule (range, duplicates, overlap); FileNotFoundError as `load`.
    """
    entry = _entry(name)
    sizes = dict(sizes or {})
    if unknown := sorted(set(sizes) - set(PARTS)):
        raise ValueError(f"unknown part of a split: {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    splitter = entry.split or partial(_drawn, entry)
    whole = splitter(folder, {part: size for part, size in sizes.items() if size > 0})
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


def _committed(name: str, images: int) -> Splitter:
    """The lists of splits/NAME, wherever the images come from."""
    return lambda folder, sizes: split_files.read(SPLITS / name, images)


def _drawn(entry: Entry, folder: Path | None, sizes: Mapping[str, int]) -> Mapping[str, np.ndarray]:
    dataset = entry.read(folder)
    return draw_parts(range(len(dataset)), sizes, SEED, dataset.name)


DATASETS: dict[str, Entry] = {
    "cifar10": Entry(cifar10.load, _committed("cifar10", cifar10.IMAGES)),
    "sample": Entry(sample.load, _committed("sample", sample.IMAGES)),
    "fashion_mnist": Entry(fashion_mnist.load, _committed("fashion_mnist", fashion_mnist.IMAGES)),
    "cifar10_mosaic": Entry(mosaic.load, _committed("cifar10_mosaic", mosaic.IMAGES)),
    **{name: Entry(partial(image_lists.load, name), partial(image_lists.split, name)) for name in image_lists.LABELS},
    "folder": Entry(image_folder.load, image_folder.split),
}


def _entry(name: str) -> Entry:
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name]
