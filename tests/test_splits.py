"""The committed lists, the rules they keep, and how they were drawn."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brcd_core import datasets
from brcd_core.datasets import drawing, split_files
from brcd_core.datasets.__main__ import main


@pytest.mark.parametrize(
    ("name", "sizes", "train_images"),
    [
        ("cifar10", (5_000, 5_000, 5_000, 50_000), 50_000),
        ("fashion_mnist", (5_000, 5_000, 5_000, 60_000), 60_000),
        ("cifar10_mosaic", (5_000, 1_250, 1_250, 12_500), 12_500),
        ("sample", (100, 50, 50, 200), 200),
    ],
)
def test_committed_splits(name: str, sizes: tuple[int, ...], train_images: int) -> None:
    parts = datasets.split(name)
    assert list(parts) == ["train", "validation", "query", "database"]
    assert tuple(len(parts[part]) for part in parts) == sizes
    sets = {part: set(indices.tolist()) for part, indices in parts.items()}
    assert sets["database"] == set(range(train_images))
    assert sets["train"] < sets["database"]
    assert sets["validation"] | sets["query"] == set(range(train_images, train_images + sizes[1] + sizes[2]))
    assert not sets["validation"] & sets["query"]
    for train in (1, sizes[0] // 3, sizes[0]):
        for database in {train, train + 1, sizes[0], sizes[0] + 7, sizes[3]}:
            if database >= train:
                some = datasets.split(name, {"train": train, "query": 3, "database": database})
                assert set(some["train"]) <= set(some["database"])
                assert len(some["train"]) == train
                assert len(some["database"]) == database
                assert np.array_equal(some["query"], parts["query"][:3])
                assert len(some["validation"]) == sizes[1]


def test_sample_split_is_balanced_and_drawn_by_the_committed_command(tmp_path: Path) -> None:
    parts = datasets.split("sample")
    numbers = datasets.load("sample").labels.argmax(axis=1)
    for size in range(1, 101):
        counts = np.bincount(numbers[parts["train"][:size]], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert main(["splits", "--dataset", "sample", "--out", str(tmp_path)]) == 0
    for name in ("train.txt", "validation.txt", "query.txt", "database.txt", "checksums.json"):
        assert (tmp_path / "sample" / name).read_bytes() == (datasets.SPLITS / "sample" / name).read_bytes()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 101}, "sample: train size 101 is not in 1 .. 100"),
        ({"query": 0}, "query size 0 is not in 1 .. 50"),
        ({"validation": -1}, "validation size -1"),
        ({"test": 5}, "unknown part of a split: test; the parts are train, validation, query, database"),
        ({"train": 20, "database": 19}, "a database of 19 images cannot contain the 20 train images"),
        ({"database": 99}, "cannot contain the 100 train images"),
    ],
)
def test_sizes_that_are_not_there(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.split("sample", sizes)


def good_lists() -> dict[str, list[Any]]:
    return {"train": [4, 1], "validation": [6, 7], "query": [8, 9], "database": [4, 1, 0, 2, 3, 5]}


def written(folder: Path, lists: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    split_files.write(lists, folder, {"seed": 1})
    return split_files.read(folder, images=10)


def test_lists_are_read_back(tmp_path: Path) -> None:
    assert {part: list(indices) for part, indices in written(tmp_path, good_lists()).items()} == good_lists()
    record = json.loads((tmp_path / "checksums.json").read_text())
    assert record["seed"] == 1
    assert record["counts"]["database"] == 6
    assert record["sha256"]["query.txt"] == hashlib.sha256(b"8\n9\n").hexdigest()


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("query", [], "query.txt is empty"),
        ("query", [8, 10], "query.txt: index 10 is out of range, the dataset has 10 images"),
        ("query", [8, -9], "query.txt, line 2: '-9' is not an image index"),
        ("query", ["8 9"], "query.txt, line 1: '8 9' is not"),
        ("query", ["8", "", "9"], "query.txt, line 2: '' is not"),
        ("query", ["²"], "query.txt, line 1: '²' is not"),
        ("validation", [6, 7, 6], "validation.txt: index 6 appears more than once"),
        ("validation", [6, 9], "validation.txt and query.txt share image 9"),
        ("validation", [6, 0], "validation.txt and database.txt share image 0"),
        ("query", [8, 5], "query.txt and database.txt share image 5"),
        ("train", [1, 4], "database.txt' does not begin|database.txt does not begin"),
        ("train", [4, 1, 0, 2, 3, 5, 8], "does not begin with the lines of train.txt"),
    ],
)
def test_list_that_breaks_a_rule(tmp_path: Path, part: str, content: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        written(tmp_path, {**good_lists(), part: content})
    assert str(tmp_path) in str(error.value)


def test_changed_or_missing_list(tmp_path: Path) -> None:
    written(tmp_path, good_lists())
    (tmp_path / "train.txt").write_text("1\n4\n")
    with pytest.raises(ValueError, match=r"train.txt was changed: SHA-256 \w+, checksums.json says"):
        split_files.read(tmp_path, 10)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.txt is missing"):
        split_files.read(tmp_path, 10)
    written(tmp_path, good_lists())
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"checksums.json is missing"):
        split_files.read(tmp_path, 10)


def test_in_turn_against_queues() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        numbers = rng.integers(0, 4, 30)
        indices = rng.permutation(30)[: rng.integers(1, 31)].tolist()
        queues = [deque(index for index in indices if numbers[index] == number) for number in range(4)]
        expected = []
        while any(queues):
            expected += [queue.popleft() for queue in queues if queue]
        assert drawing.in_turn(indices, numbers) == expected


def test_random_order_is_uniform_and_depends_on_seed_and_purpose() -> None:
    orders = Counter(tuple(drawing.in_random_order(range(3), seed, "a")) for seed in range(3_000))
    assert len(orders) == 6
    assert all(abs(count - 500) < 110 for count in orders.values())  # over 5 standard deviations
    assert drawing.in_random_order(range(50), 1, "a") != drawing.in_random_order(range(50), 1, "b")
    assert drawing.in_random_order([3, 1, 2], 7, "a") == drawing.in_random_order([2, 3, 1], 7, "a")


def test_draw_splits() -> None:
    numbers = np.random.default_rng(1).integers(0, 5, 400)
    balances = set()
    for seed in range(5):
        parts = drawing.draw_splits(numbers, train_images=300, per_class=20, validation=40, seed=seed)
        assert Counter(numbers[parts["train"]].tolist()) == {number: 20 for number in range(5)}
        assert numbers[parts["train"][:5]].tolist() == [0, 1, 2, 3, 4]
        assert parts["database"][:100] == parts["train"]
        assert sorted(parts["database"]) == list(range(300))
        assert len(parts["validation"]) == 40
        assert sorted(parts["validation"] + parts["query"]) == list(range(300, 400))
        balances.add(tuple(np.bincount(numbers[parts["validation"]], minlength=5)))
    assert len(balances) > 1  # validation is random, not so many of each class
    with pytest.raises(ValueError, match=r"class 0 has .* images, fewer than 100"):
        drawing.draw_splits(numbers, 300, per_class=100, validation=40, seed=0)


def test_draw_parts_by_hand() -> None:
    def order(purpose: str) -> list[str]:
        return sorted("abcdefghij", key=lambda thing: hashlib.sha256(f"7/{purpose}/{thing}".encode()).hexdigest())

    query = order("query")[:2]
    validation = [thing for thing in order("validation") if thing not in query][:3]
    database = [thing for thing in order("database") if thing not in query + validation]
    parts = drawing.draw_parts("abcdefghij", {"query": 2, "validation": 3, "train": 4}, 7, "letters")
    letters = {part: ["abcdefghij"[i] for i in ids] for part, ids in parts.items()}
    assert letters == {"train": database[:4], "validation": validation, "query": query, "database": database}
    assert all(ids.dtype == np.int64 for ids in parts.values())
    whole = drawing.draw_parts(range(60_001), {}, 7, "numbers")
    assert [len(ids) for ids in whole.values()] == [5_000, 5_000, 5_000, 50_001]
    with pytest.raises(ValueError, match="letters: 10 images are too few for 2 query, 3 validation and 6 database"):
        drawing.draw_parts("abcdefghij", {"query": 2, "validation": 3, "train": 6}, 7, "letters")


def test_draw_sample() -> None:
    numbers = np.arange(100) % 5
    chosen = drawing.draw_sample(numbers, 60, 3, 2, seed=0)
    assert numbers[chosen].tolist() == [n for n in range(5) for _ in range(3)] + [n for n in range(5) for _ in range(2)]
    assert max(chosen[:15]) < 60 <= min(chosen[15:])
    assert len(set(chosen)) == 25
    assert chosen != drawing.draw_sample(numbers, 60, 3, 2, seed=1)


def test_grid_and_back() -> None:
    images = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    grid = drawing.to_grid(images, columns=3)
    assert grid.shape == (4, 6, 3)
    for image in range(6):
        y, x = 2 * (image // 3), 2 * (image % 3)
        assert np.array_equal(grid[y : y + 2, x : x + 2], images[image])
    assert np.array_equal(drawing.from_grid(grid, columns=3), images)
