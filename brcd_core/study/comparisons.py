"""Which differences between BRCD and the other methods are real: query by query, over the finished students."""

from __future__ import annotations

from typing import Any

import numpy as np

from brcd_core import bootstrap, records
from brcd_core.records import Record, RecordError
from brcd_core.study import plan
from brcd_core.study.outcome import QUERIES
from brcd_core.study.runs import StudentRun

AGAINST = "brcd"
CONFIDENCE = 0.95  # of all intervals of a profile together
PARADIGMS = ("SSHP", "ASHP")


def compare(profile: str) -> list[Record]:
    """One record of BRCD's difference to every other method of the main part, by a paired bootstrap over queries.

    AP of each query is averaged over the seeds that both methods have. None where there is nothing to compare.
    RecordError where a finished student lacks them, or they are damaged.
    """
    lines, differences = [], []
    for names, methods in _groups(profile):
        for paradigm in PARADIGMS:
            for method, by_seed in methods.items():
                seeds = sorted(by_seed.keys() & methods.get(AGAINST, {}).keys())
                if method == AGAINST or not seeds:
                    continue
                ours, theirs = (
                    np.mean([_average_precision(found[seed], paradigm) for seed in seeds], axis=0)
                    for found in (methods[AGAINST], by_seed)
                )
                if len(ours):  # without labels there is no AP
                    differences.append(ours - theirs)
                    lines.append(names | {"paradigm": paradigm, "method": method, "seeds": seeds, "queries": len(ours)})
    if not lines:
        return []
    found = bootstrap.paired(np.stack(differences, axis=1), seed=0, confidence=CONFIDENCE)
    for line, mean, low, high in zip(lines, found.mean, found.low, found.high, strict=True):
        line |= {"difference": mean, "low": low, "high": high, "real": bool(not low <= 0 <= high)}
    about = {"kind": "comparisons", "run": {"profile": profile}, "against": AGAINST, "confidence": CONFIDENCE}
    return [records.plain(about | {"lines": lines})]


def _groups(profile: str) -> list[tuple[Record, dict[str, dict[int, StudentRun]]]]:
    """What methods are compared within, and the students of each method there by their seeds."""
    parts, groups = plan.parts(profile), dict[tuple[Any, ...], dict[str, dict[int, StudentRun]]]()
    for run in plan.students(profile):
        if "main" in parts[run.folder]:
            key = (run.teacher, run.student, run.hash_model, run.bits)
            groups.setdefault(key, {}).setdefault(run.method, {})[run.seed] = run
    names = ("teacher", "student", "hash_model", "bits")
    return [(dict(zip(names, key, strict=True)), methods) for key, methods in groups.items()]


def _average_precision(run: StudentRun, paradigm: str) -> np.ndarray:
    """AP@k of each query (Q,) of a finished student."""
    path = run.folder / QUERIES
    try:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored[paradigm.lower()], dtype=np.float64)
    except Exception as error:  # a damaged archive can raise almost anything
        raise RecordError(f"{path} is missing or damaged ({error}); delete {run.folder} and run again") from error
