"""The clusters of a teacher's codes: how many there are, and what is in them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from brcd_core.plots.style import GREY, INK, MARKS, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about
from brcd_core.tables.scores import NoRecords

ANNOTATED = 12  # classes up to which a heat map has its numbers written in


@drawn
def cluster_choice(record: Record) -> Picture:
    """Inertia, silhouette and purity over the number of clusters; the study's choice marked."""
    analysis = record["analysis"]
    scan = sorted(analysis["over_clusters"], key=lambda line: line["clusters"])
    counts = [line["clusters"] for line in scan]
    figure = headed(
        "How many clusters do the teacher's codes have?",
        f"k-means on {whose(record)}. A bend of the inertia and a high silhouette speak for a number; "
        "purity, which needs the true classes, is shown for comparison only. Dashed: the study's choice, "
        f"{analysis['clusters']} clusters.",
        height=2.6,
        more=about([record]),
    )
    titles = {
        "inertia": ("Inertia", "squared distance to centres"),
        "silhouette": ("Silhouette", "mean silhouette"),
        "purity": ("Purity", "share in main class"),
    }
    # Without labels there is no purity.
    titles = {name: words for name, words in titles.items() if any(line.get(name) is not None for line in scan)}
    for axes, (name, (title, label)) in zip(grid(figure, 1, len(titles))[0], titles.items(), strict=True):
        values = [np.nan if line.get(name) is None else line[name] for line in scan]
        axes.plot(counts, values, color=MARKS["SSHP"].colour, marker="o", markersize=4.5, linewidth=1.5)
        axes.axvline(analysis["clusters"], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        axes.set(title=title, xlabel="clusters", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        if name == "inertia":
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


@drawn
def clusters_against_classes(record: Record) -> Picture:
    """Heat map: the share of each class in each cluster. Clusters are listed by their main class.

    NoRecords where the images have no labels.
    """
    analysis = record["analysis"]
    if not analysis["classes"]:
        raise NoRecords("no record of classes: the images have no labels")
    sizes, classes = np.array(analysis["sizes"]), analysis["classes"]
    order = by_main_class(record)
    share = np.array(analysis["class_counts"])[order] / np.maximum(sizes[order], 1)[:, None]
    figure = headed(
        "Do the clusters of the teacher's codes match the classes?",
        f"Share of a cluster's images that belong to each class; {whose(record)}. One dark cell in a row: "
        f"the cluster is one class. Purity {record['metrics']['purity']:.3f}: the share of all images "
        "that are of their cluster's main class. The clustering never sees the classes.",
        height=1.0 + 0.32 * len(order),
        more=about([record]),
    )
    axes = grid(figure, 1, 1)[0][0]
    mesh = axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    turned = 0 if len(classes) <= ANNOTATED else 90
    axes.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=turned, size=9)
    names = [f"{cluster}  ({sizes[cluster]:,})" for cluster in order]
    axes.set_yticks(np.arange(len(order)) + 0.5, names)
    axes.set(xlabel="class", ylabel="cluster (images)")
    bare(axes)
    if len(classes) <= ANNOTATED:
        for row, column in np.argwhere(share >= 0.005):
            colour = "white" if share[row, column] > 0.55 else INK
            text = axes.text(column + 0.5, row + 0.5, f"{share[row, column]:.0%}", color=colour, size=8.5)
            text.set(ha="center", va="center")
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30, format=PercentFormatter(1))
    bar.set_label("share of the cluster")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def whose(record: Record) -> str:
    """Whose codes a figure shows."""
    run, images = record["run"], sum(record["analysis"]["sizes"])
    codes = f"the {run['bits']}-bit codes of {images:,} training images"
    return f"{codes}, teacher {run['teacher']}, seed {run['seed']}"


def by_main_class(record: Record) -> np.ndarray:
    """Clusters in the order of their most frequent class, the purer of two first; as they are without labels."""
    counts = np.array(record["analysis"]["class_counts"])
    if not counts.size:
        return np.arange(len(counts))
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return np.lexsort((-share, counts.argmax(axis=1)))


def bare(axes: Axes) -> None:
    """A heat map needs no frame, no grid and no ticks; its first row is above."""
    axes.grid(False)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelcolor=GREY)
    axes.spines[:].set_visible(False)
