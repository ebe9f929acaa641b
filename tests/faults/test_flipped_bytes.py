"""One flipped bit in a stored file: it is found, the message names the file and the way out; or it changes nothing.

Every byte of small files, seeded ones of large files. Downloads, decoded arrays of CIFAR-10, Fashion-MNIST and mosaics,
and cached weights, which are made anew without a question, are in tests/test_fetch.py, test_cifar10.py, test_mosaic.py
and test_weights.py.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import synthetic_records as made_up
import tiny_heads
from PIL import Image

from brcd_core import checkpoints, records
from brcd_core.checkpoints import CheckpointError
from brcd_core.datasets import sample, split_files
from brcd_core.fetching import Url, obtain
from brcd_core.records import RecordError
from brcd_core.search import index
from brcd_core.search.__main__ import main as search
from brcd_core.search.index import BrokenIndexError
from brcd_core.study import comparisons, outcome
from brcd_core.views import bank

SEED, MOST = 20240513, 1000  # bytes of a file


class Stored(NamedTuple):
    """A file, how it is read, what that raises where it is damaged, and the way out that the message tells."""

    path: Path
    read: Callable[[], Any]
    error: type[Exception]
    way_out: str


def flipped(path: Path) -> Iterator[int]:
    """The file with one bit flipped, byte after byte; whole again in the end."""
    whole, random = path.read_bytes(), np.random.default_rng(SEED)
    places = random.choice(len(whole), min(MOST, len(whole)), replace=False)
    try:
        for place in sorted(places.tolist()):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(random.integers(8))
            path.write_bytes(broken)
            yield place
    finally:
        path.write_bytes(whole)


def check(stored: Stored, harmless: Callable[[Any, Any], bool] = lambda good, found: found == good) -> None:
    """Every flip is found and told, or harmless."""
    good, outcomes = stored.read(), Counter[str]()
    wrong: list[str] = []
    for place in flipped(stored.path):
        try:
            found = stored.read()
        except stored.error as error:
            outcomes["found"] += 1
            if not (str(stored.path) in str(error) or str(stored.path.parent) in str(error)):
                wrong.append(f"byte {place}: the file is not named: {error}")
            if not re.search(stored.way_out, str(error)):
                wrong.append(f"byte {place}: no way out is told: {error}")
        except Exception as error:
            wrong.append(f"byte {place}: {error!r}")
        else:
            outcomes["harmless"] += 1
            if not harmless(good, found):
                wrong.append(f"byte {place} is another and nobody says so")
    assert stored.read() == good
    print(f"{stored.path.name}: {dict(outcomes)}, wrong {len(wrong)}; seed {SEED}")
    assert not wrong, f"{len(wrong)} flips of {sum(outcomes.values())}:\n" + "\n".join(wrong[:8])
    assert outcomes["found"] > outcomes["harmless"] / 2


def the_rest(good: Any, found: Any) -> bool:
    """Where the name of the checksum is hit, all else is right."""
    pairs = zip(good, found, strict=True) if isinstance(good, list) else [(good, found)]
    return all(one == {name: other.get(name) for name in one} for one, other in pairs)


def a_record() -> records.Record:
    return made_up.teacher_record("tiny_teacher", 16, 0)


def test_record(tmp_path: Path) -> None:
    path = records.write(tmp_path, a_record())
    check(Stored(path, lambda: records.read(tmp_path), RecordError, "delete it and run again"), the_rest)


def test_collected_records(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.save_all(path, [a_record(), made_up.features("tiny_teacher")])
    check(Stored(path, lambda: records.load_all(path), RecordError, "collect the records again"), the_rest)


def test_average_precision_of_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    run = tiny_heads.student_run()
    run.folder.mkdir(parents=True)
    values = np.random.default_rng(0).random((2, 50), np.float32)
    np.savez(run.folder / outcome.QUERIES, sshp=values[0], ashp=values[1])

    def read() -> list[float]:
        return [float(ap) for paradigm in comparisons.PARADIGMS for ap in comparisons._average_precision(run, paradigm)]

    check(Stored(run.folder / outcome.QUERIES, read, RecordError, "delete .* and run again"))


def test_weights_of_a_checkpoint(tmp_path: Path) -> None:
    """Also a head to take away, which is one."""
    path = tiny_heads.save_head(tmp_path / "head.safetensors")
    check(Stored(path, lambda: checkpoints.checksum(checkpoints.load_head(path)[0]), CheckpointError, "train again"))


def test_what_a_checkpoint_says_of_itself(tmp_path: Path) -> None:
    path = tiny_heads.save_head(tmp_path / "head.safetensors")
    check(Stored(path, lambda: checkpoints.load_head(path)[1], CheckpointError, "train again"))


@pytest.fixture
def view_bank(tmp_path: Path) -> tuple[Path, bank.BankSettings]:
    """A bank of clean views of 30 images, and its settings."""
    ids = np.arange(30)
    settings = bank.BankSettings(
        dataset="sample", data_fingerprint="d", split="query", ids_checksum=bank.ids_checksum(ids), count=30,
        backbone="mean", feature="penultimate", weights_checksum="w", dim=3, size=8, views=0, augmentation=None,
        precision="float32",
    )  # fmt: skip
    images = tiny_heads.sample()
    bank.build(settings, ids, lambda some: images[some], lambda pixels: pixels.mean((2, 3)), tmp_path)
    return tmp_path / settings.name, settings


@pytest.mark.parametrize("name", ["features.npy", "meta.json"])
def test_view_bank(view_bank: tuple[Path, bank.BankSettings], name: str) -> None:
    path, settings = view_bank

    def read() -> Any:
        return bank.open_bank(path.parent, settings).features.tolist()

    check(Stored(path / name, read, bank.BankError, "Delete the folder .* and run again"))


def lists_of(folder: Path) -> dict[str, list[int]]:
    return {part: ids.tolist() for part, ids in split_files.read(folder, sample.IMAGES).items()}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A copy of the committed lists of the sample."""
    committed = Path(split_files.__file__).with_name("splits") / "sample"
    return Path(shutil.copytree(committed, tmp_path / "sample"))


@pytest.mark.parametrize("part", split_files.PARTS)
def test_list_of_a_split(split: Path, part: str) -> None:
    check(Stored(split / f"{part}.txt", lambda: lists_of(split), ValueError, "restore both"))


def test_checksums_of_a_split(split: Path) -> None:
    check(Stored(split / "checksums.json", lambda: lists_of(split), ValueError, "restore"))


@pytest.mark.parametrize("name", ["cifar10_sample.png", "cifar10_sample.json"])
def test_committed_images(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "FOLDER", shutil.copytree(sample.FOLDER, tmp_path / "samples"))
    monkeypatch.setattr("test_flipped_bytes.MOST", 100)
    check(Stored(tmp_path / "samples" / name, lambda: sample.load().fingerprint, ValueError, "expected"))


def test_archive_that_was_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is removed, and fetched again from where it came."""
    origin = tmp_path / "origin" / "archive.tgz"
    origin.parent.mkdir()
    origin.write_bytes(np.random.default_rng(0).bytes(500))
    source = Url(origin.as_uri(), hashlib.sha256(origin.read_bytes()).hexdigest())
    path = obtain([source], tmp_path / "downloads").path
    for _ in flipped(path):
        capsys.readouterr()
        assert obtain([source], path.parent).path.read_bytes() == origin.read_bytes()
        assert f"{path} is damaged or incomplete (wrong checksum): removed" in capsys.readouterr().err


@pytest.fixture
def search_index(tmp_path: Path) -> Path:
    """An index of five images."""
    head, photos = tiny_heads.save_head(tmp_path / "head.safetensors"), tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(tiny_heads.sample()[:5].permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(photos / f"{number}.png")
    assert search(["index", str(photos), "--head", str(head), "--out", str(tmp_path / "index")]) == 0
    return tmp_path / "index"


def opened(out: Path) -> tuple[Any, ...]:
    found = index.read(out)
    codes = index.octets(np.zeros((1, 1), np.uint64), 16)
    distances, _ = found.codes.search(codes, 5)
    return found.names, found.skipped, found.origin, found.folder, found.query_head, distances.tolist()


def test_codes_of_a_search_index(search_index: Path) -> None:
    (path,) = search_index.glob("codes-*.faiss")
    check(Stored(path, lambda: opened(search_index), BrokenIndexError, "make it again"))


def test_names_of_a_search_index(search_index: Path) -> None:
    check(Stored(search_index / index.NAMES, lambda: opened(search_index), BrokenIndexError, "make it again"))
