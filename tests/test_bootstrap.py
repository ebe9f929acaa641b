"""The paired bootstrap against a plain loop, scipy, the normal law, and data whose truth is known."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from brcd_core.bootstrap import BATCH, paired

RANDOM = np.random.default_rng(5)


def precisions(random, queries, comparisons, shift=0.0):
    """Differences as those of average precisions: bounded, skewed, many zero, and alike between comparisons."""
    shared = random.beta(0.6, 0.9, (queries, 1)) - 0.4
    own = np.where(random.random((queries, comparisons)) < 0.3, 0, random.normal(0, 0.1, (queries, comparisons)))
    return 0.2 * (shared + own) + shift


def by_hand(differences, seed, confidence, resamples):
    """One query at a time, with the same draws."""
    queries, comparisons = differences.shape
    generator = np.random.default_rng(seed)
    means = [sum(differences[:, m]) / queries for m in range(comparisons)]
    errors = []
    for m in range(comparisons):
        variance = sum((differences[q, m] - means[m]) ** 2 for q in range(queries)) / (queries - 1)
        errors.append(math.sqrt(variance / queries))
    largest = []
    for _ in range(resamples):
        chosen = [int(q) for q in generator.integers(queries, size=queries)]
        again = [sum(differences[q, m] for q in chosen) / queries for m in range(comparisons)]
        largest.append(max(abs(again[m] - means[m]) / errors[m] for m in range(comparisons)))
    largest.sort()
    place = confidence * (resamples - 1)
    below, share = int(place), place - int(place)
    width = largest[below] * (1 - share) + largest[min(below + 1, resamples - 1)] * share
    return [(means[m], means[m] - width * errors[m], means[m] + width * errors[m]) for m in range(comparisons)]


def test_intervals_are_those_of_a_plain_loop_with_the_same_draws():
    differences = precisions(RANDOM, 30, 3)
    found = paired(differences, seed=7, confidence=0.9, resamples=200)
    for m, wanted in enumerate(by_hand(differences, 7, 0.9, 200)):
        assert [part[m] for part in found] == pytest.approx(wanted, rel=1e-12)


def test_batches_do_not_change_the_draws(monkeypatch):
    differences = precisions(RANDOM, 50, 2)
    whole = paired(differences, seed=1, resamples=100)
    monkeypatch.setattr("brcd_core.bootstrap.BATCH", 50 * 7)
    parts = paired(differences, seed=1, resamples=100)
    assert np.allclose(whole, parts, rtol=1e-12)


def test_one_comparison_agrees_with_scipy_and_with_the_normal_law():
    differences = precisions(RANDOM, 800, 1, shift=0.01)[:, 0]
    mean, low, high = paired(differences, seed=0, confidence=0.95)
    assert isinstance(float(mean), float) and np.ndim(mean) == 0
    assert mean == pytest.approx(differences.mean())
    other = stats.bootstrap((differences,), np.mean, n_resamples=4000, batch=200, method="percentile", rng=1)
    width = other.confidence_interval.high - other.confidence_interval.low
    assert [low, high] == pytest.approx(list(other.confidence_interval), abs=0.06 * width)
    normal = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    assert high - mean == pytest.approx(normal, rel=0.05)
    assert mean - low == pytest.approx(high - mean)


def test_intervals_of_a_family_are_wider_than_of_one_and_narrower_than_bonferroni():
    differences = precisions(RANDOM, 400, 12)
    family = paired(differences, seed=0, resamples=4000)
    error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    widths = (family.high - family.mean) / error
    assert np.allclose(widths, widths[0])
    bonferroni = stats.norm.ppf(1 - 0.05 / 12 / 2)
    assert 1.96 * 1.05 < widths[0] < bonferroni


@pytest.mark.parametrize("comparisons", [1, 6])
def test_the_confidence_is_kept_over_many_studies(comparisons):
    trials, confidence, right = 300, 0.9, 0
    truth = 0.2 * (0.6 / 1.5 - 0.4)
    for trial in range(trials):
        differences = precisions(np.random.default_rng([trial, comparisons]), 150, comparisons)
        _, low, high = paired(differences, seed=trial, confidence=confidence, resamples=400)
        right += bool(np.all((low <= truth) & (truth <= high)))
    lowest, highest = stats.binom.ppf([0.001, 0.999], trials, confidence)
    assert lowest - 0.01 * trials <= right <= highest + 0.01 * trials


@pytest.mark.parametrize("constant", [0.0, 0.1])  # 0.1: its mean and deviation are rounded
def test_methods_that_always_differ_by_the_same_do_so_for_certain_and_do_not_widen_the_others(constant):
    differences = precisions(RANDOM, 100, 1)
    found = paired(np.hstack([differences, np.full((100, 1), constant)]), seed=3, resamples=300)
    assert found.mean[1] == found.low[1] == found.high[1] == pytest.approx(constant)
    alone = paired(differences, seed=3, resamples=300)
    assert [part[0] for part in found] == pytest.approx([float(part[0]) for part in alone])


def test_the_seed_decides_and_the_memory_is_bounded():
    differences = precisions(RANDOM, 2000, 2)
    first, again, other = (paired(differences, seed=seed, resamples=3000) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    tracemalloc.start()
    paired(differences, seed=1, resamples=6000)
    assert tracemalloc.get_traced_memory()[1] < 6 * 8 * BATCH
    tracemalloc.stop()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="at least two queries"):
        paired([0.1], seed=0)
    with pytest.raises(ValueError, match="finite"):
        paired([0.1, np.nan, 0.2], seed=0)
    with pytest.raises(ValueError, match="confidence is 95"):
        paired([0.1, 0.2], seed=0, confidence=95)
