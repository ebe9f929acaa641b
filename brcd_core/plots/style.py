"""The look that all figures share, and how a figure is saved."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import matplotlib.style
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brcd_core.atomic import replacing

WIDTH = 9.0  # inches; 900 pixels in a notebook
DPI = 150  # of a saved PNG
INK, GREY, PALE = "#222222", "#666666", "#d9d9d9"
TEACHER_DASHES = (0, (5, 3))
CHARACTERS = 126  # of the text under a title that fit beside each other
FORMATS: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
P = ParamSpec("P")


class Mark(NamedTuple):
    """How a paradigm is drawn, always."""

    colour: str
    marker: str
    meaning: str


# Blue and orange-red are told apart with every kind of colour blindness; the shapes differ as well.
MARKS = {
    "SSHP": Mark("#0072b2", "o", "SSHP: the student encodes queries and database"),
    "ASHP": Mark("#d55e00", "^", "ASHP: the teacher encodes the database"),
    "teacher": Mark(INK, "D", "teacher encodes both"),
}


class Picture(Figure):
    """A Figure that a notebook shows with no set-up, sharp on fine screens too, and that carries its caption.

    title: what it asks or says. caption: what to see in it, its protocol and its records.
    """

    title: str = ""
    caption: str = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        data = io.BytesIO()
        with style():
            self.savefig(data, format="png", dpi=DPI, metadata=FORMATS["png"])
        return data.getvalue(), {"width": round(self.get_figwidth() * 100)}


@contextmanager
def style() -> Iterator[None]:
    """The study's look, whatever the user's own settings are; they are back when the block ends."""
    look = sns.axes_style("whitegrid") | sns.plotting_context("notebook", font_scale=0.85)
    own = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
        "axes.edgecolor": "#b0b0b0",
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.8,
        "hatch.linewidth": 0.6,
        "legend.frameon": False,
        "text.color": INK,
        "svg.hashsalt": "brcd_core",  # else the names inside an svg are random
    }
    with matplotlib.style.context(["default", look | own]):
        yield


def drawn(function: Callable[P, Picture]) -> Callable[P, Picture]:
    """Draws a figure in the study's look, then fixes its layout: shown or not, it is saved the same."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with style():
            figure = function(*args, **kwargs)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            for axes in figure.axes:
                # The layout's solver is not exact to the last digits, and those would show in an svg.
                left, bottom, width, height = axes.get_position(original=True).bounds
                axes.set_position((round(left, 5), round(bottom, 5), round(width, 5), round(height, 5)))
            return figure

    return inside


def headed(title: str, note: str, height: float, more: str = "", width: float = WIDTH) -> Picture:
    """An empty figure with a title and a line or two of explanation, and `height` inches below them.

    `more`: what only its caption says after the explanation: findings, protocol, records.
    """
    lines = textwrap.wrap(note, int(CHARACTERS * width / WIDTH))
    head = 0.5 + 0.19 * len(lines)
    total = height + head
    # The layout leaves the head free; a plain title would take no explanation in another size.
    figure = Picture(figsize=(width, total))
    figure.title, figure.caption = title, f"{note} {more}".strip()
    below = (0.005, 0.005, 0.99, height / total - 0.01)
    figure.set_layout_engine("constrained", rect=below)  # type: ignore[call-arg]
    figure.text(0.1 / width, 1 - 0.12 / total, title, size=14, weight="bold", va="top")
    explained = "\n".join(lines)
    figure.text(0.1 / width, 1 - 0.42 / total, explained, size=9.5, color=GREY, va="top", linespacing=1.35)
    return figure


def teacher_line(axes: Axes, score: float) -> None:
    """Where the teacher stands that encodes both sides: dashed, from top to bottom."""
    axes.axvline(score, color=MARKS["teacher"].colour, linestyle=TEACHER_DASHES, linewidth=1.3)


def paradigm_legend(figure: Figure) -> None:
    """SSHP and ASHP by their marks, the teacher by its line."""
    teacher = MARKS["teacher"]
    handles = [
        Line2D([], [], linestyle="", marker=mark.marker, color=mark.colour, markersize=7,
               markerfacecolor=sns.light_palette(mark.colour, 4)[1], label=mark.meaning)
        for mark in (MARKS["SSHP"], MARKS["ASHP"])
    ]  # fmt: skip
    handles.append(Line2D([], [], color=teacher.colour, linestyle=TEACHER_DASHES, label=teacher.meaning))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), labelcolor=GREY)


def grid(figure: Figure, rows: int, columns: int, **options: Any) -> list[list[Axes]]:
    """Axes of a figure as a list of rows; further options as for `Figure.subplots`."""
    return [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.png (150 dpi) and NAME.svg, each atomically. The same figure gives the same bytes.

    Title and caption go into both files, for `gallery` and for whoever is handed a file alone.
    """
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    told = {"Title": figure.title, "Description": figure.caption} if isinstance(figure, Picture) else {}
    for path, metadata in zip(paths, FORMATS.values(), strict=True):
        with style(), replacing(path) as part:
            figure.savefig(part, dpi=DPI, metadata=metadata | told)
    return paths
