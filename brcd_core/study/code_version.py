"""Which code made a run: a fingerprint of the modules that its numbers depend on.

In place of the files' times, so that opening and saving a file runs nothing again; nor do comments and docstrings.
The files are read once, when a process starts: an edit while a run is going on does not become its code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from brcd_core.config import fingerprint
from brcd_core.study.runs import FeatureRun, RedundancyRun, StudentRun, StudentsRun, TeacherRun, WeightsRun
from brcd_core.study.view_counts_run import ViewCountsRun

FEATURES = ("views/*.py", "backbones/*.py", "datasets/*.py", "study/features.py", "study/banking.py")
HEADS = (
    "training.py", "checkpoints.py", "settings.py", "retrieval.py", "agreement.py", "codes.py", "hashing/heads.py",
    "views/sources.py", "study/features.py", "study/heads.py", "study/outcome.py", "study/teacher.py",
)  # fmt: skip
STUDENTS = (*HEADS, "bits.py", "distillation/batch.py", "study/distil.py", "study/weights.py", "study/student.py")


def read_package(folder: Path) -> dict[str, str]:
    """The text of every module below a folder, by its path from there."""
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.py"))}


SHOWN: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}  # as ast.dump did until then
MODULES = read_package(Path(__file__).resolve().parents[1])


def of(run: FeatureRun | TeacherRun | ViewCountsRun) -> str:
    """The fingerprint of the code of a run."""
    if isinstance(run, FeatureRun):
        return of_files(FEATURES)
    if isinstance(run, ViewCountsRun):
        return fingerprint([of_files(["study/view_counts.py"]), of(next(iter(run.student_runs().values())))])
    hash_model = f"hashing/{run.hash_model}.py"
    if isinstance(run, StudentsRun):
        return fingerprint([of(one) for one in run.student_runs()])
    if isinstance(run, StudentRun | WeightsRun):
        return of_files([*STUDENTS, *_with_imports(hash_model, f"distillation/{run.settings.distillation.name}.py")])
    if isinstance(run, RedundancyRun):
        return of_files(["bits.py", "retrieval.py", "codes.py", "study/redundancy.py", "distillation/brcd.py"])
    return of_files([*HEADS, *_with_imports(hash_model)])


def of_files(patterns: Iterable[str]) -> str:
    """The fingerprint of modules of brcd_core, named by patterns from its folder."""
    patterns = list(patterns)
    names = [name for name in MODULES if any(fnmatch(name, pattern) for pattern in patterns)]
    return fingerprint([_code(MODULES[name]) for name in names])


def _with_imports(*names: str) -> list[str]:
    """Methods' files, and what these import from beside themselves."""
    found: list[str] = []
    for name in names:
        package = name.split("/")[0]
        beside = re.findall(rf"from brcd_core\.{package}\.(\w+) import", MODULES.get(name, ""))
        found += [name, *(f"{package}/{other}.py" for other in beside)]
    return found


@cache
def _code(source: str) -> str:
    """A module's syntax tree without docstrings, the same text on Python 3.11, 3.12 and 3.13."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
        if getattr(node, "type_params", None) == []:
            del node.type_params  # type: ignore[attr-defined]  # a field from 3.12 on
    return ast.dump(tree, **SHOWN)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
