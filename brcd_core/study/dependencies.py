"""What depends on what: which results each run reads, as a tree of the runs and as a small diagram of their kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from brcd_core.study.runs import ChangedRun, FeatureRun, RedundancyRun, StudentRun, TeacherRun, WeightsRun
from brcd_core.study.view_counts_run import ViewCountsRun

KINDS: dict[type[ChangedRun], str] = {
    FeatureRun: "features", TeacherRun: "teacher", WeightsRun: "weights", StudentRun: "student",
    RedundancyRun: "redundancy", ViewCountsRun: "view_counts",
}  # fmt: skip
NAMING = ("backbone", "teacher", "student", "hash_model", "method", "bits", "seed")
WIDTH, HEIGHT, ACROSS, DOWN = 140, 48, 24, 34  # of a box of the diagram, and between boxes


class Branch(NamedTuple):
    """A run, what else it needs than the run above it, and the runs below."""

    label: str
    also: list[str]
    branches: list[Branch]


class Box(NamedTuple):
    """A kind of run in the diagram, how many there are, and its upper left corner."""

    kind: str
    runs: int
    x: int
    y: int


class Diagram(NamedTuple):
    """Boxes of one size, and the arrows between them as (x, y, x, y)."""

    width: int
    height: int
    box: tuple[int, int]
    boxes: list[Box]
    arrows: list[tuple[int, int, int, int]]
    told: str  # the same in words


def links(runs: Iterable[ChangedRun]) -> dict[str, list[str]]:
    """Each run, by its label -> those of the runs whose results it reads; it belongs to the first of them."""
    named = {_label(run): run for run in runs}
    return {name: [one for one in map(_label, _needs(run)) if one in named] for name, run in named.items()}


def label(kind: str, run: Mapping[str, Any]) -> str:
    """A run in words: its kind, and what tells it from others of its kind."""
    return " ".join([kind, *(str(run[name]) for name in NAMING if run.get(name) is not None)])


def tree(links: Mapping[str, Sequence[str]]) -> list[Branch]:
    """The runs that need nothing, and below each run those that belong to it; `links` in an order to run them in."""
    branches = {name: Branch(name, list(needed[1:]), []) for name, needed in links.items()}
    for name, needed in links.items():
        if needed:
            branches[needed[0]].branches.append(branches[name])
    return [branches[name] for name, needed in links.items() if not needed]


def diagram(links: Mapping[str, Sequence[str]]) -> Diagram:
    """The kinds of run, each below what it needs; an arrow that follows from others is not drawn."""
    counts = Counter(map(_kind, links))
    direct = {
        kind: {_kind(one) for name, needed in links.items() if _kind(name) == kind for one in needed}
        for kind in KINDS.values() if kind in counts
    }  # fmt: skip
    above: dict[str, set[str]] = {}  # all that a kind needs, directly or not
    level: dict[str, int] = {}
    for kind, needed in direct.items():  # in KINDS each comes after what it needs
        above[kind] = needed.union(*(above[one] for one in needed))
        level[kind] = max((level[one] + 1 for one in needed), default=0)
    rows = [[kind for kind in level if level[kind] == row] for row in sorted(set(level.values()))]
    width = max(map(_across, rows), default=0)
    boxes = {
        kind: Box(kind, counts[kind], (width - _across(row)) // 2 + place * (WIDTH + ACROSS), down * (HEIGHT + DOWN))
        for down, row in enumerate(rows)
        for place, kind in enumerate(row)
    }
    drawn = {kind: sorted(needed.difference(*(above[one] for one in needed))) for kind, needed in direct.items()}
    arrows = [
        (boxes[one].x + WIDTH // 2, boxes[one].y + HEIGHT, boxes[kind].x + WIDTH // 2, boxes[kind].y)
        for kind, needed in drawn.items()
        for one in needed
    ]
    told = "; ".join(f"{kind} needs {' and '.join(needed)}" for kind, needed in drawn.items() if needed)
    return Diagram(width, len(rows) * (HEIGHT + DOWN) - DOWN, (WIDTH, HEIGHT), list(boxes.values()), arrows, told)


def _needs(run: ChangedRun) -> list[ChangedRun]:
    if isinstance(run, ViewCountsRun):
        choice = run.weights_run()
        return [*_features(run, run.teacher, run.student), *([choice] if choice else [])]
    if isinstance(run, StudentRun):
        choice = None if isinstance(run, WeightsRun) else run.weights_run()
        return [run.teacher_run(), *_features(run, run.student), *([choice] if choice else [])]
    if isinstance(run, RedundancyRun):
        return [run.teacher_run()]
    return _features(run, run.teacher) if isinstance(run, TeacherRun) else []


def _features(run: ChangedRun, *backbones: str) -> list[ChangedRun]:
    return [FeatureRun(profile=run.profile, change=run.change, backbone=name) for name in backbones]


def _label(run: ChangedRun) -> str:
    return label(KINDS[type(run)], run.model_dump(mode="json"))


def _kind(label: str) -> str:
    return label.split()[0]


def _across(row: Sequence[str]) -> int:
    """The width of a row of boxes."""
    return len(row) * (WIDTH + ACROSS) - ACROSS
