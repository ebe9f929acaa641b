"""Maps of codes in two dimensions: do images of a class lie together?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.spatial import KDTree

from brcd_core.plots.scores import ROWS
from brcd_core.plots.style import GREY, PALE, Picture, drawn, grid, headed

Array = NDArray[Any]
COLUMNS = 3
SIDE = 2.9  # inches of a panel
TITLE = 30  # letters of a line of its title
NAMED = 20  # classes up to which a legend names the colours
NO_CLASS = "none, or several"


@drawn
def code_map(panels: Mapping[str, tuple[Array, Array]], classes: Sequence[str], about: str = "") -> Picture:
    """Points of two dimensions, e.g. t-SNE of codes, one panel a title, coloured by class.

    `panels`: title -> coordinates (N, 2) and class numbers (N,), -1 for an image of no class or of several.
    `about`: protocol and records, for the caption (`tables.about`). ValueError where the shapes do not fit, for
    a class number without a name, and for no panel or more than nine.
    """
    if not 0 < len(panels) <= ROWS * COLUMNS:
        raise ValueError(f"need one to {ROWS * COLUMNS} panels, got {len(panels)}")
    for title, (places, numbers) in panels.items():
        if places.shape != (len(numbers), 2) or len(numbers) < 2:
            raise ValueError(f"panel {title!r}: need coordinates (N, 2) and N classes, got {places.shape}")
        if numbers.min() < -1 or numbers.max() >= len(classes):
            raise ValueError(f"panel {title!r}: classes go from {numbers.min()} to {numbers.max()}, not -1 to "
                             f"{len(classes) - 1}")  # fmt: skip
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    most = max(len(numbers) for _, numbers in panels.values())
    shares = {title: _together(*panel) for title, panel in panels.items()}
    said = ", ".join(f"{title} {share:.0%}" for title, share in shares.items())
    figure = headed(
        "Do codes of a class lie together?",
        f"Each of the {most:,} points is an image; near points have codes with few differing bits (t-SNE: distances "
        "between far groups mean nothing). Per cent: how many points have a nearest neighbour in the map of their own "
        "class.",
        height=SIDE * rows + 0.3 + (0.22 * -(-len(classes) // 5) if len(classes) <= NAMED else 0),
        more=f"{said}. {about}".strip(),
    )
    colours = dict(enumerate(sns.color_palette("tab10" if len(classes) <= 10 else "husl", len(classes))))
    colours[-1] = sns.color_palette([PALE])[0]
    flat = [axes for row in grid(figure, rows, columns) for axes in row]
    for axes, (title, (places, numbers)) in zip(flat, panels.items(), strict=False):
        # Drawn in the order of the images, so that no class covers the others; but those of no class below.
        order = np.argsort(numbers >= 0, kind="stable")
        shown = [colours[int(number)] for number in numbers[order]]
        axes.scatter(places[order, 0], places[order, 1], s=5, c=shown, linewidths=0, rasterized=True)
        axes.set_title(textwrap.fill(f"{title} ({shares[title]:.0%})", TITLE))
    for axes in flat:
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
    names = dict(enumerate(classes)) if len(classes) <= NAMED else {}
    if any((numbers < 0).any() for _, numbers in panels.values()):
        names[-1] = NO_CLASS
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=6, color=colours[number], label=name)
        for number, name in names.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), labelcolor=GREY)
    return figure


def _together(places: Array, numbers: Array) -> float:
    """The share of the points with a class whose nearest other point has the same one."""
    _, nearest = KDTree(places).query(places, k=2)
    # Points at the same place may come in either order: the neighbour is the one that is not the point itself.
    itself = nearest[:, 0] == np.arange(len(places))
    neighbour = np.where(itself, nearest[:, 1], nearest[:, 0])
    known = numbers >= 0
    return float((numbers[neighbour] == numbers)[known].mean()) if known.any() else 0.0
