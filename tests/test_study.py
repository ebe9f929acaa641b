"""The whole chain on the committed images and tiny encoders, called as the notebooks call it."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from brcd_core import backbones, distillation, hashing, plots, records, retrieval, tables
from brcd_core.hashing import HashHead
from brcd_core.records import RecordError
from brcd_core.study import (
    banking,
    collect,
    distil,
    features,
    plan,
    redundancy,
    runs,
    search,
    student,
    summary,
    teacher,
    view_counts,
    weights,
)
from brcd_core.training import TrainingError
from brcd_core.views import bank
from brcd_core.views.augmentation import augment


def quiet(line):
    pass


@pytest.fixture(scope="module")
def chain(places):
    """All runs of the smoke profile, once."""
    for run in plan.features("smoke"):
        features.prepare(run)
    for run in plan.teachers("smoke"):
        teacher.train_teacher(run, quiet)
    for run in plan.weights("smoke"):
        weights.choose_weight(run, quiet)
    for run in plan.student_groups("smoke"):
        student.students(run, quiet)
    for run in plan.redundancy("smoke"):
        redundancy.analyse(run, quiet)
    for run in plan.view_counts("smoke"):
        view_counts.count_views(run, quiet)
    return places


def first_student(method="brcd", **more):
    return runs.StudentRun(profile="smoke", method=method, **more)


def test_every_run_leaves_a_record_and_a_checkpoint(chain):
    for run in plan.every("smoke"):
        record = records.read(run.folder)
        assert record["run"] == run.model_dump(mode="json")
        assert record["provenance"]["inputs"]["banks"]
    for run in [*plan.teachers("smoke"), *plan.students("smoke")]:
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
    for run in plan.students("smoke"):
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
    monkeypatch.setattr(distil, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert student.student(run, quiet).record == records.read(run.folder)
    record = records.read(run.folder)
    record["settings"]["student"]["hidden"] = 1
    path = run.folder / records.NAME
    whole = path.read_text()
    records.write(run.folder, record)
    with pytest.raises(pytest.fail.Exception):
        student.student(run, quiet)
    path.write_text(whole)


def test_a_student_of_another_teacher_is_found(chain):
    run = first_student()
    path = run.folder / records.NAME
    whole = path.read_text()
    record = records.read(run.folder)
    record["provenance"]["inputs"]["teacher"] = "0" * 64
    records.write(run.folder, record)
    with pytest.raises(RecordError, match=r"student .*brcd, 16 bits, seed 0 is of another teacher"):
        collect.collect("smoke")
    lines = []
    assert student.student(run, lines.append).record["metrics"] == json.loads(whole)["metrics"]
    assert any("another teacher" in line for line in lines)


def test_a_bit_analysis_of_another_teacher_is_found(chain, monkeypatch):
    run = plan.redundancy("smoke")[0]
    whole = records.read(run.folder)
    sources = whole["provenance"]["inputs"] | {"teacher": "0" * 64}
    records.write(run.folder, whole | {"provenance": whole["provenance"] | {"inputs": sources}})
    with pytest.raises(RecordError, match="redundancy tiny_teacher, 16 bits, seed 0 is of another teacher"):
        collect.collect("smoke")
    records.write(run.folder, whole)


def test_every_number_of_views_has_its_own_teacher_and_student_of_one_bank(chain, monkeypatch):
    run = plan.view_counts("smoke")[0]
    record = records.read(run.folder)
    own = records.read(first_student().folder)["provenance"]["inputs"]["banks"]
    assert [(row["views"], row["seed"]) for row in record["rows"]] == [
        (1, 0), (1, 1), (4, 0), (4, 1), ("once", 0), ("once", 1)
    ]  # fmt: skip
    for row, one in zip(record["rows"], run.student_runs().values()):
        students, teachers = (records.read(each.folder) for each in (one, one.teacher_run()))
        assert students["provenance"]["inputs"]["banks"] == own
        assert students["provenance"]["inputs"]["teacher"] == teachers["checkpoint"]
        assert row["map_teacher"] == teachers["metrics"]["teacher"]["map"]
        assert (row["map_sshp"], row["map_ashp"]) == tuple(students["metrics"][p]["map"] for p in ("sshp", "ashp"))
        told = students["training"]["validation"] | {"map_teacher": teachers["training"]["validation"]["map"]}
        assert told == {name: row[f"validation_{name}"] for name in ("map_sshp", "map_ashp", "map_teacher")}
        assert row["epochs_student"] == students["training"]["epochs"]
        if row["views"] == "once":
            steps = row["epochs_teacher"] + row["epochs_student"]
            assert (row["images_teacher"], row["images_student"]) == (200 * steps, 200 * row["epochs_student"])
        else:
            assert row["images_teacher"] == row["images_student"] == 100 * row["views"]
    assert len({row["map_teacher"] for row in record["rows"]}) == 6
    choice = {one.weights_run().folder for one in run.student_runs().values()}
    assert choice == {first_student().weights_run().folder}
    assert record["weight_views"] == first_student().settings.views.model_dump(mode="json")
    # Interrupted and started again it trains none of them again.
    monkeypatch.setattr(distil, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert view_counts.count_views(run, quiet)["rows"] == record["rows"]


def test_all_views_of_the_bank_are_the_same_as_no_number(chain):
    run = first_student(change={"views": {"used": 20}})
    assert student.train_student(run, quiet).record["metrics"] == records.read(first_student().folder)["metrics"]


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
    run = first_student()
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    path = chain / "cache" / "banks" / inputs.banks["student"]["train"].settings.name / "features.npy"
    banking.opened.cache_clear()  # as a new process begins
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(bank.BankError, match=r"features\.npy.*[Dd]elete"):
        student.train_student(run, quiet)
    path.write_bytes(whole)
    banking.opened.cache_clear()


def test_nan_in_the_loss_stops_the_run_and_keeps_the_best_checkpoint(chain, monkeypatch):
    run = first_student(change={"student": {"hidden": 4}})
    calls = iter(range(10_000))
    brcd = distillation.methods.load("brcd")
    real = brcd.loss

    def poisoned(*arguments):
        return real(*arguments) * (float("nan") if next(calls) == 5 else 1.0)

    monkeypatch.setattr(brcd, "loss", poisoned)
    with pytest.raises(TrainingError, match="step 2 of epoch 3"):
        student.train_student(run, quiet)
    assert (run.folder / "head.safetensors").exists() and not records.finished(run.folder)


def test_redundancy_agrees_with_what_the_loss_uses(chain):
    run = plan.redundancy("smoke")[0]
    analysis = records.read(run.folder)["analysis"]
    inputs = features.load_inputs(run.settings, {"teacher": run.teacher})
    (codes,) = inputs.codes(teacher.teacher(run.teacher_run()).head, "teacher", "train")
    knowledge = distillation.TeacherKnowledge(torch.as_tensor(codes).float(), run.seed)
    prepared = distillation.methods.load("brcd").prepare(knowledge, run.settings.distillation_settings())
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
        if record["kind"] == "student" and record["run"]["method"] == "brcd" and "main" in record["parts"]
        and record["run"]["bits"] == 16
    ]
    assert f"{np.mean(values):.3f}" in tables.main_table(collected).plain()


def test_a_missing_record_is_named(chain):
    path = plan.students("smoke")[0].folder / records.NAME
    whole = path.read_text()
    path.unlink()
    with pytest.raises(RecordError, match=r"(?s)1 of the .* runs of profile 'smoke'.*make study PROFILE=smoke"):
        collect.collect("smoke")
    path.write_text(whole)


def test_the_chosen_weight_has_the_best_validation_score_and_is_the_one_that_students_get(chain):
    for choice in plan.weights("smoke"):
        lines = records.read(choice.folder)["grid"]
        assert [line["factor"] for line in lines] == choice.settings.weights.factors
        (chosen,) = (line for line in lines if line["chosen"])
        assert chosen["score"] == max(line["score"] for line in lines)
        assert chosen["score"] == pytest.approx((chosen["map_sshp"] + chosen["map_ashp"]) / 2)
    for run in plan.students("smoke"):
        used = records.read(run.folder)["resolved"]["distillation"].get("weight")
        choice = run.weights_run()
        if choice is None:
            assert used == run.settings.distillation.settings.get("weight")
            continue
        assert choice.method == run.study.plain_method(run.settings.distillation.name)
        grid = records.read(choice.folder)["grid"]
        assert used == next(line["weight"] for line in grid if line["chosen"])


def test_the_choice_of_weights_looks_at_no_query(chain, monkeypatch):
    choice = plan.weights("smoke")[0]
    before = records.read(choice.folder)["grid"]
    real = features.Inputs.features

    def without_queries(self, role, split):
        assert split != "query"
        return real(self, role, split)

    monkeypatch.setattr(features.Inputs, "features", without_queries)
    assert weights.choose_weight(choice, quiet)["grid"] == before


def test_a_weight_at_which_training_fails_is_not_chosen(chain, monkeypatch):
    choice = plan.weights("smoke")[-1]
    real, calls = distil.fit, iter(range(100))

    def fails_first(*arguments, **named):
        if next(calls) == 0:
            raise TrainingError("the loss is nan")
        return real(*arguments, **named)

    monkeypatch.setattr(distil, "fit", fails_first)
    lines = weights.choose_weight(choice, quiet)["grid"]
    assert [(line["score"] is None, line["chosen"]) for line in lines] == [(True, False), (False, True)]
    monkeypatch.setattr(distil, "fit", real)
    weights.choose_weight(choice, quiet)


def test_another_choice_of_weight_trains_the_student_again(chain):
    run = first_student()
    path = run.weights_run().folder / records.NAME
    whole = path.read_text()
    record = records.read(run.weights_run().folder)
    for line in record["grid"]:
        line["chosen"] = not line["chosen"]
    records.write(path.parent, record)
    lines = []
    other = student.student(run, lines.append).record["resolved"]["distillation"]["weight"]
    assert any("another weight" in line for line in lines)
    path.write_text(whole)
    assert other != student.student(run, quiet).record["resolved"]["distillation"]["weight"]


def test_finished_students_of_a_group_are_not_trained_again(chain, monkeypatch):
    group = plan.student_groups("smoke")[0]
    gone = group.student_runs()[1]
    (gone.folder / records.NAME).unlink()
    trained = []
    real = student._train
    monkeypatch.setattr(student, "_train", lambda run, report: trained.append(run) or real(run, report))
    found = student.students(group, quiet)
    assert trained == [gone] and [record["run"]["method"] for record in found] == group.methods


def test_comparisons_are_the_differences_of_the_scores(chain):
    collected = collect.collect("smoke")
    (record,) = (one for one in collected if one["kind"] == "comparisons")
    scores = {}
    for one in collected:
        if one["kind"] == "student" and "main" in one["parts"]:
            for paradigm in ("sshp", "ashp"):
                key = (one["run"]["method"], one["run"]["bits"], paradigm.upper())
                scores.setdefault(key, []).append(one["metrics"][paradigm]["map"])
    assert {(line["method"], line["bits"], line["paradigm"]) for line in record["lines"]} == {
        key for key in scores if key[0] != "brcd"
    }
    for line in record["lines"]:
        ours, theirs = (np.mean(scores[name, line["bits"], line["paradigm"]]) for name in ("brcd", line["method"]))
        assert line["difference"] == pytest.approx(ours - theirs, abs=1e-6)
        assert line["low"] <= line["difference"] <= line["high"]
        assert line["real"] == (line["low"] > 0 or line["high"] < 0)


def test_a_shallow_hash_model_is_fitted_on_the_features_of_its_role(chain):
    run = runs.StudentRun(profile="smoke", method="alone", hash_model="itq")
    done = student.student(run, quiet)
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    raw = inputs.features("student", "train").float()
    weight, bias = hashing.models.load("itq").fit(raw, run.bits, run.seed, run.settings.hash_settings())
    torch.testing.assert_close(done.head(raw), raw @ weight.T + bias, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="itq is fitted, not trained: it cannot be distilled"):
        student.train_student(runs.StudentRun(profile="smoke", method="brcd", hash_model="itq"), quiet)


def test_rotated_views_are_the_turned_images_of_the_first_view(chain):
    run = first_student("sskd")
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    views, images = run.settings.views, [3, 0, 17]
    ids = inputs.ids["train"][images]
    pixels = augment(inputs.dataset.tensor(ids), ids, 0, views.size, views.seed, views.augmentation)
    found = inputs.views("student", "teacher").rotated(torch.tensor(images))
    for name, features_ in zip((run.student, run.teacher), found):
        encoder = backbones.load(name, size=views.size)
        for turn in (1, 2, 3):
            for place in range(3):
                turned = np.rot90(pixels[place].numpy(), turn, axes=(1, 2)).copy()
                expected = encoder(torch.as_tensor(turned)[None])[0]
                torch.testing.assert_close(features_[(turn - 1) * 3 + place], expected, atol=5e-3, rtol=5e-3)


def test_rotated_views_reach_the_method(chain, monkeypatch):
    seen = []
    sskd = distillation.methods.load("sskd")
    real = sskd.loss
    monkeypatch.setattr(sskd, "loss", lambda batch, *more: seen.append(batch) or real(batch, *more))
    run = first_student("sskd", change={"student": {"training": {"epochs": 1}}})
    student.train_student(run, quiet)
    assert all(len(batch.student_rotated.codes) == 3 * len(batch.images) for batch in seen) and seen
    assert not any(batch.teacher_rotated.logits.requires_grad for batch in seen)


def test_maps_of_codes_have_a_place_for_every_query(chain):
    maps, classes = search.code_maps(runs.SearchRun(profile="smoke", method="brcd"), report=quiet)
    assert list(maps) == ["teacher tiny_teacher", "tiny_student, alone", "tiny_student, brcd"]
    for places_, numbers in maps.values():
        assert places_.shape == (50, 2) and np.isfinite(places_).all()
        assert len(numbers) == 50 and max(numbers) < len(classes)


def test_multi_label_relevance_is_what_the_evaluation_uses():
    query, database = np.array([[True, True, False]]), np.eye(3, dtype=bool)
    counts = retrieval.counts(np.ones((1, 8)), np.ones((3, 8)), query, database)
    assert counts.relevant[0, 0] == 2
