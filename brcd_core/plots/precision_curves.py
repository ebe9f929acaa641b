"""What the first hits are worth: precision-recall by Hamming radius, and precision@k."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.scores import left_end
from brcd_core.plots.style import GREY, INK, MARKS, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about, cut, values_of
from brcd_core.tables.scores import (
    ALONE,
    BRCD,
    PARADIGMS,
    TEACHER,
    NoRecords,
    Row,
    by_seed,
    largest_common_bits,
    of_part,
    row_of,
    rows,
)

MEANING = {"SSHP": "SSHP: student encodes queries and database", "ASHP": "ASHP: teacher encodes the database"}
PALETTE = sns.color_palette("colorblind")
OTHERS = (PALETTE[2], PALETTE[4])  # of the two best methods beside BRCD
BACK = "#bdbdbd"


class Look(NamedTuple):
    """How a method's curves are drawn."""

    colour: Any
    width: float
    dashes: Any = "-"
    order: int = 3


TEACHERS = Look(INK, 1.9, (0, (5, 3)))


@drawn
def precision_curves(records: Iterable[Record], student: str | None = None, bits: int | None = None) -> Picture:
    """Precision-recall by Hamming radius and precision@k of one student's methods, mean over seeds.

    In colour: BRCD, the student alone, and the two best other methods (by mAP, mean of SSHP and ASHP); all
    others are grey. `student`: the first if not given; `bits`: the largest code length that all have.
    NoRecords if there is no such record.
    """
    records = of_part(records, "main")
    bits = largest_common_bits(records) if bits is None else bits
    chosen = [record for record in records if record["run"]["bits"] == bits and all(record["curves"].values())]
    lines = [line for line in rows(chosen) if line.method != TEACHER and student in (None, line.student)]
    if not lines:
        raise NoRecords(f"no record of student {student or ''} with {bits} bits")
    lines = [line for line in lines if line.pair == lines[0].pair]
    reference = Row(*lines[0].pair[:2], lines[0].teacher, TEACHER)
    chosen = [record for record in chosen if row_of(record) in (reference, *lines)]
    ranked = _ranked(chosen, lines, bits)
    looks = _looks(ranked)
    figure = headed(
        "Are a student's first hits as good as its teacher's?",
        f"{lines[0].student} at {bits} bits, mean over seeds. Above: precision and recall of everything "
        "within Hamming radius 0, 1, 2, ... of the query; a query that finds nothing counts as precision "
        "0, which can bend the left end down. Below: precision of the k nearest images; it must fall where k "
        "is beyond the number of relevant ones. Dashed: the teacher with its own codes.",
        height=6.3,
        more=f"Best mAP@{cut(chosen)}, mean of SSHP and ASHP: {', then '.join(ranked[:3])}. {about(chosen, 'main')}",
    )
    panels = grid(figure, 2, 2, sharey="row")
    ks = values_of(chosen, "evaluation", "precision_at")[0]
    for column, paradigm in enumerate(PARADIGMS):
        above, below = panels[0][column], panels[1][column]
        for line in [reference, *lines]:
            own, look = (TEACHER, TEACHERS) if line == reference else (paradigm, looks[line.method])
            curves = _mean_curves(chosen, line, own)
            if curves:
                style: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes, "linewidth": look.width}
                style |= {"zorder": look.order, "label": line.method}
                above.plot(curves["recall"], curves["precision"], **style)
                marker = "" if look.colour == BACK else MARKS[own].marker
                below.plot(ks, curves["precision_at"], marker=marker, markersize=5, **style)
        above.set(title=MEANING[paradigm], xlabel="recall", xlim=(-0.02, 1.02))
        below.set(xscale="log", xlabel="k, the nearest images")
        below.set_xticks(ks, [f"{k:,}" for k in ks])
        below.minorticks_off()
    _cut(panels[1])
    panels[0][0].set_ylabel("precision")
    panels[1][0].set_ylabel("precision@k")
    handles = [Line2D([], [], color=INK, linestyle=TEACHERS.dashes, label=f"teacher {reference.student}")]
    handles += [Line2D([], [], color=look.colour, linewidth=look.width, label=name)
                for name, look in looks.items() if look.colour != BACK]  # fmt: skip
    grey = sum(look.colour == BACK for look in looks.values())
    if grey:
        handles.append(Line2D([], [], color=BACK, linewidth=1.2, label=f"{grey} other methods"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), labelcolor=GREY)
    return figure


def _ranked(records: list[Record], lines: list[Row], bits: int) -> list[str]:
    """The methods, best first, by mAP: the mean of SSHP and ASHP."""
    scores = by_seed(records)

    def level(line: Row) -> float:
        seeds = [scores.get((line, bits, paradigm), {}) for paradigm in PARADIGMS]
        return float(np.mean([np.mean(list(found.values())) if found else 0.0 for found in seeds]))

    return [line.method for line in sorted(lines, key=lambda line: (-level(line), line.method))]


def _looks(ranked: list[str]) -> dict[str, Look]:
    """BRCD first, then the best others, the student alone, and grey for the rest."""
    looks = {BRCD: Look(PALETTE[0], 2.4, order=5)} if BRCD in ranked else {}
    others = [method for method in ranked if method not in (BRCD, ALONE)]
    looks |= {method: Look(colour, 1.5, order=4) for method, colour in zip(others, OTHERS, strict=False)}
    if ALONE in ranked:
        looks[ALONE] = Look(PALETTE[1], 1.5, order=4)
    return looks | {method: Look(BACK, 1.1, order=2) for method in others[len(OTHERS) :]}


def _cut(panels: list[Axes]) -> None:
    """Begin the axis below the crowd where a few curves lie far below it, and name these at the edge."""
    ends = {id(line): float(np.mean(np.asarray(line.get_ydata()))) for axes in panels for line in axes.lines}
    floor = left_end(list(ends.values()))
    if floor is None:
        return
    inside = [np.asarray(line.get_ydata()) for axes in panels for line in axes.lines if ends[id(line)] >= floor]
    low, high = float(np.min(inside)), float(np.max(inside))
    panels[0].set_ylim(low - 0.14 * (high - low), high + 0.04 * (high - low))
    for axes in panels:
        below = [(str(line.get_label()), ends[id(line)]) for line in axes.lines if ends[id(line)] < floor]
        if below:
            values = sorted(value for _, value in below)
            found = f"{values[0]:.2f}" if len(below) == 1 else f"{values[0]:.2f} to {values[-1]:.2f}"
            names = below[0][0] if len(below) == 1 else f"{len(below)} methods"
            axes.text(0.02, 0.03, f"▾ {names}, {found}", transform=axes.transAxes, color=GREY, size=8.5)


def _mean_curves(records: list[Record], line: Row, paradigm: str) -> dict[str, np.ndarray]:
    """Each curve of a line and paradigm, mean over its seeds; none if it has no record."""
    found = [record["curves"][paradigm.lower()] for record in records if row_of(record) == line]
    names = ("precision", "recall", "precision_at") if found else ()
    return {name: np.mean([curves[name] for curves in found], axis=0) for name in names}
