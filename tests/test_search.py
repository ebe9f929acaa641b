"""An index of a folder that holds all kinds of bad files, and queries to it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import tiny_heads
import torch
from PIL import Image

from brcd_core import encoder
from brcd_core.codes import hamming
from brcd_core.encoder import Encoder
from brcd_core.hashing import HashHead
from brcd_core.search import index
from brcd_core.search.__main__ import main
from brcd_core.search.pairs import PairError, check_pair, read_origin


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return tiny_heads.save_head(tmp_path / "head.safetensors")


def picture(rng: np.random.Generator, width: int = 40, height: int = 30) -> Image.Image:
    """Noise around one colour."""
    colour = rng.integers(0, 200, 3)
    return Image.fromarray((colour + rng.integers(0, 56, (height, width, 3))).astype(np.uint8))


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its pixels do not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def fill_good(folder: Path, rng: np.random.Generator) -> None:
    """Files that are to be read, of every mode and form."""
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(12):
        picture(rng).save(folder / "deep" / f"{number}.png")
    plain = picture(rng)
    for name in ("a.jpg", "b.webp", "c.bmp", "d.tiff", "deep/er/e.ppm"):
        plain.save(folder / name)
    plain.save(folder / "animated.gif", save_all=True, append_images=[picture(rng), picture(rng)])
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    plain.convert("RGBA").quantize(9).save(folder / "palette_alpha.png", transparency=bytes(range(9)))
    plain.convert("LA").save(folder / "grey_alpha.png")
    plain.convert("1").save(folder / "two_colours.png")
    plain.convert("F").save(folder / "floats.tiff")
    Image.fromarray(rng.integers(0, 65536, (20, 30)).astype(np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(rng.integers(0, 70000, (20, 30)).astype(np.int32)).save(folder / "thirty_two.tiff")
    picture(rng, 1, 1).save(folder / "one_pixel.png")
    picture(rng, 1, 3000).save(folder / "a_line.png")
    plain.save(os.fsencode(folder) + b"/no text \xff\n.png", format="PNG")


def fill_bad(folder: Path, rng: np.random.Generator) -> None:
    """Files that are not to be read, and things that are no files."""
    folder.mkdir()
    whole = {}
    for name, image_format in (("jpg", "JPEG"), ("png", "PNG"), ("gif", "GIF"), ("tiff", "TIFF"), ("webp", "WEBP")):
        picture(rng, 200, 200).save(folder / "x", format=image_format)
        whole[name] = (folder / "x").read_bytes()
    (folder / "x").unlink()
    for name, data in whole.items():
        for share in (0.01, 0.1, 0.5):
            (folder / f"cut_{share}.{name}").write_bytes(data[: int(share * len(data))])
    for number in range(8):
        (folder / f"noise_{number}.jpg").write_bytes(rng.bytes(500))
        (folder / f"head_{number}.png").write_bytes(whole["png"][:40] + rng.bytes(500))
    (folder / "bomb.png").write_bytes(huge_png(60_000, 60_000))
    (folder / "large.png").write_bytes(huge_png(12_000, 12_000))
    (folder / "hollow.png").write_bytes(huge_png(300, 300))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n")
    (folder / "archive.png").write_bytes(b"PK\x03\x04" + rng.bytes(99))


def test_a_folder_of_good_and_bad_files(tmp_path: Path, head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    photos, out = tmp_path / "photos", tmp_path / "index"
    fill_good(photos, rng)
    good = index.files_of(photos)
    fill_bad(photos / "bad", rng)
    bad = len(list((photos / "bad").iterdir()))
    (photos / "gone.png").symlink_to(photos / "nowhere")
    (photos / "circle").symlink_to(photos)
    (photos / "folder.png").mkdir()
    os.mkfifo(photos / "pipe.png")
    (photos / ".hidden.png").write_bytes((photos / "c.bmp").read_bytes())
    assert (len(good), bad) == (28, 39)

    assert main(["index", str(photos), "--head", str(head), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"{out}: 28 images, encoded by the student tiny_student, brcd" in said.out
    assert "39 of 67 files were left out:" in said.err and "pixels are more than Pillow's limit" in said.err
    found = index.read(out)
    assert found.names == good and sorted(found.skipped) == [
        f"bad/{name}" for name in sorted(os.listdir(photos / "bad"))
    ]

    coder = encoder.load(head)
    database = np.concatenate([coder.encode([photos / name]) for name in good])
    stored = faiss.read_index_binary(str(next(out.glob("codes-*.faiss"))))
    assert np.array_equal(faiss.vector_to_array(stored.xb).reshape(-1, 2), index.octets(database, 16))
    positions, distances = found.nearest(database, 5)
    everything = hamming(database, database)
    assert np.array_equal(distances, np.sort(everything, axis=1)[:, :5])
    assert np.array_equal(np.take_along_axis(everything, positions, 1), distances)

    asked = [str(photos / "bad" / "text.png"), str(photos / "deep" / "3.png"), str(photos / "nothing.png")]
    assert main(["query", *asked, "--index", str(out), "-k", "99"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == asked[1] and len(lines) == 1 + len(good)
    assert [int(line[:5]) for line in lines[1:]] == sorted(everything[good.index("deep/3.png")])
    assert f"    0  {photos.resolve()}/deep/3.png" in lines
    assert "2 of 3 files were left out:" in said.err and "      1  not there (" in said.err
    assert main(["query", asked[0], "--index", str(out)]) == 1
    assert "1 of 1 files were left out:" in capsys.readouterr().err
    assert main(["query", asked[1], "--index", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    (tmp_path / "photos").mkdir()
    for number in range(150):
        picture(rng, 8, 8).save(tmp_path / "photos" / f"{number:03}.png")
    return tmp_path / "photos"


def test_few_images_are_in_memory_at_once(photos: Path, head: Path, tmp_path: Path, monkeypatch: Any) -> None:
    sizes: list[int] = []
    real = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, images: sizes.append(len(images)) or real(self, images))
    assert main(["index", str(photos), "--head", str(head), "--out", str(tmp_path / "index")]) == 0
    assert sizes == [64, 64, 22]


def test_an_interrupted_index_leaves_what_was_there(photos: Path, head: Path, tmp_path: Path, monkeypatch: Any) -> None:
    real, out = Encoder.encode, tmp_path / "index"
    command = ["index", str(photos), "--head", str(head), "--out", str(out)]

    def interrupted(self: Encoder, images: Any) -> Any:
        if len(images) < 64:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(Encoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert not out.exists()
    monkeypatch.setattr(Encoder, "encode", real)
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(before) == 3  # and the lock
    for number in range(20):
        (photos / f"{number:03}.png").unlink()
    write_text = index.write_text
    monkeypatch.setattr(index, "write_text", lambda *_: interrupted(None, []))  # between the two files
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert len(index.read(out).names) == 150
    assert {path.name: path.read_bytes() for path in out.iterdir()}.items() >= before.items()
    monkeypatch.setattr(index, "write_text", write_text)
    assert main(command) == 0
    assert len(index.read(out).names) == 130 and len(list(out.iterdir())) == 3


def test_only_its_own_files_are_deleted(photos: Path, head: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    out.mkdir()
    (out / "codes-mine.faiss").write_bytes(b"mine")
    (out / index.NAMES).write_text(json.dumps({"codes": "codes-mine.faiss"}))
    for number in range(2):
        (photos / f"{number:03}.png").unlink()
        assert main(["index", str(photos), "--head", str(head), "--out", str(out)]) == 0
    assert (out / "codes-mine.faiss").read_bytes() == b"mine" and len(list(out.glob("codes-*"))) == 2


def test_one_process_writes_at_a_time(photos: Path, head: Path, tmp_path: Path, monkeypatch: Any) -> None:
    made, out = index.build(encoder.load(head), photos, head, ["001.png"], int), tmp_path / "index"
    real, held = index.write_text, []

    def write_text(path: Path, text: str) -> None:
        with (out / f"{index.NAMES}.lock").open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(path)
        real(path, text)

    monkeypatch.setattr(index, "write_text", write_text)
    index.write(made, out)
    assert held == [out / index.NAMES] and index.read(out).names == ["001.png"]


def test_an_index_that_is_replaced_while_it_is_read(photos: Path, head: Path, tmp_path: Path, monkeypatch: Any) -> None:
    coder, out = encoder.load(head), tmp_path / "index"
    made = [index.build(coder, photos, head, [name], int) for name in ("001.png", "002.png")]
    index.write(made[0], out)
    real = index._own_name

    def replaced(name: str) -> str:
        monkeypatch.setattr(index, "_own_name", real)
        index.write(made[1], out)
        return real(name)

    monkeypatch.setattr(index, "_own_name", replaced)
    assert index.read(out).names == ["002.png"]


def test_an_index_that_is_damaged(photos: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "index"
    query = ["query", str(photos / "000.png"), "--index", str(out)]

    def said() -> str:
        assert main(query) == 1
        return capsys.readouterr().err

    def changed(**entries: object) -> None:
        """The index says something else, and its checksum is right."""
        (out / index.NAMES).write_text(json.dumps(tiny_heads.sealed(about | entries)))

    assert f"error: there is no index in {out}; make one" in said()
    assert main(["index", str(photos), "--head", str(head), "--out", str(out)]) == 0
    capsys.readouterr()
    for path in (out / index.NAMES, *out.glob("codes-*")):
        whole = path.read_bytes()
        for broken in (whole[: len(whole) // 2], b"{" + whole[1:-1] + bytes([whole[-1] ^ 1]), b""):
            path.write_bytes(broken)
            assert f"the index in {out} is damaged" in said()
        path.write_bytes(whole)
    about = json.loads((out / index.NAMES).read_text())
    (out / index.NAMES).write_text(json.dumps(about | {"names": about["names"][::-1]}))
    assert f"the index in {out} is damaged (its names are not those that were written)" in said()
    (out / index.NAMES).write_text(json.dumps({name: about[name] for name in about if name != "checksum"}))
    assert f"the index in {out} is damaged (its names are not those that were written)" in said()
    changed(names=about["names"][:-1])
    assert "it has 150 codes and 149 names" in said()
    changed(head=about["head"] | {"bits": 24})
    assert "its codes have 16 bits, those of its head 24" in said()
    changed(head=about["head"] | {"about": {}})
    assert f"the index in {out} is damaged ('run')" in said()
    for elsewhere in (str(out / about["codes"]), f"../index/{about['codes']}"):
        changed(codes=elsewhere)
        assert f"its codes are said to be in '{elsewhere}'" in said()
    codes = out / about["codes"]
    whole = codes.read_bytes()
    codes.write_bytes(b"no index of faiss" * 9)
    changed(sha256=hashlib.sha256(codes.read_bytes()).hexdigest())
    assert f"the index in {out} is damaged (Error in " in said()
    codes.write_bytes(whole)
    changed()
    longer = tiny_heads.save_head(tmp_path / "longer.safetensors", bits=24)
    assert main([*query, "--head", str(longer)]) == 1
    assert "they differ in length" in capsys.readouterr().err
    head.unlink()
    assert f"there is no head {head}; say where it is with --head" in said()


def test_nothing_to_index(head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, message in (("no", "there is no folder"), ("empty", "holds no image that can be read (0 files)")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert main(["index", str(tmp_path / folder), "--head", str(head), "--out", str(tmp_path / "index")]) == 1
        assert message in capsys.readouterr().err
    (tmp_path / "empty" / "a.png").write_bytes(b"")
    assert main(["index", str(tmp_path / "empty"), "--head", str(head), "--out", str(tmp_path / "index")]) == 1
    said = capsys.readouterr().err
    assert "1 of 1 files were left out:" in said and "holds no image that can be read (1 files)" in said
    assert not (tmp_path / "index").exists()


def test_an_image_without_a_code_is_left_out(photos: Path, head: Path, tmp_path: Path, monkeypatch: Any) -> None:
    coder, names = encoder.load(head), ["000.png", "001.png", "002.png", "nothing.png"]
    whole, white = np.concatenate([coder.encode([photos / name]) for name in names[:3]]), tmp_path / "white.png"
    Image.new("RGB", (8, 8), "white").save(white)
    real = HashHead.forward
    spoilt = lambda self, x: torch.where(torch.isclose(x, marked, 1e-2).all(1, True), torch.nan, real(self, x))  # noqa: E731
    marked = coder.backbone(coder.pixels([white])).half().float()
    monkeypatch.setattr(HashHead, "forward", spoilt)
    names.insert(1, "../white.png")
    made = index.build(coder, photos, head, names, int)
    assert made.names == ["000.png", "001.png", "002.png"]
    assert made.skipped == {"../white.png": "1 of 1 images have NaN in their logits", "nothing.png": "not there"}
    assert np.array_equal(faiss.vector_to_array(made.codes.xb).reshape(-1, 2), index.octets(whole, 16))


def test_what_a_head_says_is_printed_plainly(photos: Path, head: Path, tmp_path: Path, capsys: Any) -> None:
    about = tiny_heads.about_of("student")
    about["run"]["method"] = "\x1b[2Jbrcd"
    tiny_heads.change_about(head, about)
    assert main(["index", str(photos), "--head", str(head), "--out", str(tmp_path / "index")]) == 0
    assert "student tiny_student, \N{REPLACEMENT CHARACTER}[2Jbrcd" in capsys.readouterr().out


def test_the_teacher_encodes_the_database(photos: Path, head: Path, tmp_path: Path, capsys: Any) -> None:
    taught_by = tiny_heads.save_head(tmp_path / "teacher.safetensors", "teacher", hidden=0)
    out, image = tmp_path / "index", str(photos / "007.png")
    both = ["index", str(photos), "--head", str(head), "--out", str(out), "--teacher-head"]
    assert main([*both, str(taught_by)]) == 0
    assert "encoded by the teacher tiny_teacher" in capsys.readouterr().out
    assert main(["query", image, "--index", str(out), "-k", "150"]) == 0
    found = [int(line[:5]) for line in capsys.readouterr().out.splitlines()[1:]]
    query = encoder.load(head).encode([image])
    assert found == sorted(hamming(query, encoder.load(taught_by).encode(sorted(photos.iterdir())))[0])
    assert main(["query", image, "--index", str(out), "--head", str(taught_by), "-k", "1"]) == 0
    assert "    0  " in capsys.readouterr().out
    other = tiny_heads.save_head(tmp_path / "other.safetensors", "teacher", seed=1)
    assert main([*both, str(other)]) == 1
    assert "the student's teacher has another seed" in capsys.readouterr().err
    stranger = tiny_heads.save_head(tmp_path / "stranger.safetensors", seed=1)
    assert main(["query", image, "--index", str(out), "--head", str(stranger)]) == 1
    assert "cannot be searched by those of the student tiny_student" in capsys.readouterr().err


def test_which_heads_belong_together(head: Path, tmp_path: Path) -> None:
    path = tiny_heads.save_head(tmp_path / "teacher.safetensors", "teacher")
    query, database = read_origin(head), read_origin(path)
    check_pair(query, query)
    check_pair(query, database)
    longer = read_origin(tiny_heads.save_head(tmp_path / "longer.safetensors", "teacher", bits=24))
    about = tiny_heads.about_of("teacher")
    about["settings"]["views"]["size"] = 24
    sized = read_origin(tiny_heads.change_about(path, about))
    same = read_origin(tiny_heads.save_head(tmp_path / "same.safetensors", seed=4))
    named = query._replace(about=query.about | {"learnt_from": database.checksum})
    check_pair(named, database)
    for asks, answers, message in (
        (query, longer, "they differ in length"),
        (database, query, "they are not a student and its teacher"),
        (query, same, "they are not a student and its teacher"),
        (query, sized._replace(checksum="0"), "the student's teacher has another views"),
        (named, database._replace(checksum="0"), "the student has learnt from another teacher"),
    ):
        with pytest.raises(PairError, match=message):
            check_pair(asks, answers)
