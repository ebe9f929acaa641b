"""Retrieval measures against explicit loops, all orders of the ties, exact fractions and torchmetrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from brcd_core import retrieval

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


# ---- slow, obvious oracles --------------------------------------------------------------------------------


def slow_distance(a: np.ndarray, b: np.ndarray) -> int:
    return sum(bool(x >= 0) != bool(y >= 0) for x, y in zip(a, b, strict=True))


def slow_relevant(a: np.ndarray, b: np.ndarray) -> bool:
    return any(bool(x) and bool(y) for x, y in zip(a, b, strict=True))


def rows(problem: Problem) -> Iterator[tuple[list[int], list[bool]]]:
    """Distances and relevance of the whole database, query by query."""
    query, database, wanted, offered = problem
    for code, labels in zip(query, wanted, strict=True):
        yield (
            [slow_distance(code, item) for item in database],
            [slow_relevant(labels, item) for item in offered],
        )


def exact_ap(hits: list[bool], k: int) -> Fraction:
    """AP@k of one ranking, divided by the relevant items among the first k; 0 without any."""
    total, found = Fraction(0), 0
    for place, hit in enumerate(hits[:k], start=1):
        if hit:
            found += 1
            total += Fraction(found, place)
    return total / found if found else Fraction(0)


def tie_orders(distances: list[int], hits: list[bool]) -> Iterator[list[bool]]:
    """The relevance of every ranking by distance: all permutations within ties."""
    groups = [[h for d, h in zip(distances, hits, strict=True) if d == at] for at in sorted(set(distances))]
    for parts in itertools.product(*(list(itertools.permutations(group)) for group in groups)):
        yield [hit for part in parts for hit in part]


def slow_tied_ap(distances: list[int], hits: list[bool], k: int) -> float:
    values = [exact_ap(order, k) for order in tie_orders(distances, hits)]
    return float(sum(values, Fraction(0)) / len(values))


def slow_tied_precision(distances: list[int], hits: list[bool], k: int) -> float:
    cut = min(k, len(hits))
    values = [Fraction(sum(order[:cut]), cut) for order in tie_orders(distances, hits)]
    return float(sum(values, Fraction(0)) / len(values))


# ---- problems ---------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn, database: int = 7) -> Problem:
    """Few bits differ, so ties abound; labels are multi-hot, and an item may have none."""
    queries, items, labels = draw(st.integers(1, 3)), draw(st.integers(1, database)), draw(st.integers(1, 3))
    bits, free = draw(st.sampled_from([8, 16])), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = np.ones((queries + items, bits))
    codes[:, :free] = random.choice([-1.0, 1.0], (queries + items, free))
    flags = random.random((queries + items, labels)) < draw(st.sampled_from([0.2, 0.5, 0.8]))
    return codes[:queries], codes[queries:], flags[:queries], flags[queries:]


def random_problem(queries: int, items: int, bits: int, labels: int, seed: int, flip: float = 0.2) -> Problem:
    """Noisy codes around one centre a class, and one more label now and then."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, labels, queries + items)
    codes = random.standard_normal((labels, bits))[kind]
    codes = np.where(random.random(codes.shape) < flip, -codes, codes)
    flags = np.eye(labels, dtype=bool)[kind] | (random.random((queries + items, labels)) < 0.5 / labels)
    return codes[:queries], codes[queries:], flags[:queries], flags[queries:]


# ---- counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "labels"), [(8, 2), (64, 10), (120, 3), (128, 70), (264, 130)])
def test_counts_against_loops(bits: int, labels: int) -> None:
    problem = random_problem(6, 40, bits, labels, seed=bits, flip=0.4)
    problem[1][0], problem[1][1] = problem[0][0], -problem[0][0]  # distances 0 and K both occur
    table = retrieval.counts(*problem)
    items, relevant = np.zeros((6, bits + 1), int), np.zeros((6, bits + 1), int)
    for q, (distances, hits) in enumerate(rows(problem)):
        for distance, hit in zip(distances, hits, strict=True):
            items[q, distance] += 1
            relevant[q, distance] += hit
    assert_array_equal(table.items, items)
    assert_array_equal(table.relevant, relevant)
    assert table.database_size == 40
    assert 0 < relevant.sum() < items.sum()


@pytest.mark.parametrize("bits", [16, 72])
def test_counts_with_mask(bits: int) -> None:
    query, database, wanted, offered = random_problem(4, 30, bits, 3, seed=1, flip=0.4)
    kept = np.random.default_rng(2).random((4, bits)) < 0.5
    mask = retrieval.pack(np.where(kept, 1, -1))
    table = retrieval.counts(query, database, wanted, offered, mask)
    for q in range(4):  # the same as leaving the columns out: compare only the kept ones
        distances = [slow_distance(query[q, kept[q]], item[kept[q]]) for item in database]
        assert_array_equal(table.items[q], np.bincount(distances, minlength=bits + 1))
    plain, full = retrieval.counts(query, database, wanted, offered), retrieval.pack(np.ones((4, bits)))
    same = retrieval.counts(query, database, wanted, offered, full)
    assert_array_equal(same.items, plain.items)
    with pytest.raises(ValueError, match="mask"):
        retrieval.counts(query, database, wanted, offered, mask[:2])


# ---- tie-aware measures -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(1, 9))
def test_average_precision_is_the_mean_over_all_tie_orders(problem: Problem, k: int) -> None:
    table = retrieval.counts(*problem)
    slow = [slow_tied_ap(distances, hits, k) for distances, hits in rows(problem)]
    assert_allclose(retrieval.average_precision(table, k), slow, rtol=0, atol=1e-13)
    assert_allclose(retrieval.mean_average_precision(table, k), np.mean(slow), rtol=0, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(problems(database=6), st.integers(1, 8))
def test_precision_at_is_the_mean_over_all_tie_orders(problem: Problem, k: int) -> None:
    table = retrieval.counts(*problem)
    slow = np.mean([slow_tied_precision(distances, hits, k) for distances, hits in rows(problem)])
    first = np.mean([slow_tied_precision(distances, hits, 1) for distances, hits in rows(problem)])
    assert_allclose(retrieval.precision_at(table, [k, 1]), [slow, first], rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("k", [1, 700, 2000, 4999, 5000, 9000])
def test_average_precision_of_large_groups(k: int) -> None:
    """Thousands of ties: exact binomials for the cut, and a sum over places for the rest."""
    random = np.random.default_rng(k)
    items = np.array([[0, 30, 1500, 400, 3000, 0, 69, 1, 0], [5000, 0, 0, 0, 0, 0, 0, 0, 0]])
    relevant = random.binomial(items, 0.3)
    fast = retrieval.average_precision(retrieval.Counts(items, relevant), k)
    slow = [large_ap(n.tolist(), r.tolist(), k) for n, r in zip(items, relevant, strict=True)]
    assert_allclose(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "good", "k"), [(5000, 1500, 2000), (4000, 2000, 2000), (3000, 1, 2999), (9, 4, 5)])
def test_a_cut_inside_one_great_tie_is_the_mean_over_the_hypergeometric_law(size: int, good: int, k: int) -> None:
    """Given x relevant among the first k in any order, AP is (H + (x - 1) / (k - 1) (k - H)) / k, H = 1 + ... + 1/k."""
    from scipy.stats import hypergeom

    harmonic = sum(1 / place for place in range(1, k + 1))
    x = np.arange(1, min(good, k) + 1)
    value = (harmonic + (x - 1) / (k - 1) * (k - harmonic)) / k
    expected = (hypergeom(size, good, k).pmf(x) * value).sum()
    found = retrieval.average_precision(retrieval.Counts(np.array([[size]]), np.array([[good]])), k)
    assert_allclose(found, [expected], rtol=1e-9)


def large_ap(items: list[int], relevant: list[int], k: int) -> float:
    gains: list[float] = []
    before = found = 0
    for n, r in zip(items, relevant, strict=True):
        taken = min(n, k - before)
        if taken < n:
            return float(
                sum(
                    Fraction(math.comb(r, x) * math.comb(n - r, taken - x), math.comb(n, taken))
                    * Fraction(math.fsum(gains + place_gains(before, found, taken, x)) / max(found + x, 1))
                    for x in range(max(0, taken - n + r), min(r, taken) + 1)
                )
            )
        gains += place_gains(before, found, n, r)
        before, found = before + n, found + r
    return math.fsum(gains) / max(found, 1)


def place_gains(before: int, found: int, n: int, r: int) -> list[float]:
    """Expected precision(p) rel(p) of each place of a whole group in random order."""
    places = range(1, n + 1)
    return [
        r / n * (found + 1 + ((p - 1) * (r - 1) / (n - 1) if n > 1 else 0)) / (before + p) if r else 0.0
        for p in places
    ]


@settings(max_examples=30, deadline=None)
@given(problems(database=30), st.integers(1, 40), st.integers(0, 99))
def test_tie_aware_measures_ignore_the_order_of_the_database(problem: Problem, k: int, seed: int) -> None:
    query, database, wanted, offered = problem
    order = np.random.default_rng(seed).permutation(len(database))
    first = retrieval.counts(*problem)
    second = retrieval.counts(query, database[order], wanted, offered[order])
    assert_allclose(
        retrieval.average_precision(first, k), retrieval.average_precision(second, k), rtol=0, atol=1e-12
    )
    flip = np.where(np.arange(query.shape[1]) % 2, -1.0, 1.0)  # flipping a bit everywhere changes nothing
    third = retrieval.counts(query * flip, database * flip, wanted, offered)
    assert_array_equal(third.items, first.items)


def test_queries_are_independent_of_their_neighbours_and_order() -> None:
    """Hundreds of queries cut inside a thousand ties span several blocks: each keeps its own value."""
    query, database, wanted, offered = random_problem(300, 4000, 8, 3, seed=5, flip=0.05)
    values = retrieval.average_precision(retrieval.counts(query, database, wanted, offered), 900)
    order = np.random.default_rng(0).permutation(300)
    shuffled = retrieval.counts(query[order], database, wanted[order], offered)
    assert_allclose(retrieval.average_precision(shuffled, 900), values[order], rtol=0, atol=1e-12)
    for q in (0, 150, 299):
        alone = retrieval.counts(query[[q]], database, wanted[[q]], offered)
        assert_allclose(retrieval.average_precision(alone, 900), values[[q]], rtol=0, atol=1e-12)


def test_items_at_every_distance_up_to_the_code_length_count() -> None:
    database = np.where(np.arange(8) < np.arange(9)[:, None], -1.0, 1.0)  # distances 0 to 8
    table = retrieval.counts(np.ones((1, 8)), database, np.ones((1, 1)), np.ones((9, 1)))
    for k in (1, 8, 9, 99):
        assert retrieval.average_precision(table, k) == pytest.approx([1.0])
    some = retrieval.Counts(table.items, table.relevant * (np.arange(9) % 4 == 0))
    assert retrieval.average_precision(some, 9) == pytest.approx([(1 + 2 / 5 + 3 / 9) / 3])
    assert retrieval.lookup_precision(some) == retrieval.lookup_precision(some, radius=2) == (1 / 3, 0.0)


def test_extreme_rankings() -> None:
    query, database = np.ones((1, 8)), np.ones((4, 8))
    database[2:, 0] = -1
    good = np.array([[1], [1], [0], [0]], bool)
    none = np.zeros_like(good)
    for offered, value in ((good, 1.0), (~good, (1 / 3 + 2 / 4) / 2), (none, 0.0), (~none, 1.0)):
        table = retrieval.counts(query, database, np.ones((1, 1), bool), offered)
        assert retrieval.mean_average_precision(table, 4) == pytest.approx(value, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(problems(database=20))
def test_precision_recall_and_lookup_against_loops(problem: Problem) -> None:
    table = retrieval.counts(*problem)
    curve = retrieval.precision_recall(table)
    for radius in range(problem[0].shape[1] + 1):
        precision, recall, empty = [], [], []
        for distances, hits in rows(problem):
            inside = [hit for distance, hit in zip(distances, hits, strict=True) if distance <= radius]
            precision.append(sum(inside) / len(inside) if inside else 0.0)
            recall.append(sum(inside) / sum(hits) if any(hits) else 0.0)
            empty.append(not inside)
        assert curve.precision[radius] == pytest.approx(np.mean(precision), abs=1e-14)
        assert curve.recall[radius] == pytest.approx(np.mean(recall), abs=1e-14)
        lookup = retrieval.lookup_precision(table, radius)
        assert lookup == pytest.approx((np.mean(precision), np.mean(empty)), abs=1e-14)


# ---- stable order, and other libraries --------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(problems(database=30), st.integers(1, 40))
def test_stable_average_precision_against_a_loop(problem: Problem, k: int) -> None:
    slow = []
    for distances, hits in rows(problem):
        order = np.argsort(distances, kind="stable")
        slow.append(float(exact_ap([hits[i] for i in order], k)))
    assert_allclose(retrieval.stable_average_precision(*problem, k), slow, rtol=0, atol=1e-14)


def test_stable_average_precision_with_many_labels_and_blocks() -> None:
    query, database, wanted, offered = random_problem(300, 900, 16, 70, seed=4)
    fast = retrieval.stable_average_precision(query, database, wanted, offered, 800)
    assert fast.shape == (300,)
    for q in (0, 150, 299):
        distance = (np.sign(query[q]) != np.sign(database)).sum(axis=1)
        hits = (offered & wanted[q]).any(axis=1)[np.argsort(distance, kind="stable")]
        assert fast[q] == pytest.approx(float(exact_ap(hits.tolist(), 800)), abs=1e-12)


@pytest.mark.parametrize("k", [1, 10, 48, 100])
def test_average_precision_of_torchmetrics(k: int) -> None:
    """Without ties both variants are the usual AP@k.

    torchmetrics cuts the ranking at top_k and divides by the relevant items inside the cut, as we do, not by
    all relevant items. It drops items with a score of 0 or less, so scores are positive here; it is float32.
    Imported here: it takes longer to load than all other tests of this file take to run.
    """
    import torch
    from torchmetrics.functional.retrieval import retrieval_average_precision

    random = np.random.default_rng(k)
    distance = random.permutation(65)[:48]  # all distances differ
    database = np.where(np.arange(64) < distance[:, None], -1.0, 1.0)
    offered, wanted = random.random((48, 3)) < 0.4, np.array([[True, False, True]])
    problem = np.ones((1, 64)), database, wanted, offered
    relevant = torch.as_tensor(offered[:, [0, 2]].any(axis=1))
    expected = float(retrieval_average_precision(torch.as_tensor(65.0 - distance), relevant, top_k=k))
    tied = retrieval.mean_average_precision(retrieval.counts(*problem), k)
    stable = retrieval.stable_average_precision(*problem, k)[0]
    assert (tied, stable) == pytest.approx((expected, expected), abs=1e-6)


def test_evaluate_names_and_values() -> None:
    problem = random_problem(20, 300, 16, 4, seed=9)
    table, result = retrieval.counts(*problem), retrieval.evaluate(*problem, k=50)
    assert all(type(value) is float for value in result.values())
    assert result == {
        "map": retrieval.mean_average_precision(table, 50),
        "map_stable": retrieval.stable_average_precision(*problem, 50).mean(),
        "precision_at_k": retrieval.precision_at(table, [50])[0],
        "lookup_precision": retrieval.lookup_precision(table, 2).precision,
        "lookup_empty": retrieval.lookup_precision(table, 2).empty,
    }


# ---- errors -----------------------------------------------------------------------------------------------

ONES, FLAGS = np.ones((3, 8)), np.ones((3, 2), bool)
NAN = np.where(np.arange(8) == 3, np.nan, ONES)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ((ONES[:0], ONES, FLAGS[:0], FLAGS), "query codes must have shape"),
        ((ONES, ONES[:0], FLAGS, FLAGS[:0]), "database codes must have shape"),
        ((ONES, np.ones((3, 16)), FLAGS, FLAGS), "query codes have 8 bits, database codes 16"),
        ((ONES, ONES, FLAGS[:2], FLAGS), "query labels must have shape"),
        ((ONES, ONES, FLAGS, FLAGS[:2]), "database labels must have shape"),
        ((ONES, ONES, FLAGS, FLAGS[:, :1]), "query labels have 2 columns, database labels 1"),
        ((ONES, ONES, np.array([0, 1, 2]), FLAGS), "query labels must have shape"),
        ((ONES, ONES, FLAGS * 2, FLAGS), "query labels must be bool"),
        ((ONES, NAN, FLAGS, FLAGS), "database codes contain NaN"),
        ((NAN, ONES, FLAGS, FLAGS), "query codes contain NaN"),
    ],
)
def test_unusable_problems_are_named(problem: Problem, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval.counts(*problem)
    with pytest.raises(ValueError, match=message):
        retrieval.stable_average_precision(*problem, 2)


def test_unusable_cuts_and_radii_are_named() -> None:
    table = retrieval.counts(ONES, ONES, FLAGS, FLAGS)
    with pytest.raises(ValueError, match="k must be at least 1"):
        retrieval.average_precision(table, 0)
    with pytest.raises(ValueError, match="k must be at least 1"):
        retrieval.precision_at(table, [1, -1])
    with pytest.raises(ValueError, match=r"^radius must lie between 0 and 8 bits, got 9$"):
        retrieval.lookup_precision(table, 9)
