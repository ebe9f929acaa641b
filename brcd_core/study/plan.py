"""Which runs a profile consists of: every combination that its blocks list, each once, in the profile's order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from brcd_core import profiles
from brcd_core.profiles import PARTS, Part
from brcd_core.study.runs import ChangedRun, FeatureRun, RedundancyRun, StudentRun, StudentsRun, TeacherRun, WeightsRun
from brcd_core.study.view_counts_run import ViewCountsRun

Run = TypeVar("Run", FeatureRun, TeacherRun, StudentRun, WeightsRun)
PARAMETERS = {  # a block's list -> the parameter that takes one of it
    "teachers": "teacher", "students": "student", "hash_models": "hash_model", "methods": "method", "seeds": "seed",
}  # fmt: skip


def features(profile: str) -> list[FeatureRun]:
    """One run for each backbone that takes part."""
    blocks = profiles.load(profile).runs
    return _unique(
        FeatureRun(profile=profile, backbone=name) for block in blocks for name in block.teachers + block.students
    )


def teachers(profile: str) -> list[TeacherRun]:
    """All teachers."""
    return _unique(run for _, run in _teachers_with_part(profile))


def students(profile: str) -> list[StudentRun]:
    """All students."""
    return _unique(run for _, run in _students_with_part(profile))


def student_groups(profile: str) -> list[StudentsRun]:
    """All students, those that share part, teacher, backbone, hash model, code length and seed in one run.

    A student of several parts is in the group of the first of them.
    """
    methods: dict[tuple[Any, ...], dict[str, None]] = {}
    part_of = parts(profile)
    for part, run in _students_with_part(profile):
        if part == part_of[run.folder][0]:
            key = (part, run.teacher, run.student, run.hash_model, run.bits, run.seed)
            methods.setdefault(key, {})[run.method] = None
    names = ("part", "teacher", "student", "hash_model", "bits", "seed")
    return [
        StudentsRun(profile=profile, methods=list(found), **dict(zip(names, key, strict=True)))
        for key, found in methods.items()
    ]


def weights(profile: str) -> list[WeightsRun]:
    """The choices of weights that students need, those of the comparison of numbers of views too."""
    needing: list[StudentRun | ViewCountsRun] = [*students(profile), *view_counts(profile)]
    return _unique(choice for run in needing if (choice := run.weights_run()))


def redundancy(profile: str) -> list[RedundancyRun]:
    """The bit analysis of each teacher of the main part with the profile's own hash model, with its first seed."""
    own = profiles.load(profile).settings.hash_model.name
    firsts: dict[tuple[str, int], TeacherRun] = {}
    for part, run in _teachers_with_part(profile):
        if run.hash_model == own and part == "main":
            firsts.setdefault((run.teacher, run.bits), run)
    return [RedundancyRun(**run.model_dump()) for run in firsts.values()]


def view_counts(profile: str) -> list[ViewCountsRun]:
    """The comparison of numbers of views, where the profile asks for one."""
    asked = profiles.load(profile).view_counts
    return [ViewCountsRun.model_validate({"profile": profile})] if asked else []


def every(profile: str) -> list[ChangedRun]:
    """All runs that leave a record, in an order in which they can be run."""
    return [
        *features(profile), *teachers(profile), *weights(profile), *students(profile), *redundancy(profile),
        *view_counts(profile),
    ]  # fmt: skip


def parts(profile: str) -> dict[Path, list[Part]]:
    """Folder of every teacher and student -> the parts of the study that it belongs to, in the order of PARTS."""
    found: dict[Path, set[Part]] = {}
    for part, run in [*_teachers_with_part(profile), *_students_with_part(profile)]:
        found.setdefault(run.folder, set()).add(part)
    return {folder: [part for part in PARTS if part in names] for folder, names in found.items()}


def _combinations(profile: str, *more: str) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Part and parameters of every teacher that a block lists; `more` names further lists to combine with."""
    study = profiles.load(profile)
    for block in study.runs:
        lists = block.model_dump() | {"hash_models": study.hash_models(block)}
        names = ["teachers", "hash_models", "bits", "seeds", *more]
        for values in product(*(lists[name] for name in names)):
            parameters = dict(zip((PARAMETERS.get(name, name) for name in names), values, strict=True))
            yield block.part, {"profile": profile} | parameters


def _teachers_with_part(profile: str) -> Iterator[tuple[Part, TeacherRun]]:
    for part, combination in _combinations(profile):
        yield part, TeacherRun(**combination)


def _students_with_part(profile: str) -> Iterator[tuple[Part, StudentRun]]:
    for part, combination in _combinations(profile, "students", "methods"):
        yield part, StudentRun(**combination)


def _unique(runs: Iterable[Run]) -> list[Run]:
    return list({run.folder: run for run in runs}.values())
