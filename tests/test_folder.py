"""One's own folder of images: every format and shape, labels from subfolders, files that are no images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brcd_core import datasets
from brcd_core.datasets import drawing, file_checks, image_files, image_folder
from brcd_core.datasets.__main__ import main

RED, BLUE = (200, 20, 10), (10, 20, 200)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRCD_DATA", raising=False)
    monkeypatch.setattr(image_folder, "_told", set())
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def save(path: Path, colour: tuple[int, int, int] = RED, size: tuple[int, int] = (20, 10), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def test_formats_and_modes(photos: Path) -> None:
    plain = Image.new("RGB", (30, 20), RED)
    for name in ("a.jpg", "b.png", "c.webp", "d.bmp", "e.tiff", "no_ending"):
        plain.save(
            photos / name, format="PNG" if "." not in name else None, **({"lossless": True} if "webp" in name else {})
        )
    Image.new("RGB", (30, 20), RED).save(
        photos / "f.gif", save_all=True, append_images=[Image.new("RGB", (30, 20), BLUE)]
    )
    plain.convert("CMYK").save(photos / "g.jpg")
    plain.quantize(4).save(photos / "h.png")
    Image.new("L", (5, 5), 100).save(photos / "i.png")
    Image.new("1", (5, 5), 1).save(photos / "j.png")
    Image.new("RGBA", (5, 5), (*BLUE, 0)).save(photos / "k.png")  # transparent: the page behind is white
    Image.fromarray(np.full((5, 5), 100 * 256 + 7, np.uint16)).save(photos / "l.png")
    dataset = datasets.load("folder", photos)
    names = list(dataset.pixels.names)
    assert names == sorted(path.name for path in photos.iterdir())
    expected = {"i.png": (100, 100, 100), "j.png": (255, 255, 255), "k.png": (255, 255, 255), "l.png": (100, 100, 100)}
    for name, image in zip(names, dataset.pixels[:], strict=True):
        assert image.shape == (256, 256, 3)
        assert abs(image.astype(int) - expected.get(name, RED)).max() <= 6, name
    assert (dataset.labels.shape, dataset.classes, dataset.central) == ((13, 0), (), 0.875)


def test_photographs_are_turned_upright(photos: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # white above, but the camera was held sideways
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(photos / "a.png", exif=exif)
    image = datasets.load("folder", photos).pixels[0]
    assert image[:, 200:].mean() > 250 and image[:, :56].mean() < 5
    Image.fromarray(pixels).save(photos / "a.png", exif=b"Exif\0\0damaged")
    assert datasets.load("folder", photos).pixels[0][:56].mean() > 250


def test_labels_are_the_first_subfolders(photos: Path) -> None:
    for name in ("dog/b.png", "cat/a.png", "cat/deep/er/c.png", "zebra/.hidden.png", "alone.png", ".git/d.png"):
        save(photos / name)
    (photos / "empty").mkdir()
    dataset = datasets.load("folder", photos)
    assert dataset.classes == ("cat", "dog")
    rows = dict(zip(dataset.pixels.names, dataset.labels.tolist(), strict=True))
    assert rows == {
        "alone.png": [False, False],
        "cat/a.png": [True, False],
        "cat/deep/er/c.png": [True, False],
        "dog/b.png": [False, True],
    }
    (photos / "dog" / "b.png").rename(photos / "cat" / "b.png")
    assert datasets.load("folder", photos).labels.shape == (4, 0)  # one class tells nothing apart


def test_what_cannot_be_read_is_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        save(photos / "a" / f"{number}.jpg", size=(200, 100))
        save(photos / "b" / f"{number}.png")
    whole = (photos / "a" / "1.jpg").read_bytes()
    (photos / "a" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "a" / "2.jpg").write_bytes(b"")
    (photos / "notes.txt").write_text("not an image")
    (photos / "evil.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n")
    (photos / "broken.png").symlink_to(photos / "nowhere")
    os.mkfifo(photos / "pipe.png")
    (photos / "circle").symlink_to(photos)
    (photos / "b" / "linked").symlink_to(photos / "b")
    dataset = datasets.load("folder", photos)
    parts = datasets.split("folder", {"query": 2, "validation": 2, "train": 2}, photos)
    assert len(dataset) == 8 == sum(len(parts[part]) for part in ("query", "validation", "database"))
    assert dataset.pixels[:].shape == (8, 256, 256, 3)
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 1  # once, however often the folder is looked at
    assert said[0].startswith(f"{photos}: 4 of 12 files were left out: 3 not an image that Pillow knows (")
    assert "; 1 " in said[0] and said[0].endswith("(a/1.jpg)")
    save(photos / "a" / "2.jpg")
    assert len(datasets.load("folder", photos)) == 9  # looked at again, because it changed


def test_another_pillow_may_read_what_this_one_cannot(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(photos / "a.png")
    real = image_files.decode
    refuse = {"a.png"}

    def decode(path: Path) -> np.ndarray:
        if path.name in refuse:
            raise image_files.ImageError(path, "unknown")
        return real(path)

    monkeypatch.setattr(file_checks, "decode", decode)
    with pytest.raises(ValueError, match=r"holds no image that can be read \(1 files\)"):
        datasets.load("folder", photos)
    refuse.clear()
    with pytest.raises(ValueError, match="no image that can be read"):
        datasets.load("folder", photos)  # known, and not tried again
    monkeypatch.setattr(file_checks.PIL, "__version__", "99")
    assert len(datasets.load("folder", photos)) == 1


def test_nothing_there(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"holds no image that can be read \(0 files\)"):
        datasets.load("folder", photos)
    assert main(["fetch", "--dataset", "folder"]) == 1
    assert "error: dataset 'folder' has to be placed by hand" in capsys.readouterr().err
    assert main(["fetch", "--dataset", "folder", "--folder", str(tmp_path / "no")]) == 1
    assert f"there is no folder {tmp_path / 'no'}." in capsys.readouterr().err
    save(photos / "a.png")
    assert main(["fetch", "--dataset", "folder", "--folder", str(photos)]) == 0
    assert "folder: 1 images of 256x256, no labels, checked" in capsys.readouterr().out


@pytest.fixture
def many(photos: Path) -> Path:
    for number in range(40):
        save(photos / f"{number:02}.png", (number, 0, 0), (4, 4))
    return photos


def test_split(many: Path) -> None:
    names = datasets.load("folder", many).pixels.names
    sizes = {"train": 10, "validation": 5, "query": 6, "database": 20}
    parts = datasets.split("folder", sizes, many)
    assert {part: len(ids) for part, ids in parts.items()} == sizes
    assert np.array_equal(parts["database"][:10], parts["train"])
    held_out = [set(parts[part].tolist()) for part in ("query", "validation", "database")]
    assert len(set.union(*held_out)) == 31
    assert [names[i] for i in parts["query"]] == drawing.in_random_order(names, drawing.SEED, "query")[:6]
    whole = datasets.split("folder", folder=many)
    assert {part: len(ids) for part, ids in whole.items()} == {
        "train": 32, "validation": 4, "query": 4, "database": 32,
    }  # fmt: skip
    for sizes in ({"query": 20, "validation": 20}, {"query": 10, "validation": 10, "database": 21}, {"train": 33}):
        with pytest.raises(ValueError, match=rf"{many}: 40 images are too few for \d+ query, \d+ validation and \d+"):
            datasets.split("folder", sizes, many)
    with pytest.raises(ValueError, match="folder: query size 0 is not in 1"):
        datasets.split("folder", {"query": 0}, many)


def test_a_new_image_changes_little(many: Path) -> None:
    def images(sizes: dict[str, int]) -> dict[str, list[str]]:
        names = datasets.load("folder", many).pixels.names
        return {part: [names[i] for i in ids] for part, ids in datasets.split("folder", sizes, many).items()}

    before = images({"query": 6, "validation": 6})
    save(many / "new.png")
    after = images({"query": 6, "validation": 6})
    moved = [one for one in before["database"] if one not in after["database"]]
    assert len(moved) <= 2
    rest = [one for one in after["database"] if one in before["database"]]
    assert rest == [one for one in before["database"] if one not in moved]


def test_names_that_are_no_text(many: Path) -> None:
    save(many / "a.png")
    os.rename(many / "a.png", os.fsencode(many) + b"/\xff\xfe.png")
    assert len(datasets.load("folder", many)) == 41
    assert datasets.load("folder", many).tensor(np.arange(41)).shape == (41, 3, 256, 256)
    assert len(datasets.split("folder", folder=many)["database"]) == 33


def test_folder_of_the_environment(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRCD_DATA", str(many.parent))
    many.rename(many.parent / "folder")
    assert len(datasets.load("folder")) == 40


def test_files_that_were_only_hashed_are_decoded_too(photos: Path) -> None:
    """A folder that was used through lists first, which does not decode, and then as a folder."""
    save(photos / "a.png")
    (photos / "b.png").write_bytes(b"no image")
    assert file_checks.check_files(photos, ["a.png", "b.png"], decoding=False)["b.png"].problem is None
    assert list(datasets.load("folder", photos).pixels.names) == ["a.png"]
