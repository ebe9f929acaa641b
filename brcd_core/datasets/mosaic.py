"""A multi-label set that runs everywhere: 2x2 mosaics of CIFAR-10 images, labelled with all classes in them.

CIFAR-10's train split gives 12,500 mosaics, its test split 2,500. Every image is in one mosaic only, so however
mosaics are split, no two parts share a source image, and queries are independent of each other. Of ten
mosaics four show one class, three show two, two show three and one shows four: with four images at random, four
pairs in five would share a label, and mAP would say little; so it is one pair in three.

Nothing is drawn from a random state: every choice is an order of SHA-256 (drawing.in_random_order).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from brcd_core.config import cache_dir
from brcd_core.datasets import cifar10
from brcd_core.datasets.dataset import Dataset, fingerprint_of, one_hot
from brcd_core.datasets.drawing import SEED, in_random_order
from brcd_core.datasets.kept import Arrays, kept

TRAIN_IMAGES = 12_500  # mosaics 0 .. 12,499 are made of the train split, the other 2,500 of the test split
IMAGES = 15_000
# of ten mosaics in turn: which of its classes each of the four images shows
ONE, TWO, THREE, FOUR = (0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 1, 2), (0, 1, 2, 3)
CELLS = (ONE, TWO, ONE, THREE, TWO, ONE, FOUR, TWO, ONE, THREE)
FINGERPRINT = "0a7da28a2124cddba6e02c6db540bc7bc34c71d25fe2d77d1ccb603ab7bdbac6"


def load(folder: Path | None = None) -> Dataset:
    """The mosaics, (15000, 64, 64, 3), and labels, one to four of ten classes. `folder` may hold CIFAR-10.

    They are kept in the cache and checked each time. Raises what cifar10.load raises.
    """
    pixels, labels = kept(cache_dir() / "data" / "cifar10_mosaic", check, lambda: _make(folder))
    return Dataset("cifar10_mosaic", cifar10.CLASSES, pixels, labels, FINGERPRINT)


def check(pixels: np.ndarray, labels: np.ndarray, origin: object) -> None:
    """ValueError unless these are the mosaics."""
    found = fingerprint_of(pixels, labels)
    if found != FINGERPRINT or pixels.shape != (IMAGES, 64, 64, 3) or labels.dtype != bool:
        raise ValueError(f"{origin}: these are not the mosaics: SHA-256 {found}, expected {FINGERPRINT}")


def sources(numbers: np.ndarray, purpose: str) -> list[list[int]]:
    """Which of N images go together, in reading order, from their class numbers (N,): N / 4 lists of positions.

    Ten mosaics at a time, one beginning with each class; the others in it are as far from the first, in a
    circle of the classes, in all ten. So ten mosaics take four images of each class, and all are used up.
    """
    classes = len(cifar10.CLASSES)
    shuffled = in_random_order(range(len(numbers)), SEED, f"mosaic {purpose}")
    waiting = [iter([image for image in shuffled if numbers[image] == number]) for number in range(classes)]
    together = []
    for block in range(len(numbers) // (4 * classes)):
        cells = CELLS[block % len(CELLS)]
        steps = [0, *in_random_order(range(1, classes), SEED, f"mosaic {purpose} classes {block}")]
        for first in range(classes):
            places = in_random_order(range(4), SEED, f"mosaic {purpose} cells {block} {first}")
            together.append([next(waiting[(first + steps[cells[place]]) % classes]) for place in places])
    return together


def mosaics(images: np.ndarray) -> np.ndarray:
    """Four images each, (M, 4, H, W, 3), as a 2x2 grid in reading order: (M, 2H, 2W, 3)."""
    count, _, height, width, channels = images.shape
    grid = images.reshape(count, 2, 2, height, width, channels).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(count, 2 * height, 2 * width, channels)


def _make(folder: Path | None) -> tuple[str, Arrays]:
    pixels, numbers = cifar10.read(folder)
    print("making mosaics of CIFAR-10", file=sys.stderr)
    ends = (0, cifar10.TRAIN_IMAGES, cifar10.IMAGES)
    splits = zip(("train", "test"), ends, ends[1:], strict=False)
    together = np.concatenate([start + np.array(sources(numbers[start:end], name)) for name, start, end in splits])
    labels = one_hot(numbers, len(cifar10.CLASSES))[together].any(axis=1)
    return "CIFAR-10", (mosaics(pixels[together]), labels)
