"""Figures made of images: augmented views, and what a search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from brcd_core.plots.style import GREY, INK, WIDTH, drawn, grid, headed

Array = NDArray[Any]
RIGHT, WRONG = "#117733", "#cc3311"
NAME, QUERY, GAP, TEXT = 1.75, 1.6, 0.12, 0.36  # in sides of a hit: strip's name, query, space, line of text


@dataclass(frozen=True, eq=False)
class Strip:
    """The hits of one way to search, for Q queries, nearest first.

    name: e.g. "teacher"; images: (Q, n, S, S, 3) uint8, or float in [0, 1]; right: bool (Q, n);
    distances: Hamming distances (Q, n).
    """

    name: str
    images: Array
    right: Array
    distances: Array


@drawn
def view_grid(clean: Array, views: Array, titles: Sequence[str] = ()) -> Figure:
    """Images (n, S, S, 3) in the first column, and beside each its augmented views (n, v, S, S, 3).

    uint8, or float in [0, 1]. `titles`: a name for each row. ValueError where the shapes do not fit.
    """
    if clean.ndim != 4 or views.ndim != 5 or views.shape[::2] != (len(clean), *clean.shape[1::2]):
        raise ValueError(f"need images (n, S, S, 3) and views (n, v, S, S, 3), got {clean.shape}, {views.shape}")
    count, shown = views.shape[:2]
    side = min(1.3, (WIDTH - 0.8) / (shown + 1.25))
    figure = headed(
        "What the networks see in training",
        f"Left the image, then {shown} augmented views: random crop, flip, colour, grey and blur. Two views of "
        "an image shall get the same code.",
        height=side * 1.06 * count + 0.35,
    )
    axes = _canvas(grid(figure, 1, 1)[0][0])
    for row in range(count):
        if titles:
            axes.text(-0.1, row * 1.06 + 0.5, titles[row], ha="right", va="center", size=9)
        _place(axes, clean[row], 0, row * 1.06)
        for column in range(shown):
            _place(axes, views[row, column], 1.25 + column * 1.06, row * 1.06)
    axes.text(0.5, -0.08, "image", ha="center", va="bottom", size=9, color=GREY)
    for column in range(shown):
        axes.text(1.75 + column * 1.06, -0.08, f"view {column + 1}", ha="center", va="bottom", size=9, color=GREY)
    axes.set(xlim=(-1.0 if titles else 0, 1.25 + shown * 1.06), ylim=(count * 1.06, -0.3))
    return figure


@drawn
def search_panel(queries: Array, names: Sequence[str], strips: Sequence[Strip], bits: int) -> Figure:
    """Query images (Q, S, S, 3) with their class names, and beside each one strip of hits a way to search.

    A hit is framed: green with a tick if it shares the query's class, red with a cross if not; below it
    its Hamming distance. ValueError where the shapes do not fit.
    """
    shown = strips[0].right.shape[1] if strips else 0
    for strip in strips:
        shapes = (strip.images.shape[:2], strip.right.shape, strip.distances.shape)
        if set(shapes) != {(len(queries), shown)}:
            raise ValueError(f"strip {strip.name!r}: want {len(queries)} queries with {shown} hits, got {shapes}")
    if not shown or len(names) != len(queries):
        raise ValueError(f"need a name for each of the {len(queries)} queries, and at least one strip of hits")
    across = QUERY + NAME + shown * (1 + GAP)
    down = len(strips) * (1 + TEXT) + 0.3
    figure = headed(
        "What do teacher and student find?",
        f"Left the query, then its {shown} nearest images of the database, nearest first. Green with a tick: the right "
        f"class; red with a cross: another one. The number is the Hamming distance, of {bits} bits.",
        height=(WIDTH - 0.2) / across * down * len(queries),
    )
    axes = _canvas(grid(figure, 1, 1)[0][0])
    for q, query in enumerate(queries):
        top = q * down
        _place(axes, query, 0, top, QUERY - 0.1)
        axes.text((QUERY - 0.1) / 2, top + QUERY, names[q], ha="center", va="top", size=10, weight="bold")
        for row, strip in enumerate(strips):
            _strip(axes, strip, q, top + row * (1 + TEXT))
    axes.set(xlim=(-0.02, across), ylim=(len(queries) * down - 0.3, -0.1))
    return figure


def _strip(axes: Axes, strip: Strip, q: int, top: float) -> None:
    right, shown = strip.right[q].astype(bool), strip.right.shape[1]
    axes.text(QUERY + 0.05, top + 0.45, strip.name, va="bottom", size=9.5, color=INK)
    axes.text(QUERY + 0.05, top + 0.55, f"{right.sum()} of {shown} right", va="top", size=8.5, color=GREY)
    for place in range(shown):
        left, colour = QUERY + NAME + place * (1 + GAP), RIGHT if right[place] else WRONG
        _place(axes, strip.images[q, place], left, top)
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=2.2))
        axes.add_patch(Rectangle((left + 0.72, top), 0.28, 0.28, facecolor=colour, linewidth=0))
        tick = "✓" if right[place] else "✗"
        axes.text(left + 0.86, top + 0.15, tick, color="white", ha="center", va="center", size=8, weight="bold")
        distance = f"{strip.distances[q, place]:g}"
        axes.text(left + 0.5, top + 1.03, distance, ha="center", va="top", size=8, color=GREY)


def _canvas(axes: Axes) -> Axes:
    axes.set_axis_off()
    axes.set_aspect("equal")
    return axes


def _place(axes: Axes, image: Array, left: float, top: float, side: float = 1.0) -> None:
    axes.imshow(image, extent=(left, left + side, top + side, top), interpolation="nearest", aspect="equal")
