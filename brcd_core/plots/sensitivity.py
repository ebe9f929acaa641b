"""How much BRCD depends on its settings, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brcd_core.plots.style import GREY, INK, MARKS, Picture, drawn, grid, headed
from brcd_core.records import Record
from brcd_core.tables.cells import number
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.scores import BRCD, PARADIGMS, NoRecords, of_kind, of_part, row_of, score_of

ORDER = ("alpha", "margin", "n_clusters", "temperature", "weight")
COLUMNS = 3
WIDE = 10  # a setting whose largest value is so many times its smallest one is drawn on a logarithmic axis


class Varied(NamedTuple):
    """A run of BRCD that differs from the study's own in one setting."""

    setting: str
    value: float
    usual: float  # the study's own value
    record: Record
    base: Record


@drawn
def sensitivity(records: Iterable[Record], student: str | None = None) -> Picture:
    """mAP@k of BRCD against each setting that was varied; the study's own value dashed.

    `student`: the first if not given. NoRecords if no setting of BRCD was varied for it.
    """
    varied = _varied(records, student)
    settings = sorted({each.setting for each in varied}, key=lambda name: (name not in ORDER, name))
    chosen = {id(record): record for each in varied for record in (each.record, each.base)}
    table = _table(varied)
    row, bits = row_of(varied[0].record), varied[0].record["run"]["bits"]
    runs = list(chosen.values())
    columns = min(COLUMNS, len(settings))
    figure = headed(
        "How much does BRCD depend on its settings?",
        f"{score_told(runs)} of {row.student} taught by {row.teacher} at {bits} bits when one setting of BRCD "
        "is changed; all panels share the vertical axis. Lines: mean over seeds; dots: one seed each. Dashed: the "
        "study's own value.",
        height=0.5 + 2.3 * -(-len(settings) // columns),
        more=f"{_finding(table)}{about(runs, 'sensitivity')}",
    )
    rows = grid(figure, -(-len(settings) // columns), columns, sharey=True)
    panels = [axes for line in rows for axes in line]
    for place, axes in enumerate(panels):
        if place >= len(settings):
            axes.set_visible(False)
            continue
        _panel(axes, table[table["setting"] == settings[place]])
        axes.set_xlabel(settings[place])
        if place % columns == 0:
            axes.set_ylabel(score_name(runs))
    handles = [
        Line2D([], [], color=MARKS[name].colour, marker=MARKS[name].marker, label=MARKS[name].meaning)
        for name in PARADIGMS
    ]
    handles.append(Line2D([], [], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label="the study's own value"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)
    return figure


def _varied(records: Iterable[Record], student: str | None) -> list[Varied]:
    """The runs that differ from BRCD in one number, of the first teacher, student, hash model and code length."""
    records = list(records)
    base = {_place(r): r for r in of_kind(records, "student") if r["run"]["method"] == BRCD}
    found = []
    for record in of_kind(of_part(records, "sensitivity"), "student"):
        plain = base.get(_place(record))
        if plain is None or record is plain or student not in (None, record["run"]["student"]):
            continue
        own, usual = (dict(each.get("resolved", {}).get("distillation", {})) for each in (record, plain))
        changed = [name for name in own if own[name] != usual.get(name)]
        if len(changed) == 1 and type(own[changed[0]]) in (int, float):  # no switch
            found.append(Varied(changed[0], own[changed[0]], usual[changed[0]], record, plain))
    if not found:
        raise NoRecords(f"no record of a varied setting of BRCD{f' for {student}' if student else ''}")
    first = min(_place(each.record)[:-1] for each in found)
    return [each for each in found if _place(each.record)[:-1] == first]


def _place(record: Record) -> tuple[Any, ...]:
    """Everything but the method; the largest code length comes first."""
    return (*row_of(record).pair, -record["run"]["bits"], record["run"]["seed"])


def _table(varied: list[Varied]) -> pd.DataFrame:
    """Columns setting, value, usual, seed, paradigm, score; the study's own runs with every setting."""
    points = {}
    for each in varied:
        for value, record in ((each.value, each.record), (each.usual, each.base)):
            for paradigm in PARADIGMS:
                key = (each.setting, float(value), float(each.usual), record["run"]["seed"], paradigm)
                points[key] = record["metrics"][paradigm.lower()][score_of([record])]
    columns = ["setting", "value", "usual", "seed", "paradigm", "score"]
    return pd.DataFrame([(*key, points[key]) for key in sorted(points)], columns=columns)


def _panel(axes: Axes, table: pd.DataFrame) -> None:
    for paradigm in PARADIGMS:
        mark, own = MARKS[paradigm], table[table["paradigm"] == paradigm]
        means = own.groupby("value")["score"].mean()
        axes.plot(means.index, means, color=mark.colour, marker=mark.marker, markersize=6, linewidth=1.6)
        axes.scatter(own["value"], own["score"], s=9, color=mark.colour, linewidths=0, zorder=3)
    axes.axvline(table["usual"].iloc[0], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
    values = sorted(set(table["value"]))
    if values[0] > 0 and values[-1] / values[0] >= WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" for value in values])


def _finding(table: pd.DataFrame) -> str:
    """Which setting moves the scores most and which least, for each paradigm."""
    sentences = []
    for paradigm in PARADIGMS:
        means = table[table["paradigm"] == paradigm].groupby(["setting", "value"])["score"].mean().groupby("setting")
        ranges = (means.max() - means.min()).sort_values(kind="stable")
        most = f"{ranges.index[-1]} moves it most ({number(ranges.iloc[-1])} from worst to best value)"
        least = f", {ranges.index[0]} least ({number(ranges.iloc[0])})" if len(ranges) > 1 else ""
        sentences.append(f"{paradigm}: {most}{least}. ")
    return "".join(sentences)
