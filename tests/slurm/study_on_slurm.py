"""The smoke study as jobs of a Slurm cluster, one of them cancelled, and the same study on the machine itself.

    make test-slurm

pytest does not collect this file unless it is named: it needs root, installs Debian packages and takes minutes.
Tables are compared byte by byte, and records, but for seconds, speeds and provenance.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import one_node
import pytest
import yaml

from brcd_core.config import repository

CORES = os.environ.get("CORES", "2")
SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", "--config", "profile=smoke",
             "--cores", CORES, "--nolock", "--rerun-incomplete"]  # fmt: skip
ON_SLURM = ["--set-threads", f"features={CORES}", "--latency-wait", "5",
            "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"]  # fmt: skip
SPEEDS = {"efficiency", "training"}  # tables of seconds
HOUR = 3600


@dataclass(frozen=True)
class Study:
    """A finished study: its folder, how long it took."""

    folder: Path
    seconds: float

    def tables(self) -> dict[str, bytes]:
        found = sorted((self.folder / "results/smoke/tables").iterdir())
        return {path.name: path.read_bytes() for path in found if path.stem not in SPEEDS}

    def records(self) -> list[dict]:
        """All records without what differs from one run of the same code to the next."""
        found = [json.loads(line) for line in (self.folder / "results/smoke/records.jsonl").read_text().splitlines()]
        for record in found:
            record["threads"] = record.pop("provenance", {}).get("threads")
            record.pop("sha256", None)  # of all this
            record.pop("efficiency", None)
            record.get("training", {}).pop("seconds", None)
        return found


@dataclass(frozen=True)
class OnSlurm(Study):
    """And the jobs; the run before, in which one was cancelled, and what it left."""

    jobs: list[one_node.Job]
    cancelled: one_node.Job
    stopped_with: int
    left: dict[Path, int]


def environment(folder: Path) -> dict[str, str]:
    places = {"BRCD_OUTPUT": str(folder), "BRCD_CACHE": str(folder / "cache")}
    return os.environ | places | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def snakemake(folder: Path, *more: str) -> subprocess.Popen:
    """Snakemake, started in the repository; what it says goes to a file."""
    with (folder / "snakemake.log").open("a") as log:
        return subprocess.Popen([*SNAKEMAKE, *more], cwd=repository(), env=environment(folder), stdout=log, stderr=log)


def finished(folder: Path, process: subprocess.Popen) -> None:
    """Wait for Snakemake, which must succeed."""
    said = folder / "snakemake.log"
    assert process.wait(HOUR) == 0, said.read_text()[-5000:]


def student_records(folder: Path) -> dict[Path, int]:
    """The records of students, with the times when they were written."""
    found = folder.glob("results/smoke/runs/student/**/record.json")
    return {path: path.stat().st_mtime_ns for path in found}


def profile_with_a_card(folder: Path) -> Path:
    """The profile as README.md of workflow/slurm tells to change it: `features` asks for a card."""
    settings = yaml.safe_load((repository() / "workflow/slurm/config.yaml").read_text())
    settings["set-resources"]["features"]["gpu"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def job_with_a_student(folder: Path, process: subprocess.Popen) -> one_node.Job:
    """A running job of `students`, as soon as a student is there."""
    deadline = time.monotonic() + HOUR
    while process.poll() is None and time.monotonic() < deadline:
        running = [job for job in one_node.jobs() if job.state == "RUNNING" and job.rule.startswith("rule_students")]
        if running and student_records(folder):
            return running[0]
        time.sleep(0.3)
    pytest.fail("no student was trained:\n" + (folder / "snakemake.log").read_text()[-5000:])


@pytest.fixture(scope="module")
def on_slurm(tmp_path_factory):
    """The study through Slurm: in a first run a job is cancelled, the second goes on."""
    one_node.install()
    folder = tmp_path_factory.mktemp("on-slurm")
    profile = profile_with_a_card(tmp_path_factory.mktemp("profile"))
    more = ["--workflow-profile", str(profile), *ON_SLURM, "--slurm-logdir", str(folder / "log")]
    with one_node.started(tmp_path_factory.mktemp("slurm") / "one", int(CORES)):
        started = time.monotonic()
        process = snakemake(folder, *more, "--retries", "0")
        try:
            cancelled = job_with_a_student(folder, process)
            one_node.cancel(cancelled)
            stopped_with = process.wait(HOUR)
            left = student_records(folder)
            process = snakemake(folder, *more)
            finished(folder, process)
        finally:
            process.kill()  # if it has not ended; its jobs end with the cluster
            process.wait()
        return OnSlurm(folder, time.monotonic() - started, one_node.jobs(), cancelled, stopped_with, left)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The study without Slurm."""
    folder = tmp_path_factory.mktemp("here")
    started = time.monotonic()
    finished(folder, snakemake(folder))
    return Study(folder, time.monotonic() - started)


def test_a_cancelled_job_ends_the_run_and_the_next_run_goes_on_where_it_was(on_slurm):
    states = {job.number: job.state for job in on_slurm.jobs}
    assert states[on_slurm.cancelled.number] == "CANCELLED" and on_slurm.stopped_with != 0
    assert on_slurm.left and on_slurm.left.items() <= student_records(on_slurm.folder).items()


def test_every_run_was_a_job_and_features_had_a_card(on_slurm):
    done = [job for job in on_slurm.jobs if job.state == "COMPLETED"]
    rules = [job.rule.removeprefix("rule_").split("_wildcards_")[0] for job in done]
    notebooks = list(on_slurm.folder.glob("results/smoke/runs/**/notebook.ipynb"))
    assert len(done) == len(notebooks) > 20 and not {"study", "data", "collect"} & set(rules)
    for job, rule in zip(done, rules):
        assert ("gpu:1" in job.cards) == (rule == "features")
        assert job.cpus == (int(CORES) if rule == "features" else 1)


def test_tables_are_the_same_byte_by_byte(on_slurm, here):
    ours, theirs = on_slurm.tables(), here.tables()
    assert len(ours) > 10 and ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_records_are_the_same_but_for_times_and_machine(on_slurm, here):
    assert on_slurm.records() == here.records()
    print(f"\n{CORES} cores: {on_slurm.seconds:.0f} s through Slurm, in two runs; {here.seconds:.0f} s without")
