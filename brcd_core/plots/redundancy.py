"""The bits of a teacher's codes: which ones decide a cluster, which say nothing, and what dropping costs."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import PercentFormatter
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from brcd_core.plots.clusters import bare, by_main_class, whose
from brcd_core.plots.style import GREY, INK, MARKS, PALE, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about, cut
from brcd_core.tables.scores import NoRecords

DROPPED = {  # colour, marker, dashes
    "most redundant": ("#009e73", "o", "-"),
    "random": (GREY, "s", (0, (5, 2))),
    "least redundant": ("#cc79a7", "^", "-"),
}


@drawn
def bit_means(record: Record) -> Picture:
    """Heat maps of mu: clusters x bits, all of them, and again with the cells within the margin hatched.

    Bits are ordered by hierarchical clustering, so that alike ones stand together; clusters by main class.
    """
    analysis, order = record["analysis"], by_main_class(record)
    means, margin = np.array(analysis["means"])[order], analysis["margin"]
    means = means[:, alike(means)]
    counts = analysis["class_counts"]
    main = [f" {analysis['classes'][int(np.argmax(own))]}" if len(own) else "" for own in counts]
    names = [f"{cluster}{main[cluster]}" for cluster in order]
    masked = np.abs(means) <= margin
    named = "Beside its number its most frequent class, which the method does not see. " if any(main) else ""
    count, bits = means.shape
    figure = headed(
        "Which bits mean something in which cluster?",
        f"Mean of each bit in each cluster; {whose(record)}. {named}Above: strong colour, the cluster's images "
        f"agree on the bit; pale, they do not. Below: what a margin of {margin:g} leaves. The hatched "
        f"cells, {masked.mean():.0%} of all, are redundant in their cluster and masked. Alike bits stand "
        "together.",
        height=1.3 + 0.38 * count,
        more=about([record]),
    )
    panels = [row[0] for row in grid(figure, 2, 1, sharex=True)]
    for axes, values in zip(panels, (means, np.ma.masked_array(means, masked)), strict=True):
        mesh = axes.pcolormesh(values, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white", linewidth=0.3)
        axes.set_yticks(np.arange(count) + 0.5, names)
        axes.set_ylabel("cluster")
        bare(axes)
    panels[0].set_title("Mean of the bit")
    panels[1].set_title(f"Bits that a cluster keeps, of {bits}")
    panels[1].set(xlabel="bit (alike ones together)", xticks=[])
    # Masked cells are not drawn: the hatched ground shows through.
    panels[1].patch.set(facecolor=PALE, hatch="//////", edgecolor="white")
    for row, kept in enumerate((~masked).sum(axis=1)):
        panels[1].text(bits * 1.008, row + 0.5, str(kept), va="center", size=8.5, color=GREY)
    bar = figure.colorbar(mesh, ax=panels, pad=0.03, aspect=40, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label("mean of the bit in the cluster")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@drawn
def redundancy_over_margin(record: Record) -> Picture:
    """The share of redundant bits over the margin, the study's margin marked with its share."""
    analysis = record["analysis"]
    lines = sorted(analysis["over_margin"], key=lambda line: line["margin"])
    margin, share = analysis["margin"], record["metrics"]["redundant_share"]
    figure = headed(
        f"With a margin of {margin:g}, {share:.0%} of the bits count as redundant",
        "A bit is redundant in a cluster when its mean there is no further from 0 than the margin. Mean "
        f"over all clusters; {whose(record)}.",
        height=3.0,
        more=about([record]),
    )
    axes = grid(figure, 1, 1)[0][0]
    axes.plot(
        [line["margin"] for line in lines], [line["redundant_share"] for line in lines],
        color=MARKS["SSHP"].colour, marker="o", markersize=5, linewidth=1.6,
    )  # fmt: skip
    axes.axvline(margin, color=INK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    axes.annotate(
        f"the study's margin: {share:.1%} redundant", (margin, share), xytext=(10, -14),
        textcoords="offset points", color=INK, size=9.5,
    )  # fmt: skip
    axes.set(xlabel="margin on |mean of the bit in the cluster|", ylabel="redundant bits")
    axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


@drawn
def bit_health(record: Record) -> Picture:
    """Balance of each bit, sorted, and the correlation of every two bits."""
    analysis = record["analysis"]
    balance, correlation = np.sort(analysis["balance"]), np.array(analysis["correlation"])
    bits = len(balance)
    order = alike(correlation)
    correlation = correlation[np.ix_(order, order)]
    off = correlation[~np.eye(bits, dtype=bool)]
    figure = headed(
        "Are the bits balanced and independent?",
        "Over all images a good bit is +1 as often as -1 (mean 0) and is not correlated with any other. "
        f"Mean |mean| {np.abs(balance).mean():.3f}, mean |correlation| {np.abs(off).mean():.3f}, largest "
        f"{np.abs(off).max():.2f}; {whose(record)}.",
        height=3.9,
        more=about([record]),
    )
    left, right = grid(figure, 1, 2, gridspec_kw={"width_ratios": [1, 1]})[0]
    left.bar(np.arange(1, bits + 1), balance, width=0.8, color=MARKS["SSHP"].colour, linewidth=0)
    left.axhline(0, color=INK, linewidth=0.8)
    left.set(title="Balance", xlabel="bit, sorted", ylabel="mean of the bit over all images", ylim=(-1, 1))
    left.set_xlim(0, bits + 1)
    left.grid(False, axis="x")
    limit = max(0.1, float(np.ceil(np.abs(off).max() * 10) / 10))
    shown = np.ma.masked_array(correlation, np.eye(bits, dtype=bool))
    mesh = right.pcolormesh(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
    right.patch.set_facecolor(PALE)
    right.set(title="Correlation", xlabel="bit (alike ones together)", xticks=[], yticks=[], aspect="equal")
    bare(right)
    bar = figure.colorbar(mesh, ax=right, pad=0.02, aspect=30)
    bar.set_label("correlation of two bits")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@drawn
def dropping_bits(record: Record) -> Picture:
    """mAP@k of the teacher's codes against the share of bits dropped: most redundant, least, or random.

    NoRecords where the images have no labels.
    """
    if not record["analysis"]["dropping"]:
        raise NoRecords("no record of dropped bits: the images have no labels")
    lines = sorted(record["analysis"]["dropping"], key=lambda line: line["fraction"])
    figure = headed(
        "What does it cost to drop bits?",
        "Each query leaves out a share of its bits: those that its cluster decides least (the most "
        "redundant), those that it decides most (the least redundant), or random ones. If redundant bits carry "
        "no meaning, dropping the most redundant first costs least. Teacher with its own codes; clusters "
        f"from {whose(record)}.",
        height=3.4,
        more=about([record]),
    )
    axes = grid(figure, 1, 1)[0][0]
    for name, (colour, marker, dashes) in DROPPED.items():
        own = [line for line in lines if line["dropped"] == name]
        axes.plot(
            [line["fraction"] for line in own], [line["map"] for line in own], label=name,
            color=colour, marker=marker, markersize=5, linestyle=dashes, linewidth=1.6,
        )  # fmt: skip
    axes.set(xlabel="bits dropped", ylabel=f"mAP@{cut([record])}")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", title="dropped first", alignment="left")
    return figure


def alike(columns: np.ndarray) -> np.ndarray:
    """An order of the columns in which neighbours are alike: leaves of an average-linkage tree."""
    if columns.shape[1] < 3:
        return np.arange(columns.shape[1])
    distances = pdist(columns.T)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances)))
