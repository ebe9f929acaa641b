"""A profile as one page to send and to keep: its tables, figures and runs, what depends on what, and the records.

    python -m brcd_core.study.report PROFILE

writes results/PROFILE/report.html. The page holds all it shows; it opens from disk, and fetches nothing.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import yaml

from brcd_core import profiles, tables
from brcd_core.atomic import write_text
from brcd_core.plots.gallery import captioned
from brcd_core.profiles import ParameterError
from brcd_core.records import Record, RecordError
from brcd_core.study import collect, dependencies, plan, runs

NAME, TEMPLATE = "report.html", "report.html.jinja"
RUN_COLUMNS = (  # of the table of runs; runs.csv has them all
    "kind", "teacher", "student", "backbone", "hash_model", "method", "bits", "seed", "parts",
    "map_teacher", "map_sshp", "map_ashp", "agreement_teacher", "agreement_sshp", "agreement_ashp",
    "nearest_neighbour", "redundant_share", "best_epoch", "total_seconds",
)  # fmt: skip
LONGEST, WIDTH = 8, 100  # of a list in a record that is shown, in entries; of a record's lines, in characters


class Heading(NamedTuple):
    """A cell of a table's head that stands over `span` columns."""

    text: str
    span: int


class Figure(NamedTuple):
    """A figure of the page, as its png tells."""

    name: str
    title: str
    caption: str
    width: int
    height: int
    source: str


def report(profile: str) -> Path:
    """Write results/PROFILE/report.html from the collected records and the saved figures; the path.

    RecordError where no records have been collected.
    """
    run = runs.StudyRun(profile=profile)
    text = page(profile, run.study.description, collect.collected(run), run.figures, plan.every(profile))
    write_text(run.results / NAME, text)
    return run.results / NAME


def page(
    profile: str, description: str, found: Iterable[Record], figures: Path, wanted: Iterable[runs.ChangedRun]
) -> str:
    """The page as HTML. The same records, figures and runs give the same text, whatever the records' order.

    figures: a folder; its PNGs that carry a caption are embedded. wanted: the planned runs, to draw the dependencies
    of; the page names those that have no record.
    """
    found = tables.in_order(found)
    lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in found)
    run_table, links = tables.run_table(found), dependencies.links(wanted)
    places = {_label(record): place for place, record in enumerate(found)}
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        profile=profile,
        description=description,
        facts=_facts(found),
        tables=[_table(table) for table in _tables(found)],
        figures=_by_title(_figures(figures)),
        runs=_runs(found, run_table),
        runs_file=_embedded(run_table.to_csv(index=False, lineterminator="\n").encode(), "text/csv"),
        diagram=dependencies.diagram(links),
        tree=dependencies.tree(links),
        records=[(_label(record), _readable(record)) for record in found],
        places=places,
        planned=len(links),
        missing=[name for name in links if name not in places],
        records_file=_embedded(gzip.compress(lines.encode(), mtime=0), "application/gzip"),
    )


def _facts(found: Sequence[Record]) -> dict[str, str]:
    """What made the records, each told once."""
    made = [record["provenance"] for record in found if "provenance" in record]
    kinds = Counter(record["kind"] for record in found if record["kind"] != "comparisons")
    changed = {True: " with changes", False: "", None: ""}
    told = {
        "runs": [f"{number} {kind}" for kind, number in kinds.items()],
        "code": [f"{(one['git_revision'] or 'unknown')[:12]}{changed[one['git_dirty']]}" for one in made],
        "machine": [one["device"] for one in made],
        "versions": [f"{name} {version}" for one in made for name, version in one["packages"].items()],
    }
    return {name: ", ".join(dict.fromkeys(values)) for name, values in told.items()}


def _tables(found: list[Record]) -> Iterator[tables.Table]:
    """Every table that the records allow."""
    for build in tables.TABLES:
        with suppress(tables.NoRecords):
            yield build(found)


def _table(table: tables.Table) -> dict[str, Any]:
    """A table in the parts that the template places."""
    cells = table.cells
    headings = [heading if isinstance(heading, tuple) else (heading,) for heading in cells.columns]
    levels = list(zip(*headings, strict=True))
    keys = [key if isinstance(key, tuple) else (key,) for key in cells.index]
    rows = zip(keys, cells.to_numpy().tolist(), table.bold.to_numpy().tolist(), strict=True)
    return {
        "name": table.name,
        "title": table.name.replace("_", " ").capitalize(),
        "caption": table.caption,
        "note": table.note,
        "names": list(cells.index.names),
        "upper": [Heading(text, len(list(same))) for level in levels[:-1] for text, same in itertools.groupby(level)],
        "lower": levels[-1],
        "rows": [(key, list(zip(texts, marks, strict=True))) for key, texts, marks in rows],
        "file": _embedded(table.csv().encode(), "text/csv"),
    }


def _figures(folder: Path) -> Iterator[Figure]:
    """The figures of a folder, as the gallery has them."""
    for path, title, caption, size in captioned(folder):
        yield Figure(path.stem, title, caption, *size, _embedded(path.read_bytes(), "image/png"))


def _by_title(figures: Iterable[Figure]) -> list[tuple[str, list[Figure]]]:
    """Figures of one kind, e.g. one a student, stand below one heading."""
    return [(title, list(same)) for title, same in itertools.groupby(figures, lambda figure: figure.title)]


def _runs(found: Iterable[Record], run_table: pd.DataFrame) -> dict[str, Any]:
    """The table of runs, each row with its record's label."""
    labels = [_label(record) for record in found if record["kind"] != "comparisons"]
    shown = run_table[[name for name in RUN_COLUMNS if name in run_table and run_table[name].notna().any()]]
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    return {"columns": [str(name).replace("_", " ") for name in shown], "rows": list(zip(labels, rows, strict=True))}


def _label(record: Record) -> str:
    return dependencies.label(record["kind"], record["run"])


def _readable(record: Record) -> str:
    """A record as YAML: it has fewer marks than JSON."""
    return yaml.safe_dump(_shortened(record), default_flow_style=None, width=WIDTH, allow_unicode=True)


def _shortened(value: Any) -> Any:
    """A record without its long lists."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value] if len(value) <= LONGEST else f"{len(value)} entries, in the file"
    return value


def _cell(value: Any) -> str:
    """A value of the table of runs: four digits of a fraction, nothing where there is none."""
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _embedded(data: bytes, kind: str) -> str:
    """A file inside the page, as an address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a profile; 1, with the reason, if it cannot be."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.report", description=about)
    parser.add_argument("profile", help="a file of workflow/profiles, without its ending")
    given = parser.parse_args(arguments)
    try:
        profiles.load(given.profile)
        path = report(given.profile)
    except (RecordError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
