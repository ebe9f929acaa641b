"""Datasets by name, and the committed sheet."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brcd_core import datasets


def test_unknown_dataset() -> None:
    for use in (datasets.load, datasets.split):
        with pytest.raises(ValueError, match="unknown dataset 'cifar'; there are: cifar10, sample"):
            use("cifar")


def test_sample_is_the_committed_sheet() -> None:
    dataset = datasets.load("sample")
    assert len(dataset) == 300
    assert dataset.pixels.shape == (300, 32, 32, 3)
    assert dataset.labels.shape == (300, 10)
    assert dataset.labels.dtype == bool
    assert dataset.classes[3] == "cat"
    about = json.loads((datasets.SAMPLES / "cifar10_sample.json").read_text())
    with Image.open(datasets.SAMPLES / "cifar10_sample.png") as sheet:
        for image in range(300):
            x, y = 32 * (image % 20), 32 * (image // 20)
            assert np.array_equal(dataset.pixels[image], np.asarray(sheet.crop((x, y, x + 32, y + 32))))
            assert list(np.flatnonzero(dataset.labels[image])) == [about["labels"][image]]
    numbers, origin = about["labels"], about["cifar10_index"]
    assert Counter(numbers[:200]) == {number: 20 for number in range(10)}
    assert Counter(numbers[200:]) == {number: 10 for number in range(10)}
    assert len(set(origin)) == 300
    assert max(origin[:200]) < 50_000 <= min(origin[200:]) < 60_000
    assert (datasets.SAMPLES / "cifar10_sample.png").stat().st_size < 1_000_000
    one_by_one = b"".join(image.tobytes() for image in dataset.pixels)
    flags = b"".join(bytes(int(number == column) for column in range(10)) for number in numbers)
    assert dataset.fingerprint == hashlib.sha256(one_by_one + flags).hexdigest()


def test_changed_sheet_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(datasets.SAMPLES / "cifar10_sample.png") as sheet:
        pixels = np.array(sheet)
    labels = (datasets.SAMPLES / "cifar10_sample.json").read_text()
    (tmp_path / "cifar10_sample.json").write_text(labels)
    monkeypatch.setattr(datasets, "SAMPLES", tmp_path)
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
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("sample: 300 images of 32x32, 10 classes, checked")
    assert output.endswith("\n0\n")
