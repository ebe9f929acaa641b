"""The weight of each distillation method, chosen on validation: all get the same small grid and the same budget."""

from __future__ import annotations

import math
import time
from typing import Any

from brcd_core import checkpoints, distillation, records
from brcd_core.config import Frozen
from brcd_core.records import Record
from brcd_core.study import code_version
from brcd_core.study.distil import distil
from brcd_core.study.features import load_inputs, uses_rotated
from brcd_core.study.outcome import Report
from brcd_core.study.runs import StudentRun, WeightsRun
from brcd_core.study.teacher import teacher


def method_settings(run: StudentRun, report: Report = print) -> Frozen:
    """The settings of a student's distillation method, its weight being the chosen one where one is chosen.

    The choice comes from its run, which is done now where there is none of these settings.
    """
    settings, choice = run.settings.distillation_settings(), run.weights_run()
    if choice is None:
        return settings
    method = run.study.plain_method(run.settings.distillation.name)
    line = next(line for line in weights(choice, report)["grid"] if line["method"] == method and line["chosen"])
    return settings.model_copy(update={"weight": line["weight"]})


def weights(run: WeightsRun, report: Report = print) -> Record:
    """The record of a choice of weights, which is made now where there is none of these settings and this code."""
    if records.finished(run.folder):
        record = records.read(run.folder)
        if record.get("tried") == run.made_with() and record.get("code") == code_version.of(run):
            return record
    report(f"{run.folder} has no choice of weights of these settings: making it now")
    return choose_weights(run, report)


def choose_weights(run: WeightsRun, report: Report = print) -> Record:
    """Train a student with each method at each factor of its published weight, keep the best factor of each.

    A score is that of the validation split at the epoch that it picks; of two equal ones the factor nearer to 1,
    the published weight, is kept. Query images are not looked at. Leaves a record, but no student.
    """
    started = time.perf_counter()
    records.forget(run.folder)
    taught_by = teacher(run.teacher_run(), report).head
    grid: list[Record] = []
    checksums: dict[str, Any] = {}
    for method in run.methods:
        settings = run.method_settings(method)
        needs_rotated = uses_rotated(distillation.methods.load(settings.distillation.name))
        inputs = load_inputs(settings, {"student": run.student, "teacher": run.teacher}, needs_rotated)
        checksums = inputs.checksums
        lines: list[Record] = []
        for factor in settings.weights.factors:
            published: Any = settings.distillation_settings()
            tuned = published.model_copy(update={"weight": published.weight * factor})
            _, done = distil(inputs, taught_by.to(inputs.device), tuned, run.bits, run.seed, _keep_none, _say_nothing)
            lines.append(
                {"method": method, "distillation": settings.distillation.name, "factor": factor}
                | {"weight": tuned.weight, "best_epoch": done.best_epoch}
                | done.best_scores
                | {"score": settings.score()(done.best_scores)}
            )
            report(f"{method}, weight {tuned.weight:g}: validation score {lines[-1]['score']:.4f}")
        best = max(lines, key=lambda line: (line["score"], -abs(math.log(line["factor"]))))
        grid += [line | {"chosen": line is best} for line in lines]
    sources = checksums | {"teacher": checkpoints.checksum(taught_by)}
    record = {
        "kind": "weights",
        "run": run.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "tried": run.made_with(),
        "code": code_version.of(run),
        "lengths": run.settings.weights.group(run.bits),
        "grid": grid,
        "metrics": {},
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, sources),
    }
    records.write(run.folder, record)
    return record


def _keep_none(head: object, epoch: int) -> None:
    """The students of the grid are thrown away."""


def _say_nothing(line: str) -> None:
    """Their epochs are not reported either."""
