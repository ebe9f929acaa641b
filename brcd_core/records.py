"""One record a run: what was run, on what, with what result. Written last and atomically.

A record on disk carries the SHA-256 of the rest of it, so that a changed digit is found.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brcd_core.atomic import write_text
from brcd_core.config import fingerprint, repository

if TYPE_CHECKING:
    import torch

Record = dict[str, Any]
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pandas", "papermill", "snakemake")
NAME = "record.json"
CHECKSUM = "sha256"  # the entry of a record on disk


class RecordError(RuntimeError):
    """A record is damaged; the message names it and the way out."""


def provenance(device: torch.device, seconds: float, inputs: dict[str, Any]) -> Record:
    """Where a result comes from: code, packages, machine, time, and the checksums of its inputs."""
    import torch  # here, because tables and figures read records without it

    return {
        "git_revision": _git("rev-parse", "HEAD"),
        # Results and figures are what runs write; they do not make the code another one.
        "git_dirty": _dirty(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "inputs": inputs,
    }


def device_name(device: torch.device) -> str:
    """The processor or graphics card in words."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores"


def _dirty() -> bool | None:
    """Whether the tree differs from the revision, new files included; None where git cannot say."""
    changed = _git("status", "--porcelain", "--", ".", ":!results", ":!figures")
    return None if changed is None else bool(changed)


def _git(*arguments: str) -> str | None:
    """A git command's output; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=repository(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def plain(value: Any) -> Any:
    """Numpy scalars and arrays as plain numbers and lists, so that JSON can hold them.

    ValueError for NaN or infinity: a record must say null where there is no number.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"a record cannot hold {value}")
    return value


def write(folder: Path, record: Record) -> Path:
    """Write a run's record into its folder. Its presence says that the run is finished."""
    path = folder / NAME
    write_text(path, json.dumps(_sealed(plain(record)), indent=1, sort_keys=True) + "\n")
    return path


def read(folder: Path) -> Record:
    """A run's record. RecordError if it is not whole."""
    path = folder / NAME
    try:
        return _opened(path.read_bytes())
    except ValueError as error:
        raise RecordError(f"{path} is damaged ({error}); delete it and run again") from error


def forget(folder: Path) -> None:
    """Remove a run's record, if there is one, before the run is done again: it is not finished any more."""
    (folder / NAME).unlink(missing_ok=True)


def finished(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return (folder / NAME).exists()


def save_all(path: Path, records: Iterable[Record]) -> None:
    """All records of a profile in one file, one JSON line each."""
    lines = (json.dumps(_sealed(json.loads(json.dumps(record))), sort_keys=True) for record in records)
    write_text(path, "".join(f"{line}\n" for line in lines))


def load_all(path: Path) -> list[Record]:
    """The records of a file that `save_all` wrote. RecordError naming the line that is damaged."""
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            records.append(_opened(line))
        except ValueError as error:
            raise RecordError(f"{path}, line {number} is damaged ({error}); collect the records again") from error
    return records


def _sealed(record: Record) -> Record:
    """A record as it goes to disk."""
    return record | {CHECKSUM: fingerprint(record)}


def _opened(content: bytes) -> Record:
    """A record as it was before it went to disk. ValueError if it is not that."""
    record: Record = json.loads(content.decode("utf-8"))
    if not isinstance(record, dict) or record.pop(CHECKSUM, None) != fingerprint(record):
        raise ValueError("it is not what was written")
    return record
