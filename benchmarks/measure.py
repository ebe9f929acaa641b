"""What all benchmarks share: jobs timed in turn, encoders that may be missing, tables that name their machine.

The processor of a shared machine is faster one minute and slower the next. So the numbers to compare are ratios: all
jobs of a table are run one after another, again and again, and each counts with its median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from brcd_core.atomic import write_text
from brcd_core.config import output_dir
from brcd_core.tables.table import NOTHING, Table, make

if TYPE_CHECKING:  # torch takes seconds to load, and one benchmark measures memory in fresh processes
    import torch

    from brcd_core.backbones import Backbone


class Job(NamedTuple):
    """Something to be timed. `times`: how many times as long the whole would take, where this does a part of it."""

    run: Callable[[], object]
    times: float = 1.0


class Column(NamedTuple):
    """A column of a table: its heading, and how its numbers are written."""

    heading: str
    form: str = "{:.2f}"


def is_quick(description: str | None, argv: Sequence[str] | None = None) -> bool:
    """The one option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes that show that it runs and no more")
    return bool(parser.parse_args(argv).quick)


def medians(jobs: Mapping[str, Job], repeats: int, device: torch.device | None = None) -> dict[str, float]:
    """Seconds of each job, scaled to the whole: all in turn, `repeats` times, the median of each."""
    seconds = clocked({name: stopwatch(job.run, device) for name, job in jobs.items()}, repeats)
    return {name: job.times * seconds[name] for name, job in jobs.items()}


def stopwatch(run: Callable[[], object], device: torch.device | None = None) -> Callable[[], float]:
    """The same job, returning its seconds; what a GPU still has to do is waited for."""

    def seconds() -> float:
        started = time.perf_counter()
        run()
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return seconds


def clocked(clocks: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Medians of what returns its own seconds: all in turn, `repeats` times."""
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(repeats):
        for name, clock in clocks.items():
            seconds[name].append(clock())
    return {name: statistics.median(values) for name, values in seconds.items()}


def this_device() -> torch.device:
    """The device that the study would use."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def one_core() -> Iterator[None]:
    """Matrix products, torch and faiss keep to one thread."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def encoder(name: str, size: int, device: torch.device) -> Backbone | None:
    """A backbone for images of `size` pixels, laid out as where view banks are built; None without its weights."""
    import torch

    from brcd_core import backbones
    from brcd_core.fetching import FetchError

    try:
        return backbones.load(name, size=size).to(device).to(memory_format=torch.channels_last)
    except FetchError as error:
        print(f"{name} is left out, its weights are not to be had: {error}")
        return None


def machine(device: torch.device | None = None, threads: int | None = None) -> str:
    """Processor or graphics card, threads, and versions, as a sentence for a table's note."""
    import torch

    from brcd_core.records import device_name

    names = [device_name(torch.device("cpu"))]
    if device is not None and device.type == "cuda":
        names.append(device_name(device))
    count = torch.get_num_threads() if threads is None else threads
    used = f"{count} {'thread' if count == 1 else 'threads'}"
    return f"{'; '.join(names)}; {used}; torch {torch.__version__}, numpy {np.__version__}."


def table(
    name: str,
    caption: str,
    note: str,
    rows: Sequence[Mapping[str, Any]],
    heads: list[str],
    columns: Mapping[str, Column],
) -> Table:
    """A table of rows: `heads` name what is a row's header, `columns` what else of it is shown; None is no number."""
    index: list[Any] = [tuple(str(row[head]) for head in heads) for row in rows]
    cells = {
        column.heading: [NOTHING if row[key] is None else column.form.format(row[key]) for row in rows]
        for key, column in columns.items()
    }
    plain_index = index if len(heads) > 1 else [key[0] for key in index]
    return make(name, caption, note, pd.DataFrame(rows), plain_index, [head.replace("_", " ") for head in heads], cells)


def beside_forward(way: str, heading: str) -> dict[str, Column]:
    """Columns of images a second: of a way, of the forward pass alone, and the former's share of the latter."""
    return {
        way: Column(heading, "{:.1f}"),
        "forward": Column("forward pass alone", "{:.1f}"),
        "share": Column("share", "{:.0f} %"),
    }


def publish(found: Table) -> None:
    """Print a table and write it to results/benchmarks/, as markdown and csv."""
    folder = output_dir() / "results" / "benchmarks"
    for ending, text in {"md": found.markdown(), "csv": found.csv()}.items():
        write_text(folder / f"{found.name}.{ending}", text)
    print(found.plain(), flush=True)


def reached(aim: float, values: Sequence[float], at_least: bool, unit: str = " times") -> str:
    """The range of some ratios beside what was aimed at, in words."""
    ends = [f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in (min(values), max(values))]
    found, side = " to ".join(dict.fromkeys(ends)), "at least" if at_least else "at most"
    met = min(values) >= aim if at_least else max(values) <= aim
    return f"{found}{unit} (aim{'' if met else ' missed'}: {side} {aim:g}{unit})"
