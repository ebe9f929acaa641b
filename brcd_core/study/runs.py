"""The kinds of run, as the parameters of their notebooks, and where each leaves its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from brcd_core import backbones, hashing, profiles
from brcd_core.profiles import Part, laid_over
from brcd_core.settings import Settings, code_length, one_of
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
        """What determines the features of each variant."""
        found = [
            {
                "role": role,
                "data": settings.data.model_dump(mode="json"),
                "views": settings.views.model_dump(mode="json", exclude={"used", "once"}),
                "extraction": settings.extraction.model_dump(mode="json"),
                "feature": settings.network(role).feature,
                "rotated": settings.uses_rotated(),
            }
            for role, settings in self.variants()
        ]
        return [one for place, one in enumerate(found) if one not in found[:place]]

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
        code_length(self.bits)
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

        A variant of a method takes the choice of the method itself, and a changed run that of the profile.
        """
        if not self.settings.weighs():
            return None
        plain, weights = self.study.plain_method(self.settings.distillation.name), self.settings.weights
        values = {name: getattr(self, name) for name in WeightsRun.model_fields if name not in ("change", "seed")}
        return WeightsRun(**values | {"method": plain, "bits": weights.group(self.bits)[-1], "seed": weights.seed})


class WeightsRun(StudentRun):
    """The choice of the weight of a distillation method on validation, for one student and code length.

    Code lengths of one group share the run of the group's last. Its seed is the profile's (`weights.seed`).
    """

    firsts = StudentRun.firsts

    @model_validator(mode="before")
    @classmethod
    def _first_with_a_choice(cls, values: dict[str, Any]) -> dict[str, Any]:
        study = profiles.load(str(values.get("profile", "")))
        if values.get("seed") is None:
            values = values | {"seed": study.settings.weights.seed}
        if values.get("method"):
            return values
        listed = (name for block in study.runs for name in block.methods)
        first = next((name for name in listed if study.resolve(name).weighs()), None)
        return values | {"method": first} if first else values

    @model_validator(mode="after")
    def _has_a_choice(self) -> Self:
        if not self.settings.weighs():
            raise ValueError(
                f"method {self.method!r} has no weight to choose: it has none, the profile names it, or the "
                "settings have no weights.factors"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where the record goes."""
        return self.place("weights", self.teacher, self.student, self.hash_model, self.method, self.bits)


class StudentsRun(TeacherRun):
    """Students of one part of the study that share teacher, backbone, hash model, code length and seed.

    `methods`: which; None: all that the profile lists for these in this part.
    """

    part: Part
    student: str
    methods: list[str] | None = None
    firsts = TeacherRun.firsts | {"student": "students"}

    @model_validator(mode="after")
    def _known_students(self) -> Self:
        if not self.student_runs():
            raise ValueError(
                f"profile {self.profile!r} has no student {self.student!r} of teacher {self.teacher!r} with hash "
                f"model {self.hash_model!r} and {self.bits} bits in part {self.part!r}; name some methods, or "
                "another part"
            )
        return self

    def made_with(self) -> Any:
        """The settings of each student."""
        return {run.method: run.made_with() for run in self.student_runs()}

    @property
    def folder(self) -> Path:
        """Where the executed notebook goes."""
        return self.place("students", self.part, self.teacher, self.student, self.hash_model, self.bits, self.seed)

    def student_runs(self) -> list[StudentRun]:
        """The run of each student."""
        listed = [
            method
            for block in self.study.runs
            if (block.part, self.teacher in block.teachers, self.student in block.students) == (self.part, True, True)
            and self.hash_model in self.study.hash_models(block)
            and self.bits in block.bits
            for method in block.methods
        ]
        values = {name: getattr(self, name) for name in StudentRun.model_fields if name != "method"}
        methods = list(dict.fromkeys(listed)) if self.methods is None else self.methods
        return [StudentRun(**values | {"method": method}) for method in methods]


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
