"""Every benchmark runs, at sizes that take seconds, and compares what it says it compares."""

import csv
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks import extraction, latency, losses, measure, retrieval, rivals, slow_losses, student_run
from brcd_core import backbones
from brcd_core.config import repository
from brcd_core.fetching import FetchError
from brcd_core.retrieval import counts, stable_average_precision

TABLES = {
    "retrieval": ("retrieval", "retrieval_database", "retrieval_memory"),
    "student_run": ("student_run", "student_bank"),
    "losses": ("losses", "head_training"),
    "extraction": ("extraction",),
    "latency": ("search", "latency"),
    "folder_search": ("folder_indexing", "folder_queries"),
}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def no_teacher(monkeypatch):
    """The teacher's weights cannot be had."""
    load = backbones.load

    def refuse(name, *args, **more):
        if name == "tiny_teacher":
            raise FetchError("no source delivers")
        return load(name, *args, **more)

    monkeypatch.setattr(backbones, "load", refuse)


def rows(output, name):
    """The numbers that a benchmark published."""
    return list(csv.DictReader((output / "results" / "benchmarks" / f"{name}.csv").open()))


# ---- each of them


@pytest.mark.parametrize("topic", TABLES)
def test_it_runs_and_publishes_its_tables(topic, output, capsys):
    importlib.import_module(f"benchmarks.{topic}").main(["--quick"])
    printed = capsys.readouterr().out
    folder = output / "results" / "benchmarks"
    expected = {f"{name}.{ending}" for name in TABLES[topic] for ending in ("md", "csv")}
    assert {path.name for path in folder.iterdir()} == expected
    for name in TABLES[topic]:
        markdown = (folder / f"{name}.md").read_text()
        assert markdown.split(".")[0] in printed.replace("\n", " ")
        assert "\n| " in markdown
        assert "torch 2" in markdown or name == "retrieval_memory"
        numbers = [float(value) for row in rows(output, name) for value in row.values() if value[:1].isdigit()
                   and "," not in value]  # fmt: skip
        assert numbers
        assert np.isfinite(numbers).all()
    figures = sorted(path.name for path in output.glob("figures/benchmarks/*"))
    assert figures == (["latency.png", "latency.svg"] if topic == "latency" else [])


def test_make_bench_runs_them_all():
    shown = subprocess.run(["make", "-n", "bench"], cwd=repository(), capture_output=True, text=True, check=True).stdout
    assert f"for topic in {' '.join(TABLES)};" in shown


def test_make_bench_stops_at_the_first_that_fails(tmp_path):
    """Also with a make that knows no .SHELLFLAGS, as that of macOS."""
    (tmp_path / "python").write_text(f"#!/bin/sh\necho $2 >> {tmp_path}/called\n[ $2 != benchmarks.losses ]\n")
    (tmp_path / "python").chmod(0o755)
    command = ["make", "bench", f"BIN={tmp_path}", ".SHELLFLAGS=-c", "-o", ".venv/.ready", "-o", "setup"]
    assert subprocess.run(command, cwd=repository(), capture_output=True, check=False).returncode == 2
    called = (tmp_path / "called").read_text().split()
    assert called == [f"benchmarks.{topic}" for topic in ("retrieval", "student_run", "losses")]


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit):
        retrieval.main(["--quik"])
    assert "--quik" in capsys.readouterr().err


# ---- without weights


def test_a_backbone_without_weights_is_left_out(no_teacher, output, capsys):
    extraction.main(["--quick"])
    latency.main(["--quick"])
    assert [row["backbone"] for row in rows(output, "extraction")] == ["tiny_student"]
    (left,) = rows(output, "latency")
    assert (left["encoder"], left["faster"]) == ("tiny_student", "")
    printed = capsys.readouterr().out
    assert "tiny_teacher is left out" in printed
    assert "nothing to compare with" in printed


def test_a_student_run_needs_both_backbones(no_teacher, output, capsys):
    student_run.main(["--quick"])
    assert "it needs both backbones" in capsys.readouterr().out
    assert not (output / "results").exists()


# ---- what they compare


def test_all_ways_lead_to_one_map():
    """No two distances of a query are equal, so that the order of ties cannot matter."""
    distances = np.random.default_rng(0).permutation(64)[:40]
    database = np.where(np.arange(64) < distances[:, None], -1, 1).astype(np.float32)
    offered = np.eye(3, dtype=bool)[np.random.default_rng(1).integers(0, 3, 40)]
    asked = rivals.Problem(np.ones((2, 64), np.float32), database, np.eye(3, dtype=bool)[:2], offered)
    expected = []
    for wanted in (0, 1):
        hits = offered[np.argsort(distances), wanted][:30]
        expected.append(np.mean([hits[: place + 1].mean() for place in np.flatnonzero(hits)]))
    found = {name: way(asked)() for name, (way, _) in retrieval.ways(asked, retrieval.Sizes(k=30)).items()}
    assert found == pytest.approx(dict.fromkeys(found, np.mean(expected)), abs=1e-6)
    assert len(found) == 6


def test_the_usual_loop_is_the_stable_order():
    """With a stable sort; with the one that it is timed with, only as far as it sorts by distance."""
    asked = rivals.problem(9, 300, 16)
    expected = stable_average_precision(*asked, 50).mean()
    assert rivals.usual_loop(asked, 50, "stable")() == pytest.approx(expected, abs=1e-12)
    assert rivals.usual_loop(asked, 50)() == pytest.approx(expected, abs=0.05)
    table = counts(*asked)
    assert 0 < table.relevant.sum() < table.items.sum()


def test_what_is_done_once_for_a_database_is_not_scaled(monkeypatch):
    """Two of ten queries are timed: their second is ten for all, the three of the set-up stay three."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    def way(few):
        wait(3)
        return lambda: wait(len(few.query_codes) / 2)

    monkeypatch.setattr(retrieval, "ways", lambda asked, sizes: {"a way": (way, 2)})
    seconds = retrieval.timed(rivals.problem(10, 20, 16), retrieval.QUICK, 1)
    assert seconds == {retrieval.POPCOUNT: 0, "a way": 3 + 5}


@pytest.mark.parametrize("name", ["NT-Xent", "BRCD"])
def test_the_textbook_forms_are_told_from_others(name, monkeypatch):
    ours, textbook, _ = losses.losses(12, torch.device("cpu"))[name]
    losses.agree(ours, lambda: textbook(range(24)))
    with pytest.raises(AssertionError):
        losses.agree(ours, lambda: textbook(range(23)))  # one row is left out
    monkeypatch.setattr(slow_losses, "cosine", lambda a, b: (a * b).sum() / 64)
    with pytest.raises(AssertionError):
        losses.agree(ours, lambda: textbook(range(24)))


def test_a_run_is_put_together_from_its_parts():
    sizes = student_run.Sizes(train=130, views=(10,), built=32)
    assert sizes.steps == 100 * 3
    parts = {"epochs": 7.0, "validation": 1.0, "step": 2.0, "student": 1.0, "teacher": 4.0}
    bank, built, fly = student_run.runs(parts, sizes)
    assert (bank["run"], fly["run"]) == pytest.approx((20 * 7, 300 * 2 + 20))
    assert built["run"] == pytest.approx(20 * 7 + 10 * 130 * (1 + 4) / (2 * 32))
    assert (bank["step"], fly["step"]) == pytest.approx((1000 * 6 / 15, 2000))
    assert bank["faster"] == pytest.approx(620 / 140)
    (line,) = student_run.bank_table([bank, built, fly], parts, sizes, torch.device("cpu")).values.to_dict("records")
    assert line["total"] == pytest.approx(10 * 130 * (1 + 4) / (2 * 32))
    assert line["runs"] == pytest.approx(line["total"] / (620 - 140))


def test_memory_is_that_of_the_call_alone():
    """A fresh process, whose parent holds far more than it."""
    held = np.ones(30_000_000)
    code = (
        "import numpy as np; from benchmarks.retrieval import _peak; before = _peak(); np.ones(5_000_000); "
        "print((_peak() - before) / 1e6)"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=repository(), capture_output=True, text=True, check=True)
    assert 35 < float(found.stdout) < 60
    assert held.size


# ---- the stopwatch


def test_jobs_are_timed_in_turn_and_scaled(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def job(name, *seconds):
        left = iter(seconds)

        def run():
            called.append(name)
            now[0] += next(left)

        return run

    jobs = {"a": measure.Job(job("a", 1, 9, 2)), "b": measure.Job(job("b", 3, 3, 5), 10)}
    assert measure.medians(jobs, 3) == {"a": 2, "b": 30}
    assert called == list("ababab")


def test_one_core_is_given_back():
    torch.set_num_threads(2)
    try:
        with measure.one_core():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_an_aim_stands_beside_what_was_reached():
    assert measure.reached(20, [41.3, 55.2], True) == "41 to 55 times (aim: at least 20 times)"
    assert measure.reached(1, [0.058], False, " runs") == "0.058 runs (aim: at most 1 runs)"
    assert measure.reached(20, [12.3, 25.1], True) == "12 to 25 times (aim missed: at least 20 times)"
    assert measure.reached(3, [2.5, 3.1], False) == "2.5 to 3.1 times (aim missed: at most 3 times)"


# ---- findings


def test_a_query_waits_for_what_was_measured():
    sizes = latency.Sizes(items=(50, 1000))
    rows = [{"encode": 1.0, "1,000": 4.0}, {"encode": 9.0, "1,000": 10.0}]
    assert latency._share(rows, sizes) == "Encoding is 25 to 90 % of a query's time among 1,000 codes."
    assert latency._share(rows[:1], sizes) == "Encoding is 25 % of a query's time among 1,000 codes."
