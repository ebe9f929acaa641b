"""A large array file written chunk by chunk, that goes on where an interrupted process stopped.

A journal beside the file has a line for each whole chunk, written after the chunk is on the disk, with the
checksum of its bytes: only what is proven to be there is not computed again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FILE, JOURNAL = "features.npy", "journal"


def write(
    folder: Path,
    shape: tuple[int, int],
    compute: Callable[[range], NDArray[np.float16]],
    chunk: int,
    report: Callable[[int], object],
) -> Path:
    """Write the float16 array of `shape` (rows, columns) to `folder`/features.npy, `chunk` rows at a time.

    `compute(rows)` gives the values of some rows; `report(count)` is called after each chunk, also after one
    that was there. Whatever is raised, also for a full disk, the whole chunks stay and are used next time; so
    remove `folder`/journal only once the file is in its final place.
    """
    offset = _prepare(folder, shape)
    row_bytes = shape[1] * np.dtype(np.float16).itemsize
    with open(folder / FILE, "r+b") as file, open(folder / JOURNAL, "a+", encoding="ascii") as journal:
        done = _finished(file, journal, offset, row_bytes)
        for start in range(0, shape[0], chunk):
            rows = range(start, min(start + chunk, shape[0]))
            if rows not in done:
                data = np.ascontiguousarray(compute(rows), dtype="<f2").tobytes()
                # Ordinary writes: on a full disk they raise, where a memory map would kill the process.
                file.seek(offset + rows.start * row_bytes)
                file.write(data)
                _to_disk(file)
                # The newline in front keeps this line apart from one that was cut short.
                journal.write(f"\n{rows.start} {rows.stop} {hashlib.sha256(data).hexdigest()}\n")
                _to_disk(journal)
            report(len(rows))
    return folder / FILE


def _prepare(folder: Path, shape: tuple[int, int]) -> int:
    """Make the folder and a file of this shape, unless they are there; gives the offset of its data."""
    path = folder / FILE
    if path.exists():
        try:
            stored: Any = np.lib.format.open_memmap(path, mode="r")
            if stored.shape == shape and stored.dtype == np.float16:
                return int(stored.offset)
        except ValueError:  # cut short while it was made
            pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype("<f2"), shape=shape)
    return int(made.offset)


def _finished(file: BinaryIO, journal: IO[str], offset: int, row_bytes: int) -> set[range]:
    """The chunks of the journal whose bytes in the file still have the checksum that was noted."""
    done = set()
    journal.seek(0)
    for words in (line.split() for line in journal):
        if len(words) == 3 and words[0].isdigit() and words[1].isdigit():
            rows = range(int(words[0]), int(words[1]))
            file.seek(offset + rows.start * row_bytes)
            if hashlib.sha256(file.read(len(rows) * row_bytes)).hexdigest() == words[2]:
                done.add(rows)
    return done


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
