"""Properties of the statistics of bits, of clusters, of agreement and of the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from brcd_core import bits, retrieval
from brcd_core.agreement import ROWS, agreement
from brcd_core.bootstrap import paired

few = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
NAN = np.where(np.arange(8) == 3, np.nan, np.ones((4, 8)))


def real_codes(seed: int, size: int, width: int, share: float = 0.5) -> np.ndarray:
    """Codes whose bits are +1 with a chance around `share`; zeros of both signs among them."""
    random = np.random.default_rng(seed)
    return random.choice([-3.0, -0.0, 0.0, 0.5], (size, width), p=[1 - share, share / 3, share / 3, share / 3])


# ---- bits -------------------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(1, 12), st.integers(1, 9), st.integers(1, 4))
def test_bit_means_and_masks_are_those_of_the_members(seed: int, size: int, width: int, clusters: int) -> None:
    codes = real_codes(seed, size + clusters, width)
    groups = np.concatenate([np.arange(clusters), np.random.default_rng(seed).integers(0, clusters, size)])
    mu = bits.bit_means(codes, groups, clusters)
    for c in range(clusters):
        members = [[1 if x >= 0 else -1 for x in row] for row, group in zip(codes, groups) if group == c]
        assert_allclose(mu[c], [sum(column) / len(members) for column in zip(*members)], atol=1e-15)
    order = np.random.default_rng(seed).permutation(len(codes))
    assert_allclose(bits.bit_means(codes[order], groups[order], clusters), mu, atol=1e-15)
    shares = np.bincount(groups) / len(groups)
    assert_allclose(shares @ mu, bits.bit_balance(codes), atol=1e-12)  # the mean of the means is the mean
    for margin in (0.0, 0.3, 1.0):
        mask = bits.bit_mask(mu, margin)
        assert_array_equal(mask, bits.bit_mask(-mu, margin))
        assert_array_equal(~mask, bits.bit_mask(mu, margin, keep="redundant"))
        (row,) = bits.redundancy(mu, [margin]).itertuples(index=False)
        assert row.redundant == pytest.approx(1 - mask.mean())
        assert (row.fewest_kept, row.most_kept) == (min(mask.sum(1)), max(mask.sum(1)))
    assert not bits.bit_mask(mu, 1.0).any()


@few
@given(SEEDS, st.integers(2, 30), st.integers(1, 8), st.floats(0.05, 0.95))
def test_correlation_is_a_correlation(seed: int, size: int, width: int, share: float) -> None:
    codes = real_codes(seed, size, width, share)
    found, balance = bits.bit_correlation(codes), bits.bit_balance(codes)
    signs = np.where(codes >= 0, 1.0, -1.0)
    for i in range(width):
        for j in range(width):
            constant = len(set(signs[:, i])) == 1 or len(set(signs[:, j])) == 1
            expected = float(i == j) if constant else np.corrcoef(signs[:, i], signs[:, j])[0, 1]
            assert found[i, j] == pytest.approx(expected, abs=1e-12)
    assert (np.abs(found) <= 1).all() and (np.abs(balance) <= 1).all()
    # A bit that is turned round has the opposite mean, and the opposite correlation with the others.
    turned = signs.copy()
    turned[:, 0] *= -1
    assert bits.bit_balance(turned)[0] == -balance[0]
    assert_allclose(bits.bit_correlation(turned)[0, 1:], -found[0, 1:], atol=1e-12)


@few
@given(SEEDS, st.integers(1, 5), st.integers(1, 12))
def test_a_code_falls_to_its_nearest_centre(seed: int, clusters: int, width: int) -> None:
    random = np.random.default_rng(seed)
    centres = random.uniform(-1, 1, (clusters, width)).astype(np.float32)
    centres[-1] = centres[0]  # equally near: the lower index
    found = bits.Clusters(centres, np.zeros(1, np.int64)).assign(codes := real_codes(seed, 9, width))
    for code, group in zip(codes, found.tolist()):
        signs = np.where(code >= 0, 1, -1)
        distances = [sum((x - y) ** 2 for x, y in zip(signs, row)) for row in centres.astype(float)]
        assert distances[group] <= min(distances) + 1e-9
        assert clusters == 1 or group != clusters - 1
    assert found.dtype == np.int64


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.integers(2, 3), st.integers(1, 30))
def test_dropping_no_bit_changes_nothing_and_all_bits_leave_one_tie(seed: int, clusters: int, k: int) -> None:
    random = np.random.default_rng(seed)
    query, database = real_codes(seed, 5, 16), real_codes(seed + 1, 20, 16)
    wanted, offered = random.random((5, 3)) < 0.5, random.random((20, 3)) < 0.5
    mu = random.uniform(-1, 1, (clusters, 16))
    found = bits.Clusters(mu.astype(np.float32), np.zeros(1, np.int64))
    table = bits.drop_effect(query, database, wanted, offered, found, mu, [0.0, 1.0], k, draws=2)
    whole = retrieval.counts(query, database, wanted, offered)
    tied = retrieval.Counts(whole.items.sum(1, keepdims=True), whole.relevant.sum(1, keepdims=True))
    assert table["dropped"].tolist() == ["most redundant", "least redundant", "random"] * 2
    expected = [retrieval.mean_average_precision(one, k) for one in (whole, tied)]
    assert_allclose(table["map"], np.repeat(expected, 3), atol=1e-12)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (NAN, "codes contain NaN in 4 of 4 rows"),
        (np.ones((4, 8), bool), "codes are bool, which has no sign"),
        (np.ones((4, 0)), r"codes must have shape \(N, K\) with N and K at least 1, got \(4, 0\)"),
        (np.ones(8), r"codes must have shape \(N, K\) with N and K at least 1, got \(8,\)"),
    ],
)
def test_what_is_no_code_is_refused(codes: np.ndarray, message: str) -> None:
    groups = np.zeros(len(codes), int)
    features = torch.ones(len(codes), 2)
    for function in (
        bits.bit_balance,
        bits.bit_correlation,
        lambda x: bits.bit_means(x, groups, 1),
        lambda x: bits.cluster(x, 1, seed=0),
        lambda x: bits.cluster_scan(x, [2], None, seed=0),
        bits.Clusters(np.ones((1, 8), np.float32), groups).assign,
        lambda x: agreement(x, np.ones((4, 8)), features, torch.ones(4, 2)),
        lambda x: agreement(np.ones((4, 8)), x, torch.ones(4, 2), features),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            function(codes)


@pytest.mark.parametrize(
    ("assignment", "labels"),
    [([0, 1], np.ones((3, 2))), ([[0], [1]], np.ones((2, 2))), ([0, 1], np.ones(2)), ([], np.ones((0, 2)))],
)
def test_purity_needs_a_row_of_labels_an_item(assignment: list[object], labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^need an assignment \(N,\) and labels \(N, L\), got \("):
        bits.purity(assignment, labels)


# ---- agreement --------------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.sampled_from([8, 24]), st.floats(0.01, 100))
def test_agreement_is_a_correlation_of_cosines(seed: int, queries: int, items: int, width: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    codes = [np.where(random.random((count, width)) < 0.5, 1.0, -1.0) for count in (queries, items)]
    features = [torch.as_tensor(random.normal(size=(count, 5))) for count in (queries, items)]
    found = agreement(*codes, *features)
    assert -1 - 1e-6 <= found <= 1 + 1e-6
    x = [float(a @ b) / width for a in codes[0] for b in codes[1]]
    y = [float(torch.cosine_similarity(a, b, dim=0)) for a in features[0] for b in features[1]]
    varied = min(np.var(x), np.var(y)) > 1e-6
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1] if varied else 0.0, abs=1e-4)
    # Query and database may change places, the features their lengths, the codes all bits at once.
    assert agreement(*codes[::-1], *features[::-1]) == pytest.approx(found, abs=1e-4)
    assert agreement(codes[0] * scale, codes[1], features[0] * scale, features[1]) == pytest.approx(found, abs=1e-4)
    assert agreement(-codes[0], -codes[1], *features) == pytest.approx(found, abs=1e-6)
    assert agreement(-codes[0], codes[1], *features) == pytest.approx(-found, abs=1e-4)


def test_agreement_in_parts_is_that_of_the_whole() -> None:
    random = np.random.default_rng(0)
    codes = [random.choice([-1.0, 1.0], (count, 16)) for count in (2 * ROWS + 3, 5)]
    features = [torch.as_tensor(random.normal(size=(count, 4))) for count in (2 * ROWS + 3, 5)]
    x = (codes[0] @ codes[1].T).ravel()
    y = torch.cosine_similarity(features[0][:, None], features[1][None], dim=2).flatten().numpy()
    assert agreement(*codes, *features) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    with pytest.raises(ValueError, match=r"^5 codes and 6 features: they must be of the same images$"):
        agreement(*codes, features[0], torch.ones(6, 4))


# ---- bootstrap --------------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(2, 40), st.integers(1, 4), st.floats(-5, 5), st.floats(0.01, 100))
def test_intervals_move_and_stretch_with_the_differences(
    seed: int, queries: int, comparisons: int, shift: float, scale: float
) -> None:
    differences = np.random.default_rng(seed).normal(size=(queries, comparisons))
    found = paired(differences, seed=seed, resamples=40)
    for part in found:
        assert part.shape == (comparisons,)
    assert_allclose(found.mean, differences.mean(axis=0), atol=1e-12)
    assert (found.low <= found.mean).all() and (found.mean <= found.high).all()
    moved = paired(differences * scale + shift, seed=seed, resamples=40)
    opposite = paired(-differences, seed=seed, resamples=40)
    backwards = paired(differences[:, ::-1], seed=seed, resamples=40)
    for part, other, mirrored, turned in zip(found, moved, (opposite[0], opposite[2], opposite[1]), backwards):
        assert_allclose(other, part * scale + shift, atol=1e-9 * max(1, scale, abs(shift)))
        assert_allclose(mirrored, -part, atol=1e-12)
        assert_allclose(turned, part[::-1], atol=1e-12)
    wide = paired(differences, seed=seed, confidence=0.99, resamples=40)
    assert (wide.low <= found.low).all() and (found.high <= wide.high).all()
    alone = paired(differences[:, 0], seed=seed, resamples=40)
    assert all(np.ndim(part) == 0 for part in alone)
    assert alone.high - alone.low <= found.high[0] - found.low[0] + 1e-12  # of a family no narrower


@pytest.mark.parametrize(
    "differences", [np.ones((2, 0)), np.ones((1, 3)), np.ones((0, 3)), [], 0.5, [1.0, np.inf], [[1.0]]]
)
def test_what_cannot_be_drawn_from_is_refused(differences: object) -> None:
    with pytest.raises(ValueError, match=r"^need finite differences of at least two queries, got an array of shape \("):
        paired(differences, seed=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 95, float("nan")])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ValueError, match=f"^confidence is {confidence}; it must lie between 0 and 1$"):
        paired([0.1, 0.2], seed=0, confidence=confidence)
