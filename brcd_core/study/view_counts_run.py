"""The run that compares numbers of cached views: it stands for a teacher and a student for each number and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from brcd_core import profiles
from brcd_core.profiles import ViewCounts, laid_over, view_changes
from brcd_core.settings import Settings
from brcd_core.study.base import ChangedRun
from brcd_core.study.runs import StudentRun, WeightsRun


class ViewCountsRun(ChangedRun):
    """How many cached views are enough: a teacher and its student for each number of views of the bank, with `once`
    also for views that are read once, and for each seed. What is not given is as the profile's `view_counts` says.
    """

    teacher: str
    student: str
    hash_model: str
    method: str
    bits: int
    counts: list[int] = Field(min_length=1)
    once: bool
    seeds: list[int] = Field(min_length=1)
    firsts = {"teacher": "teachers", "student": "students", "hash_model": "hash_models"}

    @model_validator(mode="before")
    @classmethod
    def _of_the_profile(cls, values: dict[str, Any]) -> dict[str, Any]:
        asked = profiles.load(str(values.get("profile", ""))).view_counts
        open_ones = [name for name in ViewCounts.model_fields if values.get(name) is None]
        if open_ones and asked is None:
            raise ValueError(f"the profile has no view_counts, so give {', '.join(open_ones)}")
        return values | {name: getattr(asked, name) for name in open_ones}

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.student_runs()
        return self

    @property
    def settings(self) -> Settings:
        """The profile's settings with this method and hash model, and then the change."""
        return self.study.resolve(self.method, laid_over({"hash_model": {"name": self.hash_model}}, self.change))

    @property
    def folder(self) -> Path:
        """Where the record goes; teachers and students have folders of changed runs."""
        return self.place("view_counts", self.teacher, self.student, self.hash_model, self.method, self.bits)

    def student_runs(self) -> dict[tuple[int | str, int], StudentRun]:
        """Number of views ("once" where they are read once) and seed -> the run of the student."""
        values = {name: getattr(self, name) for name in StudentRun.model_fields if name != "seed"}
        return {
            (views, seed): StudentRun(**values | {"seed": seed, "change": laid_over(self.change, change)})
            for views, change in view_changes(self.counts, self.once).items()
            for seed in self.seeds
        }

    def weights_run(self) -> WeightsRun | None:
        """The run that chooses the weight of the method, once for all numbers of views; None where none is chosen."""
        return next(iter(self.student_runs().values())).weights_run()
