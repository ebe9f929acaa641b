"""The files of a split: four lists of image indices, one a line, and their checksums.

The beginning of a list serves a smaller study. The database begins with the train list, so it contains the
train images at every size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brcd_core.atomic import write_text

PARTS = ("train", "validation", "query", "database")


def write(splits: Mapping[str, list[int]], folder: Path, about: Mapping[str, object]) -> None:
    """Write the four lists, and checksums.json: `about`, counts, and the SHA-256 of each file."""
    checksums = {}
    for name in PARTS:
        text = "".join(f"{index}\n" for index in splits[name])
        write_text(folder / f"{name}.txt", text)
        checksums[f"{name}.txt"] = hashlib.sha256(text.encode()).hexdigest()
    counts = {name: len(splits[name]) for name in PARTS}
    record = {**about, "counts": counts, "sha256": checksums}
    write_text(folder / "checksums.json", json.dumps(record, indent=2) + "\n")


def read(folder: Path, images: int) -> dict[str, np.ndarray]:
    """The four whole lists, int64, of a dataset that has this many images.

    Raises FileNotFoundError; ValueError where a list does not match its checksum or breaks a rule (an index
    that is no number, out of range or repeated; lists that overlap), with the file named.
    """
    whole = {part: _read_list(folder / f"{part}.txt", images) for part in PARTS}
    _check_together(whole, folder)
    return whole


def _read_list(path: Path, images: int) -> np.ndarray:
    """One committed list: checksum, then every rule that concerns it alone."""
    record = path.with_name("checksums.json")
    for file in (path, record):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; restore it from the repository")
    data = path.read_bytes()
    try:
        expected = json.loads(record.read_bytes())["sha256"].get(path.name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{record} was changed ({error!r}); restore it from the repository") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(f"{path} was changed: SHA-256 {found}, {record.name} says {expected}; restore both")
    lines = data.decode().splitlines()
    if not lines:
        raise ValueError(f"{path} is empty")
    for number, line in enumerate(lines, 1):
        if not (line.isascii() and line.isdigit()):
            raise ValueError(f"{path}, line {number}: {line!r} is not an image index")
    indices = np.array(lines, dtype=np.int64)
    if indices.max() >= images:
        raise ValueError(f"{path}: index {indices.max()} is out of range, the dataset has {images} images")
    values, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"{path}: index {values[counts > 1][0]} appears more than once")
    return indices


def _check_together(whole: Mapping[str, np.ndarray], folder: Path) -> None:
    """Rules between the lists: three are disjoint, and the database begins with train."""
    for one, other in (("validation", "query"), ("validation", "database"), ("query", "database")):
        common = np.intersect1d(whole[one], whole[other])
        if len(common):
            raise ValueError(f"{folder / one}.txt and {other}.txt share image {common[0]}")
    train = whole["train"]
    if not np.array_equal(whole["database"][: len(train)], train):
        raise ValueError(f"{folder / 'database.txt'} does not begin with the lines of train.txt")
