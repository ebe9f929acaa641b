"""What students lose against their teacher, and what they save: scores beside the time of a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes

from brcd_core.plots.scores import OFFSET
from brcd_core.plots.style import INK, MARKS, PALE, Picture, drawn, grid, headed, paradigm_legend, teacher_line
from brcd_core.records import Record
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.scores import (
    ALONE,
    BRCD,
    TEACHER,
    NoRecords,
    Row,
    Seeds,
    by_seed,
    mean_of,
    of_part,
    row_of,
    rows,
)

PART = "backbones"  # several students of one teacher


@drawn
def trade_off(records: Iterable[Record], bits: int, milliseconds: Mapping[str, float], told: str) -> Picture:
    """A row for each encoder: mAP@k of the student alone and with BRCD beside the teacher's, and a query's time.

    milliseconds: backbone -> one query, from its pixels to its hits. told: how it was measured, for the caption.
    NoRecords if there are not a teacher and a student of the part `backbones` whose times are known.
    """
    chosen = [record for record in of_part(records, PART) if record["run"]["bits"] == bits]
    timed = [row for row in rows(chosen) if row.student in milliseconds]
    teachers = [row for row in timed if row.method == TEACHER]
    names = [row.student for row in timed if row.method == BRCD and any(row[:2] == one[:2] for one in teachers)]
    if len(teachers) != 1 or not names:
        raise NoRecords(f"no records of one teacher and its students with {bits} bits in part {PART}, with their times")
    (teacher,) = teachers
    shown = [r for r in chosen if row_of(r)[:2] == teacher[:2] and row_of(r).student in (teacher.student, *names)]
    shown = [record for record in shown if row_of(record).method in (TEACHER, ALONE, BRCD)]
    scores = by_seed(shown)
    names = [teacher.student, *sorted(names)]
    slow = milliseconds[teacher.student]
    most = min((milliseconds[name], name) for name in names[1:])
    figure = headed(
        "What does a small student lose, and what does it save?",
        f"{score_told(chosen)} of the query images at {bits} bits, and the time from one image's pixels to its hits. "
        f"Hollow ring: the student alone, without a teacher; filled: with {BRCD}; small dots: one seed each.",
        height=1.25 + 0.46 * len(names),
        more=f"{most[1]} answers {slow / most[0]:.1f} times as fast as {teacher.student}. {told} "
        f"{about(shown, PART)}",
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
    paradigm_legend(figure)
    return figure


def _scores(
    axes: Axes, names: list[str], teacher: Row, bits: int, scores: Mapping[tuple[Row, int, str], Seeds]
) -> None:
    """The teacher's score as a line through all rows, and each student's before and after."""
    own = scores[teacher, bits, TEACHER]
    teacher_line(axes, mean_of(own))
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
    axes.scatter([mean_of(seeds)], [place], s=70, color=pale, **look)
    axes.scatter(list(seeds.values()), [place] * len(seeds), s=9, color=mark.colour, linewidths=0, zorder=3)
