"""The study's one picture: what every student reaches, beside its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brcd_core.plots.style import GREY, MARKS, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import cut
from brcd_core.tables.scores import PARADIGMS, TEACHER, Row, bits_of, largest_common_bits, rows, scores

OFFSET = {"SSHP": -0.16, "ASHP": 0.16}  # of the marks from the middle of a method's line


@drawn
def main_figure(records: Iterable[Record]) -> Figure:
    """mAP@k of every method, one panel a student and code length, every seed visible; the teacher dashed.

    ValueError if there is no record of a teacher or a student.
    """
    records = list(records)
    largest_common_bits(records)  # refuses records without scores
    table = scores(records)
    table = table[table["measure"] == "map"]
    lengths, lines = bits_of(records), [line for line in rows(records) if line.method != TEACHER]
    # A study of teachers alone has a panel each, with nothing but the teacher's line.
    students = list(dict.fromkeys(line[:2] for line in lines or rows(records)))
    methods = [[line.method for line in lines if line[:2] == student] for student in students]

    left = _left_end(table.groupby([*Row._fields, "bits", "paradigm"])["value"].mean().tolist())
    heights = [0.5 + 0.36 * max(3, len(names)) for names in methods]
    figure = headed(
        "How close does a student come to its teacher?",
        f"Tie-aware mAP@{cut(records)} of the query images (further right is better). Pale marks: mean over "
        "seeds; dots: one seed each. Dashed line: the teacher, searching with its own codes."
        + (" Arrow: a mean left of the axis, with its value." if left is not None else ""),
        height=sum(heights) + 0.65,
    )
    panels = grid(
        figure, len(students), len(lengths), sharex=True, sharey="row", gridspec_kw={"height_ratios": heights}
    )
    several = len({teacher for teacher, _ in students}) > 1
    for row, (teacher, student) in enumerate(students):
        for axes, bits in zip(panels[row], lengths, strict=True):
            part = table[table["bits"] == bits]
            _teacher_line(axes, part[(part["paradigm"] == TEACHER) & part["teacher"].isin([teacher])])
            own = part[(part["teacher"] == teacher) & (part["student"] == student)]
            _dots(axes, own, methods[row], left)
            if lines and own.empty:
                axes.text(0.04, 0.5, "not run", transform=axes.transAxes, va="center", color=GREY)
            name = f"{student} taught by {teacher}" if several else student
            axes.set_title(f"{name}\n{bits} bits" if axes is panels[row][0] else f"\n{bits} bits")
            if row == len(students) - 1:
                axes.set_xlabel(f"mAP@{cut(records)}")
    shown = table["value"] if left is None else table["value"][table["value"] >= left]
    room = 0.05 * (shown.max() - shown.min()) or 0.01
    panels[0][0].set_xlim(shown.min() - room if left is None else left, shown.max() + room)
    _legend(figure)
    return figure


def _dots(axes: Axes, table: pd.DataFrame, methods: list[str], left: float | None) -> None:
    """One line a method, from the top; SSHP above ASHP. What lies left of `left` becomes an arrow."""
    for paradigm in PARADIGMS:
        mark = MARKS[paradigm]
        part = table[table["paradigm"] == paradigm]
        places = part["method"].map(methods.index).astype(float) + OFFSET[paradigm]
        means = part.groupby("method", sort=False)["value"].mean()
        middle = [methods.index(str(name)) + OFFSET[paradigm] for name in means.index]
        pale = sns.light_palette(mark.colour, 4)[1]
        look: dict[str, Any] = {"marker": mark.marker, "edgecolors": mark.colour, "label": paradigm}
        axes.scatter(means, middle, s=75, color=pale, **look)
        axes.scatter(part["value"], places, s=9, color=mark.colour, linewidths=0, zorder=3)
        for mean, place in zip(means, middle, strict=True):
            if left is not None and mean < left:
                axes.annotate(
                    f"◂ {mean:.2f}", (0.01, place), xycoords=("axes fraction", "data"), va="center", size=8.5,
                    color=mark.colour,
                )  # fmt: skip
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _left_end(means: list[float]) -> float | None:
    """Where the axis begins if a few means lie far below all others, which would crowd these; else None.

    Few: at most a third. Far: the gap below the others is wider than all that lies above it.
    """
    ordered = sorted(means)
    gaps = [(above - below, place) for place, (below, above) in enumerate(pairwise(ordered), 1)]
    for gap, place in sorted(gaps, reverse=True)[:1]:
        width = ordered[-1] - ordered[place]
        if gap > width > 0 and place <= len(ordered) / 3:
            return ordered[place] - 0.35 * width
    return None


def _teacher_line(axes: Axes, table: pd.DataFrame) -> None:
    if len(table):
        axes.axvline(table["value"].mean(), color=MARKS[TEACHER].colour, linestyle=(0, (5, 3)), linewidth=1.3)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.colour, markersize=7,
               markerfacecolor=sns.light_palette(mark.colour, 4)[1], label=mark.meaning)
        for mark in (MARKS[name] for name in PARADIGMS)
    ]  # fmt: skip
    teacher = MARKS[TEACHER]
    handles.append(Line2D([], [], color=teacher.colour, linestyle=(0, (5, 3)), label=teacher.meaning))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
