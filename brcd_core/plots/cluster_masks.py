"""One cluster at a time: the bits that its mask leaves out, its images, and what the mask does to a search.

Images are uint8 (n, S, S, 3), or float in [0, 1]. A name such as "cluster 3 (cat)" stands in titles and explanations.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from brcd_core.plots.images import frame, place_image
from brcd_core.plots.style import GREY, INK, MARKS, PALE, WIDTH, Picture, headed, style

Array = NDArray[Any]
NUMBERED = 64  # bits up to which an axis names each of them
SIDE = 1.08  # from one image to the next, in sides of an image
LABEL, BELOW = 1.75, 0.34  # a row's name, and the line of text below an image, likewise
QUERY = 1.7  # the query's image and the space beside it, likewise
SHORT = 11  # letters of a class name that fit below an image


class Neighbours(NamedTuple):
    """The nearest database images of one query, nearest first, and how good its whole ranking is."""

    images: Array
    distances: Array  # (n,)
    right: Array | None  # bool (n,): a label in common; None where images have no labels
    within: int  # database images that are as near as the last of these, or nearer
    score: float | None  # AP of the query; None without labels


@style()
def cluster_mask(name: str, means: Array, overall: Array, margin: float, whose: str, about: str = "") -> Picture:
    """Means of the bits in one cluster (K,), sorted by strength; those within the margin hatched.

    `overall`: their means over all images (K,). `whose`: the codes, in words. ValueError where the shapes differ.
    """
    if means.shape != overall.shape or means.ndim != 1:
        raise ValueError(f"need the means of K bits twice, got {means.shape} and {overall.shape}")
    order = np.argsort(-np.abs(means), kind="stable")
    means, overall, places = means[order], overall[order], np.arange(len(order))
    kept = np.abs(means) > margin
    figure = headed(
        f"Which bits does {name} leave out?",
        f"Mean of each bit over the images of {name}, the most decided bits first. Blue: the {kept.sum()} of "
        f"{len(means)} bits that the mask keeps. Hatched, no further from 0 than the margin of {margin:g}: the "
        f"{(~kept).sum()} redundant ones, which it leaves out. Dots: the mean over all images, near 0 for a balanced "
        f"bit. {whose}.",
        height=2.35,
        more=about,
    )
    axes = _panel(figure, left=0.65, below=0.5, height=2.3)
    axes.axhspan(-margin, margin, color=PALE, alpha=0.35, linewidth=0, zorder=0)
    axes.bar(places[kept], means[kept], width=0.8, color=MARKS["SSHP"].colour, linewidth=0)
    axes.bar(places[~kept], means[~kept], width=0.8, facecolor="white", edgecolor=GREY, hatch="//////", linewidth=0.6)
    axes.plot(places, overall, linestyle="", marker="o", markersize=3.4, color=INK, markeredgecolor="white")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-0.8, len(means) - 0.2), ylim=(-1.04, 1.04), ylabel="mean of the bit")
    lower = 0.14 if len(means) > NUMBERED / 2 else 0  # two lines of numbers, where one has no room
    axes.set_xlabel("bit, by its place in the code", labelpad=22 if len(means) <= NUMBERED else 4)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[5]))
    axes.set_xticks([])
    for place, bit in enumerate(order if len(means) <= NUMBERED else []):  # ticks would take half of the time
        axes.text(place, -1.08 - lower * (place % 2), str(bit), ha="center", va="top", size=7.5, color=GREY)
    return figure


@style()
def cluster_images(
    name: str, rows: Mapping[str, tuple[Array, Sequence[str], Sequence[bool]]], note: str, about: str = ""
) -> Picture:
    """Images of a cluster, one row a title, the names of its classes below each, in bold where it is another than most.

    `rows`: title -> images, names, and whether it is another. `note`: what is in the cluster, in words. ValueError for
    a row whose names are not as many as its images.
    """
    for title, (images, names, other) in rows.items():
        if not len(images) or {len(names), len(other)} != {len(images)}:
            raise ValueError(f"row {title!r}: need one name an image, got {len(images)}, {len(names)} and {len(other)}")
    longest = max(len(names) for _, names, _ in rows.values())
    across, down = LABEL + longest * SIDE, 1 + BELOW
    height = down * len(rows)
    figure = headed(f"What is in {name}?", note, height=(WIDTH - 0.2) / across * height + 0.05, more=about)
    axes = _canvas(figure, across, height)
    for row, (title, (images, names, other)) in enumerate(rows.items()):
        axes.text(0, row * down + 0.5, textwrap.fill(title, 14), va="center", size=9.5)
        for column in range(len(images)):
            left = LABEL + column * SIDE
            place_image(axes, images[column], left, row * down)
            short = textwrap.shorten(names[column], SHORT, placeholder="…") or names[column][:SHORT]
            text = axes.text(left + 0.5, row * down + 1.04, short, ha="center", va="top", size=7.5)
            text.set(weight="bold" if other[column] else "normal", color=INK if other[column] else GREY)
    return figure


@style()
def masked_neighbours(
    name: str, query: Array, query_name: str, strips: Mapping[str, Neighbours], cut: int, note: str, about: str = ""
) -> Picture:
    """A query image (S, S, 3) and its nearest database images, one strip a choice of bits.

    A hit is framed: green with a tick if it has a label in common with the query, red with a cross if not, not at all
    without labels; below it its Hamming distance. `cut`: the k of AP@k. `note`: what the mask does to the cluster's
    queries, in words.
    """
    shown = max(len(strip.distances) for strip in strips.values())
    across, down = QUERY + LABEL + shown * SIDE, 1 + BELOW
    height = max(down * len(strips), QUERY + BELOW)
    labelled = any(strip.right is not None for strip in strips.values())
    figure = headed(
        "What does the mask do to a query's neighbours?",
        f"Left a query image that falls into {name}, then its {shown} nearest images of the database and their Hamming "
        "distances over the bits that count. "
        + ("Green with a tick: a label in common; red with a cross: none. " if labelled else "")
        + "Fewer bits make more ties, so beside the images it says how many there are within the distance of the last. "
        + note,
        height=(WIDTH - 0.2) / across * height + 0.05,
        more=about,
    )
    axes = _canvas(figure, across, height)
    place_image(axes, query, 0, 0, QUERY - 0.15)
    shown_name = textwrap.fill(textwrap.shorten(query_name, 36, placeholder="…"), 12)
    axes.text((QUERY - 0.15) / 2, QUERY - 0.08, shown_name, ha="center", va="top", size=10, weight="bold")
    for row, (title, strip) in enumerate(strips.items()):
        top, last = row * down, int(strip.distances[-1])
        lines = [f"{strip.within:,} within {last} {'bit' if last == 1 else 'bits'}"]
        if strip.right is not None:
            lines.insert(0, f"{strip.right.sum()} of {len(strip.right)} right")
        if strip.score is not None:
            lines.append(f"AP@{cut} {strip.score:.3f}")
        axes.text(QUERY, top + 0.02, title, va="top", size=9.5, weight="bold")
        axes.text(QUERY, top + 0.3, "\n".join(lines), va="top", size=8.5, color=GREY, linespacing=1.3)
        for place in range(len(strip.distances)):
            left = QUERY + LABEL + place * SIDE
            place_image(axes, strip.images[place], left, top)
            if strip.right is not None:
                frame(axes, bool(strip.right[place]), left, top)
            axes.text(left + 0.5, top + 1.05, str(strip.distances[place]), ha="center", va="top", size=8, color=GREY)
    return figure


def _canvas(figure: Picture, across: float, down: float) -> Axes:
    """Axes without a frame, in sides of an image, from the top left."""
    width = (WIDTH - 0.2) / figure.get_figwidth()
    height = (WIDTH - 0.2) / across * down / figure.get_figheight()
    figure.set_layout_engine("none")  # its search for a layout takes longer than the drawing
    axes = figure.add_axes((0.1 / WIDTH, 0.03 / figure.get_figheight(), width, height))
    axes.set_axis_off()
    axes.set(autoscale_on=False, xlim=(0, across), ylim=(down, 0))
    return axes


def _panel(figure: Picture, left: float, below: float, height: float) -> Axes:
    """Axes with a frame: inches left of them and below, and their height with what is below."""
    wide, high = figure.get_figwidth(), figure.get_figheight()
    figure.set_layout_engine("none")
    return figure.add_axes((left / wide, below / high, (wide - left - 0.1) / wide, (height - below) / high))
