"""`make study`, killed over and over in every stage, goes on each time from what is left, and ends as if undisturbed.

The moments are random with a seed: some time after a stage has begun. What is killed is the process group or, half of
the times, all that it has started. And on a disk that fills up, and with a second one in the same folder.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from served import environment, served_copy, server
from small_disk import small_disk
from study_process import PROFILE, Study, files

SEED = int(os.environ.get("BRCD_SEED", "20240513"))
LEAST = 30  # kills
SHARE = 0.6  # of a stage's seconds: a later kill might find it ended, and it does not begin again
NOMINAL = 75.0  # seconds of an undisturbed study on two quiet cores; on a slower machine delays are longer too
STAGES = {  # stage: (what the log says when it begins, its seconds, kills)
    "fetching images": (r"fetching cifar10_sample\.png", 2.0, 3),
    "fetching weights": (r"fetching tiny_\w+\.pt", 2.0, 3),
    "extraction": (r"train images, 6 train views: +0%", 0.7, 4),
    "teacher": (r"Job \d+: teacher", 6.0, 3),
    "weight": (r"Job \d+: weight", 7.0, 3),
    "students": (r"Job \d+: students", 8.0, 4),
    "bit redundancy": (r"Job \d+: bit redundancy", 6.0, 3),
    "numbers of views": (r"Job \d+: numbers of views", 7.0, 3),
    "collecting": (r"Job \d+: collecting", 1.0, 3),
    "tables": (r"Job \d+: tables", 5.0, 3),
    "figures": (r"Job \d+: figures", 8.0, 3),
    "search": (r"Job \d+: search", 8.0, 3),
}


class Undisturbed(NamedTuple):
    """A study that nothing happened to: where its copy is, what it left, its seconds, and the server's environment."""

    place: Path
    files: dict[str, bytes]
    size: int
    seconds: float
    served: dict[str, str]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """While it goes on, a second `make study` in the same folder is refused."""
    place = tmp_path_factory.mktemp("studies")
    copy = served_copy(place / "copy")
    shutil.copy2(Path(__file__).with_name("faults.yaml"), copy / "workflow" / "profiles" / f"{PROFILE}.yaml")
    with server(place / "served") as served:
        started = time.monotonic()
        study = Study(copy, environment(copy, place / "quiet", **served), place / "quiet.log")
        next(log for log in study.follow() if "Job " in log)
        second = Study(copy, environment(copy, place / "quiet", **served), place / "second.log")
        assert second.process.wait() and study.process.poll() is None
        assert f"another 'make study PROFILE={PROFILE}' is running in this folder" in second.log
        study.done()
        seconds, left = time.monotonic() - started, [one for one in (place / "quiet").rglob("*") if one.is_file()]
        print(f"\nundisturbed: {seconds:.0f} s", flush=True)
        yield Undisturbed(place, files(place / "quiet"), sum(one.stat().st_size for one in left), seconds, served)


def test_killed_in_every_stage_it_ends_as_if_undisturbed(quiet: Undisturbed) -> None:
    copy, output, drawn = quiet.place / "copy", quiet.place / "killed", random.Random(SEED)
    around, slowness, started = environment(copy, output, **quiet.served), quiet.seconds / NOMINAL, time.monotonic()
    left = {stage: kills for stage, (_, _, kills) in STAGES.items()}
    hit: Counter[str] = Counter()
    kills = 0
    print(f"\nseed {SEED} (BRCD_SEED)", flush=True)
    while True:
        study = Study(copy, around, quiet.place / f"killed-{kills}.log")
        stage = begun(study, left)
        if stage is None:
            break
        left[stage] -= 1
        pace = 1 if stage.startswith("fetching") else slowness  # the server is as slow everywhere
        time.sleep(drawn.uniform(0, SHARE * STAGES[stage][1] * pace))
        running, everything = study.running, drawn.random() < 0.5
        if study.process.poll() is None:
            study.kill(everything)
            kills += 1
            hit[stage] += any(one.startswith(job_of(stage)) for one in running)
            how = "everything" if everything else "the group"
            print(f"{kills:2} after {stage}: {how} killed in {', '.join(running) or 'no job'}", flush=True)
        assert "Error in rule" not in study.log, study.log
    assert study.process.returncode == 0 and "Error in rule" not in study.log, study.log
    print(f"{kills} kills, in the stage meant: {dict(hit)}; {time.monotonic() - started:.0f} s", flush=True)
    assert "Nothing to be done" in Study(copy, around, quiet.place / "again.log").done()
    same_files(quiet.files, files(output))
    assert kills >= LEAST and all(hit[stage] for stage in STAGES), "too few kills, or not in every stage"


def test_a_study_on_a_disk_that_fills_up_says_so_and_goes_on_after(quiet: Undisturbed) -> None:
    """It has room for a part of it, and then for a little more, again and again."""
    copy, size, refused = quiet.place / "copy", quiet.size, 0
    with small_disk(quiet.place / "disk", megabytes=0.2 * size / 2**20) as disk:
        around = environment(copy, disk.folder, **quiet.served)
        for share in (0.4, 0.7, 1.0, 3.0, 6.0):
            study = Study(copy, around, quiet.place / f"disk-{share}.log")
            if not study.wait():
                break
            refused += 1
            assert "no space left" in study.log.lower() and "free some" in study.log.lower(), study.log
            disk.resize(int(share * size / 1024))
        print(f"refused {refused} times", flush=True)
        assert refused and study.process.returncode == 0
        same_files(quiet.files, files(disk.folder))


def test_a_second_snakemake_without_make_is_refused(quiet: Undisturbed) -> None:
    copy, output = quiet.place / "copy", quiet.place / "bare"
    command = [str(copy / ".venv/bin/snakemake"), "-s", "workflow/Snakefile", "--config", f"profile={PROFILE}"]
    around = environment(copy, output, **quiet.served)
    with (quiet.place / "bare.log").open("w") as log:
        first = subprocess.Popen([*command, "--cores", "1"], cwd=copy, env=around, stdout=log, stderr=log)
    while "Job " not in (quiet.place / "bare.log").read_text():
        assert first.poll() is None
        time.sleep(0.2)
    second = subprocess.run([*command, "--cores", "1"], cwd=copy, env=around, capture_output=True, text=True)
    first.terminate()
    first.wait()
    assert second.returncode and "cannot be locked" in second.stdout + second.stderr


def begun(study: Study, left: dict[str, int]) -> str | None:
    """The first stage to begin that is still to be killed; None where the study ends before."""
    for log in study.follow():
        for stage, (sign, _, _) in STAGES.items():
            if left[stage] and re.search(sign, log):
                return stage
    return None


def job_of(stage: str) -> str:
    """How the names of the jobs of a stage begin."""
    return {"fetching images": "data", "fetching weights": "features", "extraction": "features"}.get(stage, stage)


def same_files(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
