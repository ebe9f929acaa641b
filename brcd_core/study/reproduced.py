"""Whether a finished profile has the numbers that are committed: bit for bit, or within the spread over seeds.

    python -m brcd_core.study.reproduced PROFILE [--own FILE] [--against FILE]

compares results/PROFILE/records.jsonl, or another machine's, with that of git's HEAD, or with FILE. A run is equal
where its whole record is, but for its provenance, the version of its code and measured speeds. Else each of its scores
(JUDGED) may be away from the committed one by at most 3 sqrt(2) s. s is the sample standard deviation over seeds of the
committed scores of that teacher, hash model, student, method and code length; or, where it is larger or there is one
seed alone, the median of all such deviations of the profile in this paradigm and measure; FLOOR where no line has
several seeds.

Exit status: 0; 1 if a score is outside; 2 if the two cannot be compared.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brcd_core import profiles, records
from brcd_core.config import fingerprint, repository
from brcd_core.profiles import ParameterError
from brcd_core.records import Record, RecordError
from brcd_core.study import collect
from brcd_core.study.runs import StudyRun
from brcd_core.tables.scores import TRAINED, Row, over_seeds, row_of, scores
from brcd_core.tables.table import NOTHING, Table, make

FACTOR = 3 * math.sqrt(2)  # the difference of two seeds deviates sqrt(2) times as much as one of them
FLOOR = 0.003  # about what the committed profiles have
JUDGED = ("map", "map_stable", "precision_at_k", "agreement")  # the others hang on the few codes within radius 2
EQUAL, WITHIN, OUTSIDE, OTHER = "equal", "within", "outside", "not judged"
INPUTS = ("data", "splits", "weights")  # what two runs must have in common
PASSED_OVER = ("provenance", "code", "efficiency", "resolved")  # when it is asked whether records are equal
LINE = [*Row._fields, "bits"]
SHOWN = 20


@dataclass(frozen=True, eq=False)
class Comparison:
    """Kind and verdict of each committed run; a row a judged score; and what else differs, in words.

    Columns of scores: LINE, seed, paradigm, measure, own, committed, limit.
    """

    verdicts: list[tuple[str, str]]
    scores: pd.DataFrame
    notes: list[str]

    @property
    def outside(self) -> pd.DataFrame:
        """The scores that are farther from the committed ones than they may be."""
        return _outside(self.scores)

    def count(self, verdict: str) -> int:
        """How many runs have this verdict."""
        return sum(found == verdict for _, found in self.verdicts)


def compare(own: Sequence[Record], committed: Sequence[Record]) -> Comparison:
    """Each committed run beside one's own. RecordError where there is none, or one of other settings or data."""
    mine = {_key(record): record for record in own}
    missing = [_name(record) for record in committed if _key(record) not in mine]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RecordError(f"{len(missing)} of the {len(committed)} committed runs were not run: {missing[0]}{more}")
    pairs = [(mine[_key(record)], record) for record in committed]
    for ours, theirs in pairs:
        _same_task(ours, theirs)
    judged = judge(own, committed)
    far = set(_outside(judged)[[*LINE, "seed"]].itertuples(index=False, name=None))
    verdicts = [(theirs["kind"], _verdict(ours, theirs, far)) for ours, theirs in pairs]
    return Comparison(verdicts, judged, _notes(own, pairs))


def judge(own: Iterable[Record], committed: Iterable[Record]) -> pd.DataFrame:
    """The scores that both have, and how far they may be apart."""
    committed = list(committed)
    both = scores(own).merge(scores(committed), on=[*LINE, "seed", "paradigm", "measure"], suffixes=("", "_committed"))
    both = both.rename(columns={"value": "own", "value_committed": "committed"})
    return both[both["measure"].isin(JUDGED)].merge(limits(committed), on=[*LINE, "paradigm", "measure"])


def limits(committed: Iterable[Record]) -> pd.DataFrame:
    """How far a score may be from the committed one: columns LINE, paradigm, measure, limit."""
    found = over_seeds(scores(committed), [*LINE, "paradigm", "measure"])
    usual = found.groupby(["paradigm", "measure"])["std"].transform("median")  # without the lines of one seed
    found["limit"] = FACTOR * pd.concat([found["std"], usual], axis=1).max(axis=1).fillna(FLOOR)
    return found.drop(columns=["mean", "std", "n"])


def outcome(profile: str, found: Comparison) -> Table:
    """The verdicts as a table, a row a kind of run."""
    kinds = list(dict.fromkeys(kind for kind, _ in found.verdicts))
    columns = {
        verdict: [sum(one == (kind, verdict) for one in found.verdicts) for kind in kinds]
        for verdict in (EQUAL, WITHIN, OUTSIDE, OTHER)
    }
    caption = (
        f"Is {profile} reproduced? Of {len(found.verdicts)} runs {found.count(EQUAL)} are equal bit for bit, "
        f"{found.count(WITHIN)} within the spread over seeds, {found.count(OUTSIDE)} outside."
    )
    note = (
        f"A score may be {FACTOR:.2f} standard deviations over seeds away from the committed one. Not judged: not "
        f"equal, and of a kind that has no such scores. {' '.join(found.notes)}"
    ).strip()
    cells = {"runs": [str(sum(counts)) for counts in zip(*columns.values(), strict=True)]}
    cells |= {name: [str(count) if count else NOTHING for count in counts] for name, counts in columns.items()}
    return make("reproduced", caption, note, pd.DataFrame({"kind": kinds, **columns}), kinds, ["kind"], cells)


def committed_records(profile: str, file: Path | None = None) -> list[Record]:
    """The records of a profile in git's HEAD, or those of a file. RecordError where there are none."""
    if file is not None:
        return _of_file(file)
    place = f"HEAD:results/{profile}/{collect.COLLECTED}"
    try:
        shown = subprocess.run(["git", "show", place], cwd=repository(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"").decode().strip() or error
        raise RecordError(f"no records of {profile!r} are committed ({reason}); name a file: --against") from error
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / collect.COLLECTED
        copy.write_bytes(shown.stdout)
        return records.load_all(copy)


def _of_file(file: Path) -> list[Record]:
    if not file.is_file():
        raise RecordError(f"there is no file {file}")
    return records.load_all(file)


def _key(record: Record) -> str:
    return fingerprint([record["kind"], record["run"]])


def _name(record: Record) -> str:
    """A run in words."""
    names = ("backbone", "teacher", "student", "hash_model", "method")
    parts = [str(record["run"][name]) for name in names if name in record["run"]]
    numbers = [f"{name} {record['run'][name]}" for name in ("bits", "seed") if name in record["run"]]
    return f"{record['kind']} {', '.join([*parts, *numbers])}".strip()


def _same_task(ours: Record, theirs: Record) -> None:
    """RecordError where settings or inputs differ."""
    changed = _difference(theirs.get("settings"), ours.get("settings"))
    if changed:
        raise RecordError(f"{_name(ours)} is of other settings than the committed one: {changed}")
    changed = _difference(_inputs(theirs), _inputs(ours))
    if changed:
        raise RecordError(f"{_name(ours)} is of other inputs than the committed one: {changed}")


def _inputs(record: Record) -> Record:
    made_from = record.get("provenance", {}).get("inputs", {})
    return {name: made_from.get(name) for name in INPUTS}


def _difference(theirs: Any, ours: Any, path: str = "") -> str:
    """Where two values differ first, and how. Empty if they are equal."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = (_difference(theirs.get(k), ours.get(k), f"{path}.{k}") for k in sorted(theirs.keys() | ours.keys()))
        return next(filter(None, found), "")
    return "" if theirs == ours else f"{path.lstrip('.')} is {ours!r}, not {theirs!r}"


def _verdict(ours: Record, theirs: Record, far: set[tuple[Any, ...]]) -> str:
    if _content(ours) == _content(theirs):
        return EQUAL
    if theirs["kind"] not in TRAINED:
        return OTHER
    return OUTSIDE if (*row_of(theirs), theirs["run"]["bits"], theirs["run"]["seed"]) in far else WITHIN


def _content(record: Record) -> Record:
    """What must be equal: all but times, speeds, where the record comes from, and settings left at their defaults."""
    kept = {name: value for name, value in record.items() if name not in PASSED_OVER}
    kept["weight"] = _weight(record)  # the one setting that a profile leaves to be chosen
    if "training" in kept:
        kept["training"] = {name: value for name, value in kept["training"].items() if name != "seconds"}
    return kept


def _weight(record: Record) -> Any:
    return record.get("resolved", {}).get("distillation", {}).get("weight")


def _notes(own: Sequence[Record], pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """What may explain a difference."""
    checks = {
        "by other code": lambda record: record.get("code"),
        "with another weight": _weight,
        "on another device": lambda record: record.get("provenance", {}).get("device"),
        "with another number of threads": lambda record: record.get("provenance", {}).get("threads"),
        "with another torch": lambda record: record.get("provenance", {}).get("packages", {}).get("torch"),
    }
    counts = {name: sum(of(ours) != of(theirs) for ours, theirs in pairs) for name, of in checks.items()}
    notes = [f"{count} made {name}." for name, count in counts.items() if count]
    added = len(own) - len(pairs)
    return [*notes, f"{added} are not among the committed ones."] if added else notes


def _outside(judged: pd.DataFrame) -> pd.DataFrame:
    return judged[(judged["own"] - judged["committed"]).abs() > judged["limit"]]


def _told(found: pd.DataFrame) -> list[str]:
    """A line for each score."""
    lines = [
        f"outside: {one.student}, {one.method}, {one.hash_model}, {one.bits} bits, seed {one.seed}: {one.measure} "
        f"{one.paradigm} {one.own:.4f}, committed {one.committed:.4f}, may differ by {one.limit:.4f}"
        for one in found.head(SHOWN).itertuples(index=False)
    ]
    return [*lines, f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else lines


def main(arguments: list[str] | None = None) -> int:
    """Print the outcome; 0, 1 or 2, as the module says."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.reproduced", description=about)
    parser.add_argument("profile", help="a file of workflow/profiles, without its ending")
    parser.add_argument("--own", type=Path, help="a file of records in place of this folder's")
    parser.add_argument("--against", type=Path, help="a file of records (default: those committed in git)")
    given = parser.parse_args(arguments)
    try:
        profiles.load(given.profile)
        own = _of_file(given.own) if given.own else collect.collected(StudyRun(profile=given.profile))
        committed = committed_records(given.profile, given.against)
        if own == committed:
            file = given.own or f"results/{given.profile}/{collect.COLLECTED}"
            first = "" if given.own else f"; run first: make study PROFILE={given.profile}"
            raise RecordError(f"{file} is the committed file itself, times included{first}")
        found = compare(own, committed)
    except (RecordError, ParameterError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join([outcome(given.profile, found).plain(), *_told(found.outside)]))
    return 1 if len(found.outside) else 0


if __name__ == "__main__":
    sys.exit(main())
