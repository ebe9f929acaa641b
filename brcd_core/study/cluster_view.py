"""One cluster of a teacher's codes: its bits, its images, and what its mask does to the search of its queries.

The view of a choice (code length, cluster, margin, query) is three figures. A choice of code length is a `Clustered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brcd_core import bits, retrieval
from brcd_core.bits import Clusters
from brcd_core.codes import hamming, pack, words_of
from brcd_core.datasets import Dataset
from brcd_core.distillation import brcd
from brcd_core.plots import Picture
from brcd_core.plots.cluster_masks import Neighbours, cluster_images, cluster_mask, masked_neighbours
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import Report
from brcd_core.study.runs import RedundancyRun
from brcd_core.study.search import Hits, class_names, hits_of
from brcd_core.study.teacher import teacher
from brcd_core.tables import about

Array = NDArray[Any]
SHOWN = 10  # images in a row
NAMED = 4  # classes of a cluster that are named


@dataclass(frozen=True, eq=False)
class Clustered:
    """A teacher's codes in {-1, +1} of the splits train, query and database, and the clusters of the first.

    codes, ids: split -> (N, K), and the images of the dataset that they are of (N,). margin: the study's. cut: the k of
    AP@k. whose, about: for the figures.
    """

    dataset: Dataset
    ids: Mapping[str, Array]
    codes: Mapping[str, Array]
    found: Clusters
    margin: float = 0.5
    cut: int = 1000
    whose: str = ""
    about: str = ""

    @cached_property
    def means(self) -> Array:
        """Mean of each bit in each cluster (C, K)."""
        return bits.bit_means(self.codes["train"], self.found.assignment, len(self.found.centres))

    @cached_property
    def overall(self) -> Array:
        """Mean of each bit over all training images (K,)."""
        return bits.bit_balance(self.codes["train"])

    @cached_property
    def member(self) -> Array:
        """The cluster that each query falls into (Q,)."""
        return self.found.assign(self.codes["query"])

    @cached_property
    def packed(self) -> dict[str, Array]:
        """Codes of query and database, packed."""
        return {split: pack(self.codes[split]) for split in ("query", "database")}

    def labels(self, split: str) -> Array:
        """bool (N, L); L is 0 without labels."""
        return self.dataset.labels[self.ids[split]]

    def kept(self, cluster: int, margin: float) -> Array:
        """The bits that the cluster's mask keeps, bool (K,)."""
        kept: Array = bits.bit_mask(self.means, margin)[cluster]
        return kept

    def queries(self, cluster: int) -> Array:
        """The queries that fall into the cluster, in their order."""
        return np.flatnonzero(self.member == cluster)

    def sizes(self) -> list[int]:
        """Training images in each cluster."""
        return np.bincount(self.found.assignment, minlength=len(self.found.centres)).tolist()

    def most_asked(self) -> int:
        """The cluster that most queries fall into."""
        return int(np.bincount(self.member).argmax())

    def by_distance(self, cluster: int) -> Array:
        """The cluster's training images, those whose codes are nearest to its centre first; ties by position."""
        own = np.flatnonzero(self.found.assignment == cluster)
        away = np.square(self.codes["train"][own] - self.found.centres[cluster]).sum(axis=1)
        return own[np.argsort(away, kind="stable")]

    def neighbours(self, query: int, kept: Array, shown: int = SHOWN) -> Hits:
        """The first database images for one query, by the bits that are kept alone."""
        mask = words_of(kept[None])
        return hits_of(
            self.packed["query"][[query]] & mask, self.packed["database"] & mask, shown,
            self.labels("query")[[query]], self.labels("database"),
        )  # fmt: skip

    def within(self, query: int, kept: Array, distance: int) -> int:
        """How many database images differ from a query in so many bits or fewer, of those that are kept."""
        mask = words_of(kept[None])
        return int((hamming(self.packed["query"][[query]] & mask, self.packed["database"] & mask) <= distance).sum())

    def scores(self, cluster: int, kept: Array) -> Array:
        """Tie-aware AP of each of the cluster's queries, by the bits that are kept alone; empty without labels."""
        own = self.queries(cluster)
        if not len(own) or not self.dataset.classes:
            return np.zeros(0)
        counts = retrieval.counts(
            self.codes["query"][own], self.codes["database"], self.labels("query")[own], self.labels("database"),
            np.repeat(words_of(kept[None]), len(own), axis=0),
        )  # fmt: skip
        return retrieval.average_precision(counts, self.cut)

    def shares(self, cluster: int) -> list[tuple[str, float]]:
        """The classes of the cluster's training images and their shares, the most frequent first."""
        shares = self.labels("train")[self.found.assignment == cluster].mean(axis=0)
        order = np.argsort(-shares, kind="stable")
        return [(self.dataset.classes[place], float(shares[place])) for place in order if shares[place]]

    def name(self, cluster: int) -> str:
        """The cluster's number, and its main class where there are labels."""
        shares = self.shares(cluster)
        return f"cluster {cluster}" + (f" ({shares[0][0]})" if shares else "")


def clustered(run: RedundancyRun, report: Report = print) -> Clustered:
    """The codes of a run's teacher, which is trained now if it is not there, in the clusters that BRCD's loss uses."""
    settings = run.settings
    inputs = load_inputs(settings, {"teacher": run.teacher})
    trained = teacher(run.teacher_run(), report)
    splits = ("train", "query", "database")
    codes = dict(zip(splits, inputs.codes(trained.head, "teacher", *splits), strict=True))
    chosen = settings.distillation_settings()
    if not isinstance(chosen, brcd.Settings):
        chosen = brcd.Settings()  # as the analysis of bits does
    report(f"{run.bits} bits: {chosen.n_clusters} clusters of {len(codes['train'])} codes")
    return Clustered(
        inputs.dataset, inputs.ids, codes, bits.cluster(codes["train"], chosen.n_clusters, seed=run.seed),
        chosen.margin, settings.evaluation.k, f"{run.bits}-bit codes, teacher {run.teacher}, seed {run.seed}",
        about([trained.record]),
    )  # fmt: skip


def lengths(run: RedundancyRun) -> list[int]:
    """The code lengths that the profile has of a run's teacher, and the run's own."""
    listed = {bits for block in run.study.runs if run.teacher in block.teachers for bits in block.bits}
    return sorted({*listed, run.bits})


# ---- the three figures ------------------------------------------------------------------------------------


def mask_figure(view: Clustered, cluster: int, margin: float) -> Picture:
    """The bits that the cluster's mask keeps and leaves out."""
    return cluster_mask(view.name(cluster), view.means[cluster], view.overall, margin, view.whose, view.about)


def images_figure(view: Clustered, cluster: int) -> Picture:
    """The cluster's most and least typical images, each once."""
    order, shares, train = view.by_distance(cluster), view.shares(cluster), view.labels("train")
    said = ", ".join(f"{share:.0%} {name}" for name, share in shares[:NAMED])
    note = f"{len(order):,} of {len(train):,} training images" + (f": {said}" if said else "")
    note += ", and others" if len(shares) > NAMED else ""
    note += ". Above those whose codes are nearest to the cluster's centre, below the furthest."
    note += f" Bold: not {shares[0][0]}." if shares else ""
    main = view.dataset.classes.index(shares[0][0]) if shares else 0
    rows = {}
    for title, chosen in {"nearest to the centre": order[:SHOWN], "furthest": order[SHOWN:][::-1][:SHOWN]}.items():
        if not len(chosen):
            continue
        names = [class_names(view.dataset, row) for row in train[chosen]]
        other = [bool(shares) and not row[main] for row in train[chosen]]
        rows[title] = (view.dataset.pixels[view.ids["train"][chosen]], names, other)
    return cluster_images(view.name(cluster), rows, note, view.about)


def neighbours_figure(view: Clustered, cluster: int, margin: float, place: int = 0) -> Picture:
    """What the mask does to a query: the one at `place` of those that fall into the cluster. IndexError beyond them."""
    own, kept = view.queries(cluster), view.kept(cluster, margin)
    query, strips, means = own[place], {}, []
    for title, mask in {f"all {len(kept)} bits": np.ones_like(kept), f"the {kept.sum()} kept": kept}.items():
        found, scores = view.neighbours(query, mask), view.scores(cluster, mask)
        strips[title] = Neighbours(
            view.dataset.pixels[view.ids["database"][found.positions[0]]],
            found.distances[0],
            None if found.right is None else found.right[0],
            view.within(query, mask, found.distances[0, -1]),
            float(scores[place]) if len(scores) else None,
        )
        means += [scores.mean()] if len(scores) else []
    note = (
        f"mAP@{view.cut} of all {len(own)} queries that fall into the cluster: {means[0]:.3f} with all bits, "
        f"{means[1]:.3f} with those that the mask keeps."
    ) if means else ""  # fmt: skip
    pixels = view.dataset.pixels[view.ids["query"][query]]
    names = class_names(view.dataset, view.labels("query")[query])
    return masked_neighbours(view.name(cluster), pixels, names, strips, view.cut, note, view.about)


def first_figures(view: Clustered) -> list[Picture]:
    """The view to begin with: the cluster that most queries fall into, the study's margin, the first of its queries."""
    cluster = view.most_asked()
    return [
        mask_figure(view, cluster, view.margin),
        images_figure(view, cluster),
        neighbours_figure(view, cluster, view.margin),
    ]
