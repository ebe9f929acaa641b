"""Packed codes, Hamming distances and nearest codes against explicit loops and faiss."""

from __future__ import annotations

import math

import faiss
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from brcd_core.codes import counter, hamming, nearest, pack, unpack


def slow_distance(a: np.ndarray, b: np.ndarray) -> int:
    return sum(bool(x >= 0) != bool(y >= 0) for x, y in zip(a, b, strict=True))


def few_codes(number: int, bits: int, seed: int) -> np.ndarray:
    """Codes drawn from a few prototypes with some bits flipped: near and far neighbours, and many ties."""
    random = np.random.default_rng(seed)
    codes = random.standard_normal((5, bits))[random.integers(0, 5, number)]
    return np.where(random.random(codes.shape) < 0.1, -codes, codes)


@pytest.mark.parametrize("bits", [8, 24, 64, 72, 128, 136, 256, 264])
def test_pack_round_trip_and_hamming(bits: int) -> None:
    random = np.random.default_rng(bits)
    query, database = random.standard_normal((5, bits)), random.standard_normal((9, bits))
    query[0, :4] = [0.0, -0.0, np.inf, -np.inf]  # zero counts as +1
    packed = pack(query)
    assert packed.dtype == np.uint64
    assert packed.shape == (5, math.ceil(bits / 64))
    assert_array_equal(unpack(packed, bits), np.where(query >= 0, 1, -1))
    slow = [[slow_distance(a, b) for b in database] for a in query]
    assert_array_equal(hamming(packed, pack(database)), slow)
    opposite = pack(np.where(query >= 0, -1, 1))
    assert_array_equal(np.diag(hamming(packed, opposite)), bits)


def test_pack_bit_layout() -> None:
    codes = -np.ones((1, 72))
    codes[0, [0, 5, 70]] = 1
    assert pack(codes).tolist() == [[1 + 2**5, 2**6]]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.ones((3, 12)), "12 bits"),
        (np.ones((3, 0)), "shape"),
        (np.ones((0, 8)), "shape"),
        (np.ones(8), "shape"),
        (np.full((3, 8), np.nan), "NaN in 3 of 3"),
        (np.ones((3, 8), bool), "no sign"),
        (np.ones((3, 8), np.uint8), "no sign"),
    ],
)
def test_pack_refuses(codes: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"^codes .*{message}"):
        pack(codes)


def test_unpack_refuses_other_length() -> None:
    with pytest.raises(ValueError, match="65 bits"):
        unpack(np.zeros((2, 1), np.uint64), 65)
    with pytest.raises(ValueError, match=r"^8 bits do not fit packed codes of shape \(1,\): need 64 bits a word$"):
        unpack(np.ones(1, np.uint64), 8)
    assert unpack(np.array([[1], [0]], np.uint64), 1).tolist() == [[1], [-1]]


@pytest.mark.parametrize(("bits", "k"), [(16, 1), (16, 60), (64, 50), (128, 200), (264, 1000)])
def test_nearest_is_a_stable_argsort(bits: int, k: int) -> None:
    query, database = np.split(few_codes(207, bits, seed=bits), [7])
    database[0] = np.where(query[0] >= 0, -1, 1)  # as far as can be: more than a byte holds at 264 bits
    packed = pack(query), pack(database)
    indices, distances = nearest(*packed, k)
    assert (indices.dtype, distances.dtype) == (np.int64, np.int32)
    for q in range(7):
        slow = np.array([slow_distance(query[q], item) for item in database])
        order = np.argsort(slow, kind="stable")[:k]
        assert_array_equal(indices[q], order)
        assert_array_equal(distances[q], slow[order])


def test_nearest_distances_are_those_of_faiss() -> None:
    query, database = np.split(few_codes(520, 64, seed=3), [20])
    packed = pack(query), pack(database)
    index = faiss.IndexBinaryFlat(64)
    index.add(packed[1].view(np.uint8))
    expected, _ = index.search(packed[0].view(np.uint8), 100)
    assert_array_equal(nearest(*packed, 100)[1], expected)


@pytest.mark.parametrize(("bins", "dtype"), [(17, np.uint8), (256, np.uint8), (257, np.uint8), (257, np.uint16)])
def test_counter_counts_what_the_array_holds_now(bins: int, dtype: type) -> None:
    random = np.random.default_rng(bins)
    values = np.empty(1000, dtype)
    count = counter(values, bins)
    for _ in range(2):
        values[:] = random.integers(0, min(bins, np.iinfo(dtype).max + 1), len(values))
        values[0] = min(bins - 1, np.iinfo(dtype).max)  # the last bin is used
        slow = [sum(int(value) == number for value in values.tolist()) for number in range(bins)]
        assert_array_equal(count(), slow)


def test_unusable_packed_codes_are_named() -> None:
    packed = pack(np.ones((3, 8)))
    with pytest.raises(ValueError, match="k must be at least 1"):
        nearest(packed, packed, 0)
    with pytest.raises(ValueError, match="query codes must be packed"):
        nearest(np.ones((3, 8)), packed, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="database codes must be packed"):
        hamming(packed, packed[:0])
    with pytest.raises(ValueError, match="query codes have 1 words, database codes 2"):
        hamming(packed, pack(np.ones((3, 72))))
