"""Search with a picture of the reader's own: encoded as the study's images are, then compared with the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from brcd_core import encoder
from brcd_core.codes import pack
from brcd_core.datasets import Dataset, image_files
from brcd_core.encoder import Encoder
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import CHECKPOINT, Report
from brcd_core.study.runs import SearchRun
from brcd_core.study.search import WAYS, Hits, class_names, hits_of
from brcd_core.study.student import student
from brcd_core.study.teacher import teacher

Array = NDArray[Any]


class OwnPictureRun(SearchRun):
    """A search, and the path of a picture of the reader's own to search with."""

    my_picture: str | None = None

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.my_picture is not None and not Path(self.my_picture).expanduser().is_file():
            where = Path(self.my_picture).expanduser().absolute()
            raise ValueError(f"my_picture: there is no file {where}; give its whole path, or None")
        return self


@dataclass(frozen=True, eq=False)
class Searcher:
    """Teacher and student, each with the packed codes of the database's images, and these images.

    encoders, databases: by role, teacher and student. ids: the database's images in the dataset.
    """

    encoders: Mapping[str, Encoder]
    databases: Mapping[str, Array]
    dataset: Dataset
    ids: Array
    shown: int = 10

    def search(self, pixels: Array) -> dict[str, Hits]:
        """What each way of searching finds for one picture, uint8 (S, S, 3)."""
        image = torch.from_numpy(pixels[None].transpose(0, 3, 1, 2).copy())
        codes = {role: encoder.encode(image) for role, encoder in self.encoders.items()}
        return {way: hits_of(codes[asks], self.databases[answers], self.shown) for way, (asks, answers) in WAYS.items()}

    def panel(self, pixels: Array, found: Mapping[str, Hits]) -> dict[str, Any]:
        """What plots.search_panel draws."""
        images = {way: self.dataset.pixels[self.ids[hits.positions]] for way, hits in found.items()}
        return {
            "bits": self.encoders["student"].bits,
            "queries": pixels[None],
            "names": ["yours"],
            "strips": {way: (images[way], hits.distances, None) for way, hits in found.items()},
        }

    def summary(self, found: Mapping[str, Hits]) -> pd.DataFrame:
        """One row a way of searching: the classes of what it finds, and the distances of the first and the last."""
        rows = {}
        for way, hits in found.items():
            labels = self.dataset.labels[self.ids[hits.positions[0]]]
            counts = Counter(name for row in labels if (name := class_names(self.dataset, row)))
            classes = ", ".join(f"{count} {name}" for name, count in counts.most_common())
            rows[way] = {"found": classes, "nearest": hits.distances[0, 0], "furthest": hits.distances[0, -1]}
        return pd.DataFrame.from_dict(rows, orient="index")


def searcher(run: SearchRun, report: Report = print) -> Searcher:
    """The networks of a run, trained now if they are not there, and their codes of the database.

    Heads come from the run's checkpoints. Raises CheckpointError where a student's backbone cannot be built again.
    """
    inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    trained = {"teacher": teacher(run.teacher_run(), report), "student": student(run.student_run(), report)}
    folders = {"teacher": run.teacher_run().folder, "student": run.student_run().folder}
    databases = {role: pack(inputs.codes(one.head, role, "database")[0]) for role, one in trained.items()}
    encoders = {
        role: encoder.load(folder / CHECKPOINT, inputs.device, inputs.dataset.central)
        for role, folder in folders.items()
    }
    return Searcher(encoders, databases, inputs.dataset, inputs.ids["database"], run.shown)


def read(path: Path) -> Array:
    """A picture as uint8 (256, 256, 3): its central square, turned upright. Raises FileNotFoundError, ImageError."""
    pixels: Array = np.array(image_files.decode(path, upright=True))
    return pixels
