"""Whether a study is reproduced: what counts as equal, how far scores may be apart, and what cannot be compared."""

import copy
import json
import subprocess

import numpy as np
import pytest
import synthetic_records as made_up

from brcd_core import records
from brcd_core.records import RecordError
from brcd_core.study import reproduced
from brcd_core.study.reproduced import EQUAL, OTHER, OUTSIDE, WITHIN, compare


@pytest.fixture
def committed():
    """A study of several methods, code lengths and seeds."""
    return made_up.study(bits=(16, 64))


@pytest.fixture
def own(committed):
    """The same study done again: other times, another revision."""
    again = copy.deepcopy(committed)
    for record in again:
        record["provenance"] |= {"finished": "2027-02-02T00:00:00+00:00", "seconds": 99.0, "git_revision": "f" * 40}
        if "training" in record:
            record["training"]["seconds"] += 5
        if "efficiency" in record:
            record["efficiency"]["latency_ms"] *= 2
    return again


def find(found, kind="student", **names):
    (record,) = (r for r in found if r["kind"] == kind and names.items() <= r["run"].items())
    return record


def moved(found, by, paradigm="sshp", measure="map", **names):
    """Move one score of one student."""
    record = find(found, **({"method": "brcd", "bits": 64, "seed": 1} | names))
    record["metrics"][paradigm][measure] += by
    return record


def by_hand(committed, record, paradigm, measure):
    """The limit as the module's text says it, by loops over records."""

    def deviation(one):
        names = ("teacher", "hash_model", "student", "method", "bits")
        values = [
            r["metrics"][paradigm][measure]
            for r in committed
            if r["kind"] == one["kind"] and all(r["run"].get(n) == one["run"].get(n) for n in names)
        ]
        mean = sum(values) / len(values)
        return (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None

    lines = {
        json.dumps([r["run"].get(n) for n in ("teacher", "hash_model", "student", "method", "bits")]): r
        for r in committed
        if r["kind"] == record["kind"]
    }
    several = sorted(d for r in lines.values() if (d := deviation(r)) is not None)
    if not several:
        return 3 * 2**0.5 * 0.003
    middle = (several[(len(several) - 1) // 2] + several[len(several) // 2]) / 2
    return 3 * 2**0.5 * max(deviation(record) or 0, middle)


# ---- equal


def test_another_time_and_place_is_no_difference(own, committed):
    found = compare(own, committed)
    assert {verdict for _, verdict in found.verdicts} == {EQUAL}
    assert len(found.verdicts) == len(committed)
    assert len(found.outside) == 0


@pytest.mark.parametrize(
    ("kind", "path", "verdict"),
    [
        ("student", ("metrics", "sshp", "lookup_empty"), WITHIN),
        ("student", ("curves", "ashp", "recall"), WITHIN),
        ("student", ("training", "history"), WITHIN),
        ("student", ("training", "best_epoch"), WITHIN),
        ("teacher", ("checkpoint",), WITHIN),
        ("redundancy", ("analysis", "sizes"), OTHER),
        ("features", ("banks",), OTHER),
    ],
)
def test_whatever_a_run_found_is_part_of_being_equal(own, committed, kind, path, verdict):
    changed = next(record for record in own if record["kind"] == kind)
    *inside, last = path
    for name in inside:
        changed = changed[name]
    changed[last] = 0.123
    verdicts = compare(own, committed).verdicts
    assert [found for found in verdicts if found[1] != EQUAL] == [(kind, verdict)]


# ---- within and outside


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0,)])
def test_limits_are_those_of_the_text(seeds):
    found = made_up.study(("alone", "rkd", "brcd"), bits=(16, 64), seeds=seeds)
    limits = reproduced.limits(found).set_index([*reproduced.LINE, "paradigm", "measure"])["limit"]
    trained = [record for record in found if record["kind"] in ("teacher", "student")]
    for record in trained:
        run = record["run"]
        names = (run["teacher"], run["hash_model"], run.get("student", run["teacher"]), run.get("method", "teacher"))
        for paradigm in record["metrics"]:
            shown = paradigm if paradigm == "teacher" else paradigm.upper()
            for measure in ("map", "precision_at_k"):
                expected = by_hand(found, record, paradigm, measure)
                assert limits[(*names, run["bits"], shown, measure)] == pytest.approx(expected, rel=1e-9)
    assert len(trained) == 8 * len(seeds)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("measure", ["map", "map_stable", "precision_at_k"])
def test_a_score_may_be_so_far_away_and_no_farther(own, committed, measure, sign):
    limit = by_hand(committed, find(committed, method="brcd", bits=64, seed=1), "ashp", measure)
    moved(own, sign * 0.999 * limit, "ashp", measure)
    assert compare(own, committed).count(WITHIN) == 1
    moved(own, sign * 0.002 * limit, "ashp", measure)
    found = compare(own, committed)
    assert (found.count(OUTSIDE), found.count(WITHIN)) == (1, 0)
    (line,) = found.outside.itertuples()
    assert (line.method, line.bits, line.seed, line.paradigm, line.measure) == ("brcd", 64, 1, "ASHP", measure)


def test_seeds_that_are_close_by_chance_do_not_make_a_limit_of_nothing(committed):
    for seed in (0, 1, 2):
        find(committed, method="brcd", bits=64, seed=seed)["metrics"]["sshp"]["map"] = 0.8
    own = copy.deepcopy(committed)
    moved(own, 0.001)
    assert compare(own, committed).count(WITHIN) == 1


def test_a_run_of_one_seed_is_judged_by_the_others(committed):
    committed = [r for r in committed if r["run"].get("method") != "brcd" or r["run"]["seed"] == 0]
    limit = by_hand(committed, find(committed, method="brcd", bits=64, seed=0), "sshp", "map")
    own = copy.deepcopy(committed)
    moved(own, 1.01 * limit, seed=0)
    assert compare(own, committed).count(OUTSIDE) == 1
    moved(own, -0.02 * limit, seed=0)
    assert compare(own, committed).count(WITHIN) == 1


def test_what_lies_within_radius_2_is_not_judged(own, committed):
    moved(own, 0.5, measure="lookup_precision")
    assert compare(own, committed).count(WITHIN) == 1


def test_agreement_is_judged_where_there_are_no_labels(own, committed):
    for record in [*own, *committed]:
        if record["kind"] in ("teacher", "student"):
            record["metrics"] = {name: {"agreement": one["map"] / 2} for name, one in record["metrics"].items()}
    moved(own, 0.2, measure="agreement")
    assert compare(own, committed).count(OUTSIDE) == 1


def test_two_seeds_of_one_method_are_within_each_others_spread(committed):
    """The limit is made for this: runs that share nothing but the settings."""
    first = [record for record in committed if record["run"].get("seed") != 2]
    other = copy.deepcopy(first)
    for record in other:
        if record["run"].get("seed") == 1 and record["kind"] in ("teacher", "student"):
            names = {name: record["run"].get(name) for name in ("method", "bits") if name in record["run"]}
            record["metrics"] = find(committed, record["kind"], seed=2, **names)["metrics"]
    found = compare(other, first)
    assert found.count(WITHIN) == sum(record["run"].get("seed") == 1 for record in first)
    assert len(found.outside) == 0


# ---- what cannot be compared


def test_a_run_that_is_missing_is_named(own, committed):
    own.remove(find(own, method="rkd", bits=16, seed=2))
    with pytest.raises(RecordError, match=r"1 of the \d+ committed runs were not run: student .*rkd.*bits 16, seed 2"):
        compare(own, committed)
    with pytest.raises(RecordError, match=r"and \d+ more"):
        compare(own[:3], committed)


def test_more_runs_than_are_committed_are_no_fault(own, committed):
    found = compare(own, committed[:-2])
    assert found.notes[-1] == "2 are not among the committed ones."


def test_other_settings_are_named(own, committed):
    find(own, method="rkd", bits=16, seed=2)["settings"]["views"]["count"] = 4
    with pytest.raises(RecordError, match=r"rkd.*seed 2 is of other settings .*: views\.count is 4, not 16"):
        compare(own, committed)


@pytest.mark.parametrize("name", ["data", "weights"])
def test_other_inputs_are_named(own, committed, name):
    own[5]["provenance"]["inputs"][name] = "0" * 64
    with pytest.raises(RecordError, match=rf"is of other inputs .*: {name} is '0"):
        compare(own, committed)


def test_what_may_explain_a_difference_is_said(own, committed):
    student = moved(own, 0.001)
    student["resolved"]["distillation"]["weight"] = 10.0
    for record in own:
        record["provenance"]["device"] = "another processor"
    notes = compare(own, committed).notes
    assert notes == ["1 made with another weight.", f"{len(own)} made on another device."]


def test_a_setting_that_is_gone_and_was_left_at_its_default_makes_no_difference(own, committed):
    for record in committed:
        record.get("resolved", {}).get("distillation", {})["iterations"] = 100
    found = compare(own, committed)
    assert {verdict for _, verdict in found.verdicts} == {EQUAL} and not found.notes


# ---- the command


@pytest.fixture
def study(own, committed, tmp_path, monkeypatch):
    """A repository whose HEAD has the committed records of the quick profile, and an output folder with one's own."""
    repository, output = tmp_path / "repository", tmp_path / "output"
    file = repository / "results" / "quick" / "records.jsonl"
    file.parent.mkdir(parents=True)
    records.save_all(file, committed)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "records"]):
        subprocess.run([*git, *command], check=True)
    file.unlink()  # it is HEAD that counts
    monkeypatch.setenv("BRCD_OUTPUT", str(output))
    monkeypatch.setattr(reproduced, "repository", lambda: repository)
    return output / "results" / "quick" / "records.jsonl"


def keep(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    records.save_all(path, found)


def test_a_study_that_is_reproduced(study, own, capsys):
    keep(study, own)
    assert reproduced.main(["quick"]) == 0
    printed = capsys.readouterr().out
    assert f"Of {len(own)} runs {len(own)} are equal bit for bit, 0 within the spread over seeds, 0 outside." in printed
    counts = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith(("st", "te"))}
    assert counts == {"student": ["24", "24", "–", "–", "–"], "teacher": ["6", "6", "–", "–", "–"]}


def test_a_study_that_is_not(study, own, committed, capsys):
    old = find(committed, method="brcd", bits=64, seed=1)["metrics"]["sshp"]["map"]
    moved(own, 0.1)
    keep(study, own)
    assert reproduced.main(["quick"]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("outside: "))
    limit = by_hand(committed, find(committed, method="brcd", bits=64, seed=1), "sshp", "map")
    assert line == (
        f"outside: resnet18, brcd, cibhash, 64 bits, seed 1: map SSHP {old + 0.1:.4f}, committed {old:.4f}, "
        f"may differ by {limit:.4f}"
    )


def test_a_file_takes_the_place_of_what_is_committed(study, own, committed, tmp_path, capsys):
    keep(study, own)
    keep(tmp_path / "other.jsonl", committed[:-2])
    assert reproduced.main(["quick", "--against", str(tmp_path / "other.jsonl")]) == 0
    assert "2 are not among the committed ones." in capsys.readouterr().out
    assert reproduced.main(["quick", "--against", str(tmp_path / "none.jsonl")]) == 2
    assert f"there is no file {tmp_path / 'none.jsonl'}" in capsys.readouterr().err


def test_a_file_takes_the_place_of_ones_own_records(study, own, committed, tmp_path, capsys):
    keep(study, committed)
    keep(tmp_path / "machine.jsonl", own)
    assert reproduced.main(["quick", "--own", str(tmp_path / "machine.jsonl")]) == 0
    expected = reproduced.outcome("quick", compare(own, committed)).plain()
    assert expected in capsys.readouterr().out
    assert reproduced.main(["quick", "--own", str(tmp_path / "none.jsonl")]) == 2
    assert f"there is no file {tmp_path / 'none.jsonl'}" in capsys.readouterr().err
    assert reproduced.main(["quick", "--own", str(study)]) == 2
    assert f"{study} is the committed file itself, times included\n" in capsys.readouterr().err


def test_what_cannot_be_compared_is_said(study, own, committed, capsys):
    assert reproduced.main(["no_such"]) == 2
    assert "unknown profile 'no_such'" in capsys.readouterr().err
    assert reproduced.main(["quick"]) == 2
    assert "run: make study PROFILE=quick" in capsys.readouterr().err
    keep(study, committed)
    assert reproduced.main(["quick"]) == 2
    assert "is the committed file itself" in capsys.readouterr().err
    keep(study.parents[1] / "views" / "records.jsonl", own)
    assert reproduced.main(["views"]) == 2
    said = capsys.readouterr().err
    assert "no records of 'views' are committed" in said and "--against" in said
    own[0]["settings"]["views"]["count"] = 4
    keep(study, own)
    assert reproduced.main(["quick"]) == 2
    assert "views.count is 4" in capsys.readouterr().err


def test_many_scores_outside_are_cut_short(own, committed):
    for record in own:
        if record["kind"] == "student":
            record["metrics"]["sshp"]["map"] += 0.5
    found = compare(own, committed)
    lines = reproduced._told(found.outside)
    assert len(found.outside) == 24 and len(lines) == 21 and lines[-1] == "and 4 more"
    assert np.isfinite(found.scores["limit"]).all()
