"""How splits are drawn: the committed lists, those of sets that are only on a user's disk, and the small sheet.

Random order is the order of SHA-256("seed/purpose/thing"): the same everywhere and in every version of numpy.
A thing is an image's index, or its path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Thing = TypeVar("Thing", bound=Hashable)
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


def draw_parts(things: Sequence[Hashable], sizes: Mapping[str, int], seed: int, origin: str) -> dict[str, np.ndarray]:
    """Draw the four lists from things that all differ (N,): their positions, int64.

    query and validation: as many as `sizes` says, else a tenth each, at most 5,000. database: all others.
    train: the beginning of the database, as long as asked, else up to 5,000. A thing's place in an order does
    not depend on the others, so a new image changes little. ValueError, with `origin`: too few things.
    """
    tenth = min(max(len(things) // 10, 1), 5_000)
    queries, validation = sizes.get("query", tenth), sizes.get("validation", tenth)
    database = max(sizes.get("database", 1), sizes.get("train", 1))
    if queries + validation + database > len(things):
        raise ValueError(
            f"{origin}: {len(things)} images are too few for {queries} query, {validation} validation and "
            f"{database} database images"
        )
    query = in_random_order(things, seed, "query")[:queries]
    held_out = set(query)
    valid = [thing for thing in in_random_order(things, seed, "validation") if thing not in held_out][:validation]
    held_out |= set(valid)
    rest = [thing for thing in in_random_order(things, seed, "database") if thing not in held_out]
    position = {thing: index for index, thing in enumerate(things)}
    parts = {"train": rest[: sizes.get("train", 5_000)], "validation": valid, "query": query, "database": rest}
    return {part: np.array([position[thing] for thing in chosen], np.int64) for part, chosen in parts.items()}


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


def in_random_order(things: Iterable[Thing], seed: int, purpose: str) -> list[Thing]:
    """Indices or paths in an order that seed and purpose determine."""

    def place(thing: Thing) -> bytes:
        return hashlib.sha256(f"{seed}/{purpose}/{thing}".encode("utf-8", "surrogateescape")).digest()

    return sorted(things, key=place)


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
