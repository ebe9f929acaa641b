"""What students lose against their teacher, and what they save: scores beside the time of a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.style import GREY, INK, MARKS, PALE, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.scores import ALONE, BRCD, TEACHER, NoRecords, Row, Seeds, by_seed, of_part, row_of, rows

PART = "backbones"  # several students of one teacher
OFFSET = {"SSHP": -0.14, "ASHP": 0.14}  # of the marks from the middle of a row, as in the main figure


@drawn
def trade_off(records: Iterable[Record], bits: int, milliseconds: Mapping[str, float], told: str) -> Picture:
    """A row for each encoder: mAP@k of the student alone and with BRCD beside the teacher's, and a query's time.

    milliseconds: backbone -> one query, from its pixels to its hits. told: how it was measured, for the caption.
    NoRecords if there are not a teacher and a student of the part `backbones` whose times are known.
    """
    chosen = [record for record in of_part(records, PART) if record["run"]["bits"] == bits]
    lines = [row for row in rows(chosen) if row.student in milliseconds and row.method in (TEACHER, ALONE, BRCD)]
    teachers, students = ({row.pair for row in lines if (row.method == TEACHER) == whose} for whose in (True, False))
    if len(teachers) != 1 or not students:
        raise NoRecords(f"no records of one teacher and its students with {bits} bits in part {PART}, with their times")
    (teacher,) = teachers
    scores = by_seed(chosen)
    names = [teacher[2], *sorted(student for *_, student in students)]
    slow = milliseconds[teacher[2]]
    most = min((milliseconds[name], name) for name in names[1:])
    figure = headed(
        "What does a small student lose, and what does it save?",
        f"{score_told(chosen)} of the query images at {bits} bits, and the time from one image's pixels to its hits. "
        f"Hollow ring: the student alone, without a teacher; filled: with {BRCD}; small dots: one seed each.",
        height=1.25 + 0.46 * len(names),
        more=f"{most[1]} answers {slow / most[0]:.1f} times as fast as {teacher[2]}. {told} "
        f"{about([record for record in chosen if row_of(record) in lines], PART)}",
    )
    ((left, right),) = grid(figure, 1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2]})
    _scores(left, names, teacher, bits, scores)
    left.set_xlabel(score_name(chosen))
    right.barh(range(len(names)), [milliseconds[name] for name in names], height=0.5, color=PALE)
    for place, name in enumerate(names):
        quicker = f", {slow / milliseconds[name]:.1f}× as fast" if place else ""
        right.annotate(
            f"{milliseconds[name]:.1f} ms{quicker}", (milliseconds[name], place), (5, 0), textcoords="offset points",
            va="center", size=9, color=INK,
        )  # fmt: skip
    right.set_xlim(0, 1.3 * max(milliseconds[name] for name in names))
    right.set_xlabel("milliseconds a query")
    right.grid(axis="y", visible=False)
    roles = [TEACHER, *["student"] * (len(names) - 1)]
    left.set_yticks(range(len(names)), [f"{name}\n{role}" for name, role in zip(names, roles, strict=True)])
    left.set_ylim(len(names) - 0.5, -0.5)
    left.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.colour, markersize=7, label=mark.meaning)
        for mark in MARKS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _scores(
    axes: Axes, names: list[str], teacher: tuple[str, str, str], bits: int, scores: Mapping[tuple[Row, int, str], Seeds]
) -> None:
    """The teacher's score as a line through all rows, and each student's before and after."""
    own = scores[Row(*teacher, TEACHER), bits, TEACHER]
    mark = MARKS[TEACHER]
    axes.axvline(_mean(own), color=mark.colour, linestyle=(0, (5, 3)), linewidth=1.3, zorder=1)
    _mark(axes, TEACHER, own, 0)
    for place, name in enumerate(names[1:], 1):
        row = Row(*teacher[:2], name, BRCD)
        for paradigm, offset in OFFSET.items():
            _mark(axes, paradigm, scores[row, bits, paradigm], place + offset)
        alone = scores.get((row._replace(method=ALONE), bits, "SSHP"))
        if alone:
            _mark(axes, "SSHP", alone, place + OFFSET["SSHP"], hollow=True)


def _mark(axes: Axes, paradigm: str, seeds: Seeds, place: float, hollow: bool = False) -> None:
    mark = MARKS[paradigm]
    pale = "white" if hollow else sns.light_palette(mark.colour, 4)[1]
    look: dict[str, Any] = {"marker": mark.marker, "edgecolors": mark.colour, "zorder": 2}
    axes.scatter([_mean(seeds)], [place], s=70, color=pale, **look)
    axes.scatter(list(seeds.values()), [place] * len(seeds), s=9, color=mark.colour, linewidths=0, zorder=3)


def _mean(seeds: Seeds) -> float:
    return sum(seeds.values()) / len(seeds)
