"""Two processes that want the same runs at once, and one of two that is killed: the other waits, and takes over.

Two `make study` are in test_killed_study.py; two downloads, banks and indexes at once in tests/test_fetch.py,
test_bank.py and test_search.py.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from study_process import files

from brcd_core.study import plan, student
from brcd_core.study.runs import StudentRun

SEED = int(os.environ.get("BRCD_SEED", "20240513"))
CHANGE = {"student": {"training": {"epochs": 4}}, "teacher": {"training": {"epochs": 4}}}


def some_runs() -> list[StudentRun]:
    """Two students; a teacher, the choice of a weight and the banks come with them."""
    first = next(run for run in plan.students("smoke") if run.method == "alone" and run.bits == 16)
    return [StudentRun(**first.model_dump() | {"method": method, "change": CHANGE}) for method in ("alone", "brcd")]


def train(output: Path) -> None:
    os.environ |= {"BRCD_OUTPUT": str(output), "BRCD_CACHE": str(output / "cache")}
    for run in some_runs():
        student.student(run, lambda line: None)


def forked(act: Callable[[], object]) -> int:
    """A process that does something and ends; its number."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """What one process leaves, and its seconds."""
    output, started = tmp_path_factory.mktemp("alone"), time.monotonic()
    assert os.waitpid(forked(lambda: train(output)), 0)[1] == 0
    return files(output), time.monotonic() - started


def test_two_processes_leave_what_one_does(alone: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    children = [forked(lambda: train(tmp_path)) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert files(tmp_path) == alone[0]


def test_where_one_of_two_is_killed_the_other_takes_over(alone: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    drawn = random.Random(SEED)
    print(f"seed {SEED} (BRCD_SEED)")
    for attempt in range(6):
        output = tmp_path / str(attempt)
        output.mkdir()
        victim = forked(lambda output=output: train(output))  # type: ignore[misc]
        other = forked(lambda output=output: train(output))  # type: ignore[misc]
        time.sleep(drawn.uniform(0, 1.5 * alone[1]))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        assert os.waitpid(other, 0)[1] == 0
        assert files(output) == alone[0]
