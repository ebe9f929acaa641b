"""Curves: validation scores over training, and what the first hits are worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brcd_core.plots.style import GREY, INK, MARKS, drawn, grid, headed, method_colours
from brcd_core.records import Record
from brcd_core.tables.protocol import cut, values_of
from brcd_core.tables.scores import (
    PARADIGMS,
    TEACHER,
    Row,
    in_order,
    largest_common_bits,
    of_kind,
    place_of_method,
    row_of,
    rows,
)

COLUMNS = 4  # panels beside each other
MEANING = {"SSHP": "SSHP: student encodes queries and database", "ASHP": "ASHP: teacher encodes the database"}


@drawn
def training_curves(records: Iterable[Record], bits: int | None = None) -> Figure:
    """Validation mAP@k over the epochs: one panel a network and method, one thin line a seed.

    `bits`: the code length, the largest that all have if not given. ValueError if there is no such record.
    """
    records = list(records)
    bits, chosen = _of_length(records, bits)
    lines = rows(chosen)
    count = -(-len(lines) // COLUMNS)
    columns = -(-len(lines) // count)
    figure = headed(
        "How does the validation score develop, and which epoch is chosen?",
        f"mAP@{cut(chosen)} of the validation images at {bits} bits, one line a seed; marked: the epoch "
        "whose weights are kept. Students are judged by both paradigms at once, from the same weights.",
        height=0.7 + 1.8 * count,
    )
    panels = [axes for row in grid(figure, count, columns, sharex=True, sharey=True) for axes in row]
    several = len({line.student for line in lines if line.method != TEACHER}) > 1
    for axes, line in zip(panels, lines, strict=False):
        for record in chosen:
            if row_of(record) == line:
                _history(axes, record["training"])
        axes.set_title(f"{line.student}\n{line.method}" if several else _alone(line))
    bottom, top = panels[0].get_ylim()
    panels[0].set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))  # room for the marks
    for place, axes in enumerate(panels):
        if place >= len(lines):
            axes.set_visible(False)
        # The lowest panel of a column carries the numbers, also where the last row is not full.
        if place < len(lines) <= place + columns:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("epoch")
        if place % columns == 0:
            axes.set_ylabel(f"mAP@{cut(chosen)}")
    names = list(PARADIGMS) if of_kind(chosen, "student") else []
    names += [TEACHER] if of_kind(chosen, "teacher") else []
    handles = [
        Line2D([], [], color=mark.colour, marker=mark.marker, markerfacecolor="none", label=mark.meaning)
        for mark in (MARKS[name] for name in names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _alone(line: Row) -> str:
    """A panel's title where there is one student: only the teacher needs its backbone's name."""
    return f"teacher {line.student}" if line.method == TEACHER else line.method


def _history(axes: Axes, training: Record) -> None:
    epochs = [line["epoch"] for line in training["history"]]
    for measure in sorted(training["validation"]):
        mark = MARKS[TEACHER if measure == "map" else measure.removeprefix("map_").upper()]
        values = [line[measure] for line in training["history"]]
        axes.plot(epochs, values, color=mark.colour, linewidth=1, alpha=0.8)
        kept = epochs.index(training["best_epoch"])
        # Hollow, so that a mark does not hide another one behind it.
        axes.plot(epochs[kept], values[kept], color=mark.colour, marker=mark.marker, markersize=7.5,
                  markerfacecolor="none", markeredgewidth=1.5, linestyle="", zorder=3)  # fmt: skip


@drawn
def precision_curves(
    records: Iterable[Record], student: str | None = None, bits: int | None = None
) -> Figure:
    """Precision-recall by Hamming radius and precision@k of one student's methods, mean over seeds.

    `student`: the first if not given; `bits`: the largest code length that all have. ValueError if there is
    no such record.
    """
    records = list(records)
    bits, chosen = _of_length(records, bits)
    lines = [line for line in rows(chosen) if line.method != TEACHER and student in (None, line.student)]
    if not lines:
        raise ValueError(f"no record of student {student or ''} with {bits} bits")
    lines = [line for line in lines if line[:2] == lines[0][:2]]
    reference = Row(lines[0].teacher, lines[0].teacher, TEACHER)
    # The method of the study and its variants come first: they get the plain colours, and broader lines.
    students = of_kind(chosen, "student")
    places = {record["run"]["method"]: place_of_method(record) for record in students}
    names = sorted((line.method for line in lines), key=lambda name: places[name] != 2)
    styles = method_colours(names)
    figure = headed(
        "Are a student's first hits as good as its teacher's?",
        f"{lines[0].student} at {bits} bits, mean over seeds. Above: precision and recall of everything "
        "within Hamming radius 0, 1, 2, ... of the query; a query that finds nothing counts as precision "
        "0, which can bend the left end down. Below: precision of the k nearest images. Dashed: the "
        "teacher with its own codes.",
        height=6.3,
    )
    panels = grid(figure, 2, 2, sharey="row")
    ks = values_of(chosen, "evaluation", "precision_at")[0]
    for column, paradigm in enumerate(PARADIGMS):
        for line in [reference, *lines]:
            curves = _mean_curves(chosen, line, TEACHER if line == reference else paradigm)
            if not curves:
                continue
            colour, dashes = (INK, (0, (5, 3))) if line == reference else styles[line.method]
            broad = line == reference or places[line.method] == 2
            width = 1.9 if broad else 1.2
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": width}
            marker = MARKS[TEACHER if line == reference else paradigm].marker
            panels[0][column].plot(curves["recall"], curves["precision"], **look)
            panels[1][column].plot(ks, curves["precision_at"], marker=marker, markersize=5, **look)
        panels[0][column].set(title=MEANING[paradigm], xlabel="recall", xlim=(-0.02, 1.02))
        panels[1][column].set(xscale="log", xlabel="k, the nearest images")
        panels[1][column].set_xticks(ks, [f"{k:,}" for k in ks])
        panels[1][column].minorticks_off()
    panels[0][0].set_ylabel("precision")
    panels[1][0].set_ylabel("precision@k")
    handles = [Line2D([], [], color=INK, linestyle=(0, (5, 3)), label=f"teacher {reference.student}")]
    for name, (colour, dashes) in styles.items():
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), labelcolor=GREY)
    return figure


def _mean_curves(records: list[Record], line: Row, paradigm: str) -> dict[str, np.ndarray]:
    """Each curve of a line and paradigm, mean over its seeds; none if it has no record."""
    found = [record["curves"][paradigm.lower()] for record in records if row_of(record) == line]
    names = ("precision", "recall", "precision_at") if found else ()
    return {name: np.mean([curves[name] for curves in found], axis=0) for name in names}


def _of_length(records: list[Record], bits: int | None) -> tuple[int, list[Record]]:
    """The teachers' and students' records of one code length."""
    bits = largest_common_bits(records) if bits is None else bits
    trained = [record for record in in_order(records) if record["kind"] in ("teacher", "student")]
    chosen = [record for record in trained if record["run"]["bits"] == bits]
    if not chosen:
        raise ValueError(f"no record of a teacher or a student with {bits} bits")
    return bits, chosen
