"""Members of tar archives and of Debian packages, read into memory. Nothing is written to disk."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def tar_members(path: Path, names: list[str]) -> dict[str, bytes]:
    """The named members' bytes, in one pass over a tar archive. ValueError names those that are missing."""
    with tarfile.open(path) as archive:
        return _members(archive, path, names)


def deb_members(path: Path, names: list[str]) -> dict[str, bytes]:
    """The named files' bytes of a Debian package: an ar archive that holds data.tar. ValueError as above."""
    content = path.read_bytes()
    at = 8  # behind the text "!<arch>\n"; then for each member 60 bytes of header, and its bytes
    while content.startswith(b"!<arch>\n") and at + 60 <= len(content):
        name, size = content[at : at + 16].decode("ascii", "replace"), content[at + 48 : at + 58]
        if not size.strip().isdigit():
            break
        end = at + 60 + int(size)
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content[at + 60 : end])) as archive:
                return _members(archive, path, [f"./{name}" for name in names], prefix="./")
        at = end + end % 2  # members begin at even places
    raise ValueError(f"{path} is not a Debian package")


def _members(archive: tarfile.TarFile, path: Path, names: list[str], prefix: str = "") -> dict[str, bytes]:
    found = {}
    for member in archive:
        if member.name in names and member.isfile():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.removeprefix(prefix)] = file.read()
    missing = [name for name in names if name.removeprefix(prefix) not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return found
