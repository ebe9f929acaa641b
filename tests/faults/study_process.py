"""A study as a user starts it, `make study`, in a copy of the repository: followed by its log, killed, compared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from safetensors import safe_open

PROFILE = "faults"
LIMIT = 1800.0  # seconds that a study may take on a busy machine
READ = {".json", ".jsonl", ".csv", ".md", ".tex", ".png", ".svg", ".safetensors", ".npz", ".npy"}
OF_TIMES = {"efficiency", "training"}  # tables
MEASURED = ("efficiency", "seconds", "finished")  # what no two runs have in common


class Study:
    """A started study. `log`: what it has printed; its jobs that have begun and not ended are in `running`."""

    def __init__(self, copy: Path, environment: dict[str, str], log: Path) -> None:
        self._file = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                ["make", "study", f"PROFILE={PROFILE}", "CORES=2"], cwd=copy, env=environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._file.read_text(errors="replace")

    @property
    def running(self) -> list[str]:
        """What the jobs at work are called."""
        begun = dict(re.findall(r"^Job (\d+): (.+)$", self.log, re.MULTILINE))
        ended = set(re.findall(r"^Finished jobid: (\d+)", self.log, re.MULTILINE))
        return [name for number, name in begun.items() if number not in ended]

    def follow(self) -> Iterator[str]:
        """Its log so far, again and again until it ends."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.kill(everything=True)
                raise TimeoutError(self.log)
            yield self.log
            time.sleep(0.05)

    def kill(self, everything: bool) -> None:
        """As `kill -9` on its process group; or of everything that it has started, as when the power fails.

        Kernels have groups of their own: they outlive the first by a second, until they miss their parent.
        """
        started = psutil.Process(self.process.pid).children(recursive=True)
        killed = [one for one in started if everything or _group(one) == self.process.pid]
        os.killpg(self.process.pid, signal.SIGKILL)
        for one in killed:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        psutil.wait_procs(killed, timeout=60)  # so that the study's lock is free

    def wait(self) -> int:
        """Wait until it ends; its exit status."""
        for _ in self.follow():
            pass
        return self.process.wait()

    def done(self) -> str:
        """Wait until it ends; its log. AssertionError unless it went well."""
        assert self.wait() == 0, self.log
        return self.log


def _group(process: psutil.Process) -> int | None:
    """The process group; None where the process has ended."""
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def files(output: Path) -> dict[str, bytes]:
    """What a study leaves to be read, by its path, without what was measured: times and the machine's speed.

    Records without where and when they were made; tables, figures, heads and features byte for byte.
    """
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and path.suffix in READ and not path.name.startswith(".") and path.stem not in OF_TIMES:
            found[name] = _comparable(path)
    return found


def _comparable(path: Path) -> bytes:
    if path.name == "record.json":
        return _text(_timeless(json.loads(path.read_text())))
    if path.suffix == ".jsonl":
        return b"\n".join(_text(_timeless(json.loads(line))) for line in path.read_text().splitlines())
    if path.name == "runs.csv":
        table = pd.read_csv(path, dtype=str)
        return table[[name for name in table.columns if not _measured(name)]].to_csv().encode()
    if path.suffix == ".safetensors":  # its library writes the entries of its header in any order
        with safe_open(path, framework="np") as stored:
            arrays = [stored.get_tensor(name).tobytes() for name in sorted(stored.keys())]
            return _text(stored.metadata()) + b"".join(arrays)
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _timeless(one) for name, one in value.items() if not _measured(name) and name != "sha256"}
        return {name: one["inputs"] if name == "provenance" else one for name, one in kept.items()}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _measured(name: str) -> bool:
    return any(word in name for word in MEASURED)


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
