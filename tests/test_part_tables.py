"""The tables of the study's parts against plain loops: comparisons, weights, variations, pairs, efficiency."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import statistics

import pytest
import synthetic_records as made_up
import synthetic_study

from brcd_core import tables
from brcd_core.tables.cells import number
from brcd_core.tables.protocol import protocol
from brcd_core.tables.scores import of_part
from brcd_core.tables.variation_tables import differences

STUDY = synthetic_study.whole_study()
PARTS = (
    tables.main_table, tables.comparisons_table, tables.ablation_table, tables.hash_models_table,
    tables.backbones_table, tables.released_table, tables.efficiency_table, tables.weights_table,
    tables.view_counts_table,
)  # fmt: skip


def lines_of(table):
    return list(csv.DictReader(io.StringIO(table.csv())))


def maps(paradigm, **wanted):
    """mAP of the runs that match, by seed, in a plain loop; CIBHash and DINOv2 if nothing else is asked for."""
    wanted = {"hash_model": "cibhash", "teacher": "dinov2_vits14", "bits": 64} | wanted
    found = {}
    for record in STUDY:
        if record["kind"] in ("teacher", "student") and all(record["run"].get(n) == v for n, v in wanted.items()):
            measures = record["metrics"].get(paradigm.lower())
            if measures:
                assert record["run"]["seed"] not in found
                found[record["run"]["seed"]] = measures["map"]
    return found


def text_of(values, sign=""):
    """Mean and deviation as a reader sees them."""
    mean, deviation = sum(values) / len(values), statistics.stdev(values)
    return f"{mean:{sign}.3f} ± {deviation:.3f}".replace("-", "−")


def minus(first, second):
    return [first[seed] - second[seed] for seed in sorted(first) if seed in second]


def is_useless(method, **wanted):
    """Whether a method of ResNet-18 cannot search the teacher's database: its ASHP is under half its SSHP."""
    sshp, ashp = (maps(paradigm, student="resnet18", method=method, **wanted) for paradigm in ("SSHP", "ASHP"))
    return statistics.mean(ashp.values()) < statistics.mean(sshp.values()) / 2


# ---- every table ------------------------------------------------------------------------------------------


def test_every_table_is_written_once_and_is_the_same_from_records_in_any_order(tmp_path):
    again = json.loads(json.dumps(STUDY, sort_keys=True))
    random.Random(3).shuffle(again)
    first, second = (tables.write_tables(found, tmp_path / name) for name, found in (("a", STUDY), ("b", again)))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    names = {path.stem for path in first}
    assert len(first) == 3 * len(names)
    assert names == {
        "main", "comparisons", "ablation", "hash_models", "backbones", "released", "efficiency", "weights", "measures",
        "redundancy", "features", "training", "view_counts",
    }  # fmt: skip


@pytest.mark.parametrize("build", PARTS)
def test_every_table_names_its_question_protocol_and_records_and_is_clean_latex(build):
    table = build(STUDY)
    assert len(table.caption) > 150
    assert "Protocol: " in table.note
    assert re.search(r"Records: \d+ \w+.*; see results/made_up/runs.csv.", table.note)
    text = table.latex().replace(rf"\label{{tab:{table.name}}}", "")
    assert text.isascii()
    plain = re.sub(r"\\text\w+\{\}|\$\\[a-z]+\$|\$-\$|\\[&%$#_{}]", "x", text)
    assert not set("$#_^~|") & set(plain)
    assert plain.count("{") == plain.count("}")


def test_a_table_counts_the_records_of_its_part():
    students = [r for r in STUDY if r["kind"] == "student" and "backbones" in r["parts"]]
    note = tables.backbones_table(STUDY).note
    assert f"{len(students)} student of part backbones" in note
    # The base teacher is of part main, but students of this part learnt from it.
    assert {r["run"]["teacher"] for r in of_part(STUDY, "backbones")} == {"dinov2_vits14", "clip_vitb16"}
    assert [r for r in of_part(STUDY, "backbones") if r["kind"] == "teacher"]


@pytest.mark.parametrize("build", PARTS[1:])
def test_a_table_without_its_records_says_so(build):
    features = {key: value for key, value in made_up.features("resnet18").items() if key != "efficiency"}
    with pytest.raises(tables.NoRecords, match=r"^no .*record"):
        build([made_up.teacher_record("dinov2_vits14", 16, 0), features])


def test_runs_of_other_parts_stay_out_of_the_main_tables():
    for table in (tables.main_table(STUDY), tables.training_table(STUDY), tables.measures_table(STUDY)):
        methods = set(table.cells.index.get_level_values("method"))
        assert methods == {"teacher", *made_up.METHODS}
        assert "hash model" not in table.cells.index.names


# ---- comparisons and weights ------------------------------------------------------------------------------


def test_a_dagger_marks_what_the_bootstrap_cannot_tell_from_brcd():
    table = tables.main_table(STUDY)
    lines = next(record for record in STUDY if record["kind"] == "comparisons")["lines"]
    expected = {(f"{x['bits']} bits", x["paradigm"], x["student"], x["method"]) for x in lines if not x["real"]}
    found = {
        (*heading, *row)
        for heading, column in table.cells.items()
        for row, text in column.items()
        if text.endswith("†")
    }  # fmt: skip
    assert found == expected
    assert 0 < len(found) < len(lines)
    assert f"† (in {len(found)} cells)" in table.caption
    assert f"95% for all {len(lines)} comparisons" in table.caption
    without = [record for record in STUDY if record["kind"] != "comparisons"]
    assert "†" not in tables.main_table(without).markdown()


def test_comparisons_show_difference_interval_and_what_is_real():
    table = tables.comparisons_table(STUDY)
    record = next(record for record in STUDY if record["kind"] == "comparisons")
    for line in record["lines"]:
        row, paradigm = (line["student"], str(line["bits"]), line["method"]), line["paradigm"]
        assert table.cells[paradigm, "brcd minus method"][row] == number(line["difference"], sign="+")
        interval = f"[{line['low']:+.3f}, {line['high']:+.3f}]".replace("-", "−")
        assert table.cells[paradigm, "interval"][row] == interval
        assert table.bold[paradigm, "brcd minus method"][row] == line["real"]
        ours, theirs = (
            maps(paradigm, student=line["student"], bits=line["bits"], method=m) for m in ("brcd", line["method"])
        )
        same = [seed for seed in line["seeds"] if (ours[seed] > theirs[seed]) == (line["difference"] > 0)]
        assert table.cells[paradigm, "seeds"][row] == f"{len(same)} of {len(line['seeds'])}"
    for paradigm in ("SSHP", "ASHP"):
        own = [line for line in record["lines"] if line["paradigm"] == paradigm]
        gains = sum(line["low"] > 0 for line in own)
        losses = sum(line["high"] < 0 for line in own)
        useless = [line for line in own if paradigm == "ASHP" and is_useless(line["method"], bits=line["bits"])]
        aside = f" ({len(useless)} of them to methods whose own ASHP is under half their SSHP)," if useless else ""
        said = f"{paradigm}: of {len(own)} differences{aside} brcd is significantly better in {gains} and significantly"
        assert f"{said} worse in {losses}. " in table.caption
    assert "1,000 queries" in table.caption
    barely = copy.deepcopy(record)
    barely["lines"][0] |= {"low": -0.0002, "high": 0.0003}
    found = tables.comparisons_table([barely, *(r for r in STUDY if r is not record)])
    assert "[−0.000, +0.000]" in found.markdown() and "[−0.000, +0.000]" not in table.markdown()
    assert len(lines_of(table)) == len(record["lines"])
    torn = [line for line in lines_of(table) if int(line["agreeing"]) < len(line["seeds"].split())]
    assert 0 < len(torn) < len(record["lines"])


def test_weights_show_the_grid_and_the_choice():
    table = tables.weights_table(STUDY)
    grid = next(record for record in STUDY if record["kind"] == "weights")["grid"]
    ends = 0
    for method in made_up.METHODS[1:]:
        own = {entry["factor"]: entry for entry in grid if entry["method"] == method}
        row = ("resnet18", "16, 64", method)
        for factor, entry in own.items():
            assert table.cells[f"× {factor:g}"][row] == f"{entry['score']:.3f}"
            assert table.bold[f"× {factor:g}"][row] == entry["chosen"]
        chosen = max(own.values(), key=lambda entry: entry["score"])
        assert table.cells["weight chosen"][row] == f"{chosen['weight']:g}"
        ends += chosen["factor"] != 1
    assert f"{ends} of {len(made_up.METHODS) - 1} choices lie at an end" in table.caption
    run = next(record for record in STUDY if record["kind"] == "weights")["run"]
    assert f"validation score at {run['bits']} bits, seed {run['seed']} (by the rule" in table.caption
    assert len(lines_of(table)) == len(grid)


# ---- numbers of views -------------------------------------------------------------------------------------


def test_numbers_of_views_show_means_and_the_images_that_pass_the_backbones():
    record = next(record for record in STUDY if record["kind"] == "view_counts")
    table = tables.view_counts_table(STUDY)
    assert list(table.cells.index) == ["1", "2", "5", "10", "on the fly"]
    means = {}
    for line, views in zip(table.cells.index, (1, 2, 5, 10, "once")):
        rows = [row for row in record["rows"] if row["views"] == views]
        for heading, name in (("teacher", "map_teacher"), ("SSHP", "map_sshp"), ("ASHP", "map_ashp")):
            values = [row[name] for row in rows]
            means[heading, views] = sum(values) / 3
            assert table.cells["mAP@1000", heading][line] == text_of(values)
        passed = table.cells["images through the backbone"].loc[line]
        # On the fly: two an epoch, 16, 20 and 24 epochs of the teachers and 20 of each student.
        expected = ["400,000", "200,000"] if views == "once" else [f"{5000 * views:,}"] * 2
        assert passed.tolist() == expected
    for heading in ("teacher", "SSHP", "ASHP"):
        shown = {views: round(means[heading, views], 3) for views in (1, 2, 5, 10, "once")}
        bold = table.bold["mAP@1000", heading].tolist()
        assert bold == [value == max(shown.values()) for value in shown.values()]
    assert len(lines_of(table)) == len(record["rows"])


def test_numbers_of_views_are_told_with_network_budget_and_the_views_of_the_weight():
    table = tables.view_counts_table(STUDY)
    for text in (
        "; mAP@1000; a bank of 16 augmented views an image at 112 pixels; ", "teacher: penultimate features, linear",
        "students: penultimate features, head with one hidden layer of 1000", "hash model cibhash",
        "checkpoint picked on validation by the mean of SSHP and ASHP; at most 100 epochs; seeds 0, 1, 2.",
    ):  # fmt: skip
        assert text in table.note
    chosen = "The weight of the distillation was chosen once, in training on 16 augmented views an image, for every"
    assert chosen in table.caption
    record = made_up.view_counts("dinov2_vits14", "resnet18", 64)
    record["settings"]["student"]["training"]["epochs"] = 30
    table = tables.view_counts_table([record | {"weight_views": None}])
    assert "weight" not in table.caption and "at most 100 epochs of the teacher, 30 of the student" in table.note


def views_record(levels, counts=(1, 2, 5, 10), once=True):
    """A comparison whose validation scores are `levels` for every paradigm and seed; query scores say the opposite."""
    record = made_up.view_counts("dinov2_vits14", "resnet18", 64, counts)
    record["rows"] = [row for row in record["rows"] if once or row["views"] != "once"]
    for row in record["rows"]:
        for name in ("teacher", "sshp", "ashp"):
            row |= {f"validation_map_{name}": levels[row["views"]], f"map_{name}": 1 - levels[row["views"]]}
    return record


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ((0.50, 0.697, 0.698, 0.71, 0.70), "from 2 views on (−0.003)"),
        ((0.50, 0.697, 0.60, 0.698, 0.70), "from 10 views on (−0.002)"),  # 2 views are as good by chance alone
        ((0.70, 0.70, 0.70, 0.60, 0.70), "at no number of views"),
        ((0.699, 0.70, 0.70, 0.70, 0.70), "from 1 view on (−0.001)"),
    ],
)
def test_views_are_enough_where_more_are_no_worse_on_validation(levels, told):
    record = views_record(dict(zip((1, 2, 5, 10, "once"), levels)))
    caption = tables.view_counts_table([record]).caption
    found = re.search(r"On validation, no more than 0.005 below on the fly: (.*?)\. Of 1 view", caption).group(1)
    assert found == ", ".join(f"{paradigm} {told}" for paradigm in ("teacher", "SSHP", "ASHP"))


def test_without_views_read_once_the_most_views_are_the_reference():
    caption = tables.view_counts_table([views_record({1: 0.5, 10: 0.7}, (1, 10), once=False)]).caption
    assert "below 10 views: teacher at no smaller number of views, SSHP at no smaller" in caption
    assert "on the fly" not in caption.lower() and "Of 1 view a pair is this view and itself." in caption
    caption = tables.view_counts_table([views_record({2: 0.697, 10: 0.7}, (2, 10), once=False)]).caption
    assert "below 10 views: teacher from 2 views on (−0.003), SSHP" in caption and "Of 1 view" not in caption


def test_one_number_of_views_is_compared_with_nothing():
    caption = tables.view_counts_table([views_record({5: 0.7}, (5,), once=False)]).caption
    assert "On validation" not in caption and "below" not in caption


def test_protocol_names_the_views_that_are_used():
    record = made_up.teacher_record("dinov2_vits14", 16, 0)
    record["settings"]["views"] |= {"used": 3, "once": False}
    assert "3 augmented views an image at 112 pixels" in protocol([record])
    record["settings"]["views"] |= {"used": None, "once": True}
    assert "augmented views that are read once at 112 pixels" in protocol([record])


# ---- variations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "pairs"),
    [
        (tables.ablation_table, dict.fromkeys(synthetic_study.ABLATION, "brcd")),
        (tables.released_table, {"sp-released": "sp", "brcd-zero-mask": "brcd"}),
    ],
)
def test_a_variation_is_compared_with_its_plain_method_seed_by_seed(build, pairs):
    table = build(STUDY)
    rows = {row[2]: row for row in table.cells.index}
    assert set(rows) == {*pairs, *pairs.values()}
    worse = {paradigm: [] for paradigm in ("SSHP", "ASHP")}
    useless = [method for method, plain in pairs.items() if is_useless(plain)]
    for method, plain in pairs.items():
        for paradigm in worse:
            own = maps(paradigm, student="resnet18", method=method)
            reference = maps(paradigm, student="resnet18", method=plain)
            cells = table.cells[paradigm]
            assert cells["mAP@1000"][rows[method]] == text_of(list(own.values()))
            assert cells["change"][rows[method]] == text_of(minus(own, reference), "+")
            assert cells["mAP@1000"][rows[plain]] == text_of(list(reference.values()))
            assert cells["change"][rows[plain]] == "–"
            if paradigm == "SSHP" or method not in useless:
                worse[paradigm].append(sum(minus(own, reference)) < 0)
        places = [row[2] for row in table.cells.index]
        assert places.index(plain) < places.index(method)
    for paradigm, found in worse.items():
        assert f"{paradigm}: {sum(found)} of {len(found)} rows are below" in table.caption
    left_out = f"Not counted in ASHP: {len(useless)} of methods whose ASHP is under half their SSHP."
    assert (left_out in table.caption) == bool(useless)


def test_a_variation_says_what_it_changes():
    rows = {row[2]: row[3] for row in tables.ablation_table(STUDY).cells.index}
    assert rows["brcd"] == "as it is"
    assert rows["brcd-no-clusters"] == "clusters: off"
    assert rows["brcd-redundant-bits"] == "mask: redundant"
    assert rows["brcd-own-masks"] == "released.own_masks: on"
    rows = {row[2]: row[3] for row in tables.released_table(STUDY).cells.index}
    assert rows["sp-released"] == "released.over_bits: on; weight: 1"
    record = next(r for r in STUDY if r["run"].get("method") == "brcd")
    other = copy.deepcopy(record)
    other["settings"]["student"]["hidden"] = 0
    assert differences(other, record) == "student.hidden: 0"
    assert differences(record, record) == "nothing"


def test_a_variation_without_its_plain_method_or_seed_has_no_change():
    kept = [r for r in STUDY if not (r["run"].get("method") == "brcd" and r["run"].get("seed") == 1)]
    row = ("resnet18", "64", "brcd-own-masks", "released.own_masks: on")
    cells = tables.ablation_table(kept).cells["SSHP"]
    own, plain = (maps("SSHP", student="resnet18", method=m) for m in ("brcd-own-masks", "brcd"))
    assert cells["change"][row] == f"{own[0] - plain[0]:+.3f}".replace("-", "−")
    assert cells["mAP@1000"][row] == text_of(list(own.values()))
    kept = [r for r in STUDY if r["run"].get("method") != "brcd"]
    table = tables.ablation_table(kept)
    assert set(table.cells["SSHP"]["change"]) == {"–"}
    assert {line["change"] for line in lines_of(table)} == {""}


# ---- pairs and efficiency ---------------------------------------------------------------------------------


def test_hash_models_show_teacher_alone_and_brcd_and_a_dash_for_closed_forms():
    table = tables.hash_models_table(STUDY)
    assert [row[0] for row in table.cells.index] == ["cibhash", "sdc", "itq"]
    cells = table.cells["64 bits"]
    for hash_model in ("cibhash", "sdc"):
        row = (hash_model, "resnet18")
        alone = maps("SSHP", hash_model=hash_model, method="alone")
        brcd = maps("SSHP", hash_model=hash_model, method="brcd")
        teacher = maps("teacher", hash_model=hash_model)
        ashp = maps("ASHP", hash_model=hash_model, method="brcd")
        for heading, values in {"teacher": teacher, "alone": alone, "brcd SSHP": brcd, "brcd ASHP": ashp}.items():
            assert cells[heading][row] == text_of(list(values.values()))
        assert cells["gain"][row] == text_of(minus(brcd, alone), "+")
    assert list(cells.loc["itq", "resnet18"][["brcd SSHP", "brcd ASHP", "gain"]]) == ["–"] * 3
    assert cells["alone"]["itq", "resnet18"] == text_of(list(maps("SSHP", hash_model="itq").values()))
    assert set(table.cells.columns.get_level_values(0)) == {"64 bits"}
    assert "itq: linear head in closed form" in table.note
    for heading, marks in table.bold["64 bits"].items():
        shown = {row: float(text.split()[0]) for row, text in cells[heading].items() if text != "–"}
        assert {row for row, mark in marks.items() if mark} == {r for r in shown if shown[r] == max(shown.values())}


def test_backbones_show_every_pair_and_its_gain():
    table = tables.backbones_table(STUDY)
    assert list(table.cells.index) == [("clip_vitb16", "resnet18"), ("dinov2_vits14", "resnet18")]
    gains = []
    for teacher, student in table.cells.index:
        alone, brcd = (maps("SSHP", teacher=teacher, student=student, method=m) for m in ("alone", "brcd"))
        gains.append(sum(minus(brcd, alone)) / 2)
        assert table.cells["64 bits", "gain"][teacher, student] == text_of(minus(brcd, alone), "+")
        assert table.cells["64 bits", "teacher"][teacher, student] == text_of(
            list(maps("teacher", teacher=teacher).values())
        )
    assert f"in {sum(gain > 0 for gain in gains)} of 2 cases" in table.caption
    assert f"between {min(gains):+.3f} and {max(gains):+.3f}" in table.caption
    assert "bit_cross_entropy" not in table.markdown()


def test_the_simplest_rival_stands_beside_brcd_where_it_was_run():
    """Its scores, and BRCD's lead over it; a dash for the teacher that it was not run with."""
    rival = [
        made_up.student_record("clip_vitb16", "resnet18", "bit_cross_entropy", 64, seed, parts=("backbones",))
        for seed in (0, 1)
    ]
    table = tables.backbones_table([*STUDY, *rival])
    for paradigm in ("SSHP", "ASHP"):
        own = {record["run"]["seed"]: record["metrics"][paradigm.lower()]["map"] for record in rival}
        brcd = maps(paradigm, teacher="clip_vitb16", student="resnet18", method="brcd")
        lead = minus(brcd, own)
        assert "Lead: brcd minus bit_cross_entropy, the simplest rival, seed by seed." in table.caption
        cells = table.cells["64 bits"]
        assert cells[f"bit_cross_entropy {paradigm}"].tolist() == [text_of(list(own.values())), "–"]
        assert cells[f"lead {paradigm}"].tolist() == [text_of(lead, "+"), "–"]
        mean = f"{sum(lead) / 2:+.3f}".replace("-", "−")
        said = f"above bit_cross_entropy in {paradigm} in {int(sum(lead) > 0)} of 1 cases (lead {paradigm} {mean})"
        assert said in table.caption


def test_efficiency_has_each_backbone_and_how_many_times_a_student_saves():
    table = tables.efficiency_table(STUDY)
    teacher, student = made_up.efficiency("dinov2_vits14"), made_up.efficiency("resnet18")
    row = table.cells.loc["resnet18", "student"]
    assert row["parameters (M)"] == f"{student['parameters'] / 1e6:.1f}"
    assert row["latency of one image (ms)"] == "7.5"
    saved = table.cells.loc["resnet18", "against dinov2_vits14"]
    assert saved["multiply-adds (G)"] == f"{teacher['multiply_adds'] / student['multiply_adds']:.1f}×"
    assert saved["latency of one image (ms)"] == f"{teacher['latency_ms'] / student['latency_ms']:.1f}×"
    rates = student["images_per_second"] / teacher["images_per_second"]
    assert saved["images a second"] == f"{rates:.1f}×"
    assert table.cells.index[0] == ("clip_vitb16", "teacher")
    assert "batches of 64 or of as many as a second allows, 1 thread on a processor, 2 cores" in table.note
    fewer = teacher["parameters"] / student["parameters"], teacher["multiply_adds"] / student["multiply_adds"]
    said = f"resnet18 has {fewer[0]:.1f} times fewer parameters and {fewer[1]:.1f} times fewer multiply-adds than "
    assert said + "dinov2_vits14." in table.caption
    lean = made_up.features("mobilenet_v2")  # more parameters, fewer multiply-adds
    lean["efficiency"] |= {"parameters": 2 * teacher["parameters"], "multiply_adds": teacher["multiply_adds"] // 100}
    runs = [made_up.student_record("dinov2_vits14", "mobilenet_v2", "alone", 64, 0)]
    said = "mobilenet_v2 has 0.5 times fewer parameters and 100.0 times fewer multiply-adds than dinov2_vits14. "
    assert said in tables.efficiency_table([*STUDY, lean, *runs]).caption


# ---- numbers and protocol ---------------------------------------------------------------------------------


def test_numbers_have_a_true_minus_and_no_negative_zero():
    assert number(-0.0123, sign="+") == "−0.012"
    assert number(0.0123, sign="+") == "+0.012"
    assert number(-0.0001, sign="+") == "+0.000"
    assert number(-0.0001) == "0.000"


def test_protocol_names_hash_models_of_old_records_too():
    record = made_up.teacher_record("dinov2_vits14", 16, 0, "sdc")
    del record["run"]["hash_model"]
    assert "hash model sdc" in protocol([record])


def test_run_table_tells_the_parts_and_leaves_out_what_is_no_run():
    table = tables.run_table(STUDY)
    assert len(table) == len(STUDY) - 1
    line = table[(table["method"] == "brcd") & (table["bits"] == 64) & (table["hash_model"] == "cibhash")].iloc[0]
    assert line["parts"] in ("main hash_models backbones", "backbones")
    assert set(table["kind"]) == {"features", "teacher", "student", "redundancy", "weights", "view_counts"}
