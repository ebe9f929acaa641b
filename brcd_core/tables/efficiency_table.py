"""What a student saves: size and speed of the backbones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.protocol import sources
from brcd_core.tables.scores import NoRecords, in_order, of_kind
from brcd_core.tables.table import Table, headers, make


class Measure(NamedTuple):
    """A column: its heading, what one unit of it is, its decimals, and whether more is better."""

    heading: str
    unit: float = 1
    decimals: int = 1
    more: bool = False


MEASURES = {
    "parameters": Measure("parameters (M)", 1e6),
    "multiply_adds": Measure("multiply-adds (G)", 1e9, 2),
    "megabytes": Measure("MB on disk"),
    "latency_ms": Measure("latency of one image (ms)"),
    "images_per_second": Measure("images a second", more=True),
}
CONDITIONS = ("size", "batch", "threads", "device")


def efficiency_table(records: Iterable[Record]) -> Table:
    """Parameters, multiply-adds, size, latency and throughput of each backbone; below, how many times a student saves.

    NoRecords if no backbone was measured.
    """
    records = list(records)
    measured = [record for record in in_order(of_kind(records, "features")) if record.get("efficiency")]
    if not measured:
        raise NoRecords("no features record with a measurement of efficiency")
    by_name = {record["run"]["backbone"]: record["efficiency"] for record in measured}
    pairs = sorted({(r["run"]["teacher"], r["run"]["student"]) for r in of_kind(records, "student")})
    pairs = [pair for pair in pairs if set(pair) <= set(by_name)]
    teachers = {teacher for teacher, _ in pairs}
    names = sorted(by_name, key=lambda name: (name not in teachers, name))

    lines: list[dict[str, Any]] = [
        {"backbone": name, "against": None} | {key: by_name[name][key] for key in (*MEASURES, *CONDITIONS)}
        for name in names
    ]
    saved = [
        {"backbone": student, "against": teacher}
        | {key: _times(by_name[teacher][key], by_name[student][key], of.more) for key, of in MEASURES.items()}
        for teacher, student in pairs
    ]
    cells = {
        of.heading: [f"{line[key] / of.unit:,.{of.decimals}f}" for line in lines]
        + [f"{line[key]:.1f}×" for line in saved]
        for key, of in MEASURES.items()
    }
    caption = (
        f"What does a small student save? {_finding(saved)}Above: each backbone's own numbers. Below: student against "
        "teacher, how many times fewer parameters, multiply-adds and megabytes (its weights file), how many times "
        "quicker one image is encoded, and how many times more images a second in batches. Under 1: it saves nothing. "
        "The hash head, a few small matrices, is left out. The last two columns were timed once, in passing, perhaps "
        "beside other runs: compare speeds by results/benchmarks (make bench), which were measured in turn."
    )
    roles = [*("teacher" if line["backbone"] in teachers else "student" for line in lines)]
    roles += [f"against {line['against']}" for line in saved]
    columns = {"backbone": [line["backbone"] for line in [*lines, *saved]], "as": roles}
    heads = headers(columns, always=("backbone", "as"))
    note = f"Protocol: {_conditions(measured)}. {sources(measured)}"
    return make("efficiency", caption, note, pd.DataFrame([*lines, *saved], dtype=object), *heads, cells)


def _times(teacher: float, student: float, more: bool) -> float:
    """How many times better the student is."""
    return student / teacher if more else teacher / student


def _conditions(measured: list[Record]) -> str:
    """Size of the images, batch, threads and device; where they differ, all of them."""
    found = [
        f"images of {e['size']} pixels, median latency of one image, throughput in batches of 64 or of as many as a "
        f"second allows, {e['threads']} {'thread' if e['threads'] == 1 else 'threads'} on {e['device']}"
        for e in (record["efficiency"] for record in measured)
    ]
    return "; or ".join(dict.fromkeys(found))


def _finding(saved: list[dict[str, Any]]) -> str:
    if not saved:
        return ""
    most = max(saved, key=lambda line: (line["multiply_adds"], line["backbone"], line["against"]))
    return (
        f"{most['backbone']} has {most['parameters']:.1f} times fewer parameters and {most['multiply_adds']:.1f} times "
        f"fewer multiply-adds than {most['against']}. "
    )
