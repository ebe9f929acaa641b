"""Retrieval by Hamming distance, and its measures.

An item is relevant to a query when they share a label. Items at one distance are tied, and a ranking may list
them in any order. `counts` reduces each query to two histograms over the distance, and every measure that
takes `Counts` is the exact expectation over uniformly random order within ties. The stable variant breaks
ties by database index. A cut k beyond the size of the database means the whole database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brcd_core.codes import (
    columns_of,
    counter,
    distances_to,
    hamming,
    nearest,
    pack,
    pack_both,
    pack_labels,
    place_cut,
    unpack,
)

__all__ = [
    "Counts", "Lookup", "PrecisionRecall", "average_precision", "counts", "evaluate", "hamming",
    "lookup_precision", "mean_average_precision", "nearest", "pack", "precision_at", "precision_recall",
    "stable_average_precision", "unpack",
]  # fmt: skip

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Counts:
    """Database items at each Hamming distance of each query, int64 (Q, K+1): column d holds distance d."""

    items: Array  # all of them
    relevant: Array  # those that share a label with the query

    @property
    def database_size(self) -> int:
        """N."""
        return int(self.items[0].sum())


class PrecisionRecall(NamedTuple):
    """Precision and recall of the items within each radius 0..K, both (K+1,)."""

    precision: Array
    recall: Array


class Lookup(NamedTuple):
    """Precision of the items within a radius, and the share of queries that find nothing there."""

    precision: float
    empty: float


# ---- distance histograms ----------------------------------------------------------------------------------


def counts(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: ArrayLike,
    database_labels: ArrayLike,
    mask: NDArray[np.uint64] | None = None,
) -> Counts:
    """Histogram the database over the Hamming distance to each query.

    Codes (Q, K) and (N, K), signs taken; labels bool (Q, L) and (N, L). `mask`: packed bits (Q, words)
    that count for each query; the others are left out of its distances. Memory does not grow with Q, apart
    from the result. Raises ValueError for empty sets, other code lengths, labels that do not match, and NaN.

    >>> found = counts([[1] * 8], [[1] * 8, [1] * 7 + [-1], [-1] * 8], [[1, 0]], [[1, 0], [0, 1], [1, 0]])
    >>> found.items.tolist(), found.relevant.tolist()
    ([[1, 1, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 1]])
    """
    queries, database, bits = pack_both(query_codes, database_codes)
    wanted, offered = pack_labels(query_labels, database_labels, len(queries), len(database))
    if mask is not None and (mask.shape != queries.shape or mask.dtype != np.uint64):
        raise ValueError(f"mask must be uint64 of shape {queries.shape}, got {mask.dtype} {mask.shape}")
    columns, bins = columns_of(queries, database), bits + 1
    histogram = np.empty((len(queries), 2 * bins), np.int64)
    scratch = np.empty(len(database), np.uint64)
    key = np.empty(len(database), np.min_scalar_type(2 * bins))  # distance, plus `bins` if relevant
    histogram_of_key = counter(key, 2 * bins)
    for members, relevant in _relevance(wanted, offered):
        offset = relevant.astype(key.dtype) * key.dtype.type(bins)
        for q in members:
            distances_to(queries[q], columns, None if mask is None else mask[q], scratch, key)
            key += offset
            histogram[q] = histogram_of_key()
    return Counts(items=histogram[:, :bins] + histogram[:, bins:], relevant=histogram[:, bins:].copy())


# ---- tie-aware measures -----------------------------------------------------------------------------------


def mean_average_precision(counts: Counts, k: int) -> float:
    """Tie-aware mAP@k: mean of `average_precision` over the queries."""
    return float(average_precision(counts, k).mean())


def average_precision(counts: Counts, k: int) -> NDArray[np.float64]:
    """Tie-aware AP@k of each query (Q,): the exact mean over all orders within ties.

    AP@k = (1/R) sum over p <= k of precision(p) rel(p), R the relevant items among the first k; 0 if R = 0.
    Place p of a group of n ties, r of them relevant, is relevant with probability r/n, and then
    (p-1)(r-1)/(n-1) of the places before it are, on average (McSherry and Najork, ECIR 2008). Where the cut
    falls inside a group, R itself is random: see `_cut_inside_ties`. Raises ValueError for k < 1.

    Two items tied, one of them relevant: it comes first (AP 1) as often as second (AP 1/2).

    >>> average_precision(Counts(items=np.array([[2]]), relevant=np.array([[1]])), k=2)
    array([0.75])
    """
    k = place_cut(k, counts.database_size)
    ends, relevant = counts.items.cumsum(axis=1), counts.relevant
    before, found = ends - counts.items, relevant.cumsum(axis=1) - relevant
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, k + 1))])
    whole = ends <= k
    gain = np.zeros(whole.shape)
    gain[whole] = _tied_gain(before[whole], found[whole], counts.items[whole], relevant[whole], harmonic)
    split = np.minimum(whole.sum(axis=1, keepdims=True), whole.shape[1] - 1)  # group of place k + 1

    def at(table: Array) -> Array:
        return np.take_along_axis(table, split, axis=1)

    taken = np.where(at(whole), 0, k - at(before))
    done = np.where(at(whole), at(ends), at(before))
    known = np.where(at(whole), at(found) + at(relevant), at(found))
    state = (gain.sum(axis=1, keepdims=True), done, known, at(counts.items), at(relevant), taken)
    width = np.minimum(at(relevant), taken) - np.maximum(0, taken - at(counts.items) + at(relevant))
    order = width[:, 0].argsort()  # a block is as wide as its widest query: those of like width share one
    rows = max(1, 2**17 // (int(width.max()) + 1))  # temporaries of 1 MB
    result = np.empty(len(order))
    for block in np.split(order, range(rows, len(order), rows)):
        result[block] = _cut_inside_ties(harmonic, *(column[block] for column in state))
    return result


def precision_at(counts: Counts, ks: Sequence[int]) -> NDArray[np.float64]:
    """Tie-aware precision among the first k items, mean over the queries, one value for each k in `ks`."""
    before = counts.items.cumsum(axis=1) - counts.items
    share = counts.relevant / np.maximum(counts.items, 1)
    cuts = [place_cut(k, counts.database_size) for k in ks]
    return np.array([(np.clip(k - before, 0, counts.items) * share).sum(axis=1).mean() / k for k in cuts])


def precision_recall(counts: Counts) -> PrecisionRecall:
    """Precision and recall within each radius 0..K, mean over the queries.

    A query with nothing inside the radius has precision 0; one with nothing relevant at all, recall 0.
    """
    items, relevant = counts.items.cumsum(axis=1), counts.relevant.cumsum(axis=1)
    precision = relevant / np.maximum(items, 1)
    recall = relevant / np.maximum(relevant[:, -1:], 1)
    return PrecisionRecall(precision.mean(axis=0), recall.mean(axis=0))


def lookup_precision(counts: Counts, radius: int = 2) -> Lookup:
    """Precision of the items within `radius`, mean over the queries; those that find nothing count 0."""
    if not 0 <= radius < counts.items.shape[1]:
        raise ValueError(f"radius must lie between 0 and {counts.items.shape[1] - 1} bits, got {radius}")
    items = counts.items[:, : radius + 1].sum(axis=1)
    relevant = counts.relevant[:, : radius + 1].sum(axis=1)
    return Lookup(float((relevant / np.maximum(items, 1)).mean()), float((items == 0).mean()))


# ---- stable order, for comparison with other code ---------------------------------------------------------


def stable_average_precision(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: ArrayLike,
    database_labels: ArrayLike,
    k: int,
) -> NDArray[np.float64]:
    """AP@k of each query (Q,) with ties broken by database index. Depends on the order of the database."""
    queries, database, _ = pack_both(query_codes, database_codes)
    wanted, offered = pack_labels(query_labels, database_labels, len(queries), len(database))
    places = np.arange(1, place_cut(k, len(database)) + 1)
    rows = max(1, 2**17 // len(places))
    result = []
    for block in (slice(start, start + rows) for start in range(0, len(queries), rows)):
        order, _ = nearest(queries[block], database, k)
        hits = np.zeros(order.shape, bool)
        for word, column in enumerate(offered):
            hits |= (column[order] & wanted[block, word, None]) != 0
        found = hits.cumsum(axis=1)
        result.append((found / places * hits).sum(axis=1) / np.maximum(found[:, -1], 1))
    return np.concatenate(result)


def evaluate(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: ArrayLike,
    database_labels: ArrayLike,
    k: int,
) -> dict[str, float]:
    """All scalar measures of one retrieval run, by name; arguments as for `counts`, and the cut k.

    map, precision_at_k, lookup_precision (radius 2) and lookup_empty are tie-aware; map_stable is not.

    >>> codes, labels = [[1] * 8, [1] * 7 + [-1], [-1] * 8], [[1, 0], [0, 1], [1, 0]]
    >>> measures = evaluate(codes[:1], codes, labels[:1], labels, k=3)
    >>> round(measures["map"], 3), measures["lookup_precision"]
    (0.833, 0.5)
    """
    table = counts(query_codes, database_codes, query_labels, database_labels)
    lookup = lookup_precision(table, radius=2)
    stable = stable_average_precision(query_codes, database_codes, query_labels, database_labels, k)
    return {
        "map": mean_average_precision(table, k),
        "map_stable": float(stable.mean()),
        "precision_at_k": float(precision_at(table, [k])[0]),
        "lookup_precision": lookup.precision,
        "lookup_empty": lookup.empty,
    }


# ---- the inner steps --------------------------------------------------------------------------------------


def _tied_gain(before: Array, found: Array, items: Array, relevant: Array, harmonic: Array) -> Array:
    """Expected sum of precision(p) rel(p) over a group of ties, after `before` items, `found` relevant."""
    inverse = harmonic[before + items] - harmonic[before]  # sum over p of 1 / (before + p)
    earlier = items - (before + 1) * inverse  # sum over p of (p - 1) / (before + p)
    others = (relevant - 1) / np.maximum(items - 1, 1)
    expected: Array = relevant / np.maximum(items, 1) * ((found + 1) * inverse + others * earlier)
    return expected


def _cut_inside_ties(
    harmonic: Array, gain: Array, before: Array, found: Array, items: Array, relevant: Array, taken: Array
) -> Array:
    """AP of B queries when only `taken` items of the last group lie above the cut; arguments (B, 1).

    Conditions on x, the relevant ones among those taken: hypergeometric, and given x any order is as likely.
    Probabilities come from their successive ratios, in logarithms: no large factorials that cancel.
    """
    low = np.maximum(0, taken - (items - relevant))
    high = np.minimum(relevant, taken)
    x = low + np.arange(int((high - low).max()) + 1)
    up = np.where(x < high, (relevant - x) * (taken - x), 0)
    down = (x + 1) * (items - relevant - taken + x + 1)
    with np.errstate(divide="ignore"):  # log 0: the probability beyond `high`
        steps = np.log(up / down)
    log_weight = np.concatenate([np.zeros_like(gain), steps[:, :-1].cumsum(axis=1)], axis=1)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    total = gain + _tied_gain(before, found, taken, x, harmonic)
    expected: Array = (weight * total / np.maximum(found + x, 1)).sum(axis=1) / weight.sum(axis=1)
    return expected


def _relevance(wanted: Array, offered: Array) -> Iterator[tuple[Array, Array]]:
    """The queries of each label set, and the items relevant to them: found once a set, not once a query."""
    patterns, member = np.unique(wanted, axis=0, return_inverse=True)
    groups = np.split(np.argsort(member.ravel(), kind="stable"), np.bincount(member.ravel()).cumsum()[:-1])
    for pattern, members in zip(patterns, groups, strict=True):
        relevant = np.zeros(offered.shape[1], bool)
        for word, column in zip(pattern, offered, strict=True):
            relevant |= (column & word) != 0
        yield members, relevant
