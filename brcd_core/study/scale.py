"""What the study costs with a larger database, from what was measured and is committed.

    python -m brcd_core.study.scale [PROFILE]

writes results/scale/ and figures/scale/: what grows with the database, and what a student loses and saves. It reads
results/PROFILE/records.jsonl and results/benchmarks/ of the repository, wherever else runs are written to, and computes
nothing but products.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field

from brcd_core import profiles, records
from brcd_core.config import output_dir, repository
from brcd_core.plots.scale import scale_figure
from brcd_core.plots.style import Picture, save
from brcd_core.plots.trade_off import trade_off
from brcd_core.profiles import ParameterError
from brcd_core.records import Record, RecordError
from brcd_core.study import collect
from brcd_core.study.base import StudyRun
from brcd_core.tables.scale_table import BITS, Encoder, Measured, fixed_table, scale_table
from brcd_core.tables.scores import NoRecords, of_kind
from brcd_core.tables.table import Table

PIXELS = 112  # of results/benchmarks/extraction.csv, as its note says
VALIDATIONS, VALIDATED = 20, 50_000  # of results/benchmarks/student_run.csv: how many, against how many images
TAUGHT = "brcd"  # the method whose training is told


class ScaleRun(StudyRun):
    """A profile's protocol with databases of other sizes.

    images_per_second: backbone -> speed that was measured elsewhere, in place of this repository's, on two cores.
    name_length: letters of an image's file name. wait: milliseconds that a query may take in all.
    """

    databases: list[Annotated[int, Field(ge=1)]] = Field([50_000, 1_000_000, 100_000_000], min_length=1)
    images_per_second: dict[str, Annotated[float, Field(gt=0)]] = {}
    name_length: int = Field(20, ge=1)
    wait: float = Field(50.0, gt=0)


def measured(run: ScaleRun) -> Measured:
    """What was measured for a profile. RecordError where records or benchmarks are not there.

    ParameterError for the speed of a backbone that is not in the profile's records.
    """
    found = _records(run.profile)
    settings = run.study.settings
    size = settings.views.size
    encoders = [_encoder(run, record, found, size) for record in of_kind(found, "features")]
    unknown = run.images_per_second.keys() - {one.name for one in encoders}
    if unknown:
        names = ", ".join(one.name for one in encoders)
        raise ParameterError(f"images_per_second: unknown backbone {', '.join(sorted(unknown))}; there are: {names}")
    searches = _benchmark("search")
    runs = _benchmark("student_run").set_index("training")
    return Measured(
        encoders=sorted(encoders, key=lambda one: (one.role != "teacher", one.name)),
        train=settings.data.train,
        views=settings.views.count,
        lengths=sorted({record["run"]["bits"] for record in of_kind(found, "student")}),
        searches={
            way: dict(zip(searches["items"].tolist(), (searches[column] / 1000).tolist(), strict=True))
            for way, column in (("nearest", "ours"), ("faiss", "faiss"))
        },
        validation=float(runs["validations"].iloc[0]) / VALIDATIONS / VALIDATED,
        given=frozenset(run.images_per_second),
    )


def tables(run: ScaleRun) -> tuple[Table, Table]:
    """What grows with the database, and what does not."""
    found = measured(run)
    growing = scale_table(found, run.databases, run.name_length, run.wait / 1000, _grounds(run, found))
    return growing, fixed_table(found, _fixed_grounds(run, found))


def figure(run: ScaleRun) -> Picture:
    """A query's time over the size of the database."""
    return scale_figure(measured(run), run.databases, run.wait / 1000)


def student_figure(run: ScaleRun) -> Picture | None:
    """What the profile's students lose against their teacher, and what they save, in a database of its size.

    None where something of it was not measured; what, is printed.
    """
    try:
        return _student_figure(run)
    except (RecordError, NoRecords) as error:
        print(f"What its students lose and save is not drawn: {error}")
        return None


def _student_figure(run: ScaleRun) -> Picture:
    latency, items = _benchmark("latency"), f"{run.study.settings.data.database:,}"
    size = run.study.settings.views.size
    queries = latency[latency["pixels"] == size]
    if items not in latency.columns or queries.empty:
        raise RecordError(f"results/benchmarks/latency.csv has no query of {size} pixels among {items} codes")
    milliseconds = dict(zip(queries["encoder"], queries[items].astype(float), strict=True))
    told = f"Milliseconds: encoded on two threads, searched among {items} codes on one (results/benchmarks/latency.md)."
    return trade_off(_records(run.profile), BITS, milliseconds, told)


def speeds_told(run: ScaleRun) -> str:
    """Where the images a second come from, for each backbone."""
    lines = []
    for one in measured(run).encoders:
        if one.images_per_second is None:
            lines.append(f"{one.name}: not measured at {run.study.settings.views.size} pixels")
        else:
            source = "given by you" if one.name in run.images_per_second else "measured on two cores"
            lines.append(f"{one.name}: {one.images_per_second:,.1f} images a second, {source}")
    return "\n".join(lines)


def _encoder(run: ScaleRun, record: Record, found: Sequence[Record], size: int) -> Encoder:
    """A backbone with its speeds; None where there is no measurement at this size of image."""
    name = record["run"]["backbone"]
    role = "teacher" if any(name == one["run"]["teacher"] for one in of_kind(found, "teacher")) else "student"
    extraction, latency = _benchmark("extraction").set_index("backbone")["bank"], _benchmark("latency")
    pace = float(extraction[name]) if name in extraction.index and size == PIXELS else None
    query = latency[(latency["encoder"] == name) & (latency["pixels"] == size)]["encode"]
    dim = next(bank["shape"][-1] for bank in record["banks"].values())
    return Encoder(
        name=name,
        role=role,
        dim=int(dim),
        images_per_second=run.images_per_second.get(name, pace),
        query=float(query.iloc[0]) / 1000 if len(query) else None,
        training=_training(found, role, name, run.study.settings.hash_model.name),
    )


def _training(found: Sequence[Record], role: str, name: str, hash_model: str) -> float | None:
    """The median over seeds of the seconds that a head was trained for, with codes of BITS; None without a run."""
    trained = [
        record["training"]["seconds"]
        for record in of_kind(found, role)
        if (record["run"][role], record["run"]["bits"]) == (name, BITS)
        and record["settings"]["hash_model"]["name"] == hash_model
        and record["run"].get("method", TAUGHT) == TAUGHT
    ]
    return statistics.median(trained) if trained else None


def _grounds(run: ScaleRun, found: Measured) -> str:
    """What stands below the table: what was assumed."""
    sizes = " and ".join(f"{size:,}" for size in sorted(found.searches["nearest"]))
    return (
        "About: extrapolated. Features: float16; only the making of heads needs them, a search needs codes alone. "
        "Codes: packed; nearest, this repository's own search, keeps each in whole words of 64 bits. "
        f"Encoding: {_pace(run, found)}, images in memory; reading and decoding files comes on top. Searches: the 100 "
        f"nearest codes of {BITS} bits on one core, measured with {sizes} codes; beyond, in proportion to the largest, "
        "whose codes a processor's cache may still hold: none that no cache holds was measured. Index: as "
        "brcd_core.search writes it. One validation: 5,000 images against the whole database; a sample will do. "
        f"Protocol: {run.profile}; from results/{run.profile}/records.jsonl and results/benchmarks."
    )


def _fixed_grounds(run: ScaleRun, found: Measured) -> str:
    return (
        f"About: extrapolated. Building: {_pace(run, found)}. Training: median over seeds, {BITS} bits, students by "
        f"{TAUGHT}, one thread beside another run, its validations against {run.study.settings.data.database:,} images "
        f"included. One query: one image on two threads. Protocol: {run.profile}; from "
        f"results/{run.profile}/records.jsonl and results/benchmarks."
    )


def _pace(run: ScaleRun, found: Measured) -> str:
    names = ", ".join(sorted(found.given))
    others = f"this repository's speed of building a bank on two cores, {PIXELS} pixels, float32"
    return f"{names} at the speed that was given, else {others}" if names else others


def _records(profile: str) -> list[Record]:
    path = repository() / "results" / profile / collect.COLLECTED
    if not path.is_file():
        raise RecordError(f"there is no {path}; take a profile whose records are committed, such as paper112")
    return records.load_all(path)


def _benchmark(name: str) -> pd.DataFrame:
    """The numbers of a benchmark."""
    path: Path = repository() / "results" / "benchmarks" / f"{name}.csv"
    if not path.is_file():
        raise RecordError(f"there is no {path}; run: make bench")
    return pd.read_csv(path, thousands=",")


def main(arguments: list[str] | None = None) -> int:
    """Write tables and figure; 1, with the reason, if something measured is missing."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.scale", description=about)
    parser.add_argument("profile", nargs="?", default="paper112", help="a profile with committed records")
    profile = parser.parse_args(arguments).profile
    try:
        profiles.load(profile)
        run = ScaleRun(profile=profile)
        written = tables(run)
        drawn = {"scale": figure(run), "trade_off": student_figure(run)}
    except (RecordError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 1
    for table in written:
        table.write(output_dir() / "results" / "scale")
        print(table.plain())
    for name, picture in drawn.items():
        if picture:
            save(picture, output_dir() / "figures" / "scale", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
