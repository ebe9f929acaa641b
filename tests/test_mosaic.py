"""The mosaics of CIFAR-10: which images go together, and that no two parts of the split share one."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from brcd_core import datasets
from brcd_core.datasets import cifar10, mosaic

TRAIN, TEST = 800, 400  # images of a stand-in for CIFAR-10


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """1,200 images in place of CIFAR-10; image i holds i in its pixels, so that it can be found again."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.permutation(np.arange(count) % 10) for count in (TRAIN, TEST)]).astype(np.uint8)
    pixels = np.zeros((TRAIN + TEST, 32, 32, 3), np.uint8)
    pixels[..., 0] = (np.arange(TRAIN + TEST) // 256)[:, None, None]
    pixels[..., 1] = (np.arange(TRAIN + TEST) % 256)[:, None, None]
    pixels[:, 0, 0, 2] = 1  # the upper left corner
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path))
    monkeypatch.setattr(cifar10, "read", lambda folder: (pixels, numbers))
    monkeypatch.setattr(cifar10, "TRAIN_IMAGES", TRAIN)
    monkeypatch.setattr(cifar10, "IMAGES", TRAIN + TEST)
    monkeypatch.setattr(mosaic, "IMAGES", (TRAIN + TEST) // 4)
    monkeypatch.setattr(mosaic, "FINGERPRINT", "unknown")
    with pytest.raises(ValueError, match=r"CIFAR-10: these are not the mosaics: SHA-256 .*, expected unknown") as error:
        mosaic.load()
    monkeypatch.setattr(mosaic, "FINGERPRINT", str(error.value).split("SHA-256 ")[1][:64])
    return pixels, numbers


def images_of(one: np.ndarray) -> list[int]:
    """The four images of a mosaic, in reading order."""
    quarters = [one[y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
    assert all(quarter[0, 0, 2] == 1 and quarter[..., 2].sum() == 1 for quarter in quarters)  # whole, not turned
    return [int(quarter[5, 5, 0]) * 256 + int(quarter[5, 5, 1]) for quarter in quarters]


def test_mosaics(small: tuple[np.ndarray, np.ndarray]) -> None:
    _, numbers = small
    dataset = mosaic.load()
    assert dataset.pixels.shape == (300, 64, 64, 3)
    sources = [images_of(one) for one in dataset.pixels]
    assert sorted(image for four in sources[:200] for image in four) == list(range(TRAIN))
    assert sorted(image for four in sources[200:] for image in four) == list(range(TRAIN, TRAIN + TEST))
    for four, row in zip(sources, dataset.labels, strict=True):
        assert set(np.flatnonzero(row)) == {int(numbers[image]) for image in four}
    for part in (slice(0, 200), slice(200, 300)):
        counts = Counter(dataset.labels[part].sum(axis=1).tolist())
        share = dataset.labels[part].shape[0] // 10
        assert counts == {1: 4 * share, 2: 3 * share, 3: 2 * share, 4: share}
    two = [Counter(numbers[four].tolist()) for four in sources if len(set(numbers[four].tolist())) == 2]
    assert all(sorted(counts.values()) == [2, 2] for counts in two)
    everything = dataset.pixels.tobytes() + dataset.labels.tobytes()
    assert dataset.fingerprint == hashlib.sha256(everything).hexdigest()


def test_they_are_kept_and_made_anew_if_damaged(small: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    first = np.array(mosaic.load().pixels)
    path = tmp_path / "data" / "cifar10_mosaic" / "pixels.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert np.array_equal(mosaic.load().pixels, first)
    assert path.read_bytes() != bytes(content)


def test_equal_images_lie_in_every_way(small: tuple[np.ndarray, np.ndarray]) -> None:
    """Two images of one class lie side by side, one above the other, or across."""
    _, numbers = small
    shapes: Counter[tuple[bool, ...]] = Counter()
    for four in mosaic.sources(numbers[:TRAIN], "train"):
        own = numbers[four].tolist()
        if len(set(own)) == 2:
            shapes[tuple(number == own[0] for number in own)] += 1
    assert len(shapes) == 3
    assert mosaic.sources(numbers[:TRAIN], "train") != mosaic.sources(numbers[:TRAIN], "test")


def test_mosaic_in_reading_order() -> None:
    images = np.arange(2 * 4 * 2 * 3 * 3).reshape(2, 4, 2, 3, 3)
    grids = mosaic.mosaics(images)
    for own, grid in zip(images, grids, strict=True):
        assert np.array_equal(grid, np.vstack([np.hstack([own[0], own[1]]), np.hstack([own[2], own[3]])]))


def test_the_committed_split_keeps_test_images_apart() -> None:
    parts = datasets.split("cifar10_mosaic")
    assert max(parts["database"]) < mosaic.TRAIN_IMAGES <= min(parts["query"].min(), parts["validation"].min())
    assert not set(parts["query"].tolist()) & set(parts["validation"].tolist())
