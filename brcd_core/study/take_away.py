"""The heads of a finished profile that are worth keeping: small files that say themselves what they are.

    python -m brcd_core.study.take_away PROFILE --student mobilenet_v2 --method brcd

writes results/PROFILE/heads/STUDENT-METHOD-BITS.safetensors for every code length, beside each its teacher's head, and
README.md. Of the profile's seeds the one with the best validation score is taken; query scores are not looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brcd_core import checkpoints, profiles
from brcd_core.atomic import write_text
from brcd_core.checkpoints import CheckpointError
from brcd_core.config import cache_dir
from brcd_core.encoder import printable
from brcd_core.profiles import ParameterError
from brcd_core.records import Record, RecordError
from brcd_core.study import collect, outcome, plan
from brcd_core.study.runs import StudentRun, StudyRun, TeacherRun

HEADS = "heads"
KEPT = ("checkpoint", "metrics", "resolved", "provenance")  # of a run's record, in the file of its head
OF_TEACHER = "-teacher"
COLUMNS = (
    "head", "bits", "seed", "validation SSHP", "validation ASHP",
    "query SSHP", "query ASHP", "query teacher", "measure",
)  # fmt: skip
README = """# Heads to take away

Each file is a trained hash head, exact in float32, and holds the settings and the record of the run that made it. The
frozen backbone under it is fetched and checked the first time. Beside each lies the head of its teacher, for ASHP.
The table names the images that a head has learnt from; how well it searches others was not measured.

{table}

mAP is tie-aware. Where several seeds are named, validation chose among them. The query scores played no part in it; the
profile's tables have those of all seeds.

```python
from brcd_core import encoder
student = encoder.load("{example}")
codes = student.encode(["a.jpg", "b.png"])  # packed: uint64 (2, words)
```

```sh
.venv/bin/python -m brcd_core.search index PHOTOS --head {example}
.venv/bin/python -m brcd_core.search query IMAGE
.venv/bin/python -m brcd_core.export {example} student.onnx
```

Made by `.venv/bin/python -m brcd_core.study.take_away {profile} --student STUDENT --method METHOD`.
"""


def take_away(profile: str, student: str, method: str, seed: int | None = None) -> list[Path]:
    """Copy a student's heads of all code lengths, and their teachers', into results/PROFILE/heads; the paths written.

    seed: None: for each code length the profile's seed with the best validation score. ParameterError where the
    profile has no such student; RecordError, CheckpointError where a run is not finished, or damaged.
    """
    written = []
    for candidates in _by_length(profile, student, method, seed):
        run, record = max(candidates, key=_validation_score)  # the first of equals
        teacher_run = run.teacher_run()
        teacher_record, learnt_from = collect.read(teacher_run), record["provenance"]["inputs"]["teacher"]
        if learnt_from != teacher_record["checkpoint"]:
            raise RecordError(f"{run.folder} has learnt from another teacher than there is now; train it again")
        path = run.results / HEADS / f"{student}-{method}-{run.bits}.safetensors"
        more = {"learnt_from": learnt_from, "seeds": [one.seed for one, _ in candidates]}
        written += [
            _keep(_beside(path), teacher_run, teacher_record, run.teacher),
            _keep(path, run, record, student, more),
        ]
    return [*written, write_readme(profile)]


def write_readme(profile: str) -> Path:
    """Say what each head in results/PROFILE/heads is, and how it is used."""
    folder = StudyRun(profile=profile).results / HEADS
    files = [path for path in folder.glob("[!.]*.safetensors") if not path.stem.endswith(OF_TEACHER)]
    heads = [(path, checkpoints.load_head(path)[1], checkpoints.load_head(_beside(path))[1]) for path in files]
    heads.sort(key=lambda head: (head[1]["run"]["student"], head[1]["run"]["method"], head[1]["run"]["bits"]))
    lines = [COLUMNS, [":--", *["--:"] * (len(COLUMNS) - 1)], *(_row(*head) for head in heads)]
    text = README.format(
        table="\n".join("| " + " | ".join(line) + " |" for line in lines),
        example=f"results/{profile}/{HEADS}/{heads[-1][0].name}",
        profile=profile,
    )
    write_text(folder / "README.md", text)
    return folder / "README.md"


def _by_length(profile: str, student: str, method: str, seed: int | None) -> list[list[tuple[StudentRun, Record]]]:
    """For each code length the runs to choose from, of one teacher and the profile's own hash model, with records."""
    own = profiles.load(profile).settings.hash_model.name
    runs = [
        run
        for run in plan.students(profile)
        if (run.student, run.method, run.hash_model) == (student, method, own) and seed in (None, run.seed)
    ]
    if not runs:
        of_seed = "" if seed is None else f" with seed {seed}"
        raise ParameterError(f"profile {profile!r} has no student {student!r} of method {method!r}{of_seed}")
    runs = [run for run in runs if run.teacher == runs[0].teacher]
    lengths = sorted({run.bits for run in runs})
    return [[(run, collect.read(run)) for run in runs if run.bits == bits] for bits in lengths]


def _validation_score(candidate: tuple[StudentRun, Record]) -> float:
    run, record = candidate
    return run.settings.score()(record["training"]["validation"])


def _keep(path: Path, run: TeacherRun, record: Record, backbone: str, more: Mapping[str, Any] | None = None) -> Path:
    """Write the head of a run to `path`, and into it the run, its record, and how its features were made."""
    about = outcome.about(run, record["training"]["best_epoch"]) | _extraction(record, backbone)
    about |= {
        "weights": record["provenance"]["inputs"]["weights"][backbone],
        "record": {name: record[name] for name in KEPT} | {"validation": record["training"]["validation"]},
    }
    checkpoints.save_head(path, outcome.load(run, record).head, about | dict(more or {}))
    return path


def _extraction(record: Record, backbone: str) -> dict[str, Any]:
    """The precision of a run's features and the central share of its images, as its bank of query images has them."""
    name = next(name for name in record["provenance"]["inputs"]["banks"] if name.startswith(f"{backbone}-query-"))
    path = cache_dir() / "banks" / name / "meta.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        return {key: settings[key] for key in ("precision", "central")}
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{path} says how features were made, and is gone or damaged; see notebook 01") from error


def _beside(path: Path) -> Path:
    """The file of the teacher's head beside a student's."""
    return path.with_stem(path.stem + OF_TEACHER)


def _row(path: Path, about: Record, teacher: Record) -> list[str]:
    """A head's line of the table."""
    run, record, seeds = about["run"], about["record"], about["seeds"]
    validation = [record["validation"][name] for name in sorted(record["validation"], reverse=True)]  # SSHP, ASHP
    metrics = [record["metrics"]["sshp"], record["metrics"]["ashp"], teacher["record"]["metrics"]["teacher"]]
    scores = validation + [one.get("map", one.get("agreement")) for one in metrics]
    among = f" of {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    settings = about["settings"]
    measure = f"mAP@{settings['evaluation']['k']}" if "map" in metrics[0] else "agreement with the teacher's features"
    return [
        f"[{path.name}]({path.name})", str(run["bits"]), f"{run['seed']}{among}", *(f"{one:.3f}" for one in scores),
        f"{measure}, {settings['data']['dataset']}, {settings['views']['size']} px",
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Take a student's heads away; 1, with the reason, if they cannot be."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m brcd_core.study.take_away", description=about)
    parser.add_argument("profile", help="a file of workflow/profiles, without its ending")
    parser.add_argument("--student", required=True, help="the student's backbone")
    parser.add_argument("--method", default="brcd", help="how it was taught (default: brcd)")
    parser.add_argument("--seed", type=int, help="default: the one that is best on validation, for each code length")
    given = parser.parse_args(arguments)
    try:
        written = take_away(given.profile, given.student, given.method, given.seed)
    except (ParameterError, RecordError, CheckpointError, OSError) as error:
        print("error:", printable(error, keep="\n"), file=sys.stderr)
        return 1
    print("\n".join(str(path) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
