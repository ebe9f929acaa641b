"""The runs of a study in one process, without notebooks, killed at many random moments: cheaper than test_killed_study.

A process that has imported everything forks one that does what is left: fetches, extracts, trains, collects, draws. It
is killed some random part of a stage's seconds after that stage has begun, and another goes on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import served
import served_images
import torchvision  # noqa: F401
from study_process import PROFILE, files

from brcd_core import backbones, datasets, plots, profiles, records, tables
from brcd_core.backbones import known_answers, weight_sources, weights
from brcd_core.fetching import Url, sha256_of
from brcd_core.study import banking, collect, plan, runs, search
from brcd_core.views import bank

SEED = int(os.environ.get("BRCD_SEED", "20240513"))
KILLS = {
    "fetching images": 3, "fetching weights": 3, "features": 3, "extraction": 6, "teacher": 3, "weights": 4,
    "student": 6, "redundancy": 2, "view_counts": 4, "collecting": 4, "tables": 4, "figures": 5, "search": 3,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The profile of these tests; images and weights come from a server, as in served.py."""
    place = tmp_path_factory.mktemp("runs")
    shutil.copytree(profiles.profiles_dir(), place / "profiles")
    shutil.copy2(Path(__file__).with_name("faults.yaml"), place / "profiles")
    names = list(served.NETWORKS)
    with served.server(place / "served") as around, pytest.MonkeyPatch.context() as patch:
        for name, value in around.items():
            patch.setenv(name, value)
        patch.setattr(profiles, "profiles_dir", lambda: place / "profiles")
        patch.setitem(datasets.DATASETS, "sample", datasets.DATASETS["sample"]._replace(read=served_images.load))
        patch.setattr(known_answers, "check_known_answer", lambda name: "not a published network")
        for name in names:
            file = place / "served" / f"{name}.pt"
            source = Url(f"{around['BRCD_SERVER']}/{file.name}", sha256_of(file))
            patch.setitem(weight_sources.SOURCES, name, (weight_sources.WeightFile(source, weight_sources.read_torch),))
            patch.setitem(backbones.BACKBONES, name, replace(backbones.BACKBONES[name], pretrained=True))
        yield


def go_on(output: Path, tell: Callable[[str], object]) -> None:
    """Do what is left of the study; each stage is told when it begins."""
    os.environ |= {"BRCD_OUTPUT": str(output), "BRCD_CACHE": str(output / "cache")}
    build, study = bank.build, runs.StudyRun(profile=PROFILE)

    def told(*arguments, **options):  # type: ignore[no-untyped-def]
        tell("extraction")
        return build(*arguments, **options)

    banking.bank.build = told
    tell("fetching images")
    datasets.load("sample")
    tell("fetching weights")
    for name in served.NETWORKS:
        weights.load_state(name)
    for run in plan.every(PROFILE):
        if not records.finished(run.folder):
            tell(run.folder.relative_to(study.results / "runs").parts[0])
            collect.RUNNERS[type(run)](run, lambda line: None)
    tell("collecting")
    found = collect.collect(PROFILE)
    tell("tables")
    tables.write_tables(found, study.results / "tables")
    tell("figures")
    plots.write_figures(found, study.figures)
    tell("search")
    asked = runs.SearchRun(profile=PROFILE, method="brcd")
    plots.save(plots.search_panel(**search.search(asked, lambda line: None).panel()), *asked.picture)
    plots.gallery(study.figures)


class Process:
    """A process that goes on with a study; `stages()`: those that have begun."""

    def __init__(self, output: Path) -> None:
        self._read, write = os.pipe()
        self._told = b""
        self.number = os.fork()
        if not self.number:
            try:
                go_on(output, lambda stage: os.write(write, f"{stage}\n".encode()))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(write)
        os.set_blocking(self._read, False)

    def stages(self) -> list[str]:
        with suppress(BlockingIOError):
            self._told += os.read(self._read, 1 << 16)
        return self._told.decode().splitlines()

    def ended(self) -> int | None:
        """Its status, once it has ended."""
        number, status = os.waitpid(self.number, os.WNOHANG)
        return status if number else None

    def kill(self) -> None:
        os.kill(self.number, signal.SIGKILL)
        os.waitpid(self.number, 0)


def undisturbed(output: Path) -> dict[str, float]:
    """Let one go to its end; the seconds of each stage, the longest where it comes several times."""
    process, begun, status = Process(output), [("", time.monotonic())], None
    while status is None:
        status, stages = process.ended(), process.stages()
        begun += [(stage, time.monotonic()) for stage in stages[len(begun) - 1 :]]
        time.sleep(0.01)
    assert status == 0
    seconds: dict[str, float] = {}
    for (stage, start), (_, end) in zip(begun, [*begun[1:], ("", time.monotonic())], strict=True):
        seconds[stage] = max(seconds.get(stage, 0), end - start)
    return seconds


def test_killed_at_many_moments_the_runs_end_as_if_undisturbed(tmp_path: Path) -> None:
    started = time.monotonic()
    seconds = undisturbed(tmp_path / "quiet")
    print(f"\nseed {SEED} (BRCD_SEED); undisturbed {time.monotonic() - started:.0f} s", flush=True)
    drawn, left, hit, missed = random.Random(SEED), dict(KILLS), Counter[str](), 0
    while True:
        process, status, due = Process(tmp_path / "killed"), None, 0.0
        while status is None and not (due and time.monotonic() >= due):
            status, stages = process.ended(), process.stages()
            chosen = next((stage for stage in stages if left.get(stage)), None)
            if chosen and not due:
                left[chosen] -= 1
                due = time.monotonic() + drawn.uniform(0, seconds[chosen])
            time.sleep(0.01)
        if status is not None:
            assert status == 0
            if not due:
                break
            missed += 1
            continue
        process.kill()
        hit[process.stages()[-1]] += 1
    print(f"{hit.total()} kills: {dict(hit)}; {missed} too late; {time.monotonic() - started:.0f} s", flush=True)
    one, other = files(tmp_path / "quiet"), files(tmp_path / "killed")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert hit.total() >= 30 and hit.keys() >= KILLS.keys(), "too few kills, or not in every stage"
