"""Validation scores over training, and the epoch that was kept."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.scores import ROWS, left_end
from brcd_core.plots.style import GREY, MARKS, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about, score_name
from brcd_core.tables.scores import (
    PARADIGMS,
    TEACHER,
    NoRecords,
    Row,
    largest_common_bits,
    of_kind,
    of_part,
    row_of,
    rows,
    was_trained,
)

COLUMNS = 4  # panels beside each other, as long as there are not too many


@drawn
def training_curves(records: Iterable[Record], bits: int | None = None, student: str | None = None) -> Picture:
    """Validation mAP@k over the epochs: one panel a network and method, one thin line a seed.

    `bits`: the code length, the largest that all have if not given. `student`: only this one and its teachers.
    NoRecords if there is no such record.
    """
    trained = [record for record in of_part(records, "main") if was_trained(record)]
    bits = largest_common_bits(trained) if bits is None else bits
    chosen = _of(trained, bits, student)
    lines = rows(chosen)
    columns = max(min(COLUMNS, len(lines)), -(-len(lines) // ROWS))
    columns = -(-len(lines) // -(-len(lines) // columns))
    kept = [float(score) for record in chosen for score in record["training"]["validation"].values()]
    floor = left_end(kept)
    whose = f"{student} taught by {', '.join(sorted({line.teacher for line in lines}))}, " if student else ""
    figure = headed(
        "How does the validation score develop, and which epoch is chosen?",
        f"{whose}{score_name(chosen)} of the validation images at {bits} bits, one line a seed; marked: the epoch "
        "whose weights are kept; one checkpoint serves both paradigms."
        + (" Arrow: kept scores far below all others, with their mean." if floor is not None else ""),
        height=0.7 + 1.8 * -(-len(lines) // columns),
        more=f"{_finding(chosen)}{about(chosen, 'main')}",
    )
    panels = [
        axes for row in grid(figure, -(-len(lines) // columns), columns, sharex=True, sharey=True) for axes in row
    ]
    seen: list[float] = []
    for axes, line in zip(panels, lines, strict=False):
        seen += _panel(axes, [record for record in chosen if row_of(record) == line], floor)
        title = _title(line, lines, student)
        axes.set_title(title, size=10.5 if len(title) < 18 else 8.5)
    room = 0.1 * (max(seen) - min(seen)) or 0.01  # for the marks, and for arrows
    panels[0].set_ylim(min(seen) - (room if floor is None else 2 * room), max(seen) + room)
    for place, axes in enumerate(panels):
        if place >= len(lines):
            axes.set_visible(False)
        if place >= len(lines) - columns:  # nothing is drawn below it
            axes.set_xlabel("epoch")
            axes.tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel(score_name(chosen))
    names = list(PARADIGMS) if of_kind(chosen, "student") else []
    names += [TEACHER] if of_kind(chosen, "teacher") else []
    handles = [
        Line2D([], [], color=mark.colour, marker=mark.marker, markerfacecolor="none", label=mark.meaning)
        for mark in (MARKS[name] for name in names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _of(trained: list[Record], bits: int, student: str | None) -> list[Record]:
    """The records of one code length, and of one student and its teachers."""
    chosen = [record for record in trained if record["run"]["bits"] == bits]
    if student is not None:
        taught = {row_of(record)[:2] for record in chosen if record["run"].get("student") == student}
        chosen = [r for r in chosen if row_of(r)[:2] in taught and r["run"].get("student", student) == student]
    if not chosen:
        raise NoRecords(f"no record of a teacher or a student{f' {student}' if student else ''} with {bits} bits")
    return chosen


def _title(line: Row, lines: list[Row], student: str | None) -> str:
    """The method, and the network where it is not told otherwise."""
    if len({other.student for other in lines if other.method != TEACHER}) > 1:
        return f"{line.student}\n{line.method}"
    if len({other.teacher for other in lines}) > 1:
        return f"{line.teacher}\n{line.method}"
    return f"teacher {line.student}" if line.method == TEACHER and student is None else line.method


def _panel(axes: Axes, records: list[Record], floor: float | None) -> list[float]:
    """Draw the histories of one network; the scores that the axis must show."""
    seen: list[float] = []
    below: dict[str, list[float]] = {}
    for training in (record["training"] for record in records):
        epochs = [line["epoch"] for line in training["history"]]
        for measure in sorted(training["validation"]):
            name = measure.rpartition("_")[2].upper()
            name = name if name in PARADIGMS else TEACHER
            values = [line[measure] for line in training["history"]]
            best = epochs.index(training["best_epoch"])
            if floor is not None and values[best] < floor:
                below.setdefault(name, []).append(values[best])
                continue
            colour, marker = MARKS[name].colour, MARKS[name].marker
            axes.plot(epochs, values, color=colour, linewidth=1, alpha=0.8)
            # Hollow, so that a mark does not hide another one behind it.
            axes.plot(epochs[best], values[best], color=colour, marker=marker, markersize=7.5,
                      markerfacecolor="none", markeredgewidth=1.5, linestyle="", zorder=3)  # fmt: skip
            seen += values
    for name, values in below.items():
        text = f"▾ {sum(values) / len(values):.2f}"
        axes.text(0.04, 0.04, text, transform=axes.transAxes, color=MARKS[name].colour, size=8.5)
    return seen


def _finding(records: list[Record]) -> str:
    """How many runs were cut off while they still improved."""
    cut_off = sum(record["training"]["best_epoch"] == record["training"]["history"][-1]["epoch"] for record in records)
    return f"Of {len(records)} runs {cut_off} kept their last epoch, and might have gone on improving. "
