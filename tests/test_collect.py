"""Collecting the records of a profile, and the summary of it, on made-up records."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import synthetic_records as made_up

from brcd_core import profiles, records, tables
from brcd_core.records import RecordError
from brcd_core.study import code_version, collect, plan, runs, summary
from brcd_core.study.outcome import QUERIES
from brcd_core.study.view_counts_run import ViewCountsRun


def record_for(run):
    """A made-up record of a run of a real profile, with that run's own parameters and settings."""
    kinds = {
        runs.FeatureRun: lambda: made_up.features(run.backbone),
        runs.TeacherRun: lambda: made_up.teacher_record(run.teacher, run.bits, run.seed, run.hash_model),
        runs.WeightsRun: lambda: {"kind": "weights", "grid": [], "metrics": {}, "provenance": made_up.provenance()},
        runs.StudentRun: lambda: made_up.student_record(
            run.teacher, run.student, run.method, run.bits, run.seed, run.hash_model
        ),
        runs.RedundancyRun: lambda: made_up.redundancy(run.teacher, run.bits, seed=run.seed),
        ViewCountsRun: lambda: made_up.view_counts(run.teacher, run.student, run.bits, run.counts, run.seeds),
    }
    own = {"run": run.model_dump(mode="json"), "settings": run.settings.model_dump(mode="json")}
    return kinds[type(run)]() | own | {"code": code_version.of(run)}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """All runs of the smoke profile, with made-up records in a folder of the test."""
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    for run in plan.every("smoke"):
        records.write(run.folder, record_for(run))
        if isinstance(run, runs.StudentRun):
            values = np.random.default_rng([run.bits, run.seed, len(run.method)]).uniform(size=(2, 30))
            np.savez(run.folder / QUERIES, sshp=values[0], ashp=values[1])
    return plan.every("smoke")


def test_collect_writes_every_record_and_a_row_each(finished):
    found = collect.collect("smoke")
    folder = runs.StudyRun(profile="smoke").results
    assert records.load_all(folder / "records.jsonl") == found
    counts = {"features": 2, "teacher": 5, "student": 21, "redundancy": 2, "weights": 6}
    counts |= {"view_counts": 1, "comparisons": 1}
    assert Counter(record["kind"] for record in found) == counts
    assert sum(counts.values()) == len(finished) + 1
    found = [record for record in found if record["kind"] != "comparisons"]
    assert {json.dumps(r["run"], sort_keys=True) for r in found} == {
        json.dumps(run.model_dump(mode="json"), sort_keys=True) for run in finished
    }
    lines = list(csv.DictReader(io.StringIO((folder / "runs.csv").read_text())))
    assert len(lines) == len(finished)
    chosen = next(x for x in lines if x["kind"] == "student" and x["method"] == "brcd" and x["seed"] == "1")
    record = next(r for r in found if r["run"].get("method") == "brcd" and r["run"]["seed"] == 1)
    assert float(chosen["map_sshp"]) == record["metrics"]["sshp"]["map"]
    assert record["parts"] == ["main"] and chosen["parts"] == "main"


def test_a_missing_record_is_named_with_the_way_out(finished, capsys):
    gone = finished[3].folder / "record.json"
    gone.unlink()
    with pytest.raises(RecordError, match=re.escape(str(gone))) as caught:
        collect.collect("smoke")
    assert f"1 of the {len(finished)} runs" in str(caught.value)
    assert "make study PROFILE=smoke" in str(caught.value)
    assert not (runs.StudyRun(profile="smoke").results / "records.jsonl").exists()
    assert collect.main(["smoke"]) == 1
    assert str(gone) in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["{", "[]", '{"kind": "teacher"}'])
def test_a_damaged_record_is_named(finished, damage):
    path = finished[2].folder / "record.json"
    path.write_text(damage)
    with pytest.raises(RecordError, match=f"{re.escape(str(path))} is damaged.*run again"):
        collect.collect("smoke")


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_scores_of_queries_are_named(finished, damage, capsys):
    path = next(run for run in finished if type(run) is runs.StudentRun).folder / QUERIES
    whole = path.read_bytes()
    broken = {"flipped": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], "cut": whole[:-30]}
    path.unlink() if damage == "gone" else path.write_bytes(broken[damage])
    assert collect.main(["smoke"]) == 1
    told = capsys.readouterr().err
    assert f"{path} is missing or damaged" in told and f"delete {path.parent} and run again" in told


def test_a_record_of_other_settings_is_refused(finished):
    record = records.read(finished[2].folder)
    record["settings"]["evaluation"]["k"] += 1
    records.write(finished[2].folder, record)
    with pytest.raises(RecordError, match="other settings or code"):
        collect.collect("smoke")


def test_a_record_of_other_numbers_of_views_is_refused(finished):
    run = plan.view_counts("smoke")[0]
    record = records.read(run.folder)
    record["run"]["counts"].append(9)
    records.write(run.folder, record)
    with pytest.raises(RecordError, match=r"view_counts.*other settings or code"):
        collect.collect("smoke")


def test_gather_reads_what_was_collected_even_without_the_runs(finished):
    found = collect.collect("smoke")
    for run in finished:
        (run.folder / "record.json").unlink()
    assert collect.gather("smoke") == found


def test_gather_collects_again_when_a_run_is_newer(finished):
    collect.collect("smoke")
    record = records.read(finished[2].folder)
    record["metrics"]["teacher"]["map"] = 0.123
    path = records.write(finished[2].folder, record)
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    assert any(r["metrics"].get("teacher", {}).get("map") == 0.123 for r in collect.gather("smoke"))


def test_gather_does_the_missing_runs_and_only_these(finished, monkeypatch):
    done, said = [], []

    def runner(run, report):
        done.append(run.folder)
        records.write(run.folder, record_for(run))

    monkeypatch.setattr(collect, "RUNNERS", dict.fromkeys(collect.RUNNERS, runner))
    stale = records.read(finished[4].folder)
    records.write(finished[4].folder, stale | {"settings": {"other": 1}})
    (finished[1].folder / "record.json").unlink()
    assert len(collect.gather("smoke", said.append)) == len(finished) + 1  # and how they compare
    assert done == [finished[1].folder, finished[4].folder]
    folder = finished[1].folder.relative_to(finished[1].results.parents[1])
    assert said[0].startswith(f"{folder} has no record")


def test_every_kind_of_run_has_a_runner():
    assert {type(run) for run in plan.every("smoke")} <= set(collect.RUNNERS)


def test_summary_prints_the_main_table_and_the_places(finished, capsys):
    assert summary.main(["smoke"]) == 1
    assert "make study PROFILE=smoke" in capsys.readouterr().err
    found = collect.collect("smoke")
    assert summary.main(["smoke"]) == 0
    printed = capsys.readouterr().out
    assert tables.main_table(found).plain() in printed
    kinds = "2 features, 2 redundancy, 21 student, 5 teacher, 1 view_counts, 6 weights"
    assert f"{len(found) - 1} runs: {kinds}" in printed
    assert str(Path("figures") / "smoke") in printed


def test_commands_name_an_unknown_profile(capsys):
    for command in (summary.main, collect.main):
        assert command(["no_such"]) == 1
        said = capsys.readouterr().err
        assert "unknown profile 'no_such'; there are: " + ", ".join(profiles.names()) in said
