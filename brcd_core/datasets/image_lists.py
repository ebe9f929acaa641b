"""Datasets of three text lists, train.txt, test.txt and database.txt, in the folder of their images.

The convention of HashNet and DeepHash-pytorch, for MS-COCO, ImageNet-100 and NUS-WIDE: a line is an image's
path, relative to the folder, and one 0 or 1 for each label. An optional classes.txt names the labels, one a line.

The test list is the query split. Validation images are drawn from those that are in the database list only,
and leave the database: they are never queries.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from brcd_core.datasets.dataset import Dataset
from brcd_core.datasets.drawing import SEED, in_random_order
from brcd_core.datasets.file_checks import check_files, fingerprint_of_files
from brcd_core.datasets.image_files import ImageFiles
from brcd_core.datasets.places import PAGE, placed

LABELS = {"coco": 80, "imagenet100": 100, "nuswide": 21}
CENTRAL = 0.875  # 224 of 256: the central crop of clean views
LISTS = ("train", "database", "test")
NAMED = 3  # how many files an error names


@dataclass(frozen=True)
class Lists:
    """The images of the three lists: each one's labels, and which are on which list (positions in `names`)."""

    names: tuple[str, ...]
    labels: np.ndarray
    members: Mapping[str, tuple[str, ...]]


def load(name: str, folder: Path | None = None) -> Dataset:
    """The images of the three lists, decoded when they are used, and their labels.

    Raises FileNotFoundError: the folder, a list or an image is missing; ValueError: a list is wrong, with its
    line. The first time, every file is read once for its SHA-256.
    """
    place = placed(name, folder)
    lists = read_lists(place, LABELS[name])
    found = check_files(place, lists.names, decoding=False)
    missing = [one for one in lists.names if one not in found]
    if missing:
        raise FileNotFoundError(
            f"{place}: {len(missing):,} of the {len(lists.names):,} images of the lists are missing or cannot be "
            f"read, such as {', '.join(missing[:NAMED])}. Paths are relative to that folder; see {PAGE}"
        )
    fingerprint = fingerprint_of_files(lists.names, found, lists.labels, upright=False)
    classes = _classes(place, LABELS[name])
    return Dataset(name, classes, ImageFiles(place, lists.names), lists.labels.copy(), fingerprint, CENTRAL)


def split(name: str, folder: Path | None, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The four lists of a split, each in an order that SHA-256 of the paths determines.

    Without a size for it, validation takes as many images as there are queries, or a tenth of those it is
    drawn from if that is less. ValueError where there are too few.
    """
    place = placed(name, folder)
    lists = read_lists(place, LABELS[name])
    train, query = (in_random_order(lists.members[part], SEED, part) for part in ("train", "test"))
    on_train = set(train)
    only_database = [one for one in lists.members["database"] if one not in on_train]
    count = sizes.get("validation", max(1, min(len(query), len(only_database) // 10)))
    if count > len(only_database):
        raise ValueError(
            f"{name}: {count} validation images asked for; {place / 'database.txt'} has {len(only_database)} that "
            "are not on the train list"
        )
    validation = in_random_order(only_database, SEED, "validation")[:count]
    held_out = set(validation)
    rest = [one for one in only_database if one not in held_out]
    number = {one: index for index, one in enumerate(lists.names)}
    parts = {
        "train": train,
        "validation": validation,
        "query": query,
        "database": train + in_random_order(rest, SEED, "database"),
    }
    return {part: np.array([number[one] for one in members], np.int64) for part, members in parts.items()}


def read_lists(folder: Path, labels: int) -> Lists:
    """The three lists of a folder, checked. An image that a list repeats counts once.

    Images of the test list that are on another list as well are taken off that one, and a line says so.
    Raises FileNotFoundError; ValueError with list and line.
    """
    paths = tuple(folder / f"{name}.txt" for name in LISTS)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; see {PAGE}")
    signature = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return _read_lists(paths, labels, signature)


@lru_cache(maxsize=2)
def _read_lists(paths: tuple[Path, ...], labels: int, signature: tuple[tuple[int, int], ...]) -> Lists:
    """`signature` changes when a list does, so that it is read again."""
    del signature
    flags: dict[str, str] = {}
    members: dict[str, tuple[str, ...]] = {}
    for path in paths:
        on_list = []
        for line, (name, own) in _lines(path, labels):
            if flags.setdefault(name, own) != own:
                raise ValueError(f"{path}, line {line}: {name} has other labels than where it was listed before")
            on_list.append(name)
        members[path.stem] = tuple(dict.fromkeys(on_list))
    queries = set(members["test"])
    for part in ("train", "database"):
        kept = tuple(name for name in members[part] if name not in queries)
        if len(kept) < len(members[part]):
            taken = len(members[part]) - len(kept)
            print(f"{paths[0].parent}: {taken} query images were on {part}.txt too; taken off", file=sys.stderr)
        members[part] = kept
    for part, listed in members.items():
        if not listed:
            raise ValueError(f"{paths[0].parent / part}.txt lists no image" + (" that is no query" * (part != "test")))
    values = np.frombuffer("".join(flags.values()).encode(), np.uint8).reshape(-1, labels) == ord("1")
    return Lists(tuple(flags), values, members)


def _lines(path: Path, labels: int) -> list[tuple[int, tuple[str, str]]]:
    """The line number, the normal form of the path, and the labels as text, of each line that is not blank."""
    lines = []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(), 1):
        if not text.strip():
            continue
        name, *flags = text.rsplit(maxsplit=labels)
        own = "".join(flags)
        if len(flags) != labels or len(own) != labels or set(own) - {"0", "1"} or name.endswith((" 0", " 1")):
            raise ValueError(f"{path}, line {line}: not a path and {labels} labels of 0 or 1: {text[:60]!r}")
        clean = PurePosixPath(name.strip())
        if clean.is_absolute() or ".." in clean.parts:
            raise ValueError(f"{path}, line {line}: {name} must be a path inside of {path.parent}, relative to it")
        lines.append((line, (str(clean), own)))
    return lines


def _classes(folder: Path, labels: int) -> tuple[str, ...]:
    """The labels' names: those of classes.txt, else their numbers."""
    path = folder / "classes.txt"
    if not path.is_file():
        return tuple(f"label {number}" for number in range(labels))
    classes = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    if len(classes) != labels:
        raise ValueError(f"{path} names {len(classes)} classes, the lists have {labels} labels")
    return classes
