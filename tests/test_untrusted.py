"""Folders of images, heads and indexes that come from anyone. `make test-fuzz` reads a thousand more files."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_heads
from fuzz import corpus, own_process
from fuzz.own_process import MB

from brcd_core import checkpoints, encoder
from brcd_core.checkpoints import CheckpointError
from brcd_core.datasets import image_files, image_folder
from brcd_core.hashing import HashHead
from brcd_core.search import index
from brcd_core.search.__main__ import main
from brcd_core.search.pairs import read_origin

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files

SEED = 3
# subfolder of the corpus -> how many files are read, and how many are left out
EXPECTED = {"whole": (19, 0), "wrong_endings": (19, 0), "odd_names": (14, 0), "links": (1, 1), "bombs": (0, 11)}


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small part of the corpus."""
    folder = tmp_path_factory.mktemp("untrusted") / "folder"
    corpus.fill(folder, harmed=48, seed=SEED, every=4)
    return folder


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return tiny_heads.save_head(tmp_path / "head.safetensors")


def by_folder(names: list[str]) -> dict[str, int]:
    return {folder: sum(name.startswith(f"{folder}/") for name in names) for folder in EXPECTED}


def test_a_folder_of_anything(untrusted: Path, tmp_path: Path) -> None:
    """Nothing crashes, all that can be read is read, what cannot is counted, in 400 MB of memory."""
    files = sorted(image_folder.files(untrusted))
    answer = own_process.run(own_process.READ_DATASET, untrusted, cache=tmp_path)
    names = answer.found["names"]
    assert by_folder(names) == {folder: read for folder, (read, _) in EXPECTED.items()}
    assert by_folder(files) == {folder: read + left_out for folder, (read, left_out) in EXPECTED.items()}
    assert f"{untrusted}: {len(files) - len(names)} of {len(files)} files were left out: " in answer.said
    assert "Traceback" not in answer.said and answer.peak < 400 * MB


def test_an_index_of_anything(untrusted: Path, head: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, files = tmp_path / "index", sorted(image_folder.files(untrusted))
    assert main(["index", str(untrusted), "--head", str(head), "--out", str(out)]) == 0
    said, found = capfd.readouterr(), index.read(out)
    assert by_folder(found.names) == {folder: read for folder, (read, _) in EXPECTED.items()}
    assert by_folder(list(found.skipped)) == {folder: left_out for folder, (_, left_out) in EXPECTED.items()}
    assert sorted([*found.names, *found.skipped]) == files
    assert f"{len(found.skipped)} of {len(files)} files were left out:" in said.err
    assert "pixels are more than Pillow's limit" in " ".join(found.skipped.values())
    assert found.skipped["links/not_to_be_read.png"] == "Input/output error"
    odd = [str(untrusted / "odd_names" / name) for name in corpus.ODD_NAMES]
    coder = encoder.load(head)
    assert len(np.unique(coder.encode(odd))) == 1  # one image, under all of these names
    for name in found.skipped:
        with pytest.raises(encoder.image_files.ImageError):
            coder.encode([untrusted / name])
    assert main(["query", *odd, "--index", str(out), "-k", "99"]) == 0
    said = capfd.readouterr()
    assert "no text \N{REPLACEMENT CHARACTER}" in said.out
    assert not any(one in said.out + said.err for one in ("\x1b", "\u202e", "\udcff", "new\nline"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_of_others(tmp_path: Path, head: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    folder, secret = tmp_path / "folder", tmp_path / "folder" / "whole" / "plain.bmp"
    corpus.fill(folder, harmed=0, seed=SEED, every=30)
    secret.chmod(0)
    assert "whole/plain.bmp" not in image_folder.load(folder).pixels.names
    assert "cannot be opened (" in capsys.readouterr().err
    assert main(["index", str(folder), "--head", str(head), "--out", str(tmp_path / "index")]) == 0
    assert index.read(tmp_path / "index").skipped["whole/plain.bmp"] == "Permission denied"
    assert main(["query", str(secret), "--index", str(tmp_path / "index")]) == 1


def test_a_path_that_is_too_long(tmp_path: Path, head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is short enough, and all together are longer than the system opens."""
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    corpus.fill(folder, harmed=0, seed=SEED, every=30)
    files = sorted(image_folder.files(folder))
    monkeypatch.chdir(folder)
    while len(os.getcwd()) < 3_900:
        os.mkdir("d" * 150)
        os.chdir("d" * 150)
    Path("n" * 250).write_bytes(b"")
    (too_long,) = set(image_folder.files(folder)) - set(files)
    assert len(image_folder.load(folder)) > 10
    assert index.build(encoder.load(head), folder, head, [too_long], int).skipped == {too_long: "File name too long"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_folders_of_others(tmp_path: Path, head: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    corpus.fill(folder, harmed=0, seed=SEED, every=30)
    (folder / "whole").chmod(mode)
    try:
        closed = [name for name in image_folder.files(folder) if name.startswith("whole")]
        assert closed == ["whole"] or (mode == 0o444 and len(closed) > 1)
        assert not any(name.startswith("whole") for name in image_folder.load(folder).pixels.names)
        made = index.build(encoder.load(head), folder, head, closed, int)
        assert made.skipped == dict.fromkeys(closed, "Permission denied")
    finally:
        (folder / "whole").chmod(0o755)


def test_files_with_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.fill(tmp_path / "folder", harmed=0, seed=SEED, every=30)
    path = tmp_path / "folder" / "whole" / "plain.bmp"
    assert image_files.decode(path).shape == (256, 256, 3)
    with path.open("r+b") as file:
        file.truncate(image_files.LARGEST_FILE + 1)  # takes no room on the disk
    with pytest.raises(image_files.ImageError, match="its 500,000,001 bytes are more than 500,000,000"):
        image_files.decode(path)


@pytest.mark.parametrize(
    "settings", [None, [], "settings", {"data": 3}, {"data": {}, "views": [], "teacher": None, "hash_model": 0}]
)
def test_heads_that_say_anything(head: Path, tmp_path: Path, settings: object, capsys: Any) -> None:
    teacher = tiny_heads.save_head(tmp_path / "teacher.safetensors", "teacher")
    tiny_heads.change_about(teacher, tiny_heads.about_of("teacher") | {"settings": settings})
    (tmp_path / "photos").mkdir()
    command = ["index", str(tmp_path / "photos"), "--head", str(head), "--teacher-head", str(teacher)]
    assert main([*command, "--out", str(tmp_path / "index")]) == 1
    said = capsys.readouterr().err
    assert f"error: {teacher} does not say what it is of" in said or "cannot be searched by those of" in said


def test_a_head_with_half_bytes(head: Path) -> None:
    """The study makes none; faiss would end with an error of its own."""
    checkpoints.save_head(head, HashHead(48, 13), tiny_heads.about_of("student"))
    with pytest.raises(CheckpointError, match="a code has a multiple of 8 bits, not 13"):
        read_origin(head)


def flat(kind: bytes = b"IBxF", bits: int = 16, width: int = 2, count: int = 3, size: int = 6) -> bytes:
    """An index of faiss of three codes as it lies on the disk, or what claims to be one."""
    return struct.pack("<4siiqBiQ", kind, bits, width, count, 1, 1, size) + bytes(6)


NOT_FLAT = {
    "another kind": flat(kind=b"IBxI"),
    "a pointer to another": flat(kind=b"IBwf"),
    "long codes": flat(bits=2**31 - 8),
    "empty codes": flat(bits=0, width=0, size=0),
    "negative bits": flat(bits=-16, width=-2),
    "many codes": flat(count=2**40),
    "many bytes": flat(count=2**33, size=2**34),
    "negative codes": flat(count=-3),
    "bytes behind it": flat() + b".",
    "a header cut short": b"IBxF",
    "nothing": b"",
}


@pytest.mark.parametrize("content", NOT_FLAT.values(), ids=NOT_FLAT)
def test_no_index_is_given_to_faiss_to_read(head: Path, tmp_path: Path, content: bytes) -> None:
    about = written(head, tmp_path, flat())
    assert index.read(tmp_path).codes.ntotal == 3
    for changed in ({"names": "abc"}, {"names": {"a": 1, "b": 2, "c": 3}}, {"names": [1, 2, 3]}, {"head": []}):
        (tmp_path / index.NAMES).write_text(json.dumps(tiny_heads.sealed(about | changed)))
        with pytest.raises(index.BrokenIndexError):
            index.read(tmp_path)
    for other in ('"abc"', "5", "null", "[]"):
        (tmp_path / index.NAMES).write_text(other)
        with pytest.raises(index.BrokenIndexError):
            index.read(tmp_path)
    written(head, tmp_path, content)
    with pytest.raises(index.BrokenIndexError, match="they are no flat index of faiss"):
        index.read(tmp_path)


def test_an_index_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / index.NAMES).write_text("[" * 100_000)
    with pytest.raises(index.BrokenIndexError, match="recursion"):
        index.read(tmp_path)


def written(head: Path, folder: Path, content: bytes) -> dict[str, Any]:
    """An index of three codes whose checksum is right; what its JSON file says."""
    checksum = hashlib.sha256(content).hexdigest()
    (folder / f"codes-{checksum[:12]}.faiss").write_bytes(content)
    about = {
        "codes": f"codes-{checksum[:12]}.faiss", "sha256": checksum, "folder": "photos", "names": ["a", "b", "c"],
        "skipped": {}, "query_head": str(head), "head": read_origin(head)._asdict(),
    }  # fmt: skip
    (folder / index.NAMES).write_text(json.dumps(tiny_heads.sealed(about)))
    return about
