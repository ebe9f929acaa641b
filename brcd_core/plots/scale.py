"""How long a query waits as the database grows, and what of it is its encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.style import GREY, INK, PALE, Picture, drawn, grid, headed
from brcd_core.tables.scale_table import BITS, Measured, finding, search_seconds, told

COLOURS = {"nearest": "#0072b2", "faiss": "#d55e00"}
NAMES = {"nearest": "search by this repository (nearest)", "faiss": "search by FAISS (IndexBinaryFlat)"}
DASHED = (0, (5, 3))
POINTS = 200
APART = 1.5  # times, so that labels do not overlap


@drawn
def scale_figure(measured: Measured, databases: Sequence[int], wait: float) -> Picture:
    """Milliseconds of one exhaustive search over the number of codes, beside those of encoding the query.

    Dots were measured; lines beyond the largest are dashed. wait: seconds that a query may take in all.
    """
    figure = headed(
        "Up to which size is an exhaustive search sensible?",
        f"One query, {BITS} bits, searched on one core. Dots: measured; solid: between them; dashed: extrapolated in "
        "proportion. Horizontal lines: encoding the query, on two threads.",
        height=4.2,
        more=finding(measured, databases, wait),
    )
    ((axes,),) = grid(figure, 1, 1)
    for way, times in measured.searches.items():
        least, largest = min(times), max(times)
        for ends, line in (((least, largest), "-"), ((largest, max(*databases, largest)), DASHED)):
            sizes = np.geomspace(*ends, POINTS)
            found = [1000 * search_seconds(times, items) for items in sizes]
            axes.plot(sizes, found, color=COLOURS[way], linestyle=line, linewidth=1.6)
        axes.plot(list(times), [1000 * one for one in times.values()], "o", color=COLOURS[way], markersize=6)
    _levels(axes, measured, min(min(times) for times in measured.searches.values()))
    for items in databases:
        axes.axvline(items, color=PALE, linewidth=1.0, zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("codes in the database")
    axes.set_ylabel("milliseconds a query")
    handles = [Line2D([], [], color=COLOURS[way], marker="o", label=NAMES[way]) for way in measured.searches]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _levels(axes: Axes, measured: Measured, left: float) -> None:
    """A line for each encoder whose latency was measured, its label above it; of close ones the lowest has it below."""
    groups: list[list[tuple[float, str]]] = []
    for query, name in sorted((one.query, one.name) for one in measured.encoders if one.query is not None):
        axes.axhline(1000 * query, color=GREY, linewidth=1.0, zorder=1)
        if groups and query < APART * groups[-1][-1][0]:
            groups[-1].append((query, name))
        else:
            groups.append([(query, name)])
    for group in groups:
        names = [f"encoding by {name}, {told(query, 'seconds')}" for query, name in group]
        style: dict[str, Any] = {"textcoords": "offset points", "size": 9, "color": INK}
        if len(group) > 1:
            axes.annotate(names.pop(0), (left, 1000 * group[0][0]), (2, -3), va="top", **style)
        axes.annotate("\n".join(reversed(names)), (left, 1000 * group[-1][0]), (2, 3), va="bottom", **style)
