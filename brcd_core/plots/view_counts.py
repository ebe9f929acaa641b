"""How many cached views are enough: scores against the number of views."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.scores import left_end
from brcd_core.plots.style import GREY, MARKS, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.protocol import about, score_name
from brcd_core.tables.scores import Seeds, mean_of
from brcd_core.tables.view_counts_table import ONCE, about_scores, by_views, compared, finding, weight_told

DASHED = (0, (5, 3))


@drawn
def view_counts(records: Iterable[Record]) -> Picture:
    """mAP@k of the teacher, SSHP and ASHP against the number of views; views read once last, and dashed.

    NoRecords if numbers of views were not compared.
    """
    record = compared(records)
    scores = by_views(record)
    views = list(dict.fromkeys(row["views"] for row in record["rows"]))
    once = "once" in views
    means = [mean_of(seeds) for column in scores.values() for seeds in column.values()]
    floor = left_end(means)
    figure = headed(
        "How many cached views are enough?",
        f"{about_scores(record)}. Lines: mean over seeds; dots: one seed each."
        + (f" Dashed: {ONCE}, no view is read twice." if once else "")
        + (" Arrow: a mean below the axis, with its value." if floor is not None else ""),
        height=4.0,
        more=f"{weight_told(record)}{finding(record)}{about([record])}",
    )
    ((axes,),) = grid(figure, 1, 1)
    for paradigm, column in scores.items():
        _curve(axes, paradigm, {views.index(one): seeds for one, seeds in column.items()}, once)
    if floor is not None:
        axes.set_ylim(floor, max(means) + 0.1 * (max(means) - floor))
        _arrows(axes, [(views.index(one), paradigm, mean_of(seeds)) for paradigm, column in scores.items()
                       for one, seeds in column.items() if mean_of(seeds) < floor])  # fmt: skip
    axes.set_xticks(range(len(views)), [ONCE if one == "once" else str(one) for one in views])
    axes.set_xlabel("views of each image")
    axes.set_ylabel(score_name([record]))
    handles = [
        Line2D([], [], color=mark.colour, marker=mark.marker, label=mark.meaning)
        for mark in (MARKS[paradigm] for paradigm in scores)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _curve(axes: Axes, paradigm: str, column: dict[int, Seeds], once: bool) -> None:
    """The means joined by a line, that of views read once (the last place) apart from it."""
    mark = MARKS[paradigm]
    means = {place: mean_of(seeds) for place, seeds in column.items()}
    joined = list(means)[: len(means) - once]
    axes.plot(joined, [means[p] for p in joined], color=mark.colour, marker=mark.marker, markersize=6, linewidth=1.6)
    for place, seeds in column.items():
        axes.scatter([place] * len(seeds), list(seeds.values()), s=9, color=mark.colour, linewidths=0, zorder=3)
    if once:
        last = max(means)
        axes.plot([last], [means[last]], color=mark.colour, marker=mark.marker, markersize=6, linestyle="")
        axes.axhline(means[last], color=mark.colour, linestyle=DASHED, linewidth=1.0, zorder=1)


def _arrows(axes: Axes, below: list[tuple[int, str, float]]) -> None:
    """What lies below the axis, (place, paradigm, mean) each: its value at the bottom, one above the other."""
    for number, (place, paradigm, mean) in enumerate(below):
        axes.annotate(f"▾ {mean:.2f}", (place, 0.03 + 0.06 * number), xycoords=("data", "axes fraction"), size=8.5,
                      color=MARKS[paradigm].colour, ha="center")  # fmt: skip
