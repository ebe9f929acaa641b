"""A disk that is really full: the message says so and names the file, nothing half-written stays, then it goes on.

The disk is a small tmpfs, for which root is needed; `unshare -Urm make test-faults` gives that to anyone. Pretended
full disks are in tests/test_fetch.py (package clients), test_bank.py, test_checkpoints.py, test_records.py and
test_weights.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_heads
from small_disk import Disk, small_disk
from written import KINDS, NOTHING, none_or_new, visible

from brcd_core import encoder, export
from brcd_core.fetching import FetchError
from brcd_core.views.bank import BankError

PAGES = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)  # that are left free


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", megabytes=4) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_no_space_is_said_and_nothing_half_written_stays(disk: Disk, tmp_path: Path, kind: str) -> None:
    written = KINDS[kind]()
    written.write(tmp_path / "whole" / "place")
    new, refused = written.read(tmp_path / "whole" / "place"), 0
    for pages in PAGES:
        folder = disk.folder / str(pages) / "place"
        folder.mkdir(parents=True)
        disk.leave(pages)
        try:
            written.write(folder)
        except (OSError, FetchError, BankError) as error:
            refused += 1
            told = str(error)
            assert "no space left" in told.lower() and "free some" in told.lower() and str(folder) in told, told
            assert none_or_new(written.read(folder), new)
            rests = [path.name for path in folder.rglob(".*") if path.suffix != ".lock"]
            assert not rests and not list(folder.rglob("*.part"))
            disk.free()
            written.write(folder)
            assert written.read(folder) == new and visible(folder) == visible(tmp_path / "whole" / "place")
        else:
            assert written.read(folder) == new
            disk.free()
            break
    print(f"{kind}: refused {refused} times, written with {pages} free pages")
    assert refused and written.read(folder) not in (NOTHING, [])


def test_what_was_there_before_stays(disk: Disk) -> None:
    """A file is only ever replaced by a whole one."""
    for kind in ("checkpoint", "record", "collected records", "table", "figure", "search index"):
        written, folder = KINDS[kind](), disk.folder / kind / "place"
        written.write(folder)
        before, names = written.read(folder), visible(folder)
        disk.leave(0)
        with pytest.raises(OSError, match=r"no space left to write .*; free some and run again"):
            written.write(folder)
        assert written.read(folder) == before and visible(folder) == names
        disk.free()


def test_export(disk: Disk, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    coder = encoder.load(tiny_heads.save_head(tmp_path / "head.safetensors"), device="cpu")
    out, images = disk.folder / "student.onnx", tiny_heads.sample()[:20]
    for pages in (0, 1):
        disk.leave(pages)
        with pytest.raises(OSError, match=r"no space left to write .*student\.onnx; free some and run again"):
            export.export(coder, out, images)
        disk.free()
        assert not [path for path in disk.folder.iterdir() if path.name != ".filler"]
    export.export(coder, out, images)
    assert out.exists()
