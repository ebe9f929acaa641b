"""How the committed lists were drawn: the splits of a dataset, and the images of the small sheet.

Random order is the order of SHA-256("seed/purpose/index"): the same everywhere and in every version of numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

SEED = 20240513  # the first day of WWW 2024, where the paper appeared


def draw_splits(
    numbers: np.ndarray, train_images: int, per_class: int, validation: int, seed: int
) -> dict[str, list[int]]:
    """Draw the four lists from class numbers (N,); the first `train_images` images are the train split.

    train: `per_class` images a class of the train split. database: the whole train split, the train list
    first. validation: that many images of the rest, uniformly at random; query: all others. Every list, and
    the tail of the database, takes one image of each class in turn, so that any beginning is nearly balanced.
    """
    shuffled = in_random_order(range(train_images), seed, "train")
    train: list[int] = []
    for number in np.unique(numbers[:train_images]):
        of_class = [index for index in shuffled if numbers[index] == number]
        if len(of_class) < per_class:
            raise ValueError(f"class {number} has {len(of_class)} images, fewer than {per_class}")
        train += of_class[:per_class]
    chosen = set(train)
    rest = [index for index in shuffled if index not in chosen]
    held_out = in_random_order(range(train_images, len(numbers)), seed, "test")
    train = in_turn(train, numbers)
    return {
        "train": train,
        "validation": in_turn(held_out[:validation], numbers),
        "query": in_turn(held_out[validation:], numbers),
        "database": train + in_turn(rest, numbers),
    }


def draw_sample(
    numbers: np.ndarray, train_images: int, train_per_class: int, test_per_class: int, seed: int
) -> list[int]:
    """Draw images a class of the train split, then of the test split; each sorted by class, then index."""
    chosen: list[int] = []
    parts = (range(train_images), train_per_class), (range(train_images, len(numbers)), test_per_class)
    for part, count in parts:
        shuffled = in_random_order(part, seed, "sample")
        for number in np.unique(numbers):
            chosen += sorted([index for index in shuffled if numbers[index] == number][:count])
    return chosen


def in_random_order(indices: Iterable[int], seed: int, purpose: str) -> list[int]:
    """The indices in an order that seed and purpose determine."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest())


def in_turn(indices: list[int], numbers: np.ndarray) -> list[int]:
    """One index of each class in turn; a class keeps its own order, and drops out when it is used up."""
    turns: dict[int, int] = {}
    keyed = []
    for index in indices:
        number = int(numbers[index])
        turns[number] = turns.get(number, -1) + 1
        keyed.append((turns[number], number, index))
    return [index for _, _, index in sorted(keyed)]


def to_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 3) side by side, in reading order: (N / columns * H, columns * W, 3)."""
    count, height, width, channels = images.shape
    rows = images.reshape(count // columns, columns, height, width, channels)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, channels)


def from_grid(grid: np.ndarray, columns: int) -> np.ndarray:
    """The square images of `to_grid`: (N, H, H, 3)."""
    side = grid.shape[1] // columns
    rows = grid.reshape(-1, side, columns, side, grid.shape[2])
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, grid.shape[2]))
