"""How many cached views are enough: the same teacher and student on more and more views, or on views read once."""

from __future__ import annotations

import time

from brcd_core import records
from brcd_core.records import Record
from brcd_core.study import code_version
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import Report, one_at_a_time
from brcd_core.study.runs import StudentRun
from brcd_core.study.student import student
from brcd_core.study.teacher import teacher
from brcd_core.study.view_counts_run import ViewCountsRun


def count_views(run: ViewCountsRun, report: Report = print) -> Record:
    """Train teacher and student for each number of views and seed, score both on the query split, leave a record.

    Those that are finished are not trained again. All read one bank, so that a view is the same in every run. Where
    the weight of the distillation is chosen, that is done once for all, with the profile's own views: `weight_views`.
    """
    with one_at_a_time(run.folder):
        started = time.perf_counter()
        records.forget(run.folder)
        inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
        choice = run.weights_run()
        measure = "map" if inputs.labelled else "agreement"
        record = {
            "kind": "view_counts",
            "run": run.model_dump(mode="json"),
            "settings": run.settings.model_dump(mode="json"),
            "code": code_version.of(run),
            "measure": measure,
            "weight_views": choice.settings.views.model_dump(mode="json") if choice else None,
            "rows": [_row(views, one, measure, report) for (views, _), one in run.student_runs().items()],
            "metrics": {},
            "provenance": records.provenance(inputs.device, time.perf_counter() - started, inputs.checksums),
        }
        records.write(run.folder, record)
        return record


def _row(views: int | str, run: StudentRun, measure: str, report: Report) -> Record:
    """A teacher and its student: scores of query and validation split, epochs, images that passed each backbone.

    A bank needs `views` of each image. Views that are read once would be computed for each head anew: two an epoch,
    and those of the student for its teacher too.
    """
    report(f"--- views: {views}, seed {run.seed}")
    found = {"teacher": teacher(run.teacher_run(), report).record, "student": student(run, report).record}
    metrics = found["teacher"]["metrics"] | found["student"]["metrics"]
    training = {role: record["training"] for role, record in found.items()}
    encoded = {"teacher": views, "student": views}
    if views == "once":
        read = {role: 2 * told["epochs"] for role, told in training.items()}
        encoded = {"teacher": read["teacher"] + read["student"], "student": read["student"]}
    row: Record = {"views": views, "seed": run.seed}
    row |= {f"{measure}_{paradigm}": scores[measure] for paradigm, scores in metrics.items()}
    row[f"validation_{measure}_teacher"] = training["teacher"]["validation"][measure]
    for paradigm in ("sshp", "ashp"):
        name = f"{measure}_{paradigm}"
        row[f"validation_{name}"] = training["student"]["validation"][name]
    for role, told in training.items():
        row |= {f"epochs_{role}": told["epochs"], f"best_epoch_{role}": told["best_epoch"]}
        row |= {f"images_{role}": run.settings.data.train * encoded[role]}
    return row
