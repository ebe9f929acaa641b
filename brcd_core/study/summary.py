"""The outcome of a profile in the terminal: its main table, and where everything else lies.

    python -m brcd_core.study.summary PROFILE [--rebuild]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from brcd_core import plots, profiles, tables
from brcd_core.profiles import ParameterError
from brcd_core.records import Record, RecordError
from brcd_core.study import collect, runs


def summary(run: runs.StudyRun, found: list[Record]) -> str:
    """The main table as text, the number of runs of each kind, and the folders of the results."""
    kinds = Counter(record["kind"] for record in found if record["kind"] != "comparisons")
    counted = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    places = {
        "records": run.results / collect.COLLECTED,
        "runs": run.results / collect.RUNS,
        "tables": run.results / "tables",
        "figures": run.figures,
    }
    lines = [f"{name + ':':9}{_short(path)}" for name, path in places.items()]
    table = tables.main_table(found).plain()
    head = f"{run.profile}: {run.study.description}"
    return "\n".join([head, "", table, f"{kinds.total()} runs: {counted}", *lines])


def rebuild(run: runs.StudyRun, found: list[Record]) -> list[Path]:
    """Write all tables and figures of a profile again from its records, old tables removed; the paths written."""
    shutil.rmtree(run.results / "tables", ignore_errors=True)
    return tables.write_tables(found, run.results / "tables") + plots.write_figures(found, run.figures)


def _short(path: Path) -> str:
    """A path from where the user is, if it lies below."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """Print the summary; 1, with the reason, if there are no records."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.summary", description=about)
    parser.add_argument("profile", help="a file of workflow/profiles, without its ending")
    parser.add_argument("--rebuild", action="store_true", help="first build all tables and figures again")
    given = parser.parse_args(arguments)
    try:
        profiles.load(given.profile)
        run = runs.StudyRun(profile=given.profile)
        found = collect.collected(run)
    except (RecordError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 1
    if given.rebuild:
        print(f"{len(rebuild(run, found))} files built again")
    print(summary(run, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
