"""How many cached views are enough: scores and cost at each number of views."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import best, cell, number, spread, usual
from brcd_core.tables.protocol import about, score_name, score_told, views_told
from brcd_core.tables.scores import PARADIGMS, TEACHER, NoRecords, Seeds, Summary, of_kind, score_of, summary
from brcd_core.tables.table import Table, make

ONCE = "on the fly"  # how views that are read once are named
NEAR = 0.005  # a score this far below that of views read once is as good, for a reader
PREFIXES = {"query": "", "validation": "validation_"}  # of a split's scores in the rows of a record


def view_counts_table(records: Iterable[Record]) -> Table:
    """The scores of teacher and student for each number of views, and the images that passed the backbones.

    NoRecords if numbers of views were not compared.
    """
    record = compared(records)
    scores = view_scores(record)
    counts = [found[2] for column in scores.values() for found in column.values()]
    rows = record["rows"]
    views = list(dict.fromkeys(row["views"] for row in rows))

    cells: dict[Any, list[str]] = {}
    bold: dict[Any, list[bool]] = {}
    for paradigm, column in scores.items():
        cells[score_name([record]), paradigm] = [cell(*column[one], usual(counts)) for one in views]
        bold[score_name([record]), paradigm] = best([column[one][0] for one in views])
    for role in ("teacher", "student"):
        images = [[row[f"images_{role}"] for row in rows if row["views"] == one] for one in views]
        cells["images through the backbone", role] = [number(sum(seeds) / len(seeds), 0) for seeds in images]

    fly = (
        f" {ONCE.capitalize()} no view is read twice, and the images pass anew for every seed and method, through the "
        "teacher's backbone for teacher and student."
    )
    caption = (
        f"How many cached views of an image are enough? {about_scores(record)}; "
        f"{spread(counts)}. {weight_told(record)}{finding(record)}Bold: the best. A bank's images pass the backbones "
        f"once, for all seeds and methods.{fly if 'once' in views else ''}"
    )
    values = pd.DataFrame(rows, columns=sorted(rows[0], key=lambda name: (name != "views", name != "seed", name)))
    index = [ONCE if one == "once" else str(one) for one in views]
    return make("view_counts", caption, about([record]), values, index, ["views"], cells, bold)


def compared(records: Iterable[Record]) -> Record:
    """The record of a comparison of numbers of views. NoRecords if there is none."""
    found = of_kind(records, "view_counts")
    if not found:
        raise NoRecords("no record of a comparison of numbers of views, so there is nothing to show")
    return found[0]


def by_views(record: Record, split: str = "query") -> dict[str, dict[int | str, Seeds]]:
    """Paradigm ("teacher", "SSHP", "ASHP") -> views -> the score of each seed on the query or validation split."""
    measure = score_of([record])
    found: dict[str, dict[int | str, Seeds]] = {paradigm: {} for paradigm in (TEACHER, *PARADIGMS)}
    for row in record["rows"]:
        for paradigm, column in found.items():
            score = row[f"{PREFIXES[split]}{measure}_{paradigm.lower()}"]
            column.setdefault(row["views"], {})[row["seed"]] = score
    return found


def view_scores(record: Record, split: str = "query") -> dict[str, dict[int | str, Summary]]:
    """Paradigm -> views -> mean, deviation and number of seeds."""
    return {
        paradigm: {views: found for views, seeds in column.items() if (found := summary(seeds))}
        for paradigm, column in by_views(record, split).items()
    }


def about_scores(record: Record) -> str:
    """What the scores are of, to begin an explanation with."""
    run = record["run"]
    return (
        f"{score_told([record])} at {run['bits']} bits of {run['student']}, taught by {run['teacher']} with "
        f"{run['method']}, and of this teacher, both trained on so many of the bank's views of each image"
    )


def weight_told(record: Record) -> str:
    """On which views the weight of the distillation was chosen for all. Empty where none was chosen."""
    views = record["weight_views"]
    if not views:
        return ""
    told = views_told(views)
    return f"The weight of the distillation was chosen once, in training on {told}, for every number of views. "


def finding(record: Record) -> str:
    """From how many views on validation scores are as good as on the fly, or as of the most views where that was not
    run. Query scores are not looked at. Empty where there is nothing to say.
    """
    views, text = {row["views"] for row in record["rows"]}, ""
    counts, once = sorted(views - {"once"}), "once" in views
    if len(views) > 1:
        scores = view_scores(record, "validation")
        reference: int | str = "once" if once else counts.pop()
        found = [f"{paradigm} {_enough(column, counts, reference)}" for paradigm, column in scores.items()]
        name = ONCE if once else f"{reference} views"
        text = f"On validation, no more than {NEAR} below {name}: {', '.join(found)}. "
    return text + ("Of 1 view a pair is this view and itself. " if 1 in views else "")


def _enough(column: Mapping[int | str, Summary], counts: Sequence[int], reference: int | str) -> str:
    """The number of views from which on all are near the reference, and how far from it that one is."""
    gaps = {views: column[views][0] - column[reference][0] for views in counts}
    near = list(itertools.takewhile(lambda views: gaps[views] >= -NEAR, reversed(counts)))
    if not near:
        return f"at no {'smaller ' if reference != 'once' else ''}number of views"
    return f"from {near[-1]} {'view' if near[-1] == 1 else 'views'} on ({number(gaps[near[-1]], sign='+')})"
