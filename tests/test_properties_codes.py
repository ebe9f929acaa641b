"""Properties of packed codes, distances, counts and an index, for any real codes, words and labels."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

from brcd_core import codes, retrieval
from brcd_core.search.index import Index, octets
from brcd_core.search.pairs import Origin

few = settings(max_examples=25, deadline=None)
REALS = st.floats(allow_nan=False, width=32)  # infinities, denormal numbers and both zeros among them
LENGTHS = st.sampled_from([8, 56, 64, 72, 128, 136])


@st.composite
def code_sets(draw: st.DrawFn, count: int = 2) -> list[np.ndarray]:
    """Sets of real codes of one length, a few codes each."""
    bits, sizes = draw(LENGTHS), [draw(st.integers(1, 6)) for _ in range(count)]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    near = draw(st.booleans())  # codes that differ in their first bits alone: many ties
    sets = [random.choice([-2.5, -0.0, 0.0, 1.0], (size, bits), p=[0.5, 0.1, 0.1, 0.3]) for size in sizes]
    return [np.where(np.arange(bits) < 3, one, 1.0) for one in sets] if near else sets


def slow_distances(query: np.ndarray, database: np.ndarray) -> list[list[int]]:
    return [[sum((x >= 0) != (y >= 0) for x, y in zip(a, b)) for b in database.tolist()] for a in query.tolist()]


# ---- signs and words --------------------------------------------------------------------------------------


@few
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=REALS))
def test_signs_are_those_of_each_number(values: np.ndarray) -> None:
    found = codes.signs(values)
    assert found.dtype == np.int8
    assert found.tolist() == [[1 if x >= 0 else -1 for x in row] for row in values.tolist()]
    assert_array_equal(codes.signs(found), found)
    assert_array_equal(codes.signs(values.astype(np.float64)), found)
    assert_array_equal(codes.signs(np.asfortranarray(values)), found)


@few
@given(code_sets(1), st.integers(0, 200))
def test_unpack_undoes_pack_and_other_lengths_are_refused(sets: list[np.ndarray], other: int) -> None:
    (real,), packed = sets, codes.pack(sets[0])
    bits = real.shape[1]
    assert_array_equal(codes.unpack(packed, bits), codes.signs(real))
    assert_array_equal(codes.pack(codes.unpack(packed, bits)), packed)
    if other < 1 or -(-other // 64) != packed.shape[1]:
        with pytest.raises(ValueError, match=f"^{other} bits do not fit packed codes of shape"):
            codes.unpack(packed, other)


@few
@given(arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 150))))
def test_words_are_the_binary_numbers_of_their_bits(flags: np.ndarray) -> None:
    found = codes.words_of(flags)
    assert found.dtype == np.uint64
    for row, words in zip(flags.tolist(), found.tolist()):
        parts = [row[start : start + 64] for start in range(0, len(row), 64)]
        assert words == [sum(2**place for place, flag in enumerate(part) if flag) for part in parts]


@few
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.booleans())
def test_counter_counts_every_number(numbers: list[int], small: bool) -> None:
    values = np.array([n % 256 for n in numbers] if small else numbers, np.uint8 if small else np.uint16)
    bins = int(values.max()) + 1
    expected = Counter(values.tolist())
    assert list(codes.counter(values, bins)()) == [expected[n] for n in range(bins)]


# ---- distances --------------------------------------------------------------------------------------------


@few
@given(code_sets(2))
def test_hamming_is_a_distance(sets: list[np.ndarray]) -> None:
    query, database = sets
    packed = codes.pack(query), codes.pack(database)
    found = codes.hamming(*packed)
    assert found.dtype == np.int32
    assert found.tolist() == slow_distances(query, database)
    assert_array_equal(codes.hamming(packed[1], packed[0]), found.T)
    assert not codes.hamming(packed[0], packed[0]).diagonal().any()
    assert_array_equal(codes.hamming(packed[0], codes.pack(-codes.signs(database))), query.shape[1] - found)
    around = codes.hamming(packed[1], packed[1])
    assert (found[:, :, None] <= found[:, None, :] + around).all()  # the triangle inequality


@few
@given(code_sets(2), st.integers(1, 9))
def test_nearest_is_the_sorted_list_of_distances_and_indices(sets: list[np.ndarray], k: int) -> None:
    indices, distances = codes.nearest(*(codes.pack(one) for one in sets), k)
    for row, found, at in zip(slow_distances(*sets), indices.tolist(), distances.tolist()):
        assert list(zip(at, found)) == sorted((d, i) for i, d in enumerate(row))[:k]


@few
@given(code_sets(2), st.integers(1, 9))
def test_an_index_finds_the_nearest_codes(sets: list[np.ndarray], k: int) -> None:
    """Distances as `codes.nearest`; of codes at the last distance, faiss may take others."""
    packed, bits = [codes.pack(one) for one in sets], sets[0].shape[1]
    binary = faiss.IndexBinaryFlat(bits)
    binary.add(octets(packed[1], bits))
    names = [str(number) for number in range(len(packed[1]))]
    index = Index(Path(), names, {}, binary, Origin("", bits, {}), Path())
    positions, distances = index.nearest(packed[0], k)
    assert_array_equal(distances, codes.nearest(*packed, k)[1])
    assert_array_equal(np.take_along_axis(codes.hamming(*packed), positions, 1), distances)
    for row, at in zip(positions.tolist(), distances.tolist()):
        assert len(set(row)) == len(row) and list(zip(at, row)) == sorted(zip(at, row))
    with pytest.raises(ValueError, match="hits k must be at least 1, got 0"):
        index.nearest(packed[0], 0)


@few
@given(code_sets(1))
def test_octets_are_the_bytes_of_the_bits(sets: list[np.ndarray]) -> None:
    flags = sets[0] >= 0
    assert_array_equal(octets(codes.pack(sets[0]), flags.shape[1]), np.packbits(flags, axis=1, bitorder="little"))


# ---- counts -----------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    query, database = draw(code_sets(2))
    labels = draw(st.sampled_from([1, 3, 64, 65, 130]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flags = [random.random((len(one), labels)) < 1.5 / labels for one in (query, database)]
    return query, database, *flags


@few
@given(problems(), st.integers(0, 99))
def test_counts_are_those_of_the_pairs_under_any_mask(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], seed: int
) -> None:
    query, database, wanted, offered = problem
    kept = np.random.default_rng(seed).random(query.shape) < 0.6
    table = retrieval.counts(*problem, mask=codes.words_of(kept))
    whole = retrieval.counts(query, database, wanted.astype(int), offered.astype(float))
    for q in range(len(query)):
        items, relevant, plain = Counter(), Counter(), Counter()
        for n in range(len(database)):
            different = (query[q] >= 0) != (database[n] >= 0)
            distance = int((different & kept[q]).sum())
            items[distance] += 1
            relevant[distance] += any(a and b for a, b in zip(wanted[q], offered[n]))
            plain[int(different.sum())] += 1
        places = range(query.shape[1] + 1)
        assert table.items[q].tolist() == [items[d] for d in places]
        assert table.relevant[q].tolist() == [relevant[d] for d in places]
        assert whole.items[q].tolist() == [plain[d] for d in places]
    assert table.database_size == len(database)


@few
@given(problems(), st.integers(1, 8))
def test_measures_lie_between_their_bounds(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], k: int
) -> None:
    found = retrieval.evaluate(*problem, k=k)
    assert all(0 <= value <= 1 + 1e-12 for value in found.values())
    everything = retrieval.evaluate(*problem[:2], np.ones_like(problem[2]), np.ones_like(problem[3]), k=k)
    assert [everything[name] for name in ("map", "map_stable", "precision_at_k")] == pytest.approx([1, 1, 1])
    assert everything["lookup_precision"] == pytest.approx(1 - found["lookup_empty"])
    # The whole database is the ranking, whatever k beyond it.
    assert retrieval.evaluate(*problem, k=6) == retrieval.evaluate(*problem, k=600)


# ---- bad input --------------------------------------------------------------------------------------------

PACKED = codes.pack(np.ones((3, 8)))


@few
@given(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)),
    st.sampled_from([np.float16, np.int16, np.uint16, np.bool_, np.complex64, np.str_, np.object_]),
)
def test_whatever_is_no_code_is_refused_by_name(values: np.ndarray, dtype: type) -> None:
    """Any shape, type and content: packed, or a ValueError that says what is wrong."""
    with np.errstate(all="ignore"):
        given_codes = values.astype(dtype)
    good_type = given_codes.dtype.kind in "if"
    if values.ndim != 2 or not values.size:
        message = "own codes must have shape"
    elif not good_type:
        message = "own codes are .*, which has no sign"
    elif np.isnan(given_codes).any():
        message = "own codes contain NaN in"
    elif values.shape[1] % 8:
        message = f"own codes have {values.shape[1]} bits; a code length must be"
    else:
        assert_array_equal(codes.unpack(codes.pack(given_codes), values.shape[1]), codes.signs(given_codes))
        return
    with pytest.raises(ValueError, match=f"^{message}"):
        codes.pack(given_codes, "own codes")


@pytest.mark.parametrize("bad", [np.ones((3, 1)), PACKED[0], PACKED[:0], PACKED[:, :0], PACKED.astype(np.int64)])
def test_whatever_is_not_packed_is_refused_by_name(bad: np.ndarray) -> None:
    message = re.escape(f"codes must be packed: uint64 (N, words), not empty; got {bad.dtype} {bad.shape}")
    for function in (codes.hamming, lambda a, b: codes.nearest(a, b, 1)):
        with pytest.raises(ValueError, match=f"^query {message}$"):
            function(bad, PACKED)
        with pytest.raises(ValueError, match=f"^database {message}$"):
            function(PACKED, bad)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (PACKED.astype(np.int64), r"mask must be uint64 of shape \(3, 1\), got int64 \(3, 1\)"),
        (PACKED[:2], r"mask must be uint64 of shape \(3, 1\), got uint64 \(2, 1\)"),
        (PACKED[:, 0], r"mask must be uint64 of shape \(3, 1\), got uint64 \(3,\)"),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        retrieval.counts(np.ones((3, 8)), np.ones((4, 8)), np.ones((3, 1)), np.ones((4, 1)), mask)


@pytest.mark.parametrize("labels", [np.full((3, 2), 0.5), np.full((3, 2), np.nan), np.full((3, 2), -1)])
def test_labels_that_are_no_flags_are_refused(labels: np.ndarray) -> None:
    good = np.ones((3, 2), bool)
    for wanted, offered, name in ((labels, good, "query"), (good, labels, "database")):
        with pytest.raises(ValueError, match=f"^{name} labels must be bool or 0/1, one column a label"):
            codes.pack_labels(wanted, offered, 3, 3)
    with pytest.raises(ValueError, match=r"^query labels must have shape \(3, L\), a row a code, got \(3, 0\)"):
        codes.pack_labels(good[:, :0], good[:, :0], 3, 3)
