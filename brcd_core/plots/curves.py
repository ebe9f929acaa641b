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
from brcd_core.tables.scores import PARADIGMS, TEACHER, Row, in_order, largest_common_bits, row_of, rows

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
    figure = headed(
        "How does the validation score develop, and which epoch is chosen?",
        f"mAP@{cut(chosen)} of the validation images at {bits} bits, one line a seed; the large mark is the epoch "
        "whose weights are kept. Students are judged by both paradigms at once, from the same weights.",
        height=0.7 + 1.9 * count,
    )
    panels = [axes for row in grid(figure, count, min(COLUMNS, len(lines)), sharex=True, sharey=True) for axes in row]
    several = len({line.student for line in lines if line.method != TEACHER}) > 1
    for axes, line in zip(panels, lines, strict=False):
        for record in chosen:
            if row_of(record) == line:
                _history(axes, record["training"])
        name = f"{line.student}\n{line.method}" if several or line.method == TEACHER else f"\n{line.method}"
        axes.set_title(name)
    columns = min(COLUMNS, len(lines))
    for place, axes in enumerate(panels):
        if place >= len(lines):
            axes.set_visible(False)
        # The lowest panel of a column carries the numbers, also where the last row is not full.
        if place < len(lines) <= place + columns:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("epoch")
        if place % columns == 0:
            axes.set_ylabel(f"mAP@{cut(chosen)}")
    names = [*PARADIGMS, TEACHER] if len(lines) > 1 else [TEACHER]
    handles = [
        Line2D([], [], color=MARKS[name].colour, marker=MARKS[name].marker, lw=1, label=MARKS[name].meaning)
        for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _history(axes: Axes, training: Record) -> None:
    epochs = [line["epoch"] for line in training["history"]]
    for measure in training["validation"]:
        mark = MARKS[TEACHER if measure == "map" else measure.removeprefix("map_").upper()]
        values = [line[measure] for line in training["history"]]
        axes.plot(epochs, values, color=mark.colour, linewidth=1, alpha=0.8)
        kept = epochs.index(training["best_epoch"])
        axes.plot(epochs[kept], values[kept], color=mark.colour, marker=mark.marker, markersize=6.5,
                  markeredgecolor="white", linestyle="", zorder=3)  # fmt: skip


@drawn
def precision_curves(records: Iterable[Record], student: str | None = None, bits: int | None = None) -> Figure:
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
    styles = method_colours([line.method for line in lines])
    figure = headed(
        "Are a student's first hits as good as its teacher's?",
        f"{lines[0].student} at {bits} bits, mean over seeds. Above: precision and recall of everything within "
        "Hamming radius 0, 1, 2, ... of the query; a query that finds nothing counts as precision 0, so the left end "
        "is low. Below: precision of the k nearest images. Dashed: the teacher with its own codes.",
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
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "zorder": 3 if line == reference else 2}
            panels[0][column].plot(curves["recall"], curves["precision"], linewidth=1.5, **look)
            panels[1][column].plot(
                ks, curves["precision_at"], marker=MARKS[TEACHER if line == reference else paradigm].marker,
                markersize=5, linewidth=1.5, **look,
            )  # fmt: skip
        panels[0][column].set(title=MEANING[paradigm], xlabel="recall", xlim=(-0.02, 1.02))
        panels[1][column].set(xscale="log", xlabel="k nearest images")
        panels[1][column].set_xticks(ks, [f"{k:,}" for k in ks])
        panels[1][column].minorticks_off()
    panels[0][0].set_ylabel("precision")
    panels[1][0].set_ylabel("precision@k")
    handles = [Line2D([], [], color=INK, linestyle=(0, (5, 3)), label=f"teacher {reference.student}")]
    handles += [
        Line2D([], [], color=colour, linestyle=dashes, label=name) for name, (colour, dashes) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), labelcolor=GREY)
    return figure


def _mean_curves(records: list[Record], line: Row, paradigm: str) -> dict[str, np.ndarray]:
    """Each curve of a line and paradigm, mean over its seeds; empty if it has no record."""
    found = [record["curves"][paradigm.lower()] for record in records if row_of(record) == line]
    names = ("precision", "recall", "precision_at") if found else ()
    return {name: np.mean([curves[name] for curves in found], axis=0) for name in names}


def _of_length(records: list[Record], bits: int | None) -> tuple[int, list[Record]]:
    """The teachers' and students' records of one code length."""
    bits = largest_common_bits(records) if bits is None else bits
    chosen = [r for r in in_order(records) if r["kind"] in ("teacher", "student") and r["run"]["bits"] == bits]
    if not chosen:
        raise ValueError(f"no record of a teacher or a student with {bits} bits")
    return bits, chosen
