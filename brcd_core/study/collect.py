"""All records of a profile in one file, and the table of its runs.

    python -m brcd_core.study.collect PROFILE

writes results/PROFILE/records.jsonl, from which tables and figures are built, and results/PROFILE/runs.csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brcd_core import profiles, records, tables
from brcd_core.atomic import write_text
from brcd_core.config import fingerprint, shown
from brcd_core.profiles import ParameterError, Part
from brcd_core.records import Record, RecordError
from brcd_core.study import (
    code_version,
    comparisons,
    features,
    plan,
    redundancy,
    runs,
    student,
    teacher,
    view_counts,
    weights,
)
from brcd_core.study.outcome import Report
from brcd_core.study.view_counts_run import ViewCountsRun

COLLECTED, RUNS = "records.jsonl", "runs.csv"
PARTS = ("kind", "run", "settings", "metrics", "provenance")  # what every record has
RUNNERS: dict[type, Callable[[Any, Report], Any]] = {  # the function that does a run and leaves its record
    runs.FeatureRun: lambda run, report: features.prepare(run),
    runs.TeacherRun: teacher.train_teacher,
    runs.WeightsRun: weights.choose_weight,
    runs.StudentRun: student.train_student,
    runs.RedundancyRun: redundancy.analyse,
    ViewCountsRun: view_counts.count_views,
}


def collect(profile: str) -> list[Record]:
    """Read the record of every run of a profile; write records.jsonl and runs.csv.

    Each record of a teacher or student is told the parts of the study that it belongs to, and one more is added:
    how BRCD compares with every other method, query by query.
    RecordError naming the runs that have no record, or one that is damaged or of other settings, and saying
    what to do; then nothing is written.
    """
    wanted: list[Any] = plan.every(profile)
    missing = [run.folder / records.NAME for run in wanted if not records.finished(run.folder)]
    if missing:
        first = "\n".join(f"  {path}" for path in missing[:10])
        more = f"\n  and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise RecordError(
            f"{len(missing)} of the {len(wanted)} runs of profile {profile!r} have no record:\n"
            f"{first}{more}\nRun them with: make study PROFILE={profile}"
        )
    parts = plan.parts(profile)
    found = tables.in_order(read(run) | _parts(parts.get(run.folder)) for run in wanted)
    _same_teachers(found)
    found += comparisons.compare(profile)
    folder = _folder(profile)
    write_text(folder / RUNS, tables.run_table(found).to_csv(index=False, lineterminator="\n"))
    records.save_all(folder / COLLECTED, found)
    return found


def gather(profile: str, report: Report = print) -> list[Record]:
    """The records of a profile, whatever it takes.

    Those collected before, where they are of the profile's settings and no run is newer. Else the runs that
    have no record are done now, one after another, and all are collected.
    """
    path = _folder(profile) / COLLECTED
    wanted: list[Any] = plan.every(profile)
    if path.exists():
        collected = records.load_all(path)
        if _identities(collected) == {_identity(run) for run in wanted} and not _outdated(path, wanted):
            return collected
    for run in wanted:
        if not (records.finished(run.folder) and _of_its_settings(run, records.read(run.folder))):
            report(f"{shown(run.folder)} has no record of these settings: running it now")
            RUNNERS[type(run)](run, report)
    return collect(profile)


def collected(run: runs.StudyRun) -> list[Record]:
    """The records of a profile as they were collected. RecordError where that has not been done."""
    path = run.results / COLLECTED
    if not path.exists():
        raise RecordError(f"there is no {path}; run: make study PROFILE={run.profile}")
    return records.load_all(path)


def read(run: Any) -> Record:
    """The record of a run. RecordError if it is not finished, if a part is missing, or if it was made with other
    settings or by other code than there are now."""
    path = run.folder / records.NAME
    if not records.finished(run.folder):
        raise RecordError(f"there is no {path}; run: make study PROFILE={run.profile}")
    record = records.read(run.folder)
    absent = [part for part in PARTS if part not in record]
    if absent:
        raise RecordError(f"{path} is damaged (no {', '.join(absent)}); delete it and run again")
    if not _of_its_settings(run, record):
        raise RecordError(
            f"{path} is of other settings or code than there is now; run again: make study PROFILE={run.profile}"
        )
    return record


def _parts(names: list[Part] | None) -> Record:
    return {"parts": names} if names else {}


def _same_teachers(found: list[Record]) -> None:
    """RecordError if a student or a bit analysis is of another checkpoint than the one of its teacher's record."""
    names = ("teacher", "hash_model", "bits", "seed")

    def key(record: Record) -> tuple[Any, ...]:
        return tuple(record["run"][name] for name in names)

    teachers = {key(record): record.get("checkpoint") for record in found if record["kind"] == "teacher"}
    for record in found:
        made_from = record["provenance"]["inputs"].get("teacher")
        if record["kind"] in ("student", "redundancy") and made_from != teachers.get(key(record)):
            run = record["run"]
            who = ", ".join(run[name] for name in ("teacher", "student", "method") if name in run)
            raise RecordError(
                f"{record['kind']} {who}, {run['bits']} bits, seed {run['seed']} is of another teacher's checkpoint "
                f"than there is now; do it again (make clean study PROFILE={run['profile']})"
            )


def _of_its_settings(run: Any, record: Record) -> bool:
    same_code = record.get("code") == code_version.of(run)
    same_run = record.get("run") == run.model_dump(mode="json")  # not only in what names its folder
    return bool(record.get("settings") == run.settings.model_dump(mode="json")) and same_run and same_code


def _outdated(path: Path, wanted: list[Any]) -> bool:
    """Whether a run is newer than what was collected. Where runs are missing there is nothing better."""
    if not all(records.finished(run.folder) for run in wanted):
        return False
    return any((run.folder / records.NAME).stat().st_mtime > path.stat().st_mtime for run in wanted)


def _identity(run: Any) -> str:
    """A run and its settings, to compare with those of a record."""
    return fingerprint([run.model_dump(mode="json"), run.settings.model_dump(mode="json")])


def _identities(collected: list[Record]) -> set[str]:
    return {fingerprint([record["run"], record["settings"]]) for record in collected if "settings" in record}


def _folder(profile: str) -> Path:
    return runs.StudyRun(profile=profile).results


def main(arguments: list[str] | None = None) -> int:
    """Collect a profile's records; 1, with the reason, if they cannot be."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.collect", description=about)
    parser.add_argument("profile", help="a file of workflow/profiles, without its ending")
    profile = parser.parse_args(arguments).profile
    try:
        profiles.load(profile)
        found = collect(profile)
    except (RecordError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(found)} records in {_folder(profile) / COLLECTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
