"""Clusters of codes, and which bits mean something inside each cluster.

mu_ck is the mean of bit k over cluster c of the teacher's codes. A bit with small |mu_ck| takes both signs
inside the cluster, so it says nothing about it: a redundancy bit (BRCD, WWW 2024). The mask keeps the rest.
Codes are real (N, K), the sign taken, zero as +1. ValueError wherever an argument cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brcd_core import retrieval
from brcd_core.codes import signs, words_of

Array = NDArray[Any]


# ---- clusters ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clusters:
    """k-means clusters of codes: centres float32 (C, K), and the cluster of each code, int64 (N,)."""

    centres: Array
    assignment: Array

    def assign(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Nearest centre of each code (M, K) -> (M,); the lower index where two are equally near."""
        return _assign(_signs(codes, self.centres.shape[1]), self.centres)


def cluster(codes: ArrayLike, clusters: int, seed: int, n_init: int = 30) -> Clusters:
    """k-means (k-means++ starts, the best of `n_init`) on codes (N, K).

    Raises ValueError if `clusters` is below 1 or above the number of distinct codes.
    """
    values = signs(codes).astype(np.float32)
    distinct = len(np.unique(values, axis=0))
    if not 1 <= clusters <= distinct:
        raise ValueError(
            f"cannot make {clusters} clusters of {len(values)} codes, {distinct} of them distinct; "
            "ask for fewer clusters, or check that the codes have not collapsed"
        )
    centres = _k_means(values, clusters, seed, n_init).cluster_centers_.astype(np.float32)
    return Clusters(centres, _assign(values, centres))


def cluster_scan(
    codes: ArrayLike, counts: Iterable[int], labels: ArrayLike | None, seed: int, n_init: int = 30, sample: int = 5000
) -> pd.DataFrame:
    """Elbow, silhouette and purity over numbers of clusters: columns clusters, inertia, silhouette, purity.

    Inertia is the sum of squared distances to the centres, the silhouette a mean over at most `sample` codes,
    the purity that of `labels` bool (N, L), which serve for nothing else; without labels it is None.
    Raises ValueError for a number below 2 or not below the number of distinct codes.
    """
    from sklearn.metrics import silhouette_score  # here, because it takes seconds to import

    values = signs(codes).astype(np.float32)
    distinct = len(np.unique(values, axis=0))
    rows = []
    for number in counts:
        if not 2 <= number < distinct:
            raise ValueError(f"{number} clusters: need 2 or more, fewer than the {distinct} distinct codes")
        fit = _k_means(values, number, seed, n_init)
        size = sample if sample < len(values) else None
        score = silhouette_score(values, fit.labels_, sample_size=size, random_state=seed)
        pure = None if labels is None else purity(fit.labels_, labels)
        rows.append((number, float(fit.inertia_), float(score), pure))
    return pd.DataFrame(rows, columns=["clusters", "inertia", "silhouette", "purity"])


def purity(assignment: ArrayLike, labels: ArrayLike) -> float:
    """Share of items that carry the most frequent label of their cluster: (N,) and labels bool (N, L).

    With one label an item this is the usual purity. With several, an item counts when the cluster's most
    frequent label is among its own, so a label that most items carry makes it large.

    >>> purity([0, 0, 0, 1], [[1, 0], [1, 0], [0, 1], [0, 1]])
    0.75
    """
    groups, flags = np.asarray(assignment), np.asarray(labels).astype(bool)
    if groups.ndim != 1 or flags.ndim != 2 or len(groups) != len(flags) or flags.size == 0:
        raise ValueError(f"need an assignment (N,) and labels (N, L), got {groups.shape} and {flags.shape}")
    best = [flags[groups == group].sum(axis=0).max() for group in np.unique(groups)]
    return float(np.sum(best) / len(groups))


# ---- redundancy of a bit, and the mask --------------------------------------------------------------------


def bit_means(codes: ArrayLike, assignment: ArrayLike, clusters: int) -> NDArray[np.float64]:
    """mu (C, K): the mean of each bit over each cluster. Raises ValueError for a cluster without members.

    >>> bit_means([[1, 1], [1, -1], [-1, -1]], assignment=[0, 0, 1], clusters=2)
    array([[ 1.,  0.],
           [-1., -1.]])
    """
    values, groups = signs(codes), np.asarray(assignment)
    if groups.shape != (len(values),) or groups.min() < 0 or groups.max() >= clusters:
        raise ValueError(f"assignment must be ({len(values)},), one a code, with values 0 to {clusters - 1}")
    sizes = np.bincount(groups, minlength=clusters)
    if not sizes.all():
        raise ValueError(f"clusters {np.flatnonzero(sizes == 0).tolist()} have no member, so no bit means")
    member = groups == np.arange(clusters)[:, None]
    means: NDArray[np.float64] = member.astype(np.float64) @ values / sizes[:, None]
    return means


def bit_mask(
    mu: Array, margin: float, keep: Literal["decided", "redundant"] = "decided"
) -> NDArray[np.bool_]:
    """The bits (C, K) that a cluster keeps: |mu| > margin for "decided", the complement for "redundant".

    0 <= margin <= 1. A large margin can leave a cluster with no bit at all.

    >>> bit_mask(np.array([[1.0, 0.0, -0.6]]), margin=0.5)
    array([[ True, False,  True]])
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"margin must lie between 0 and 1, as |mu| does; got {margin}")
    if keep not in ("decided", "redundant"):
        raise ValueError(f'keep must be "decided" or "redundant", got {keep!r}')
    decided: NDArray[np.bool_] = np.abs(mu) > margin
    return decided if keep == "decided" else ~decided


def redundancy(mu: Array, margins: Iterable[float]) -> pd.DataFrame:
    """How many bits are redundant, one row a margin.

    Columns margin, redundant (share over all clusters), fewest_kept and most_kept (bits of one cluster).
    """
    rows = []
    for margin in margins:
        kept = bit_mask(mu, margin).sum(axis=1)
        rows.append((float(margin), 1 - float(kept.mean()) / mu.shape[1], int(kept.min()), int(kept.max())))
    return pd.DataFrame(rows, columns=["margin", "redundant", "fewest_kept", "most_kept"])


def bit_balance(codes: ArrayLike) -> NDArray[np.float64]:
    """Mean of each bit over all codes, (K,): 0 is balanced, -1 or +1 constant.

    >>> bit_balance([[1, 1], [1, -1]])
    array([1., 0.])
    """
    return np.asarray(signs(codes).mean(axis=0, dtype=np.float64))


def bit_correlation(codes: ArrayLike) -> NDArray[np.float64]:
    """Correlation of the bits over all codes, (K, K). A constant bit has 0 with the others, 1 with itself."""
    centred = signs(codes) - bit_balance(codes)
    norms = np.linalg.norm(centred, axis=0)
    centred /= np.where(norms > 0, norms, 1)
    correlation = np.clip(centred.T @ centred, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


# ---- what a bit is worth to retrieval ---------------------------------------------------------------------


def drop_effect(
    query_codes: ArrayLike,
    database_codes: ArrayLike,
    query_labels: ArrayLike,
    database_labels: ArrayLike,
    clusters: Clusters,
    mu: Array,
    fractions: Sequence[float],
    k: int,
    seed: int = 0,
    draws: int = 3,
) -> pd.DataFrame:
    """Tie-aware mAP@k after dropping a fraction of the bits: columns fraction, dropped, map.

    Each query falls in its nearest cluster c, and its distances count only the bits that c keeps. Each
    cluster drops round(fraction K) bits: "most redundant", those of smallest |mu_ck|; "least redundant", of
    largest; "random", any: the mean over `draws` choices. The first four are as in `retrieval.counts`.
    """
    if mu.shape != clusters.centres.shape:
        raise ValueError(f"mu has shape {mu.shape}, the centres {clusters.centres.shape}; must be equal")
    if draws < 1 or not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"need fractions from 0 to 1 and at least one draw, got {list(fractions)}, {draws}")
    member = clusters.assign(query_codes)
    random = np.random.default_rng(seed)
    ascending = np.abs(mu).argsort(axis=1, kind="stable")
    choices = {
        "most redundant": [ascending],
        "least redundant": [ascending[:, ::-1]],
        "random": [random.permuted(ascending, axis=1) for _ in range(draws)],
    }

    def score(order: Array, dropped: int) -> float:
        kept = np.ones(mu.shape, bool)
        np.put_along_axis(kept, order[:, :dropped], False, axis=1)
        mask = words_of(kept)[member]
        table = retrieval.counts(query_codes, database_codes, query_labels, database_labels, mask)
        return retrieval.mean_average_precision(table, k)

    rows = []
    for fraction in fractions:
        dropped = round(fraction * mu.shape[1])
        for name, orders in choices.items():
            rows.append((float(fraction), name, float(np.mean([score(order, dropped) for order in orders]))))
    return pd.DataFrame(rows, columns=["fraction", "dropped", "map"])


# ---- the inner steps --------------------------------------------------------------------------------------


def _k_means(values: Array, clusters: int, seed: int, n_init: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(clusters, init="k-means++", n_init=n_init, random_state=seed).fit(values)


def _assign(values: Array, centres: Array) -> NDArray[np.int64]:
    exact = centres.astype(np.float64)
    nearest: NDArray[np.int64] = ((exact**2).sum(axis=1) - 2 * values @ exact.T).argmin(axis=1)
    return nearest


def _signs(codes: ArrayLike, bits: int) -> NDArray[np.int8]:
    values = signs(codes)
    if values.shape[1] != bits:
        raise ValueError(f"codes have {values.shape[1]} bits, the cluster centres {bits}; they must be equal")
    return values
