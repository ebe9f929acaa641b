"""The weight of a distillation method, chosen on validation: all get the same small grid and the same budget."""

from __future__ import annotations

import math
import time
from typing import Any

from brcd_core import checkpoints, records
from brcd_core.config import Frozen
from brcd_core.records import Record
from brcd_core.study import code_version
from brcd_core.study.distil import distil
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import Report, finished, one_at_a_time
from brcd_core.study.runs import StudentRun, WeightsRun
from brcd_core.study.teacher import student_sources, teacher
from brcd_core.training import TrainingError


def method_settings(run: StudentRun, report: Report = print) -> Frozen:
    """The settings of a student's distillation method, its weight being the chosen one where one is chosen.

    The choice comes from its run, which is done now where there is none of these settings.
    """
    settings, choice = run.settings.distillation_settings(), run.weights_run()
    if choice is None:
        return settings
    line = next(line for line in weights(choice, report)["grid"] if line["chosen"])
    return settings.model_copy(update={"weight": line["weight"]})


def weights(run: WeightsRun, report: Report = print) -> Record:
    """The record of a choice, which is made now where there is none of these settings, this code and these inputs."""
    with one_at_a_time(run.folder):
        return finished(run, lambda: student_sources(run, report), report) or _choose(run, report)


def choose_weight(run: WeightsRun, report: Report = print) -> Record:
    """Train a student at each factor of the method's published weight, keep the best factor, leave a record.

    A score is that of the validation split at the epoch that it picks; of two equal ones the factor nearer to 1,
    the published weight, is kept. Query images are not looked at, and no student is left. A factor at which
    training fails has no score. TrainingError if all fail.
    """
    with one_at_a_time(run.folder):
        return _choose(run, report)


def _choose(run: WeightsRun, report: Report) -> Record:
    started = time.perf_counter()
    settings = run.settings
    records.forget(run.folder)
    inputs = load_inputs(settings, {"student": run.student, "teacher": run.teacher})
    taught_by = teacher(run.teacher_run(), report).head.to(inputs.device)
    published: Any = settings.distillation_settings()
    lines: list[Record] = []
    for factor in settings.weights.factors:
        tuned = published.model_copy(update={"weight": published.weight * factor})
        line = {"method": run.method, "distillation": settings.distillation.name, "factor": factor}
        line |= {"weight": tuned.weight, "score": None, "best_epoch": None, "chosen": False}
        try:
            _, done = distil(inputs, taught_by, tuned, run.bits, run.seed, _keep_none, _say_nothing)
            line |= done.best_scores | {"score": settings.score()(done.best_scores), "best_epoch": done.best_epoch}
            report(f"{run.method}, weight {tuned.weight:g}: validation score {line['score']:.4f}")
        except TrainingError as error:
            report(f"{run.method}, weight {tuned.weight:g}: {error}")
        lines.append(line)
    scored = [line for line in lines if line["score"] is not None]
    if not scored:
        raise TrainingError(f"{run.method}: training fails at every weight of the grid; see above for each")
    best = max(scored, key=lambda line: (line["score"], -abs(math.log(line["factor"]))))
    best["chosen"] = True
    sources = inputs.checksums | {"teacher": checkpoints.checksum(taught_by)}
    record = {
        "kind": "weights",
        "run": run.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "code": code_version.of(run),
        "lengths": settings.weights.group(run.bits),
        "grid": lines,
        "metrics": {},
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, sources),
    }
    records.write(run.folder, record)
    return record


def _keep_none(head: object, epoch: int) -> None:
    """The students of the grid are thrown away."""


def _say_nothing(line: str) -> None:
    """Their epochs are not reported either."""
