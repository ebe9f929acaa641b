"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # error numbers of a full disk, or a used-up quota


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends without an error it takes the place of `path`.

    OSError with a plain message, and nothing left behind, where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, because libraries choose the format by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.chmod(0o644)  # some writers leave files that only their owner can read
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno in NO_SPACE or _cut_short(error):
            raise OSError(errno.ENOSPC, f"no space left to write {path}; free some and run again") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _cut_short(error: OSError) -> bool:
    """Whether numpy could not write all of an array, which it says without the number of the error."""
    return error.errno is None and bool(re.search(r"\d+ requested and \d+ written", str(error)))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
