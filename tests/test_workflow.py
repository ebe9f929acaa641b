"""The workflow as a user runs it: the smoke profile through Snakemake and papermill, stopped in the middle too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brcd_core.config import repository

SNAKEMAKE = [
    str(Path(sys.executable).with_name("snakemake")), "-s", "workflow/Snakefile", "--config", "profile=smoke",
    "--cores", "2", "--rerun-incomplete", "--nolock", "--retries", "1",
]  # fmt: skip

RUNS = 37  # of the smoke profile


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Folders of this module's own for results and cache; .snakemake/ stays in the repository."""
    folder = tmp_path_factory.mktemp("workflow")
    return os.environ | {
        "BRCD_OUTPUT": str(folder),
        "BRCD_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def snakemake(environment, *more):
    return subprocess.run(
        [*SNAKEMAKE, *more], cwd=repository(), env=environment, capture_output=True, text=True, timeout=600
    )


def records(environment):
    return sorted(Path(environment["BRCD_OUTPUT"]).glob("results/smoke/runs/**/record.json"))


def test_killed_in_the_middle_it_goes_on_where_it_was(environment):
    process = subprocess.Popen(
        SNAKEMAKE, cwd=repository(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while len(records(environment)) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in records(environment)}
    assert 20 <= len(before) < RUNS

    done = snakemake(environment)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = [path for path, stamp in before.items() if path.stat().st_mtime_ns == stamp]
    # A run that was being written, or whose notebook's copy was, when the kill came is done again.
    assert len(records(environment)) == RUNS and len(kept) >= len(before) - 2

    output = Path(environment["BRCD_OUTPUT"])
    collected = [json.loads(line) for line in (output / "results/smoke/records.jsonl").read_text().splitlines()]
    assert len(collected) == RUNS + 1  # and one record of how they compare
    for name in ("main.csv", "main.md", "main.tex"):
        assert (output / "results/smoke/tables" / name).stat().st_size > 0
    for name in ("main", "search-tiny_student-brcd-16", "tsne-tiny_student-brcd-16", "training_curves-tiny_student"):
        assert (output / "figures/smoke" / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    again = snakemake(environment)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


def test_a_wrong_parameter_fails_in_the_first_cell_and_leaves_no_result(tmp_path):
    executed = tmp_path / "runs" / "x" / "notebook.ipynb"
    wrong = '{"profile": "smoke", "metod": "brcd"}'
    done = subprocess.run(
        [sys.executable, "workflow/run_notebook.py", "notebooks/04_distil_students.ipynb", str(executed), wrong],
        cwd=repository(), env=os.environ | {"BRCD_OUTPUT": str(tmp_path), "BRCD_CACHE": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "unknown parameter 'metod'; this notebook has: profile" in done.stdout
    assert not executed.exists() and executed.with_suffix(".failed.ipynb").exists()
