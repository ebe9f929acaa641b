"""The kinds of run, as the parameters of their notebooks, and where each leaves its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from brcd_core import backbones, hashing, profiles
from brcd_core.profiles import Part, Settings, laid_over, one_of
from brcd_core.study.base import ChangedRun, StudyRun

__all__ = [
    "ChangedRun", "FeatureRun", "RedundancyRun", "SearchRun", "StudentRun", "StudentsRun", "StudyRun", "TeacherRun",
    "WeightsRun",
]  # fmt: skip


class FeatureRun(ChangedRun):
    """Features of one backbone: the view bank of the training images, and clean ones of every split."""

    backbone: str
    firsts = {"backbone": "teachers"}

    @model_validator(mode="after")
    def _known(self) -> Self:
        one_of("backbone", self.backbone, backbones.names())
        return self

    @property
    def roles(self) -> list[str]:
        """The roles that the backbone plays in the profile; that of the teacher where it plays none."""
        blocks = self.study.runs
        played = {"teacher": [b.teachers for b in blocks], "student": [b.students for b in blocks]}
        return [role for role, lists in played.items() if any(self.backbone in names for names in lists)] or [
            "teacher"
        ]

    def variants(self) -> list[tuple[str, Settings]]:
        """Role and settings of everything that uses these features: the profile's own, and its methods'."""
        found = [(role, self.settings) for role in self.roles]
        for block in self.study.runs:
            for role, names in (("teacher", block.teachers), ("student", block.students)):
                if self.backbone in names:
                    found += [(role, self.study.resolve(method, self.change)) for method in block.methods]
        return list({f"{role} {settings.model_dump_json()}": (role, settings) for role, settings in found}.values())

    def made_with(self) -> Any:
        """Role and settings of each variant."""
        return [(role, settings.model_dump(mode="json")) for role, settings in self.variants()]

    @property
    def folder(self) -> Path:
        """Where the record goes."""
        return self.place("features", self.backbone)


class TeacherRun(ChangedRun):
    """A teacher: its backbone, hash model, code length and seed (initial weights, batches, choice of views)."""

    teacher: str
    hash_model: str
    bits: int
    seed: int = Field(ge=0)
    firsts = {"teacher": "teachers", "hash_model": "hash_models", "bits": "bits", "seed": "seeds"}

    @model_validator(mode="after")
    def _known(self) -> Self:
        one_of("teacher", self.teacher, backbones.names())
        one_of("hash model", self.hash_model, hashing.models.names())
        profiles.code_length(self.bits)
        if self.settings.hash_model.name != self.hash_model:
            raise ValueError(f"hash_model is {self.hash_model!r}, but change names {self.settings.hash_model.name!r}")
        return self

    @property
    def settings(self) -> Settings:
        """The profile's settings with this hash model, and then the change."""
        return self._resolve(None)

    def _resolve(self, method: str | None) -> Settings:
        return self.study.resolve(method, laid_over({"hash_model": {"name": self.hash_model}}, self.change))

    @property
    def folder(self) -> Path:
        """Where checkpoint and record go."""
        return self.place("teacher", self.teacher, self.hash_model, self.bits, self.seed)

    def teacher_run(self) -> TeacherRun:
        """The run of the teacher that a student or an analysis belongs to; a student's change is none of it."""
        values = {name: getattr(self, name) for name in TeacherRun.model_fields}
        change = {k: v for k, v in self.change.items() if k not in ("student", "distillation", "select", "weights")}
        return TeacherRun(**values | {"change": change})


class RedundancyRun(TeacherRun):
    """The analysis of a teacher's bits, with the clusters and the margin of the profile's first BRCD method."""

    firsts = TeacherRun.firsts

    @property
    def settings(self) -> Settings:
        """The profile's settings, those of its first method that is BRCD laid over them, and then the change."""
        uses = (name for name in self.study.methods if self.study.resolve(name).distillation.name == "brcd")
        return self._resolve(next(uses, None))

    @property
    def folder(self) -> Path:
        """Where the record goes; checkpoint and record of the teacher are in its own folder."""
        return self.place("redundancy", self.teacher, self.hash_model, self.bits, self.seed)


class WeightsRun(TeacherRun):
    """The choice of each distillation method's weight on validation, for one student and code length.

    Its seed is the profile's (`weights.seed`); code lengths of one group share the run of the group's last.
    """

    student: str
    firsts = TeacherRun.firsts | {"student": "students"}

    @model_validator(mode="before")
    @classmethod
    def _own_seed(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {"seed": profiles.load(values.get("profile", "")).settings.weights.seed}

    @property
    def methods(self) -> list[str]:
        """The methods whose weight is chosen: of each distillation method that this student uses, the first.

        Of a student that the profile does not have: of all its distillation methods.
        """
        blocks = [
            block
            for block in self.study.runs
            if self.teacher in block.teachers
            and self.student in block.students
            and self.hash_model in self.study.hash_models(block)
        ]
        named = [method for block in blocks for method in block.methods] or list(self.study.methods)
        weighed = (settings for settings in map(self.study.resolve, named) if settings.weighs())
        return list(dict.fromkeys(self.study.plain_method(settings.distillation.name) for settings in weighed))

    def method_settings(self, method: str) -> Settings:
        """The settings that a method is tried with, but for its weight."""
        return self._resolve(method)

    def made_with(self) -> Any:
        """The settings of every method whose weight is chosen."""
        return {method: self.method_settings(method).model_dump(mode="json") for method in self.methods}

    @property
    def folder(self) -> Path:
        """Where the record goes."""
        return self.place("weights", self.teacher, self.student, self.hash_model, self.bits)


class StudentRun(TeacherRun):
    """A student: its backbone and how it is taught by the teacher of the same code length and seed."""

    student: str
    method: str
    firsts = TeacherRun.firsts | {"student": "students", "method": "methods"}

    @model_validator(mode="after")
    def _known_student(self) -> Self:
        one_of("student", self.student, backbones.names())
        one_of("method", self.method, self.study.methods)
        return self

    @property
    def settings(self) -> Settings:
        """The profile's settings, the method's laid over them, and then the change."""
        return self._resolve(self.method)

    @property
    def folder(self) -> Path:
        """Where checkpoint and record go."""
        return self.place("student", self.teacher, self.student, self.hash_model, self.method, self.bits, self.seed)

    def weights_run(self) -> WeightsRun | None:
        """The run that chooses the weight of the method; None where the weight is as the settings say.

        A changed run takes the profile's own choice, unless what it changes is how weights are chosen.
        """
        if not self.settings.weighs():
            return None
        values = {name: getattr(self, name) for name in WeightsRun.model_fields}
        change = {name: value for name, value in self.change.items() if name == "weights"}
        return WeightsRun(**values | {"bits": self.settings.weights.group(self.bits)[-1], "change": change})


class StudentsRun(TeacherRun):
    """Students of one part of the study that share teacher, backbone, hash model, code length and seed.

    `methods`: which; None: all that the profile has in this part and no earlier one.
    """

    part: Part
    student: str
    methods: list[str]
    firsts = TeacherRun.firsts | {"student": "students"}

    @model_validator(mode="before")
    @classmethod
    def _all_methods(cls, values: dict[str, Any]) -> dict[str, Any]:
        profile = profiles.load(values.get("profile", ""))
        part = values.get("part") or profile.runs[0].part
        if values.get("methods") is None:
            named = [method for block in profile.runs if block.part == part for method in block.methods]
            values = values | {"methods": list(dict.fromkeys(named))}
        return values | {"part": part}

    @model_validator(mode="after")
    def _known_students(self) -> Self:
        self.student_runs()
        return self

    def made_with(self) -> Any:
        """The settings of each student."""
        return [run.made_with() for run in self.student_runs()]

    @property
    def folder(self) -> Path:
        """Where the executed notebook goes."""
        return self.place("students", self.part, self.teacher, self.student, self.hash_model, self.bits, self.seed)

    def student_runs(self) -> list[StudentRun]:
        """The run of each student."""
        values = {name: getattr(self, name) for name in StudentRun.model_fields if name != "method"}
        return [StudentRun(**values | {"method": method}) for method in self.methods]


class SearchRun(StudentRun):
    """A look at what teacher and student find: `queries` query images, the first `shown` hits of each."""

    firsts = StudentRun.firsts
    queries: int = Field(5, ge=1)
    shown: int = Field(10, ge=1)

    def student_run(self) -> StudentRun:
        """The run of the student."""
        return StudentRun(**{name: getattr(self, name) for name in StudentRun.model_fields})

    @property
    def picture(self) -> tuple[Path, str]:
        """Folder and name of the search panel's files; beside the run where its settings were changed."""
        return (self.folder if self.change else self.figures), f"search-{self.student}-{self.method}-{self.bits}"

    @property
    def map(self) -> tuple[Path, str]:
        """Folder and name of the map of codes, likewise."""
        return self.picture[0], f"tsne-{self.student}-{self.method}-{self.bits}"
