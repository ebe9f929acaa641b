"""What a database of any size costs: bytes that are counted, and times extrapolated from measured ones.

Searches were measured with codes of BITS. Features are float16, so two bytes a dimension.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from brcd_core.tables.table import NOTHING, Table, make

BITS = 64
WORKING = {"nearest": 10, "faiss": 0}  # bytes a code that a search needs beside the codes
QUOTED = 6  # characters around a name in an index: indent, quotes, comma, end of line
BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}
SECONDS = {"days": 86_400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}
Unit = Literal["bytes", "seconds"]
COUNTED, MEASURED, EXTRAPOLATED = "counted", "measured", "extrapolated"


class Encoder(NamedTuple):
    """A backbone: images a second into a bank; seconds of encoding one query, and of training a head on it.

    None: it was not measured.
    """

    name: str
    role: str
    dim: int
    images_per_second: float | None
    query: float | None
    training: float | None


@dataclass(frozen=True)
class Measured:
    """Sizes of a study, and the times that were measured, in seconds.

    searches: way of searching -> number of codes -> one query on one core. validation: per image of the database.
    given: the encoders whose images a second are the user's own.
    """

    encoders: Sequence[Encoder]
    train: int
    views: int
    lengths: Sequence[int]
    searches: Mapping[str, Mapping[int, float]]
    validation: float
    given: frozenset[str] = frozenset()


class Cost(NamedTuple):
    """What it is, of what, with how many images in the database (0: of any number), and how the value is known."""

    what: str
    of: str
    items: int
    value: float | None
    unit: Unit
    known: str


def database_costs(measured: Measured, databases: Iterable[int], name_length: int) -> list[Cost]:
    """What grows with the database. name_length: characters of a file name in the index."""
    each: list[tuple[str, str, float | None, Unit, str]] = [
        *(("clean features", one.name, 2 * one.dim, "bytes", COUNTED) for one in measured.encoders),
        *(("encoding", one.name, _each(one.images_per_second), "seconds", EXTRAPOLATED) for one in measured.encoders),
        *(("codes", f"{bits} bits", bits / 8, "bytes", COUNTED) for bits in measured.lengths),
        *(("memory of a search", way, BITS / 8 + WORKING[way], "bytes", COUNTED) for way in measured.searches),
        ("index on disk", f"codes of {BITS} bits", BITS / 8, "bytes", COUNTED),
        ("index on disk", f"names of {name_length} letters", name_length + QUOTED, "bytes", COUNTED),
        ("one validation", "any student", measured.validation, "seconds", EXTRAPOLATED),
    ]
    found = []
    for items in databases:
        for what, of, one_image, unit, known in each:
            value = None if one_image is None else items * one_image
            found.append(Cost(what, of, items, value, unit, known))
        for way, times in measured.searches.items():
            known = MEASURED if items in times else EXTRAPOLATED
            found.append(Cost("one query, searched", way, items, search_seconds(times, items), "seconds", known))
    return found


def fixed_costs(measured: Measured) -> list[Cost]:
    """What no database changes."""
    rows = measured.views * measured.train
    found = []
    for one in measured.encoders:
        each = _each(one.images_per_second)
        building = None if each is None else rows * each
        found += [
            Cost("view bank", one.name, 0, 2 * rows * one.dim, "bytes", COUNTED),
            Cost("building the view bank", one.name, 0, building, "seconds", EXTRAPOLATED),
            Cost(f"training a {one.role}", one.name, 0, one.training, "seconds", MEASURED),
            Cost("one query, encoded", one.name, 0, one.query, "seconds", MEASURED),
        ]
    return found


def search_seconds(times: Mapping[int, float], items: float) -> float:
    """Seconds of an exhaustive search: on a line between measured sizes, outside in proportion to the nearest one."""
    sizes = sorted(times)
    for below, above in itertools.pairwise(sizes):
        if below <= items <= above:
            return times[below] + (times[above] - times[below]) * (items - below) / (above - below)
    nearest = sizes[0] if items < sizes[0] else sizes[-1]
    return times[nearest] * items / nearest


def reach(times: Mapping[int, float], seconds: float) -> float:
    """How many codes are searched in so many seconds: the inverse of `search_seconds`. 0 where no time is left."""
    low, high = 0.0, 1.0
    while search_seconds(times, high) < seconds:
        low, high = high, 2 * high
    while seconds > 0 and high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if search_seconds(times, middle) < seconds else (low, middle)
    return high if seconds > 0 else 0.0


def scale_table(measured: Measured, databases: Sequence[int], name_length: int, wait: float, note: str) -> Table:
    """What grows with the database, a column a size. wait: seconds that a query may take in all, for the finding."""
    caption = f"What does a larger database cost? {finding(measured, databases, wait)}"
    return _table("scale", caption, note, database_costs(measured, databases, name_length))


def fixed_table(measured: Measured, note: str) -> Table:
    """What is the same with any database: view banks, training, and encoding a query."""
    caption = (
        f"What does a larger database not change? Banks of {measured.views} views of the {measured.train:,} training "
        "images, the training of heads, and the encoding of a query."
    )
    return _table("scale_fixed", caption, note, fixed_costs(measured))


def finding(measured: Measured, databases: Sequence[int], wait: float) -> str:
    """Up to where an exhaustive search is quick beside the encoding of its query, and how slow it is in the end."""
    way = min(measured.searches, key=lambda name: search_seconds(measured.searches[name], max(databases)))
    times, parts = measured.searches[way], []
    students = [one for one in measured.encoders if one.role == "student" and one.query]
    if students:
        quickest = min(students, key=lambda one: one.query or 0)
        even, within = reach(times, quickest.query or 0), reach(times, wait - (quickest.query or 0))
        parts.append(
            f"takes as long as {quickest.name} takes to encode the query at {_rounded(even / 1e6, 2)} million codes"
        )
        parts.append(
            f"keeps a query of {quickest.name} within {told(wait, 'seconds')} up to {_rounded(within / 1e6, 2)} million"
        )
    most = search_seconds(times, max(databases))
    parts.append(f"takes {told(most, 'seconds', 2)} at {max(databases):,}: {_rounded(1 / most, 2)} queries a second")
    return f"On one core an exhaustive search ({way}) {'; '.join(parts)}."


def told(value: float | None, unit: Unit, digits: int = 3) -> str:
    """A number of bytes or seconds for a reader, in the unit that suits it."""
    if value is None:
        return NOTHING
    sizes, least = (BYTES, 1) if unit == "bytes" else (SECONDS, 2)  # 90 min, but 3 h
    name = next((name for name, size in sizes.items() if value >= least * size), list(sizes)[-1])
    return f"{_rounded(value / sizes[name], digits)} {name}"


def _table(name: str, caption: str, note: str, costs: Sequence[Cost]) -> Table:
    rows = list(dict.fromkeys((cost.what, cost.of) for cost in costs))
    by_place = {(cost.what, cost.of, cost.items): cost for cost in costs}
    sizes = list(dict.fromkeys(cost.items for cost in costs))
    cells = {
        f"{items:,} images" if items else "cost": [_cell(by_place[*row, items]) for row in rows] for items in sizes
    }
    return make(name, caption, note, pd.DataFrame(costs), rows, ["what", "of"], cells)


def _cell(cost: Cost) -> str:
    if cost.value is None or cost.known != EXTRAPOLATED:
        return told(cost.value, cost.unit)
    return f"about {told(cost.value, cost.unit, digits=2)}"


def _each(pace: float | None) -> float | None:
    """Seconds an image."""
    return None if pace is None else 1 / pace


def _rounded(number: float, digits: int) -> str:
    """A number of so many digits that count."""
    return f"{float(f'{number:.{digits}g}'):,g}"
