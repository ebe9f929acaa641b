"""How many cached views are enough: scores and cost at each number of views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import best, cell, number, spread, usual
from brcd_core.tables.protocol import about, score_name, score_told
from brcd_core.tables.scores import PARADIGMS, TEACHER, NoRecords, Seeds, Summary, of_kind, score_of, summary
from brcd_core.tables.table import Table, make

ONCE = "on the fly"  # how views that are read once are named
NEAR = 0.005  # a score this far below that of views read once is as good, for a reader


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
        f"{spread(counts)}. {finding(record)}Marked: the best. A bank's images pass the backbones once, for all seeds "
        f"and methods.{fly if 'once' in views else ''}"
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


def by_views(record: Record) -> dict[str, dict[int | str, Seeds]]:
    """Paradigm ("teacher", "SSHP", "ASHP") -> views -> the score of each seed."""
    measure = score_of([record])
    found: dict[str, dict[int | str, Seeds]] = {paradigm: {} for paradigm in (TEACHER, *PARADIGMS)}
    for row in record["rows"]:
        for paradigm, column in found.items():
            column.setdefault(row["views"], {})[row["seed"]] = row[f"{measure}_{paradigm.lower()}"]
    return found


def view_scores(record: Record) -> dict[str, dict[int | str, Summary]]:
    """Paradigm -> views -> mean, deviation and number of seeds."""
    return {
        paradigm: {views: found for views, seeds in column.items() if (found := summary(seeds))}
        for paradigm, column in by_views(record).items()
    }


def about_scores(record: Record) -> str:
    """What the scores are of, to begin an explanation with."""
    run = record["run"]
    return (
        f"{score_told([record])} at {run['bits']} bits of {run['student']}, taught by {run['teacher']} with "
        f"{run['method']}, and of this teacher, both trained on so many of the bank's views of each image"
    )


def finding(record: Record) -> str:
    """From how many views on the scores are as good as on the fly, or as of the most views where that was not run."""
    sentences = [_enough(paradigm, column) for paradigm, column in view_scores(record).items()]
    if any(row["views"] == 1 for row in record["rows"]):
        sentences.append("Of 1 view a pair is this view and itself.")
    return f"{' '.join(sentences)} "


def _enough(paradigm: str, column: Mapping[int | str, Summary]) -> str:
    counts = sorted(views for views in column if isinstance(views, int))
    reference = "once" if "once" in column else counts[-1]
    name = ONCE if reference == "once" else f"{reference} views"
    score = column[reference][0]
    near = [views for views in counts if column[views][0] >= score - NEAR and views != reference]
    if not near:
        return f"{paradigm}: every number of views is more than {NEAR} below {name}."
    gap = number(column[near[0]][0] - score, sign="+")
    return f"{paradigm}: the fewest views no more than {NEAR} below {name} are {near[0]} ({gap})."
