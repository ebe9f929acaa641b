"""Your own folder of images, of any size and any format that Pillow opens, with or without labels.

Where images lie in subfolders, the first subfolder of its path is an image's class; an image beside the
subfolders has none. With fewer than two classes there is nothing to tell apart, and the set has no labels.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from brcd_core.datasets.dataset import Dataset
from brcd_core.datasets.drawing import SEED, draw_parts
from brcd_core.datasets.file_checks import Found, check_files, fingerprint_of_files
from brcd_core.datasets.image_files import ImageFiles
from brcd_core.datasets.places import placed

CENTRAL = 0.875  # 224 of 256: the central crop of clean views
_told: set[str] = set()  # what this process has already said about skipped files


def load(folder: Path | None = None) -> Dataset:
    """The images of a folder and its subfolders that can be read, in the order of their paths.

    Files that cannot be read are left out, and a line says how many and why. The first time, every file is
    decoded once. Hidden files are not looked at. Raises FileNotFoundError; ValueError: no image can be read.
    """
    place = placed("folder", folder)
    found = _images(place)
    names = list(found)
    classes = sorted({name.partition("/")[0] for name in names if "/" in name})
    classes = classes if len(classes) > 1 else []
    number = {name: index for index, name in enumerate(classes)}
    labels = np.zeros((len(names), len(classes)), bool)
    for row, name in zip(labels, names, strict=True):
        own, inside, _ = name.partition("/")
        if classes and inside:
            row[number[own]] = True
    fingerprint = fingerprint_of_files(names, found, labels, upright=True)
    return Dataset("folder", tuple(classes), ImageFiles(place, names, upright=True), labels, fingerprint, CENTRAL)


def split(folder: Path | None, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The four lists, in orders that SHA-256 of the relative paths determines; see drawing.draw_parts."""
    place = placed("folder", folder)
    return draw_parts(list(_images(place)), sizes, SEED, str(place))


def _images(place: Path) -> dict[str, Found]:
    """What is known of each image that can be read, by its relative path."""
    names = sorted(files(place))
    found = check_files(place, names, decoding=True)
    problems = {name: found[name].problem if name in found else "cannot be opened" for name in names}
    skipped = {name: problem for name, problem in problems.items() if problem}
    if skipped:
        _tell(place, skipped, len(names))
    if len(skipped) == len(names):
        raise ValueError(f"{place} holds no image that can be read ({len(names)} files)")
    return {name: found[name] for name in names if name not in skipped}


def files(place: Path) -> Iterator[str]:
    """Relative paths of all files, hidden ones left out. Links are followed; a circle of links is not.

    What cannot be looked at, such as a folder of somebody else, is among them: whoever reads it finds out why.
    """
    seen, closed = set(), list[OSError]()
    for root, folders, files in os.walk(place, onerror=closed.append, followlinks=True):
        here = os.path.realpath(root)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for file in files:
            path = Path(root, file)
            if not file.startswith(".") and _is_file(path):
                yield path.relative_to(place).as_posix()
    for error in closed:
        yield Path(error.filename).relative_to(place).as_posix()


def _is_file(path: Path) -> bool:
    """Whether it is a file, and not a pipe, which would be waited for; also where that cannot be known."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # a link to nothing
        return False
    except OSError as error:
        return error.errno != errno.ELOOP


def _tell(place: Path, skipped: Mapping[str, str], files: int) -> None:
    """Say once how many files were left out, why, and name one for each reason."""
    reasons = Counter(skipped.values())
    example = {problem: name for name, problem in reversed(list(skipped.items()))}
    why = "; ".join(f"{count} {reason} ({example[reason]})" for reason, count in reasons.most_common(5))
    text = f"{place}: {len(skipped)} of {files} files were left out: {why}"
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)  # names may hold anything
    if text not in _told:
        _told.add(text)
        print(text, file=sys.stderr)
