"""The whole chain on the committed images and tiny encoders, called as the notebooks call it."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from brcd_core import plots, records, retrieval, tables
from brcd_core.hashing import HashHead
from brcd_core.records import RecordError
from brcd_core.study import collect, features, redundancy, runs, search, student, summary, teacher
from brcd_core.training import TrainingError
from brcd_core.views import bank


def quiet(line):
    pass


@pytest.fixture(scope="module")
def chain(places):
    """All runs of the smoke profile, once."""
    for run in runs.features("smoke"):
        features.prepare(run)
    for run in runs.teachers("smoke"):
        teacher.train_teacher(run, quiet)
    for run in runs.students("smoke"):
        student.train_student(run, quiet)
    for run in runs.redundancy("smoke"):
        redundancy.analyse(run, quiet)
    return places


def first_student(method="brcd", **more):
    return runs.StudentRun(profile="smoke", method=method, **more)


def test_every_run_leaves_a_record_and_a_checkpoint(chain):
    for run in runs.every("smoke"):
        record = records.read(run.folder)
        assert record["run"] == run.model_dump(mode="json")
        assert record["provenance"]["inputs"]["banks"]
    for run in [*runs.teachers("smoke"), *runs.students("smoke")]:
        assert load_file(run.folder / "head.safetensors")["layers.0.weight"].isfinite().all()


def test_a_students_metrics_are_those_of_its_checkpoint(chain):
    """From checkpoint and features to mAP by a loop over queries; nothing of the study's own evaluation."""
    run = first_student()
    record = records.read(run.folder)
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    heads = {"student": student.student(run).head, "teacher": teacher.teacher(run.teacher_run()).head}

    def codes(role, split):
        logits = heads[role](inputs.features(role, split).float())
        return np.where(logits.detach().numpy() >= 0, 1, -1)

    labels = inputs.labels
    for paradigm, role in (("sshp", "student"), ("ashp", "teacher")):
        query, database = codes("student", "query"), codes(role, "database")
        expected = []
        for code, label in zip(query, labels["query"]):
            distance = (run.bits - database @ code) // 2
            order = np.argsort(distance, kind="stable")[: run.settings.evaluation.k]
            right = (labels["database"][order] & label).any(1)
            hits = np.cumsum(right)
            precisions = hits / np.arange(1, len(right) + 1)
            expected.append((precisions * right).sum() / max(hits[-1], 1))
        assert record["metrics"][paradigm]["map_stable"] == pytest.approx(np.mean(expected), rel=1e-9)


def test_the_checkpoint_is_the_best_validation(chain):
    for run in runs.students("smoke"):
        training = records.read(run.folder)["training"]
        scores = [run.settings.score()(row) for row in training["history"]]
        best = training["history"][int(np.argmax(scores))]
        assert training["best_epoch"] == best["epoch"]
        assert training["validation"] == {name: best[name] for name in ("map_sshp", "map_ashp")}


def test_the_same_seed_gives_the_same_numbers(chain):
    run = first_student()
    before = records.read(run.folder)
    again = student.train_student(run, quiet).record
    assert again["metrics"] == before["metrics"] and again["curves"] == before["curves"]
    assert again["training"]["history"] == before["training"]["history"]


def test_student_alone_does_not_learn_from_the_teacher(chain, monkeypatch):
    """Another teacher, the same student."""
    run = first_student("alone")
    before = records.read(run.folder)["metrics"]["sshp"]
    real = HashHead.hash
    # Only the teacher's features have 64 dimensions.
    monkeypatch.setattr(HashHead, "hash", lambda self, x: real(self, x if x.shape[1] == 48 else -x))
    assert student.train_student(run, quiet).record["metrics"]["sshp"] == before


def test_a_finished_run_is_loaded_and_one_of_other_settings_is_not(chain, monkeypatch):
    run = first_student()
    monkeypatch.setattr(student, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert student.student(run, quiet).record == records.read(run.folder)
    record = records.read(run.folder)
    record["settings"]["student"]["hidden"] = 1
    path = run.folder / records.NAME
    whole = path.read_text()
    path.write_text(json.dumps(record))
    with pytest.raises(pytest.fail.Exception):
        student.student(run, quiet)
    path.write_text(whole)


def test_a_student_of_another_teacher_is_found(chain):
    run = first_student()
    path = run.folder / records.NAME
    whole = path.read_text()
    record = json.loads(whole)
    record["provenance"]["inputs"]["teacher"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="brcd, 16 bits, seed 0 learnt from another teacher"):
        collect.collect("smoke")
    lines = []
    assert student.student(run, lines.append).record["metrics"] == json.loads(whole)["metrics"]
    assert any("another teacher" in line for line in lines)


def test_fresh_views_train_without_a_bank(chain):
    change = {"views": {"count": 0}, "student": {"training": {"epochs": 2}}, "teacher": {"training": {"epochs": 2}}}
    run = first_student(change=change)
    record = student.train_student(run, quiet).record
    assert not any("-train-" in name for name in record["provenance"]["inputs"]["banks"])
    assert math.isfinite(record["training"]["history"][-1]["loss"])


def test_logits_are_a_feature_that_tiny_encoders_do_not_have(chain):
    run = first_student(change={"student": {"feature": "logits"}})
    with pytest.raises(ValueError, match="tiny_student has no feature 'logits'; it has: penultimate"):
        student.train_student(run, quiet)


def test_a_bank_with_a_flipped_byte_stops_the_run(chain):
    folder = next((chain / "cache" / "banks").glob("tiny_student-train-*[!k]"))
    path = folder / "features.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(bank.BankError, match=r"features\.npy.*[Dd]elete"):
        student.train_student(first_student(), quiet)
    path.write_bytes(whole)


def test_nan_in_the_loss_stops_the_run_and_keeps_the_best_checkpoint(chain, monkeypatch):
    run = first_student(change={"student": {"hidden": 4}})
    calls = iter(range(10_000))
    real = student.distillation.methods.load("brcd").loss

    def poisoned(*arguments):
        return real(*arguments) * (float("nan") if next(calls) == 5 else 1.0)

    monkeypatch.setattr(student.distillation.methods.load("brcd"), "loss", poisoned)
    with pytest.raises(TrainingError, match="step 2 of epoch 3"):
        student.train_student(run, quiet)
    assert (run.folder / "head.safetensors").exists() and not records.finished(run.folder)


def test_redundancy_agrees_with_what_the_loss_uses(chain):
    run = runs.redundancy("smoke")[0]
    analysis = records.read(run.folder)["analysis"]
    inputs = features.load_inputs(run.settings, {"teacher": run.teacher})
    (codes,) = inputs.codes(teacher.teacher(run.teacher_run()).head, "teacher", "train")
    knowledge = student.TeacherKnowledge(torch.as_tensor(codes).float(), run.seed)
    prepared = student.distillation.methods.load("brcd").prepare(knowledge, run.settings.distillation_settings())
    mask = np.abs(np.array(analysis["means"])) > analysis["margin"]
    assert np.array_equal(mask, prepared.mask.numpy().astype(bool))
    assert np.sum(analysis["class_counts"]) == len(codes) == sum(analysis["sizes"])
    nothing = {row["dropped"]: row["map"] for row in analysis["dropping"] if row["fraction"] == 0}
    reference = records.read(run.teacher_run().folder)["metrics"]["teacher"]["map"]
    assert all(value == pytest.approx(reference) for value in nothing.values())


def test_search_shows_the_nearest_codes(chain):
    found = search.search(runs.SearchRun(profile="smoke", queries=3, shown=4, method="brcd"), quiet)
    for name, (asks, answers) in {"teacher": ("teacher",) * 2, "ASHP": ("student", "teacher")}.items():
        run = first_student()
        heads = {"student": student.student(run).head, "teacher": teacher.teacher(run.teacher_run()).head}
        query = found.inputs.codes(heads[asks], asks, "query")[0][found.queries]
        database = found.inputs.codes(heads[answers], answers, "database")[0]
        distances = (query[:, None] != database[None]).sum(2)
        assert np.array_equal(np.sort(distances, axis=1)[:, :4], found.hits[name].distances)
        assert np.array_equal(np.take_along_axis(distances, found.hits[name].positions, 1), found.hits[name].distances)
    assert list(found.summary().columns) == ["query", "teacher", "SSHP", "ASHP"]
    plots.search_panel(**found.panel())


def test_tables_and_figures_come_from_records_alone_and_byte_for_byte(chain):
    collected = collect.collect("smoke")
    run = runs.StudyRun(profile="smoke")

    def build():
        summary.rebuild(run, records.load_all(run.results / collect.COLLECTED))
        return {path: path.read_bytes() for top in (run.results / "tables", run.figures) for path in top.iterdir()}

    first = build()
    for path in first:
        path.unlink()
    assert build() == first and len(first) > 20
    values = [
        record["metrics"]["ashp"]["map"]
        for record in collected
        if record["kind"] == "student" and record["run"]["method"] == "brcd"
    ]
    assert f"{np.mean(values):.3f}" in tables.main_table(collected).plain()


def test_a_missing_record_is_named(chain):
    path = runs.students("smoke")[0].folder / records.NAME
    whole = path.read_text()
    path.unlink()
    with pytest.raises(RecordError, match=r"(?s)1 of the .* runs of profile 'smoke'.*make study PROFILE=smoke"):
        collect.collect("smoke")
    path.write_text(whole)


def test_multi_label_relevance_is_what_the_evaluation_uses():
    query, database = np.array([[True, True, False]]), np.eye(3, dtype=bool)
    counts = retrieval.counts(np.ones((1, 8)), np.ones((3, 8)), query, database)
    assert counts.relevant[0, 0] == 2
