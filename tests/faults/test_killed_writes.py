"""Killed before each operation on files that writing takes, one by one: what is read is the old, the new or none.

A forked process kills itself with SIGKILL; it may first cut in half what it has begun to write, as a crash of the
machine can. Afterwards the same is done again, and the new is there whole. Bank builds cut anywhere are also in
tests/test_bank.py, killed package clients in tests/test_fetch.py.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_heads
from written import KINDS, NOTHING, none_or_new, visible

from brcd_core import encoder, export

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "os.rmdir"}


def killed(write: Callable[[], object], folder: Path, at: int, torn: bool) -> bool:
    """Do it in a process that dies before its operation number `at` below the folder; False if it ended before."""
    child = os.fork()
    if not child:
        numbers, begun = itertools.count(1), set[str]()

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            paths = [one for one in map(_path, arguments[:2]) if one.startswith(str(folder))]
            if event not in OPERATIONS or not paths:
                return
            if next(numbers) == at:
                for path in begun if torn else ():
                    if os.path.exists(path):
                        os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            if event == "open" and ".part" in paths[0]:
                begun.add(paths[0])

        try:
            sys.addaudithook(watch)
            write()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return bool(status)


def _path(argument: Any) -> str:
    return os.fsdecode(argument) if isinstance(argument, str | bytes | os.PathLike) else ""


@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_each_operation(tmp_path: Path, kind: str, torn: bool) -> None:
    written = KINDS[kind]()
    whole = tmp_path / "whole" / "place"
    written.write(whole)
    new, kills = written.read(whole), 0
    assert new != NOTHING
    for at in itertools.count(1):
        folder = tmp_path / str(at) / "place"
        folder.parent.mkdir()
        if not killed(lambda folder=folder: written.write(folder), folder.parent, at, torn):
            break
        kills += 1
        assert none_or_new(written.read(folder), new), f"operation {at}"
        written.write(folder)
        assert written.read(folder) == new and visible(folder) == visible(whole), f"operation {at}"
    print(f"{kind}: {kills} kills")
    assert kills >= 4


def test_a_killed_export_leaves_the_graph_before(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    coder = encoder.load(tiny_heads.save_head(tmp_path / "head.safetensors"), device="cpu")
    images, out = tiny_heads.sample()[:20], tmp_path / "out" / "student.onnx"
    export.export(coder, out, images)
    before, kills = out.read_bytes(), 0
    for at in itertools.count(1):
        if not killed(lambda: export.export(coder, out, images), out.parent, at, torn=True):
            break
        kills += 1
        assert out.read_bytes() == before
    assert kills >= 4 and out.read_bytes() == before
