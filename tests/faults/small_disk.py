"""A small disk of a test's own, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A folder on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / ".filler"

    def leave(self, pages: int) -> None:
        """Fill it up to so many free pages."""
        self._filler.unlink(missing_ok=True)
        state = os.statvfs(self.folder)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (state.f_bavail - pages) * state.f_frsize)

    def free(self) -> None:
        """Give back what fills it."""
        self._filler.unlink()

    def resize(self, kilobytes: int) -> None:
        """Make it larger."""
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Disk]:
    """A tmpfs, mounted at a folder; skips the test where that takes rights that one has not."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted without root; try: unshare -Urm make test-faults")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
