"""Datasets by name, and the committed sheet."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brcd_core import datasets
from brcd_core.datasets import dataset as dataset_module
from brcd_core.datasets import sample


def test_unknown_dataset() -> None:
    for use in (datasets.load, datasets.split):
        with pytest.raises(ValueError, match="unknown dataset 'cifar'; there are: cifar10, sample, fashion_mnist"):
            use("cifar")


def test_sample_is_the_committed_sheet() -> None:
    dataset = datasets.load("sample")
    assert len(dataset) == 300
    assert dataset.pixels.shape == (300, 32, 32, 3)
    assert dataset.labels.shape == (300, 10)
    assert dataset.labels.dtype == bool
    assert dataset.classes[3] == "cat"
    about = json.loads((sample.FOLDER / "cifar10_sample.json").read_text())
    with Image.open(sample.FOLDER / "cifar10_sample.png") as sheet:
        for image in range(300):
            x, y = 32 * (image % 20), 32 * (image // 20)
            assert np.array_equal(dataset.pixels[image], np.asarray(sheet.crop((x, y, x + 32, y + 32))))
            assert list(np.flatnonzero(dataset.labels[image])) == [about["labels"][image]]
    numbers, origin = about["labels"], about["cifar10_index"]
    assert Counter(numbers[:200]) == {number: 20 for number in range(10)}
    assert Counter(numbers[200:]) == {number: 10 for number in range(10)}
    assert len(set(origin)) == 300
    assert max(origin[:200]) < 50_000 <= min(origin[200:]) < 60_000
    assert (sample.FOLDER / "cifar10_sample.png").stat().st_size < 1_000_000
    one_by_one = b"".join(image.tobytes() for image in dataset.pixels)
    flags = b"".join(bytes(int(number == column) for column in range(10)) for number in numbers)
    assert dataset.fingerprint == hashlib.sha256(one_by_one + flags).hexdigest()


def test_changed_sheet_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(sample.FOLDER / "cifar10_sample.png") as sheet:
        pixels = np.array(sheet)
    labels = (sample.FOLDER / "cifar10_sample.json").read_text()
    (tmp_path / "cifar10_sample.json").write_text(labels)
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    Image.fromarray(pixels).save(tmp_path / "cifar10_sample.png")
    assert len(datasets.load("sample")) == 300
    pixels[100, 100, 1] ^= 1
    Image.fromarray(pixels).save(tmp_path / "cifar10_sample.png")
    with pytest.raises(ValueError, match=r"cifar10_sample.png or its labels were changed"):
        datasets.load("sample")


def test_tensor() -> None:
    dataset = datasets.load("sample")
    ids = [299, 0, 7, 7]
    images = dataset.tensor(ids)
    assert images.shape == (4, 3, 32, 32)
    assert str(images.dtype) == "torch.uint8"
    for image, index in zip(images, ids, strict=True):
        for y, x, channel in ((0, 31, 0), (31, 0, 2), (5, 6, 1)):
            assert image[channel, y, x] == dataset.pixels[index, y, x, channel]
    images.zero_()
    assert dataset.pixels[7].any()  # a copy
    assert dataset.tensor(3).shape == (1, 3, 32, 32)
    assert dataset.tensor([]).shape == (0, 3, 32, 32)
    for wrong in ([300], [0, -1]):
        with pytest.raises(IndexError):
            dataset.tensor(wrong)


def test_commands_start_without_torch() -> None:
    program = "import sys; from brcd_core.datasets.__main__ import main; print(main(['fetch', '--dataset', 'sample']))"
    program += "; assert 'torch' not in sys.modules"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.startswith("sample: 300 images of 32x32, 10 classes, checked")
    assert output.endswith("\n0\n")


def test_names() -> None:
    placed = {"coco", "imagenet100", "nuswide", "folder"}
    assert set(datasets.names()) == {"cifar10", "sample", "fashion_mnist", "cifar10_mosaic"} | placed
    page = (Path(datasets.__file__).parent / "README.md").read_text()
    assert all(f"`{name}`" in page for name in datasets.names())


def test_the_worked_example_is_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of README.md, word for word: a function and an entry."""
    page = (Path(datasets.__file__).parent / "README.md").read_text()
    (example,) = [text for text in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "DATASETS" in text]
    assert len(example.splitlines()) <= 20
    monkeypatch.setattr(datasets, "DATASETS", dict(datasets.DATASETS))
    exec(example, {})
    digits = datasets.load("digits")
    assert digits.tensor([5, 0]).shape == (2, 3, 8, 8)
    assert digits.pixels.max() == 240 and (digits.pixels[..., 0] == digits.pixels[..., 2]).all()
    assert digits.labels[:4].nonzero()[1].tolist() == [0, 1, 2, 3]
    assert "digits" in datasets.names()
    sizes = {"train": 500, "validation": 100, "query": 200, "database": 1_400}
    parts = datasets.split("digits", sizes)
    assert {part: len(ids) for part, ids in parts.items()} == sizes
    assert len(set(np.concatenate([parts["validation"], parts["query"], parts["database"]]).tolist())) == 1_700
    assert np.array_equal(parts["train"], parts["database"][:500])
    with pytest.raises(ValueError, match="digits: 1797 images are too few for 900 query, 179 validation and 800"):
        datasets.split("digits", {"query": 900, "database": 800})


def test_arrays_of_other_shapes_or_types_are_refused() -> None:
    pixels, labels = np.zeros((4, 5, 5, 3), np.uint8), np.ones((4, 2), bool)
    assert datasets.from_arrays("new", ["a", "b"], pixels, labels).labels.all()
    assert datasets.from_arrays("new", ["a", "b"], pixels, np.array([0, 1, 1, 0])).labels.sum() == 4
    for other in (pixels[0], pixels.astype(float), pixels[..., :1]):
        with pytest.raises(ValueError, match=r"new: pixels must be uint8 \(N, H, W, 3\), not "):
            datasets.from_arrays("new", ["a", "b"], other, labels)
    for wrong in (labels[:3], labels.astype(int), labels[:, :1]):
        with pytest.raises(ValueError, match=r"new: labels must be bool \(4, 2\), not "):
            datasets.from_arrays("new", ["a", "b"], pixels, wrong)
    for numbers in (np.array([0, 1, 2, 0]), np.array([0, -1, 1, 0])):
        with pytest.raises(ValueError, match="there are 2 classes"):
            datasets.from_arrays("new", ["a", "b"], pixels, numbers)


def test_fingerprint_is_that_of_the_whole_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "BLOCK_IMAGES", 3)
    grey = np.random.default_rng(0).integers(0, 256, (10, 4, 5), dtype=np.uint8)
    pixels, labels = np.broadcast_to(grey[..., None], (10, 4, 5, 3)), grey[:, 0, :2] > 99
    expected = hashlib.sha256(np.repeat(grey, 3, axis=2).tobytes() + labels.tobytes()).hexdigest()
    assert datasets.fingerprint_of(pixels, labels) == expected
