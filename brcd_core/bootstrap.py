"""Which differences between methods are real: a paired bootstrap over the queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
BATCH = 2**20  # drawn queries that are held at once


class Interval(NamedTuple):
    """Mean differences and the ends of their intervals: each (M,), or one number for one comparison."""

    mean: Array
    low: Array
    high: Array


def paired(differences: ArrayLike, seed: int, confidence: float = 0.95, resamples: int = 10_000) -> Interval:
    """Intervals for the mean differences of M comparisons, all of which hold together with the confidence.

    `differences`: (Q, M), or (Q,) for one comparison: for each query the average precision of one method
    minus that of another, averaged over the training seeds that both have. A difference is called real when
    its interval leaves out 0. ValueError for fewer than two queries, numbers that are not finite, or a
    confidence that is not between 0 and 1.

    The queries are drawn again with replacement, the same ones for every comparison, as the comparisons
    share them (paired). Of each draw the largest |mean of the draw - mean| / standard error over the M
    comparisons is kept; its quantile at the confidence is the half width of every interval, in standard
    errors (the single-step "max-T" of Westfall and Young 1993; Romano and Wolf 2005). Bonferroni's rule would
    need tails of 1 in 10,000 and more, which 10,000 draws cannot show, and it ignores that methods are alike.

    The intervals cover the choice of queries: other images of the same kind. They do not cover the training
    seeds: another initialisation may move a mean by more than its interval says.

    >>> gains = np.random.default_rng(0).normal([0.0, 0.05], 0.2, (1000, 2))  # of two methods, query by query
    >>> paired(gains, seed=0).low > 0
    array([False,  True])
    """
    table = np.asarray(differences, dtype=np.float64)
    if not table.ndim or len(table) < 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"need finite differences of at least two queries, got an array of shape {table.shape}")
    columns = table.reshape(len(table), -1)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    mean = columns.mean(axis=0)
    centred = columns - mean
    error = columns.std(axis=0, ddof=1) / np.sqrt(len(columns))
    # Two methods that differ by the same in every query do so for certain; what is left is rounding.
    error = np.where(error > 1e-12, error, 0.0)
    scale = np.where(error > 0, error, 1.0)
    largest = np.concatenate([
        np.abs(counts @ centred / len(columns) / scale).max(axis=1)
        for counts in _drawn(len(columns), seed, resamples)
    ])  # fmt: skip
    half = np.quantile(largest, confidence) * error
    shape = table.shape[1:]
    return Interval(*(part.reshape(shape)[()] for part in (mean, mean - half, mean + half)))


def _drawn(queries: int, seed: int, resamples: int) -> Iterator[Array]:
    """How often each query was drawn, (batch, Q), for all resamples; batches bound the memory."""
    generator = np.random.default_rng(seed)
    step = max(1, BATCH // queries)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.integers(queries, size=(size, queries))
        drawn += np.arange(size)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries).astype(np.float64)
