"""Search with a trained student and its teacher, query by query: what each paradigm finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brcd_core.codes import nearest, pack
from brcd_core.datasets import Dataset
from brcd_core.records import Record
from brcd_core.study.features import Inputs, load_inputs
from brcd_core.study.outcome import Report
from brcd_core.study.runs import SearchRun, StudentRun
from brcd_core.study.student import student
from brcd_core.study.teacher import teacher

WAYS = {  # of searching -> who encodes the query, and who the database
    "teacher": ("teacher", "teacher"),
    "SSHP": ("student", "student"),
    "ASHP": ("student", "teacher"),
}


@dataclass(frozen=True)
class Hits:
    """What one way of searching finds for Q queries: database positions, distances and right or wrong, (Q, k).

    right: None where images have no labels.
    """

    positions: np.ndarray
    distances: np.ndarray
    right: np.ndarray | None


@dataclass(frozen=True)
class Found:
    """Query images and the hits of the teacher, and of the student in both paradigms."""

    inputs: Inputs
    queries: np.ndarray  # (Q,) positions in the query split
    hits: dict[str, Hits]
    bits: int

    def summary(self) -> pd.DataFrame:
        """How many of the shown hits are right: one row a query, one column a way of searching.

        Without labels: the distance of the last hit.
        """
        table = pd.DataFrame(
            {
                name: hits.distances[:, -1] if hits.right is None else hits.right.sum(1)
                for name, hits in self.hits.items()
            }
        )
        table.insert(0, "query", self._names())
        return table

    def panel(self) -> dict[str, Any]:
        """What plots.search_panel draws: images (uint8, N x H x W x 3), distances and right or wrong."""
        pixels, ids = self.inputs.dataset.pixels, self.inputs.ids
        return {
            "bits": self.bits,
            "queries": pixels[ids["query"][self.queries]],
            "names": self._names(),
            "strips": {
                name: (pixels[ids["database"][hits.positions]], hits.distances, hits.right)
                for name, hits in self.hits.items()
            },
        }

    def _names(self) -> list[str]:
        return [class_names(self.inputs.dataset, row) for row in self.inputs.labels["query"][self.queries]]


def search(run: SearchRun, report: Report = print) -> Found:
    """The first `shown` hits of `queries` query images drawn with the run's seed; ties by database index."""
    inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    heads = {
        "teacher": teacher(run.teacher_run(), report).head,
        "student": student(run.student_run(), report).head,
    }
    chosen = np.random.default_rng(run.seed).choice(len(inputs.ids["query"]), run.queries, replace=False)
    codes = {
        role: [pack(part) for part in inputs.codes(head, role, "query", "database")] for role, head in heads.items()
    }
    wanted, offered = inputs.labels["query"][chosen], inputs.labels["database"]
    return Found(
        inputs,
        chosen,
        {
            name: hits_of(codes[asks][0][chosen], codes[answers][1], run.shown, wanted, offered)
            for name, (asks, answers) in WAYS.items()
        },
        run.bits,
    )


def hits_of(
    query: np.ndarray,
    database: np.ndarray,
    shown: int,
    wanted: np.ndarray | None = None,
    offered: np.ndarray | None = None,
) -> Hits:
    """The first `shown` of N database images for Q queries, by packed codes (Q, words), (N, words); ties by position.

    wanted, offered: labels bool (Q, L), (N, L), if there are any; right is a hit that shares one.
    """
    positions, distances = nearest(query, database, shown)
    if wanted is None or offered is None or not offered.shape[1]:
        return Hits(positions, distances, None)
    return Hits(positions, distances, (wanted[:, None] & offered[positions]).any(2))


def class_names(dataset: Dataset, labels: np.ndarray) -> str:
    """The classes of an image, by its labels (L,), in words."""
    return ", ".join(name for name, on in zip(dataset.classes, labels, strict=True) if on)


CodeMap = tuple[np.ndarray, np.ndarray]  # coordinates (N, 2), and the number of each image's class (N,)


def code_maps(run: SearchRun, images: int = 1000, report: Report = print) -> tuple[dict[str, CodeMap], list[str]]:
    """t-SNE of the codes of the first query images, by Hamming distance: title -> map, and the classes' names.

    Of the teacher, of the student, and of the same student without distillation where the profile has it. The class
    is -1 for an image of none or of several.
    """
    from sklearn.manifold import TSNE

    inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    labels = inputs.labels["query"][:images]
    classes = np.array([row.argmax() if row.sum() == 1 else -1 for row in labels])
    heads = {f"teacher {run.teacher}": ("teacher", teacher(run.teacher_run(), report).head)}
    for one in {one.method: one for one in [*_alone(run), run.student_run()]}.values():
        heads[f"{run.student}, {one.method}"] = ("student", student(one, report).head)
    maps = {}
    for title, (role, head) in heads.items():
        (codes,) = inputs.codes(head, role, "query")
        perplexity = min(30.0, (len(labels) - 1) / 3)
        tsne = TSNE(metric="hamming", init="random", perplexity=perplexity, random_state=run.seed)
        maps[title] = (tsne.fit_transform(codes[:images].astype(np.float32)), classes)
    return maps, list(inputs.dataset.classes)


def records_of(run: SearchRun, alone: bool = False, report: Report = print) -> list[Record]:
    """The records of teacher and student; with `alone`, that of the student without distillation too."""
    runs = [*(_alone(run) if alone else []), run.student_run()]
    found = [teacher(run.teacher_run(), report).record, *(student(one, report).record for one in runs)]
    return list({record["checkpoint"]: record for record in found}.values())


def _alone(run: SearchRun) -> list[StudentRun]:
    """The same student without distillation, where the profile has it."""
    used = [name for block in run.study.runs for name in block.methods]
    names = [name for name in used if run.study.resolve(name).distillation.name == "none"][:1]
    return [run.student_run().model_copy(update={"method": name}) for name in names]
