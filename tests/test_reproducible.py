"""The same seed gives the same records, in another process, in another order, beside other runs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from brcd_core import records, tables
from brcd_core.config import repository
from brcd_core.study import redundancy, reproduced, runs, student

KINDS = {
    "teacher": runs.TeacherRun,
    "weights": runs.WeightsRun,
    "student": runs.StudentRun,
    "redundancy": runs.RedundancyRun,
}
WITH_SECONDS = ("training.csv", "training.md", "training.tex")


def quiet(line):
    pass


def do(order):
    """Students in this order; each makes first what it needs: features, a teacher, the choice of its weight."""
    for method, seed in order:
        student.student(runs.StudentRun(profile="smoke", method=method, seed=seed), quiet)
        torch.manual_seed(len(method)), np.random.seed(len(method))  # nothing hangs on the global generators  # noqa: NPY002
    redundancy.analyse(runs.RedundancyRun(profile="smoke"), quiet)


def left_in(folder):
    """The records of a study by their places."""
    top = folder / "results" / "smoke" / "runs"
    return {path.parent.relative_to(top): records.read(path.parent) for path in sorted(top.rglob("record.json"))}


@pytest.fixture(scope="module")
def first(places):
    """Two seeds of BRCD, and CRD, which draws numbers in training."""
    do([["brcd", 0], ["brcd", 1], ["crd", 0]])
    return left_in(places)


@pytest.fixture(scope="module")
def again(first, tmp_path_factory):
    """A process and a cache of its own: another order, one of the seeds left out, a method more."""
    folder = tmp_path_factory.mktemp("again")
    own = {"BRCD_OUTPUT": str(folder), "BRCD_CACHE": str(folder / "cache"), "PYTHONHASHSEED": "7"}
    own |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    order = json.dumps([["crd", 0], ["alone", 0], ["brcd", 0]])
    subprocess.run([sys.executable, __file__, order], cwd=repository(), env=os.environ | own, check=True)
    return left_in(folder)


def content(record):
    """All of a record but who made it when, and how long it took; its inputs and its checkpoint are part of it."""
    training = {name: value for name, value in record.get("training", {}).items() if name != "seconds"}
    made_from = {name: record["provenance"][name] for name in ("inputs", "packages", "device", "threads")}
    return record | {"training": training, "provenance": made_from}


def test_another_process_leaves_the_same_records(first, again):
    both = first.keys() & again.keys()
    assert {first[place]["kind"] for place in both} == set(KINDS)
    for place in both:
        assert content(first[place]) == content(again[place])
    assert len(both) == 6  # a teacher and the analysis of its bits, two students, the choice of their weights


def test_the_same_records_make_the_same_tables(first, again, tmp_path):
    written = []
    for name, found in (("first", first), ("again", again)):
        chosen = [found[place] for place in sorted(first.keys() & again.keys())]
        written.append(tables.write_tables(chosen, tmp_path / name))
    assert len(written[0]) > 6
    for one, other in zip(*written):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes() or one.name in WITH_SECONDS


def test_another_seed_gives_other_heads_and_numbers_from_the_same_features(first):
    for kind, paradigms in (("teacher", ("teacher",)), ("student", ("sshp", "ashp"))):
        of_kind = [record for record in first.values() if record["kind"] == kind]
        one, other = (record for record in of_kind if record["run"].get("method") in (None, "brcd"))
        assert (one["run"]["seed"], other["run"]["seed"]) == (0, 1)
        assert one["checkpoint"] != other["checkpoint"]
        assert all(one["metrics"][name]["map"] != other["metrics"][name]["map"] for name in paradigms)
        inputs = [record["provenance"]["inputs"] for record in (one, other)]
        assert all(inputs[0][name] == inputs[1][name] for name in ("data", "splits", "weights", "banks"))


def test_a_record_holds_what_it_takes_to_make_it_again(first):
    about = {"git_revision", "git_dirty", "packages", "python", "device", "threads", "inputs"}
    for record in first.values():
        run = KINDS[record["kind"]].model_validate(record["run"])
        assert record["settings"] == run.settings.model_dump(mode="json")
        assert record["code"]
        assert record["provenance"].keys() >= about
        assert record["provenance"]["inputs"].keys() >= {"data", "splits", "weights", "banks"}


def test_another_number_of_threads_is_told_and_stays_within_the_spread(first, tmp_path, monkeypatch):
    """That the numbers stay equal is not promised: a matrix product may then add up in another order."""
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        do([["brcd", 0], ["brcd", 1], ["crd", 0]])
    finally:
        torch.set_num_threads(before)
    found = left_in(tmp_path)
    assert {record["provenance"]["threads"] for record in found.values()} == {before + 1}
    compared = reproduced.compare(list(found.values()), list(first.values()))
    assert len(compared.outside) == 0
    assert compared.notes == [f"{len(first)} made with another number of threads."]


if __name__ == "__main__":
    do(json.loads(sys.argv[1]))
