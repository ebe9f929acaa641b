"""Mutation tests: change the code in small ways, one at a time, and see whether a test fails.

    python tests/mutants/run.py                 # test all mutants, and write README.md
    python tests/mutants/run.py --sample 500    # 500 of them, drawn at random, always the same ones
    python tests/mutants/run.py NAME ...        # test these again, or those that match brcd_core.codes*

mutmut makes the mutants, in build/mutants; a run that was stopped goes on where it was. What is mutated, and which
tests should notice, is said in pyproject.toml beside this file. The exit status is 1 if fewer than 90 % of them die.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = Path(os.environ.get("BRCD_MUTANTS", ROOT / "build" / "mutants"))
ENOUGH = 0.9
LONG = ("faiss", "ot", "scipy.stats", "sklearn.cluster", "sklearn.metrics", "torch._dynamo")  # to import
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def prepare() -> None:
    """Copy the code and the tests to where they are mutated, and go there."""
    WORK.mkdir(parents=True, exist_ok=True)
    for folder in ("brcd_core", "tests"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, WORK / folder, dirs_exist_ok=True, ignore=unwanted)
    shutil.copy2(HERE / "pyproject.toml", WORK)
    # Which tests reach which function: mutmut would keep it for tests that it knows by name, though they have changed.
    (WORK / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    os.chdir(WORK)


def test_mutants(names: list[str], sample: int | None) -> None:
    """Test the mutants in one process, which forks for each: what takes long to import is imported once."""
    for module in LONG:
        importlib.import_module(module)
    import mutmut.__main__ as mutmut
    from hypothesis import Phase, settings

    collect = mutmut.collect_source_file_mutation_data

    def collect_sample(**which: Any) -> tuple[list[Any], dict[str, Any]]:
        mutants, data = collect(**which)
        drawn = set(report.drawn([name for _, name, _ in mutants], sample))
        return [one for one in mutants if one[1] in drawn], data

    mutmut.collect_source_file_mutation_data = collect_sample

    # The same examples for every mutant, and no time spent on making a failing one small.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=phases)
    settings.load_profile("mutants")
    gc.disable()  # the collector would touch, and so copy, all memory that a fork shares
    mutmut.cli(["run", "--max-children", "1", *names], standalone_mode=False)


def main() -> int:
    """Test mutants, then report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--report", action="store_true", help="only write the page again")
    asked = parser.parse_args()
    prepare()
    if not asked.report:
        test_mutants(asked.names, None if asked.names else asked.sample)
    found, total = report.mutants(asked.sample)
    (HERE / "README.md").write_text(report.page(found, total, report.reasons(HERE / "survivors.yaml")))
    died = sum(one.died for one in found) / len(found)
    print(f"{died:.1%} of {len(found)} mutants died: see {HERE / 'README.md'}")
    return int(died < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
