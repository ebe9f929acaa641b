"""Image files as an array, and datasets of three text lists, on small images that the tests make."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from brcd_core import datasets
from brcd_core.datasets import ImageFiles, file_checks, image_files, image_lists
from brcd_core.datasets.__main__ import main
from brcd_core.views.augmentation import clean

TRAIN = [f"images/{i:03}.jpg" for i in range(12)]
REST = [f"images/{i:03}.jpg" for i in range(12, 42)]
TEST = [f"images/{i:03}.jpg" for i in range(42, 50)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRCD_DATA", raising=False)
    return tmp_path / "cache"


def labels_of(name: str) -> str:
    """Labels that the path alone determines: 21 of them, at least one on."""
    number = int(Path(name).stem)
    return " ".join("1" if (number % 21 == column or number * 7 % 21 == column) else "0" for column in range(21))


def write_list(folder: Path, name: str, members: list[str]) -> None:
    (folder / f"{name}.txt").write_text("".join(f"{one} {labels_of(one)}\n" for one in members))


@pytest.fixture
def nuswide(tmp_path: Path) -> Path:
    """50 images of various shapes; train is part of database, as in the published lists."""
    folder = tmp_path / "data" / "nuswide"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate(TRAIN + REST + TEST):
        shape = (20 + number, 50 - number // 2, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name, quality=95)
    write_list(folder, "train", TRAIN)
    write_list(folder, "test", TEST)
    write_list(folder, "database", REST[:15] + TRAIN + REST[15:])
    return folder


def by_hand(path: Path) -> np.ndarray:
    """torchvision's Resize(256) and CenterCrop(256) on the whole image."""
    with Image.open(path) as image:
        return np.asarray(transforms.CenterCrop(256)(transforms.Resize(256)(image.convert("RGB"))))


@pytest.mark.parametrize("size", [(640, 480), (300, 777), (37, 90), (256, 256), (255, 257), (1, 1), (2, 600)])
def test_decoding_is_resize_and_central_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / "a.png")
    found, expected = image_files.decode(tmp_path / "a.png").astype(int), by_hand(tmp_path / "a.png").astype(int)
    assert found.shape == (256, 256, 3)
    assert abs(found - expected).max() <= 1  # rounding: only the part that is kept is computed
    assert abs(found - expected).mean() < 0.3


def test_a_very_long_image_needs_little_memory(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 3), (9, 8, 7)).save(tmp_path / "long.png")  # 5 million by 256, if resized whole
    assert (image_files.decode(tmp_path / "long.png") == (9, 8, 7)).all()


def test_indexing_is_that_of_an_array(nuswide: Path) -> None:
    files = ImageFiles(nuswide, TRAIN)
    whole = np.stack([image_files.decode(nuswide / name) for name in TRAIN])
    assert files.shape == whole.shape and len(files) == 12 and files.ndim == 4
    mask = np.arange(12) % 5 == 0
    keys = [
        3,
        -1,
        np.int64(2),
        slice(None, None, -4),
        slice(5, 5),
        [4, 4, 0],
        [],
        np.array([[1, 2, 3], [3, 2, 1]]),
        mask,
    ]
    for key in keys:
        found = files[key]
        expected = whole[np.array(key, int) if key == [] else key] if isinstance(key, list) else whole[key]
        assert np.array_equal(found, expected) and found.dtype == np.uint8
    for wrong in (12, [0, 12], np.array([-13])):
        with pytest.raises(IndexError):
            files[wrong]
    with pytest.raises(TypeError, match="12 image files are not decoded all at once"):
        np.asarray(files)


def test_one_image_is_decoded_once(nuswide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    real = image_files.decode
    monkeypatch.setattr(image_files, "decode", lambda path, upright: decoded.append(path.name) or real(path, upright))
    assert ImageFiles(nuswide, TRAIN)[np.array([[5, 5, 2], [2, 5, 5]])].shape == (2, 3, 256, 256, 3)
    assert sorted(decoded) == ["002.jpg", "005.jpg"]


def test_harm_in_the_middle_is_named(nuswide: Path) -> None:
    dataset = datasets.load("nuswide", nuswide)
    (nuswide / TRAIN[3]).unlink()
    (nuswide / TRAIN[5]).write_bytes((nuswide / TRAIN[5]).read_bytes()[:300])
    (nuswide / TRAIN[7]).write_bytes(b"")
    (nuswide / TRAIN[8]).unlink()
    (nuswide / TRAIN[8]).mkdir()
    assert dataset.tensor([0, 1]).shape == (2, 3, 256, 256)
    with pytest.raises(FileNotFoundError, match=r"003\.jpg is not there"):
        dataset.tensor([0, 1, 2, 3])
    for index in (5, 7, 8):
        with pytest.raises(datasets.ImageError, match=rf"00{index}\.jpg cannot be read as an image: "):
            dataset.pixels[[0, index]]


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "big.png")
    for limit in (9_000, 4_000):  # Pillow itself warns, then refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with (
            pytest.warns(Image.DecompressionBombWarning) if limit == 9_000 else pytest.MonkeyPatch.context(),
            pytest.raises(datasets.ImageError, match=r"big.png.*Pillow's limit"),
        ):
            image_files.decode(tmp_path / "big.png")


def test_load(nuswide: Path) -> None:
    dataset = datasets.load("nuswide", nuswide)
    assert (dataset.name, dataset.central, len(dataset), dataset.labels.shape) == ("nuswide", 0.875, 50, (50, 21))
    assert dataset.classes[0] == "label 0" and len(dataset.classes) == 21
    assert dataset.labels.dtype == bool
    for index in (0, 13, 49):
        name = dataset.pixels.names[index]
        assert np.array_equal(dataset.pixels[index], image_files.decode(nuswide / name))
        assert dataset.labels[index].tolist() == [flag == "1" for flag in labels_of(name).split()]
    batch = dataset.tensor([7, 2])
    assert np.array_equal(batch.numpy().transpose(0, 2, 3, 1), dataset.pixels[[7, 2]])
    (nuswide / "classes.txt").write_text("".join(f"thing {number}\n" for number in range(21)))
    assert datasets.load("nuswide", nuswide).classes[20] == "thing 20"
    (nuswide / "classes.txt").write_text("one\n")
    with pytest.raises(ValueError, match="names 1 classes, the lists have 21 labels"):
        datasets.load("nuswide", nuswide)


def test_clean_views_keep_the_centre(nuswide: Path) -> None:
    """Of photographs as in the protocol, Resize(256) and CenterCrop(224); the whole of other images."""
    dataset = datasets.load("nuswide", nuswide)
    images = dataset.tensor([0, 30])
    expected = functional.center_crop(images, [224, 224]).float() / 255
    assert clean(images, 224, dataset.central).equal(expected)
    smaller = functional.resize(expected, [64, 64], antialias=True)
    assert (clean(images, 64, dataset.central) - smaller).abs().max() < 1e-6
    assert clean(images, 64, 1.0).equal(clean(images, 64))
    assert (clean(images, 64) - functional.resize(images.float() / 255, [64, 64], antialias=True)).abs().max() < 1e-6
    for wrong in (0.0, -0.5, 1.01):
        with pytest.raises(ValueError, match="central must be above 0 and at most 1"):
            clean(images, 64, wrong)


def test_number_of_labels(tmp_path: Path) -> None:
    for name, count in (("coco", 80), ("imagenet100", 100)):
        folder = tmp_path / name
        folder.mkdir()
        for number, part in enumerate(("train", "database", "test")):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"a photo {number}.png")
            flags = " ".join("1" if column == number else "0" for column in range(count))
            (folder / f"{part}.txt").write_text(f"\ufeff./a photo {number}.png\t{flags}\r\n\r\n", newline="")
        dataset = datasets.load(name, folder)
        assert dataset.labels.shape == (3, count)
        assert dataset.labels.nonzero()[1].tolist() == [0, 1, 2]
        assert dataset.pixels[2][0, 0].tolist() == [2, 0, 0]


def test_split(nuswide: Path) -> None:
    names = datasets.load("nuswide", nuswide).pixels.names
    whole = {part: [names[i] for i in ids] for part, ids in datasets.split("nuswide", folder=nuswide).items()}
    assert sorted(whole["train"]) == TRAIN and sorted(whole["query"]) == TEST
    assert len(whole["validation"]) == 3 and set(whole["validation"]) < set(REST)  # a tenth of 30
    assert whole["database"][:12] == whole["train"]
    assert sorted(whole["database"]) == sorted(set(TRAIN + REST) - set(whole["validation"]))

    def digest(name: str) -> bytes:
        return hashlib.sha256(f"20240513/validation/{name}".encode()).digest()

    assert whole["validation"] == sorted(REST, key=digest)[:3]
    asked = datasets.split("nuswide", {"train": 4, "validation": 7, "query": 8, "database": 20}, nuswide)
    assert [len(ids) for ids in asked.values()] == [4, 7, 8, 20]
    assert [names[i] for i in asked["validation"]][:3] == whole["validation"]
    assert [names[i] for i in asked["train"]] == whole["train"][:4]
    assert not set(asked["validation"].tolist()) & set(asked["database"].tolist())
    with pytest.raises(ValueError, match=r"31 validation images asked for; .*database.txt has 30 that are not on"):
        datasets.split("nuswide", {"validation": 31}, nuswide)
    with pytest.raises(ValueError, match=r"nuswide: query size 9 is not in 1 .. 8"):
        datasets.split("nuswide", {"query": 9}, nuswide)


def test_train_list_that_is_no_part_of_the_database(nuswide: Path) -> None:
    inside = datasets.split("nuswide", folder=nuswide), datasets.load("nuswide", nuswide).fingerprint
    write_list(nuswide, "database", REST)
    outside = datasets.split("nuswide", folder=nuswide), datasets.load("nuswide", nuswide).fingerprint
    assert all(np.array_equal(inside[0][part], outside[0][part]) for part in inside[0])
    assert inside[1] == outside[1]


def test_the_order_of_the_lists_does_not_matter_to_the_split(nuswide: Path) -> None:
    def images() -> dict[str, list[str]]:
        names = datasets.load("nuswide", nuswide).pixels.names
        return {part: [names[i] for i in ids] for part, ids in datasets.split("nuswide", folder=nuswide).items()}

    before = images()
    for name, members in (("train", TRAIN), ("test", TEST), ("database", TRAIN + REST)):
        write_list(nuswide, name, members[::-1])
    assert images() == before


def test_query_images_leave_the_other_lists(nuswide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_list(nuswide, "database", [*TRAIN, *REST, *TEST[:2], *REST[:5]])
    parts = datasets.split("nuswide", folder=nuswide)
    assert f"{nuswide}: 2 query images were on database.txt too; taken off" in capsys.readouterr().err
    assert len(parts["query"]) == 8
    assert not set(parts["query"].tolist()) & set(parts["database"].tolist())
    assert len(parts["database"]) + len(parts["validation"]) == 42  # repeated lines count once


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/001.jpg 1 0", r"train.txt, line 13: not a path and 21 labels"),
        ("images/001.jpg " + "0 " * 22, "line 13: not a path and 21 labels"),
        ("images/001.jpg " + "2 " * 21, "line 13: not a path and 21 labels"),
        ("images/001.jpg " + "01 " * 21, "line 13: not a path"),
        ("/images/001.jpg " + "1 " * 21, "line 13: /images/001.jpg must be a path inside of"),
        ("../001.jpg " + "1 " * 21, "line 13: ../001.jpg must be a path inside of"),
        ("images/001.jpg " + "1 " * 21, "line 13: images/001.jpg has other labels than where it was listed"),
    ],
)
def test_wrong_lines(nuswide: Path, line: str, message: str) -> None:
    with (nuswide / "train.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        datasets.load("nuswide", nuswide)


def test_what_is_missing_is_named(
    nuswide: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match=r"'coco' has to be placed by hand.*BRCD_DATA.*datasets/README.md"):
        datasets.load("coco")
    monkeypatch.setenv("BRCD_DATA", str(nuswide.parent))
    with pytest.raises(FileNotFoundError, match=rf"there is no folder {nuswide.parent}/coco. .*README.md"):
        datasets.split("coco")
    assert len(datasets.load("nuswide")) == len(datasets.load("nuswide", nuswide)) == 50
    (nuswide / TRAIN[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 50 images .* such as images/002.jpg. Paths are relative"):
        datasets.load("nuswide")
    (nuswide / "database.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"database.txt lists no image that is no query"):
        datasets.load("nuswide")
    (nuswide / "test.txt").unlink()
    assert main(["fetch", "--dataset", "nuswide"]) == 1
    assert f"error: {nuswide}/test.txt is missing; see brcd_core/datasets/README.md" in capsys.readouterr().err


def test_fingerprint(nuswide: Path) -> None:
    lists = image_lists.read_lists(nuswide, 21)
    expected = hashlib.sha256(b"decoding 1, upright False\n")
    for name in lists.names:
        expected.update(f"{name}\0{hashlib.sha256((nuswide / name).read_bytes()).hexdigest()}\n".encode())
    expected.update(bytes(flag == "1" for name in lists.names for flag in labels_of(name).split()))
    before = datasets.load("nuswide", nuswide).fingerprint
    assert before == expected.hexdigest()
    Image.new("RGB", (9, 9)).save(nuswide / TRAIN[0])
    after = datasets.load("nuswide", nuswide).fingerprint
    assert after != before
    write_list(nuswide, "train", TRAIN[1:])
    write_list(nuswide, "database", TRAIN[1:] + REST)
    assert datasets.load("nuswide", nuswide).fingerprint not in (before, after)


def test_files_are_hashed_once(nuswide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = file_checks.sha256_of
    monkeypatch.setattr(file_checks, "sha256_of", lambda path: hashed.append(path.name) or real(path))
    first = datasets.load("nuswide", nuswide).fingerprint
    assert len(hashed) == 50
    assert datasets.load("nuswide", nuswide).fingerprint == first
    assert len(hashed) == 50
    (nuswide / TRAIN[4]).touch()
    assert datasets.load("nuswide", nuswide).fingerprint == first
    assert hashed[50:] == ["004.jpg"]
    for harm in ("", "{", "[]", '{"files": {"a": 3}}', '{"files": [1]}'):
        file_checks.kept_at(nuswide).write_text(harm)
        assert datasets.load("nuswide", nuswide).fingerprint == first
    assert len(json.loads(file_checks.kept_at(nuswide).read_text())["files"]) == 50


def test_interrupted_hashing_goes_on_where_it_stopped(nuswide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "BLOCK", 10)
    real, done = file_checks.sha256_of, []

    def interrupted(path: Path) -> str:
        if len(done) == 30:
            raise KeyboardInterrupt
        done.append(path.name)
        return real(path)

    monkeypatch.setattr(file_checks, "sha256_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.load("nuswide", nuswide)
    monkeypatch.setattr(file_checks, "sha256_of", lambda path: done.append(path.name) or real(path))
    datasets.load("nuswide", nuswide)
    assert len(done) == 50
    assert len(set(done)) == 50
