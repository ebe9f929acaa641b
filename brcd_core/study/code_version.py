"""Which code made a run: a fingerprint of the modules that its numbers depend on.

In place of the files' times, so that opening and saving a file runs nothing again; nor do comments and docstrings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from brcd_core import distillation
from brcd_core.config import fingerprint
from brcd_core.study.runs import FeatureRun, RedundancyRun, StudentRun, StudentsRun, TeacherRun, WeightsRun

PACKAGE = Path(__file__).resolve().parents[1]
FEATURES = ("views/*.py", "backbones/*.py", "datasets/*.py", "study/features.py", "study/banking.py")
HEADS = (
    "training.py", "checkpoints.py", "profiles.py", "retrieval.py", "agreement.py", "codes.py", "hashing/heads.py",
    "study/features.py", "study/heads.py", "study/outcome.py", "study/teacher.py",
)  # fmt: skip
STUDENTS = (*HEADS, "study/distil.py", "study/weights.py", "study/student.py", "bits.py")


def of(run: FeatureRun | TeacherRun) -> str:
    """The fingerprint of the code of a run."""
    if isinstance(run, FeatureRun):
        return of_files(FEATURES)
    hash_model = f"hashing/{run.hash_model}.py"
    if isinstance(run, StudentRun):
        return of_files([*STUDENTS, hash_model, *_methods([run.settings.distillation.name])])
    if isinstance(run, StudentsRun):
        return fingerprint([of(one) for one in run.student_runs()])
    if isinstance(run, WeightsRun):
        names = [run.method_settings(method).distillation.name for method in run.methods]
        return of_files([*STUDENTS, hash_model, *_methods(names)])
    if isinstance(run, RedundancyRun):
        return of_files(["bits.py", "retrieval.py", "codes.py", "study/redundancy.py", *_methods(["brcd"])])
    return of_files([*HEADS, hash_model])


def of_files(patterns: Iterable[str]) -> str:
    """The fingerprint of modules of brcd_core, named by patterns from its folder."""
    files = sorted({path for pattern in patterns for path in PACKAGE.glob(pattern)})
    return fingerprint([_code(path.read_text(encoding="utf-8")) for path in files])


def _methods(names: Iterable[str]) -> list[str]:
    """The files of distillation methods, and what these share."""
    return [f"distillation/{name}.py" for name in (*names, *distillation.methods.other_modules)]


@cache
def _code(source: str) -> str:
    """A module's syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
