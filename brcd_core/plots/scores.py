"""The study's one picture: what every student reaches, beside its teacher."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from brcd_core.plots.style import GREY, MARKS, Picture, drawn, grid, headed, paradigm_legend, teacher_line
from brcd_core.records import Record
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.retrieval_tables import finding
from brcd_core.tables.scores import (
    BRCD,
    PARADIGMS,
    TEACHER,
    Row,
    bits_of,
    by_key,
    largest_common_bits,
    of_part,
    over_seeds,
    rows,
    score_of,
    scores,
)

OFFSET = {"SSHP": -0.16, "ASHP": 0.16}  # of the marks from the middle of a method's line


ROWS = 3  # of panels in one figure
BAND = "#f4f1e6"  # behind the study's own method


def main_pages(records: Iterable[Record]) -> list[list[tuple[str, str, str]]]:
    """Teacher, hash model and student of every row of the main figure, as many as fit into one at a time.

    A study of teachers alone has a row each, with nothing but the teacher's line.
    """
    lines = rows(of_part(records, "main"))
    students = [line.pair for line in lines if line.method != TEACHER]
    pairs = list(dict.fromkeys(students or [line.pair for line in lines]))
    return [pairs[start : start + ROWS] for start in range(0, len(pairs), ROWS)]


@drawn
def main_figure(records: Iterable[Record], page: int = 0) -> Picture:
    """mAP@k of every method, one panel a student and code length, every seed visible; the teacher dashed.

    `page`: which of `main_pages`. NoRecords if there is no record of a teacher or a student.
    """
    records = of_part(records, "main")
    largest_common_bits(records)  # refuses records without scores
    table = scores(records)
    table = table[table["measure"] == score_of(records)]
    lengths, pairs = bits_of(records), main_pages(records)[page]
    lines = [line for line in rows(records) if line.method != TEACHER]
    methods = [[line.method for line in lines if line.pair == pair] for pair in pairs]

    keys = [*Row._fields, "bits", "paradigm"]
    values = over_seeds(table, keys)
    left = left_end(values["mean"].tolist())
    step = 0.36 if max(map(len, methods)) <= 6 else 0.26
    heights = [0.5 + step * max(3, len(names)) for names in methods]
    figure = headed(
        "How close does a student come to its teacher?",
        f"{score_told(records)} of the query images (further right is better). Pale marks: mean over "
        "seeds; dots: one seed each. Dashed line: the teacher, searching with its own codes."
        + (" Arrow: a mean left of the axis, with its value." if left is not None else ""),
        height=sum(heights) + 0.65,
        more=f"{finding(rows(records), by_key(values, keys), lengths[-1])}{about(records, 'main')}",
    )
    options: dict[str, Any] = {"sharex": True, "sharey": "row", "gridspec_kw": {"height_ratios": heights}}
    panels = grid(figure, len(pairs), len(lengths), **options)
    for row, pair in enumerate(pairs):
        for axes, bits in zip(panels[row], lengths, strict=True):
            part = table[(table["bits"] == bits) & (table["teacher"] == pair[0]) & (table["hash_model"] == pair[1])]
            teachers = part[part["paradigm"] == TEACHER]["value"]
            if len(teachers):
                teacher_line(axes, teachers.mean())
            own = part[(part["student"] == pair[2]) & (part["method"] != TEACHER)]
            _dots(axes, own, methods[row], left)
            if lines and own.empty:
                axes.text(0.04, 0.5, "not run", transform=axes.transAxes, va="center", color=GREY)
            axes.set_title(f"{_name(pair, pairs)}\n{bits} bits" if axes is panels[row][0] else f"\n{bits} bits")
            if row == len(pairs) - 1:
                axes.set_xlabel(score_name(records))
    shown = table["value"] if left is None else table["value"][table["value"] >= left]
    room = 0.05 * (shown.max() - shown.min()) or 0.01
    panels[0][0].set_xlim(shown.min() - room if left is None else left, shown.max() + room)
    paradigm_legend(figure)
    return figure


def _name(pair: tuple[str, str, str], pairs: list[tuple[str, str, str]]) -> str:
    """The student, and what else tells a row from the others."""
    teacher, hash_model, student = pair
    name = f"{student} taught by {teacher}" if len({other[0] for other in pairs}) > 1 else student
    return f"{name}, {hash_model}" if len({other[1] for other in pairs}) > 1 else name


def _dots(axes: Axes, table: pd.DataFrame, methods: list[str], left: float | None) -> None:
    """One line a method, from the top; SSHP above ASHP. What lies left of `left` becomes an arrow."""
    if BRCD in methods:
        axes.axhspan(methods.index(BRCD) - 0.5, methods.index(BRCD) + 0.5, color=BAND, linewidth=0, zorder=0)
    for paradigm in PARADIGMS:
        mark = MARKS[paradigm]
        part = table[table["paradigm"] == paradigm]
        places = part["method"].map(methods.index).astype(float) + OFFSET[paradigm]
        means = part.groupby("method", sort=False)["value"].mean()
        middle = [methods.index(str(name)) + OFFSET[paradigm] for name in means.index]
        pale = sns.light_palette(mark.colour, 4)[1]
        look: dict[str, Any] = {"marker": mark.marker, "edgecolors": mark.colour, "label": paradigm}
        axes.scatter(means, middle, s=75 if len(methods) <= 6 else 50, color=pale, **look)
        axes.scatter(part["value"], places, s=9, color=mark.colour, linewidths=0, zorder=3)
        for mean, place in zip(means, middle, strict=True):
            if left is not None and mean < left:
                axes.annotate(
                    f"◂ {mean:.2f}", (0.01, place), xycoords=("axes fraction", "data"), va="center", size=8.5,
                    color=mark.colour,
                )  # fmt: skip
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(max(1, len(methods)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def left_end(means: list[float]) -> float | None:
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
