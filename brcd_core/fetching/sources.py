"""What a source of one file is, and the plainest one: an address. Those that are packages: packages.py.

A source names a file and its SHA-256, and writes the bytes to a path that it is given.
`fetching.obtain` checks them.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
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
