"""Files from the network: several sources in order, one checksum each.

`obtain` returns a verified file, or says what went wrong with every source and how to place the file by hand.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from brcd_core.atomic import NO_SPACE
from brcd_core.fetching.packages import AptPackage, NpmPackage, PipPackage
from brcd_core.fetching.progress import size
from brcd_core.fetching.sources import Source, SourceError, Url

__all__ = [
    "NO_SPACE",
    "AptPackage",
    "Delivery",
    "FetchError",
    "NpmPackage",
    "PipPackage",
    "Source",
    "Url",
    "is_intact",
    "lock",
    "obtain",
    "sha256_of",
]

class FetchError(Exception):
    """No source delivered the file; the message lists each one and why."""


@dataclass(frozen=True)
class Delivery:
    """A verified file and the source that it belongs to (sources of one thing may differ in format)."""

    source: Source
    path: Path


def obtain(sources: Sequence[Source], folder: Path, by_hand: str = "") -> Delivery:
    """Return a verified file of the first source that has one: `folder` / the source's file name.

    A good file that is there already is returned at once, whichever source it belongs to (its SHA-256 is
    computed, 0.1 s for 140 MB). A file with a wrong checksum is removed and fetched again. A download goes to
    `NAME.part`, is checked, and is then renamed; the lock `NAME.lock` keeps two processes from fetching the
    same file. `by_hand` is a sentence of advice that is added to the error.

    Raises FetchError: no source delivered, or no space is left on the disk.
    """
    if not sources:
        raise ValueError("obtain needs at least one source")
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if is_intact(folder / source.filename, source.sha256):
            return Delivery(source, folder / source.filename)
    for source in sources:
        if (folder / source.filename).exists():
            _remove_damaged(folder / source.filename, sources)
    failures: list[str] = []

    def failed(number: int, source: Source, reason: object) -> None:
        print(f"  did not work: {reason}", file=sys.stderr)
        failures.append(f"  {number}. {source.description}\n     {reason}")

    for number, source in enumerate(sources, 1):
        target = folder / source.filename
        try:
            with lock(target):
                # Another process may have delivered while this one waited for the lock.
                if not is_intact(target, source.sha256):
                    _download(source, target, impatient=number < len(sources))
            return Delivery(source, target)
        except SourceError as error:
            failed(number, source, error)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise FetchError(_no_space(source, folder)) from error
            failed(number, source, f"{type(error).__name__}: {error}")
    raise FetchError(_report(sources, folder, failures, by_hand))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, sha256: str) -> bool:
    """Whether `path` is a file with this SHA-256."""
    return path.is_file() and sha256_of(path) == sha256


def _remove_damaged(target: Path, sources: Sequence[Source]) -> None:
    with lock(target):
        # Looked at again, because another process may have repaired it meanwhile.
        if not any(is_intact(target, source.sha256) for source in sources if source.filename == target.name):
            print(f"{target} is damaged or incomplete (wrong checksum): removed", file=sys.stderr)
            target.unlink(missing_ok=True)


def _download(source: Source, target: Path, impatient: bool) -> None:
    part = target.with_name(target.name + ".part")
    print(f"fetching {source.filename}: {source.description}", file=sys.stderr)
    try:
        source.write(part, impatient)
        found = sha256_of(part)
        if found != source.sha256:
            raise SourceError(f"wrong checksum: found SHA-256 {found}, expected {source.sha256}")
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, target: Path) -> None:
    """Rename a finished `part` to `target` in the same folder: a reader sees all of it or nothing."""
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(target: Path) -> Iterator[None]:
    """Wait until no other process holds this target. The kernel frees the lock of a process that dies."""
    with open(target.with_name(target.name + ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that makes {target.name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _no_space(source: Source, folder: Path) -> str:
    free = size(shutil.disk_usage(folder).free)
    return (
        f"No space left on the disk of {folder} ({free} free) while fetching {source.filename}. The partial "
        "file was removed. Free some space, or set BRCD_CACHE to a folder on a larger disk."
    )


def _report(sources: Sequence[Source], folder: Path, failures: list[str], by_hand: str) -> str:
    files = dict.fromkeys(f"  {source.filename}  (SHA-256 {source.sha256})" for source in sources)
    lines = ["No source delivered the file. Tried in this order:", *failures]
    lines += [f"To go on without a download, put one of these files into {folder}:", *files]
    return "\n".join([*lines, by_hand] if by_hand else lines)
