"""Speed and memory of the retrieval measures on one core, against the usual loop, other libraries and bare popcount.

    python -m benchmarks.retrieval [--quick]

Everything starts at real-valued codes and ends at one mAP, packing included; bare popcount starts at packed codes.
What is slow is timed on the first queries and scaled to all of them; what it does once for a database is not scaled.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rivals
from benchmarks.measure import Column, Job, is_quick, machine, medians, one_core, publish, reached, table
from benchmarks.rivals import Problem
from brcd_core import retrieval
from brcd_core.tables.table import Table

POPCOUNT, OURS, LOOP = "bare popcount", "counts, tie-aware mAP", "usual loop"
SET_UP = ", set-up"  # what a way does once
FASTER, WITHIN = 20, 3  # aims: than the usual loop, and of a bare popcount pass
WORD = 8  # bytes of a number of the result


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    queries: int = 5000
    database: int = 50_000
    bits: tuple[int, ...] = (16, 32, 64, 128)
    k: int = 1000
    slow: int = 50  # queries that the usual loops and torchmetrics are timed on
    faiss: int = 1000
    repeats: int = 5
    grown: tuple[int, ...] = (50_000, 200_000, 1_000_000)
    grown_queries: int = 200
    remembered: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000)


QUICK = Sizes(40, 400, (16, 64), 100, 4, 10, 1, (400, 800), 10, (20, 40))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and publish the three tables."""
    sizes = QUICK if is_quick(__doc__, argv) else Sizes()
    with one_core():
        publish(by_bits(sizes))
        publish(by_database(sizes))
    publish(by_queries(sizes))


Way = Callable[[Problem], Callable[[], float]]  # set up for a problem, gives the function that answers it


def ways(asked: Problem, sizes: Sizes) -> dict[str, tuple[Way, int]]:
    """Each way to the mAP, and how many of the queries it is timed on. Ours need no set-up."""
    k, queries = sizes.k, len(asked.query_codes)
    slow, faiss = min(sizes.slow, queries), min(sizes.faiss, queries)
    return {
        OURS: (lambda few: lambda: retrieval.mean_average_precision(retrieval.counts(*few), k), queries),
        "stable mAP": (lambda few: lambda: float(retrieval.stable_average_precision(*few, k).mean()), queries),
        LOOP: (lambda few: rivals.usual_loop(few, k), slow),
        "usual loop, stable sort": (lambda few: rivals.usual_loop(few, k, "stable"), slow),
        "faiss, AP": (lambda few: rivals.faiss_map(few, k), faiss),
        "torchmetrics": (lambda few: rivals.torchmetrics_map(few, k), slow),
    }


def timed(asked: Problem, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Seconds for all queries of a problem, bare popcount first."""
    packed = retrieval.pack(asked.query_codes), retrieval.pack(asked.database_codes)
    jobs = {POPCOUNT: Job(lambda: rivals.popcount_pass(*packed))}
    for name, (way, queries) in ways(asked, sizes).items():
        few = asked.few(queries)
        way(few.few(1))()  # libraries load before they are timed
        jobs[name + SET_UP] = Job(partial(way, few))
        jobs[name] = Job(way(few), len(asked.query_codes) / queries)
    seconds = medians(jobs, repeats)
    return {name: seconds[name] + seconds.get(name + SET_UP, 0.0) for name in jobs if not name.endswith(SET_UP)}


def by_bits(sizes: Sizes) -> Table:
    """All ways to the mAP at each code length."""
    rows: list[dict[str, Any]] = []
    for bits in sizes.bits:
        asked = rivals.problem(sizes.queries, sizes.database, bits)
        seconds, few = timed(asked, sizes, sizes.repeats), asked.few(sizes.slow)
        scores = {name: way(few)() for name, (way, _) in ways(asked, sizes).items()}
        rows += [
            {"bits": bits, "way": name, "seconds": value, "popcounts": value / seconds[POPCOUNT]}
            | {"faster": seconds[LOOP] / value, "map": scores.get(name)}
            for name, value in seconds.items()
        ]
    ours = [row for row in rows if row["way"] == OURS]
    faster, within = [row["faster"] for row in ours], [row["popcounts"] for row in ours]
    caption = (
        f"How long does mAP@{sizes.k} take? Counts and tie-aware mAP: {reached(FASTER, faster, True)} as fast as the "
        f"usual loop, {reached(WITHIN, within, False)} as long as a bare popcount pass."
    )
    note = (
        f"{sizes.queries:,} queries, {sizes.database:,} items, median of {sizes.repeats}. The usual loop (dot "
        f"products and numpy's default argsort a query) and torchmetrics are timed on {sizes.slow} queries, faiss "
        f"(IndexBinaryFlat, k = {sizes.k}) on {sizes.faiss}, and scaled; what they do once for the database is not. "
        f"mAP: of the first {sizes.slow} queries; of ties the tie-aware row takes the exact mean over all orders, the "
        f"stable rows that by index, the others what comes. {machine(threads=1)}"
    )
    columns = {
        "seconds": Column("seconds", "{:.3f}"),
        "popcounts": Column("bare popcount passes"),
        "faster": Column("times as fast as the loop", "{:.1f}"),
        "map": Column("mAP", "{:.4f}"),
    }
    return table("retrieval", caption, note, rows, ["bits", "way"], columns)


def by_database(sizes: Sizes) -> Table:
    """Milliseconds a query at 64 bits while the database grows."""
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    for size in sizes.grown:
        asked = rivals.problem(sizes.grown_queries, size, 64)
        few = Sizes(k=sizes.k, slow=max(1, sizes.slow // 10), faiss=max(1, sizes.faiss // 20))
        seconds = timed(asked, few, max(1, sizes.repeats - 2))
        names = list(seconds)
        rows.append(
            {"items": f"{size:,}"}
            | {name: 1000 * value / sizes.grown_queries for name, value in seconds.items()}
            | {"popcounts": seconds[OURS] / seconds[POPCOUNT], "faster": seconds[LOOP] / seconds[OURS]}
        )
    caption = (
        f"How does a query's time grow with the database? Milliseconds a query at 64 bits. At {rows[-1]['items']} "
        f"items, counts and tie-aware mAP are {reached(FASTER, [rows[-1]['faster']], True)} as fast as the usual loop, "
        f"and take {reached(WITHIN, [rows[-1]['popcounts']], False)} as long as a bare popcount pass."
    )
    note = (
        f"{sizes.grown_queries} queries, over which what is done once for the database is spread, such as packing it; "
        f"of these the usual loops and torchmetrics are timed on {few.slow}, faiss on {few.faiss}. {machine(threads=1)}"
    )
    columns = {name: Column(name, "{:.3f}") for name in names}
    columns |= {"popcounts": Column("counts, mAP / popcount"), "faster": Column("loop / counts, mAP", "{:.1f}")}
    return table("retrieval_database", caption, note, rows, ["items"], columns)


def by_queries(sizes: Sizes) -> Table:
    """How much the peak of the process's memory rises, a fresh process for each number of queries."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        asked = rivals.problem(max(sizes.remembered), sizes.database, 64)
        for name, array in asked._asdict().items():
            np.save(Path(folder) / name, array)
        spawn = multiprocessing.get_context("spawn")
        for queries in sizes.remembered:
            with ProcessPoolExecutor(1, spawn) as pool:
                megabytes = pool.submit(peak_growth, folder, queries, sizes.k).result()
            result = 2 * WORD * queries * (64 + 1) / 1e6
            matrix = 4 * queries * sizes.database / 1e6
            rows.append({"queries": f"{queries:,}", "growth": megabytes, "result": result, "matrix": matrix})
    per_query = (rows[-1]["growth"] - rows[0]["growth"]) / (sizes.remembered[-1] - sizes.remembered[0])
    caption = (
        f"Does memory grow with the queries? By {max(0.0, 1000 * per_query):.0f} kB a query, its own counts and their "
        f"mAP; a matrix of all distances (int32) would take {4 * sizes.database / 1e3:.0f} kB a query."
    )
    note = f"Peak memory (RSS) of a fresh process, above what it held before. {sizes.database:,} items, 64 bits."
    columns = {
        "growth": Column("peak growth (MB)", "{:.1f}"),
        "result": Column("of it counts (MB)", "{:.1f}"),
        "matrix": Column("all distances (MB)", "{:.0f}"),
    }
    return table("retrieval_memory", caption, note, rows, ["queries"], columns)


def peak_growth(folder: str, queries: int, k: int) -> float:
    """MB by which counts and mAP raise the peak memory of this process."""
    asked = Problem(*(np.load(Path(folder) / f"{name}.npy") for name in Problem._fields)).few(queries)
    before = _peak()
    retrieval.mean_average_precision(retrieval.counts(*asked), k)
    return (_peak() - before) / 1e6


def _peak() -> int:
    """Bytes. Linux counts in ru_maxrss what the parent held as well."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
