"""Clusters, redundancy bits and bit statistics against loops, scikit-learn, numpy and planted structure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_samples
from sklearn.metrics.cluster import contingency_matrix

from brcd_core import bits, retrieval

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def planted(
    size: int, width: int, groups: int, seed: int, flip: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of known clusters: one prototype each, bits flipped with a small probability."""
    random = np.random.default_rng(seed)
    truth = np.arange(size) % groups
    codes = random.choice([-1.0, 1.0], (groups, width))[truth]
    return np.where(random.random(codes.shape) < flip, -codes, codes), truth


def random_means(seed: int, clusters: int = 4, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (clusters, width))


# ---- clusters ---------------------------------------------------------------------------------------------


def test_planted_clusters_are_recovered() -> None:
    codes, truth = planted(300, 32, 5, seed=0)
    found = bits.cluster(codes * 0.3, 5, seed=1, n_init=5)  # real values: only the sign counts
    assert adjusted_rand_score(truth, found.assignment) == 1.0
    assert found.centres.shape == (5, 32)
    assert found.centres.dtype == np.float32
    for group in range(5):
        expected = codes[found.assignment == group].mean(axis=0)
        assert_allclose(found.centres[group], expected, atol=1e-6)
    assert_allclose(found.centres, bits.bit_means(codes, found.assignment, 5), atol=1e-6)


def test_cluster_is_the_k_means_of_scikit_learn_and_repeats() -> None:
    codes = np.random.default_rng(3).choice([-1.0, 1.0], (200, 16))
    found, again = (bits.cluster(codes, 6, seed=7, n_init=3) for _ in range(2))
    reference = KMeans(6, n_init=3, random_state=7).fit(codes.astype(np.float32))
    assert_array_equal(found.assignment, again.assignment)
    assert_allclose(found.centres, reference.cluster_centers_, atol=1e-6)
    assert_array_equal(found.assignment, found.assign(codes))
    scan = bits.cluster_scan(codes, [6], None, seed=7, n_init=3)
    assert scan["inertia"].tolist() == [reference.inertia_]


def test_assign_is_the_nearest_centre() -> None:
    random = np.random.default_rng(4)
    clusters = bits.Clusters(random.uniform(-1, 1, (7, 24)).astype(np.float32), np.zeros(1, np.int64))
    codes = random.standard_normal((50, 24))
    signs = np.where(codes >= 0, 1.0, -1.0)
    slow = [int(np.argmin([np.linalg.norm(code - centre) for centre in clusters.centres])) for code in signs]
    assert_array_equal(clusters.assign(codes), slow)
    assert len(set(slow)) > 3
    with pytest.raises(ValueError, match="codes have 16 bits, the cluster centres 24"):
        clusters.assign(codes[:, :16])


@pytest.mark.parametrize("clusters", [0, -1, 3, 11])
def test_cluster_refuses_a_number_it_cannot_make(clusters: int) -> None:
    codes = np.ones((10, 8))
    codes[::2] = -1  # ten codes, two distinct
    message = (
        f"cannot make {clusters} clusters of 10 codes, 2 of them distinct; "
        "ask for fewer clusters, or check that the codes have not collapsed"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        bits.cluster(codes, clusters, seed=0)
    assert sorted(np.bincount(bits.cluster(codes, 2, seed=0).assignment)) == [5, 5]
    assert not bits.cluster(codes, 1, seed=0).assignment.any()


def test_k_means_starts_thirty_times_as_in_the_published_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, k_means = [], bits._k_means
    monkeypatch.setattr(bits, "_k_means", lambda *given: asked.append(given[3]) or k_means(*given[:3], 1))
    codes, _ = planted(30, 8, 3, seed=0)
    bits.cluster(codes, 2, seed=0)
    bits.cluster_scan(codes, [2], None, seed=0)
    assert asked == [30, 30]


def test_cluster_scan_finds_the_planted_number() -> None:
    codes, group = planted(120, 32, 4, seed=2)
    labels = group[:, None] == np.arange(4)
    table = bits.cluster_scan(codes, range(2, 7), labels, seed=0, n_init=4)
    assert table["clusters"].tolist() == [2, 3, 4, 5, 6]
    assert table["clusters"][table["silhouette"].to_numpy().argmax()] == 4
    assert (table["inertia"].diff().dropna() < 0).all()
    found = bits.cluster(codes, 4, seed=0, n_init=4)
    row = table.set_index("clusters").loc[4]
    inertia = sum(((code - found.centres[c]) ** 2).sum() for code, c in zip(codes, found.assignment))
    assert row["inertia"] == pytest.approx(inertia, rel=1e-5)
    assert row["silhouette"] == pytest.approx(silhouette_samples(codes, found.assignment).mean(), rel=1e-5)
    assert row["purity"] == 1 and table["purity"][0] < 1
    part = bits.cluster_scan(codes, [4], labels, seed=0, n_init=4, sample=60)["silhouette"][0]
    assert part == pytest.approx(row["silhouette"], abs=0.05)
    assert part != row["silhouette"]
    again = bits.cluster_scan(codes, [4], None, seed=0, n_init=4, sample=60)
    assert again["silhouette"][0] == part and again["purity"][0] is None
    distinct = len(np.unique(codes, axis=0))
    for number in (1, distinct, 500):
        message = f"{number} clusters: need 2 or more, fewer than the {distinct} distinct codes"
        with pytest.raises(ValueError, match=f"^{message}$"):
            bits.cluster_scan(codes, [number], labels, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_purity_of_single_labels(size: int, groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assignment, truth = random.integers(0, groups, size), random.integers(0, 4, size)
    expected = contingency_matrix(truth, assignment).max(axis=0).sum() / size
    assert bits.purity(assignment, np.eye(4, dtype=bool)[truth]) == pytest.approx(expected)


def test_purity_of_several_labels() -> None:
    labels = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], bool)
    # cluster 0: label 0 twice, label 1 twice of three items; cluster 1: label 2 twice of three
    assert bits.purity([0, 0, 0, 1, 1, 1], labels) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="assignment"):
        bits.purity([0, 0], labels)


# ---- redundancy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clusters", [1, 3])
def test_bit_means_against_a_loop(clusters: int) -> None:
    random = np.random.default_rng(clusters)
    codes, assignment = random.standard_normal((30, 12)), np.arange(30) % clusters
    slow = np.zeros((clusters, 12))
    for c in range(clusters):
        for k in range(12):
            members = [1 if codes[i, k] >= 0 else -1 for i in range(30) if assignment[i] == c]
            slow[c, k] = sum(members) / len(members)
    assert_allclose(bits.bit_means(codes, assignment, clusters), slow, atol=1e-15)
    with pytest.raises(ValueError, match=rf"clusters \[{clusters}\] have no member"):
        bits.bit_means(codes, assignment, clusters + 1)
    message = rf"^assignment must be \(30,\), one a code, with values 0 to {clusters - 1}$"
    for wrong in (assignment[:-1], assignment + 1, assignment - 1):
        with pytest.raises(ValueError, match=message):
            bits.bit_means(codes, wrong, clusters)


def test_bit_mask_against_a_loop_and_its_complement() -> None:
    mu = random_means(5)
    mu[0, 0], mu[1, 1] = 0.5, -0.5  # on the margin: not decided
    decided, redundant = bits.bit_mask(mu, 0.5), bits.bit_mask(mu, 0.5, keep="redundant")
    for c, k in np.ndindex(mu.shape):
        assert decided[c, k] == (abs(mu[c, k]) > 0.5)
        assert redundant[c, k] != decided[c, k]
    assert decided.any()
    assert not decided[[0, 1], [0, 1]].any()
    for margin in (-0.1, 1.1):
        with pytest.raises(ValueError, match="margin"):
            bits.bit_mask(mu, margin)
    with pytest.raises(ValueError, match="keep"):
        bits.bit_mask(mu, 0.5, keep="all")  # type: ignore[arg-type]


def test_redundancy_table_against_a_loop() -> None:
    mu, margins = random_means(6), [0.1, 0.5, 0.9]
    table = bits.redundancy(mu, margins)
    assert table["margin"].tolist() == margins
    for row in table.itertuples():
        kept = [sum(abs(value) > row.margin for value in line) for line in mu]
        assert row.redundant == pytest.approx(1 - sum(kept) / mu.size)
        assert (row.fewest_kept, row.most_kept) == (min(kept), max(kept))
    assert table["redundant"].is_monotonic_increasing


def test_a_bit_made_random_inside_the_clusters_is_found_redundant() -> None:
    codes, _ = planted(600, 32, 4, seed=8)
    codes[:, [3, 17]] = np.random.default_rng(9).choice([-1.0, 1.0], (600, 2))
    found = bits.cluster(codes, 4, seed=0, n_init=5)
    mask = bits.bit_mask(bits.bit_means(codes, found.assignment, 4), margin=0.5)
    assert_array_equal(np.flatnonzero(~mask.all(axis=0)), [3, 17])
    assert not mask[:, [3, 17]].any()


# ---- statistics of the bits -------------------------------------------------------------------------------


def test_balance_and_correlation_are_those_of_numpy() -> None:
    codes = np.random.default_rng(1).standard_normal((200, 10)) + np.linspace(-1, 1, 10)
    codes[:, 1] = codes[:, 0]
    codes[:, 2] = -codes[:, 0] - 1e-9
    signs = np.where(codes >= 0, 1.0, -1.0)
    assert_allclose(bits.bit_balance(codes), signs.mean(axis=0), atol=1e-15)
    assert_allclose(bits.bit_correlation(codes), np.corrcoef(signs.T), atol=1e-12)
    codes[:, 4] = 5.0  # constant
    correlation = bits.bit_correlation(codes)
    assert_array_equal(correlation[4], np.arange(10) == 4)
    assert bits.bit_balance(codes)[4] == 1
    assert not np.isnan(correlation).any()


def test_equal_and_opposite_bits_correlate_by_one_and_no_more() -> None:
    for size in range(2, 30):  # for some of them, rounding goes beyond
        bit = np.where(np.arange(size) < 1, -1.0, 1.0)
        correlation = bits.bit_correlation(np.stack([bit, bit, -bit], axis=1))
        assert_allclose(correlation, np.outer([1, 1, -1], [1, 1, -1]), rtol=1e-12)
        assert np.abs(correlation).max() == 1


# ---- dropping bits ----------------------------------------------------------------------------------------


def retrieval_problem(seed: int, noisy: int) -> tuple[Problem, bits.Clusters, np.ndarray]:
    """Queries and database of four classes, a cluster each; the first `noisy` of 24 bits are random."""
    codes, truth = planted(440, 24, 4, seed=seed, flip=0.2)
    codes[:, :noisy] = np.random.default_rng(seed).choice([-1.0, 1.0], (440, noisy))
    labels, mu = np.eye(4, dtype=bool)[truth], bits.bit_means(codes, truth, 4)
    clusters = bits.Clusters(mu.astype(np.float32), truth)
    return (codes[:40], codes[40:], labels[:40], labels[40:]), clusters, mu


def test_drop_effect_against_a_loop_that_leaves_columns_out() -> None:
    problem, clusters, mu = retrieval_problem(seed=3, noisy=4)
    query, database, wanted, offered = problem
    table = bits.drop_effect(*problem, clusters, mu, [0.0, 0.25, 1.0], k=50, draws=2)
    assert table.columns.tolist() == ["fraction", "dropped", "map"]
    assert len(table) == 9
    values = table.set_index(["fraction", "dropped"])["map"]
    for name, order in (("most redundant", 1), ("least redundant", -1)):
        total = 0.0
        for code, labels, c in zip(query, wanted, clusters.assign(query)):
            kept = np.argsort(np.abs(mu[c]), kind="stable")[::order][6:]  # 6 of 24 bits dropped
            padded = np.zeros((len(database) + 1, 24))  # 18 bits left; equal columns add no distance
            padded[:, : len(kept)] = np.vstack([code, database])[:, kept]
            alone = retrieval.counts(padded[:1], padded[1:], labels[None], offered)
            total += retrieval.mean_average_precision(alone, 50)
        assert values[0.25, name] == pytest.approx(total / len(query), abs=1e-12)
    plain = retrieval.mean_average_precision(retrieval.counts(*problem), 50)
    for name in ("most redundant", "least redundant", "random"):
        assert values[0.0, name] == pytest.approx(plain, abs=1e-12)
    # with no bit left every item is tied: any order does
    nothing = retrieval.counts(np.ones((40, 24)), np.ones((400, 24)), wanted, offered)
    assert values[1.0, "random"] == pytest.approx(retrieval.mean_average_precision(nothing, 50), abs=1e-12)


def test_dropping_planted_noise_helps_and_dropping_the_rest_harms() -> None:
    problem, clusters, mu = retrieval_problem(seed=5, noisy=12)
    table = bits.drop_effect(*problem, clusters, mu, [0.0, 0.5], k=50, draws=4)
    values = table.set_index(["fraction", "dropped"])["map"]
    assert values[0.5, "most redundant"] > values[0.0, "random"] > values[0.5, "random"]
    assert values[0.5, "random"] > values[0.5, "least redundant"]


def test_drop_effect_draws_are_seeded_and_arguments_checked() -> None:
    problem, clusters, mu = retrieval_problem(seed=6, noisy=4)
    first, again, other = (
        bits.drop_effect(*problem, clusters, mu, [0.5], k=20, seed=seed, draws=1)["map"] for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert first[0] == other[0]
    assert first[2] != other[2]
    usual = bits.drop_effect(*problem, clusters, mu, [0.5], k=20)["map"]
    assert_array_equal(usual, bits.drop_effect(*problem, clusters, mu, [0.5], k=20, seed=0, draws=3)["map"])
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        bits.drop_effect(*problem, clusters, mu, [1.5], k=20)
    with pytest.raises(ValueError, match="mu has shape"):
        bits.drop_effect(*problem, clusters, mu[:2], [0.5], k=20)
