"""Figures made of images: augmented views, and what a search finds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from brcd_core.plots.style import GREY, INK, WIDTH, Picture, drawn, grid, headed

Array = NDArray[Any]
WAYS = {"SSHP": "student (SSHP)", "ASHP": "student (ASHP)"}
RIGHT, WRONG = "#117733", "#cc3311"
NAME, QUERY, GAP, TEXT = 1.95, 1.6, 0.12, 0.36  # in sides of a hit: strip's name, query, space, line of text
STEP = 1.06  # from one view to the next, in sides of a view


class Strip(NamedTuple):
    """The hits of one way of searching, for Q queries, nearest first."""

    images: Array  # (Q, n, S, S, 3), uint8 or float in [0, 1]
    distances: Array  # Hamming distances (Q, n)
    right: Array | None  # bool (Q, n); None where images have no labels


@drawn
def view_grid(clean: Array, views: Array, titles: Sequence[str] = ()) -> Picture:
    """Images (n, S, S, 3) in the first column, and beside each its augmented views (n, v, S, S, 3).

    uint8, or float in [0, 1]. `titles`: a name for each row. ValueError where the shapes do not fit.
    """
    if clean.ndim != 4 or views.ndim != 5 or (len(views), *views.shape[2:]) != clean.shape:
        shapes = f"{clean.shape} and {views.shape}"
        raise ValueError(f"need images (n, S, S, 3) and views (n, v, S, S, 3), got {shapes}")
    count, shown = views.shape[:2]
    left, top = (-1.0 if titles else -0.02), -0.35
    across, down = 1.25 + shown * STEP - left, count * STEP - top
    figure = headed(
        "What the networks see in training",
        f"Left the image, then {shown} augmented views: random crop, flip, colour, grey and blur. Views "
        "of one image should get the same code.",
        height=min(1.3, (WIDTH - 0.2) / across) * down,
    )
    axes = _canvas(grid(figure, 1, 1)[0][0])
    for row in range(count):
        if titles:
            axes.text(-0.1, row * STEP + 0.5, titles[row], ha="right", va="center", size=9)
        place_image(axes, clean[row], 0, row * STEP)
        for column in range(shown):
            place_image(axes, views[row, column], 1.25 + column * STEP, row * STEP)
    heads = {0.5: "image"} | {1.75 + column * STEP: f"view {column + 1}" for column in range(shown)}
    for middle, text in heads.items():
        axes.text(middle, -0.06, text, ha="center", va="bottom", size=9, color=GREY)
    axes.set(xlim=(left, left + across), ylim=(top + down, top))
    return figure


@drawn
def search_panel(
    queries: Array,
    names: Sequence[str],
    strips: Mapping[str, Strip | tuple[Array, Array, Array | None]],
    bits: int | None = None,
    about: str = "",
) -> Picture:
    """Query images (Q, S, S, 3) with class names; beside each, one strip of hits for a way of searching.

    `strips`: name -> `Strip`, e.g. teacher, SSHP, ASHP. A hit is framed: green with a tick if it shares a
    class with the query, red with a cross if not, not at all without labels; below it its Hamming distance (of
    `bits`, if given).
    `about`: protocol and records, for the caption (`tables.about`).
    ValueError where the shapes do not fit.
    """
    found = {name: Strip(*strip) for name, strip in strips.items()}
    shown = next(iter(found.values())).distances.shape[1] if found else 0
    for name, strip in found.items():
        marked = strip.distances if strip.right is None else strip.right
        shapes = (strip.images.shape[:2], strip.distances.shape, marked.shape)
        if set(shapes) != {(len(queries), shown)}:
            raise ValueError(f"strip {name!r}: want {(len(queries), shown)} hits, got {shapes}")
    if not shown or len(names) != len(queries):
        raise ValueError(f"need {len(queries)} names, one a query, and at least one strip of hits")
    across = QUERY + NAME + shown * (1 + GAP)
    down = len(found) * (1 + TEXT) + 0.3
    figure = headed(
        "What do teacher and student find?",
        f"Left the query, then its {shown} nearest images of the database, nearest first. {_marks(found)}"
        "The number is the Hamming distance" + (f", of {bits} bits." if bits else "."),
        height=(WIDTH - 0.2) / across * down * len(queries),
        more=f"{_counts(found)}{about}",
    )
    axes = _canvas(grid(figure, 1, 1)[0][0])
    for q, query in enumerate(queries):
        top = q * down
        place_image(axes, query, 0, top, QUERY - 0.1)
        name = textwrap.fill(names[q], 14)
        axes.text((QUERY - 0.1) / 2, top + QUERY, name, ha="center", va="top", size=10, weight="bold")
        for row, (way, strip) in enumerate(found.items()):
            _strip(axes, way, strip, q, top + row * (1 + TEXT))
    axes.set(xlim=(-0.02, across), ylim=(len(queries) * down - 0.3, -0.1))
    return figure


def place_image(axes: Axes, image: Array, left: float, top: float, side: float = 1.0) -> None:
    """Draw an image (S, S, 3) with its upper left corner at (left, top), on axes that run downwards."""
    extent = (left, left + side, top + side, top)
    axes.imshow(image, extent=extent, interpolation="nearest", aspect="equal")


def frame(axes: Axes, right: bool, left: float, top: float) -> None:
    """Frame an image of side 1: green with a tick if it is right, red with a cross if not."""
    colour, tick = (RIGHT, "✓") if right else (WRONG, "✗")
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=2.2))
    axes.add_patch(Rectangle((left + 0.72, top), 0.28, 0.28, facecolor=colour, linewidth=0))
    axes.text(left + 0.86, top + 0.15, tick, color="white", ha="center", va="center", size=8)


def _marks(found: Mapping[str, Strip]) -> str:
    labelled = any(strip.right is not None for strip in found.values())
    return "Green with a tick: a label in common; red with a cross: none. " if labelled else ""


def _counts(found: Mapping[str, Strip]) -> str:
    """How many hits are right, for each way of searching."""
    rights = {WAYS.get(name, name): strip.right for name, strip in found.items() if strip.right is not None}
    shares = [f"{name} {right.sum()} of {right.size}" for name, right in rights.items()]
    return f"Right hits: {', '.join(shares)}. " if shares else ""


def _strip(axes: Axes, way: str, strip: Strip, q: int, top: float) -> None:
    right, shown = None if strip.right is None else strip.right[q].astype(bool), strip.distances.shape[1]
    name = textwrap.fill(WAYS.get(way, way), 14)
    axes.text(QUERY + 0.05, top + 0.45, name, va="bottom", size=9.5, color=INK)
    if right is not None:
        axes.text(QUERY + 0.05, top + 0.55, f"{right.sum()} of {shown} right", va="top", size=8.5, color=GREY)
    for place in range(shown):
        left = QUERY + NAME + place * (1 + GAP)
        place_image(axes, strip.images[q, place], left, top)
        if right is not None:
            frame(axes, bool(right[place]), left, top)
        distance = f"{strip.distances[q, place]:g}"
        axes.text(left + 0.5, top + 1.05, distance, ha="center", va="top", size=8, color=GREY)


def _canvas(axes: Axes) -> Axes:
    axes.set_axis_off()
    axes.set_aspect("equal")
    return axes
