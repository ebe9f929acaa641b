"""The kinds of run, as the parameters of their notebooks, and where each leaves its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from brcd_core import backbones, profiles
from brcd_core.config import Frozen, fingerprint, output_dir
from brcd_core.profiles import Profile, Settings, one_of


class StudyRun(Frozen):
    """A whole profile: its tables and its figures."""

    profile: str
    # Parameters that may be left out (None), and the list of the profile's first block that fills them.
    firsts: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        profile = values.get("profile", "")
        if not isinstance(profile, str):
            raise ValueError(f"profile is a name, not {profile!r}")
        block = profiles.load(profile).runs[0]
        filled = {name: getattr(block, source)[0] for name, source in cls.firsts.items()}
        return values | {name: first for name, first in filled.items() if values.get(name) is None}

    @property
    def study(self) -> Profile:
        """The profile."""
        return profiles.load(self.profile)

    @property
    def results(self) -> Path:
        """results/<profile>/."""
        return output_dir() / "results" / self.profile

    @property
    def figures(self) -> Path:
        """figures/<profile>/."""
        return output_dir() / "figures" / self.profile


class ChangedRun(StudyRun):
    """A run of a profile, with settings changed as `change` says, e.g. {"student": {"hidden": 128}}.

    A run with a change has a folder of its own and takes no part in the profile's tables.
    """

    change: dict[str, Any] = {}

    @model_validator(mode="after")
    def _resolves(self) -> Self:
        _ = self.settings
        return self

    @property
    def settings(self) -> Settings:
        """The profile's settings with the change laid over them."""
        return self.study.resolve(None, self.change)

    def place(self, *parts: object) -> Path:
        """Folder of a run: results/<profile>/runs/<part>/<part>/..."""
        top = f"changed-{fingerprint(self.change)[:8]}" if self.change else "runs"
        return self.results.joinpath(top, *map(str, parts))


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

    @property
    def folder(self) -> Path:
        """Where the record goes."""
        return self.place("features", self.backbone)


class TeacherRun(ChangedRun):
    """A teacher: its backbone, its code length and its seed (initial weights, batches, choice of views)."""

    teacher: str
    bits: int
    seed: int = Field(ge=0)
    firsts = {"teacher": "teachers", "bits": "bits", "seed": "seeds"}

    @model_validator(mode="after")
    def _known(self) -> Self:
        one_of("teacher", self.teacher, backbones.names())
        profiles.code_length(self.bits)
        return self

    @property
    def folder(self) -> Path:
        """Where checkpoint and record go."""
        return self.place("teacher", self.teacher, self.bits, self.seed)


class RedundancyRun(TeacherRun):
    """The analysis of a teacher's bits, with the clusters and the margin of the profile's first BRCD method."""

    firsts = TeacherRun.firsts

    @property
    def settings(self) -> Settings:
        """The profile's settings, those of its first method that is BRCD laid over them, and then the change."""
        uses = (name for name in self.study.methods if self.study.resolve(name).distillation.name == "brcd")
        return self.study.resolve(next(uses, None), self.change)

    @property
    def folder(self) -> Path:
        """Where the record goes; checkpoint and record of the teacher are in its own folder."""
        return self.place("redundancy", self.teacher, self.bits, self.seed)

    def teacher_run(self) -> TeacherRun:
        """The run of the teacher."""
        return teacher_of(self)


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
        return self.study.resolve(getattr(self, "method", None), self.change)

    @property
    def folder(self) -> Path:
        """Where checkpoint and record go."""
        return self.place("student", self.teacher, self.student, self.method, self.bits, self.seed)

    def teacher_run(self) -> TeacherRun:
        """The run of the teacher."""
        return teacher_of(self)


def teacher_of(run: TeacherRun) -> TeacherRun:
    """The run of the teacher that a student or an analysis belongs to; a change of the student is none of it."""
    values = {name: getattr(run, name) for name in TeacherRun.model_fields}
    change = {name: value for name, value in run.change.items() if name not in ("student", "distillation", "select")}
    return TeacherRun(**values | {"change": change})


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


def teachers(profile: str) -> list[TeacherRun]:
    """All teachers of a profile, each once, in the profile's order."""
    return _unique(
        TeacherRun(profile=profile, teacher=teacher, bits=bits, seed=seed)
        for block in profiles.load(profile).runs
        for teacher in block.teachers
        for bits in block.bits
        for seed in block.seeds
    )


def students(profile: str) -> list[StudentRun]:
    """All students of a profile, each once, in the profile's order."""
    return _unique(
        StudentRun(profile=profile, teacher=teacher, student=student, method=method, bits=bits, seed=seed)
        for block in profiles.load(profile).runs
        for teacher in block.teachers
        for student in block.students
        for bits in block.bits
        for seed in block.seeds
        for method in block.methods
    )


def redundancy(profile: str) -> list[RedundancyRun]:
    """The bit analysis of each kind of teacher of a profile, with its first seed."""
    firsts = {(run.teacher, run.bits): run for run in reversed(teachers(profile))}
    return [RedundancyRun(**run.model_dump()) for run in reversed(firsts.values())]


def features(profile: str) -> list[FeatureRun]:
    """One run for each backbone that takes part in a profile."""
    blocks = profiles.load(profile).runs
    return _unique(
        FeatureRun(profile=profile, backbone=name) for block in blocks for name in block.teachers + block.students
    )


def every(profile: str) -> list[ChangedRun]:
    """All runs of a profile that leave a record, in an order in which they can be run."""
    return [*features(profile), *teachers(profile), *students(profile), *redundancy(profile)]


def _unique(runs: Any) -> list[Any]:
    return list({run.folder: run for run in runs}.values())
