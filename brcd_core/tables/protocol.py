"""The protocol behind a table or figure, in words, as the records' settings say it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from brcd_core.records import Record
from brcd_core.tables.scores import KINDS, TRAINED, hash_model_of, of_kind, score_of, was_trained

SPLITS = {"train": "training", "validation": "validation", "query": "query", "database": "database"}


def about(records: Iterable[Record], part: str | None = None) -> str:
    """What stands below a table or figure: the protocol, and the records from which it is made."""
    records = list(records)
    return f"{protocol(records)} {sources(records, part)}"


def sources(records: Iterable[Record], part: str | None = None) -> str:
    """How many records of which kind, of which part of which profile, and the file that lists them."""
    records = list(records)
    counts = {kind: len(of_kind(records, kind)) for kind in KINDS}
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    files = " and ".join(f"results/{name}/runs.csv" for name in sorted({r["run"]["profile"] for r in records}))
    inside = f" of part {part}" if part else ""
    return f"Records: {kinds}{inside}; see {files}."


def protocol(records: Iterable[Record]) -> str:
    """Dataset, sizes of the splits, k, views, input size, features, selection and seeds of these records.

    Where the records differ in a setting, all its values are named.
    """
    records = list(records)
    parts = [f"{_either(records, 'data', 'dataset')} with {_sizes(records)}"]
    kinds = {record["kind"] for record in records}
    if kinds == {"view_counts"}:  # each holds the settings of students, and says itself how many views they read
        parts += [score_name(records), _bank(records), *_training(records, records, records), _epochs(records)]
    elif kinds & set(TRAINED):
        trained = [record for record in records if was_trained(record)]
        # Only a student's own record says what it was trained with: a method may change the settings.
        parts += [score_name(records), _views(records), *_training(records, trained, of_kind(trained, "student"))]
    else:
        parts.append(_views(records))
    given = [[record["run"].get("seed"), *record["run"].get("seeds", [])] for record in records]
    seeds = sorted({seed for some in given for seed in some if seed is not None})
    if seeds:
        parts.append(("seeds " if len(seeds) > 1 else "seed ") + ", ".join(map(str, seeds)))
    return f"Protocol: {'; '.join(parts)}."


def _training(records: list[Record], trained: list[Record], students: list[Record]) -> list[str]:
    """Heads, hash models and how checkpoints are picked, as far as anything was trained."""
    parts = []
    if trained:
        parts.append("teacher: " + _by_method(trained, lambda settings: _network(settings, "teacher")))
    if students:
        parts.append("students: " + _by_method(students, lambda settings: _network(settings, "student")))
    closed = {hash_model_of(record) for record in records} - {hash_model_of(record) for record in trained}
    note = f" ({', '.join(sorted(closed))}: linear head in closed form)" if closed else ""
    parts.append("hash model " + ", ".join(sorted({hash_model_of(record) for record in records})) + note)
    if students:
        parts.append("checkpoint picked on validation by " + _by_method(students, _selection))
    return parts


def score_name(records: Iterable[Record]) -> str:
    """The score of the records as a heading: mAP@1000, or agreement."""
    records = list(records)
    return f"mAP@{cut(records)}" if score_of(records) == "map" else "agreement"


def score_told(records: Iterable[Record]) -> str:
    """The score of the records, to begin an explanation with."""
    name = score_name(records)
    return f"Tie-aware {name}" if name != "agreement" else "Agreement of codes with the teacher's features"


def cut(records: Iterable[Record]) -> str:
    """The k of mAP@k, as a number, or as several."""
    return _either(list(records), "evaluation", "k")


def values_of(records: Iterable[Record], *path: str) -> list[Any]:
    """The different values of one setting over the records, in order of appearance."""
    found: dict[str, Any] = {}
    for record in records:
        value: Any = record["settings"]
        for key in path:
            value = value[key]
        found.setdefault(json.dumps(value, sort_keys=True), value)
    return list(found.values())


def _either(records: Iterable[Record], *path: str) -> str:
    return " or ".join(_number(value) for value in values_of(records, *path))


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _sizes(records: list[Record]) -> str:
    counts = [" or ".join(f"{size:,}" for size in values_of(records, "data", split)) for split in SPLITS]
    parts = [f"{count} {name}" for count, name in zip(counts, SPLITS.values(), strict=True)]
    return f"{', '.join(parts[:-1])} and {parts[-1]} images"


def _views(records: list[Record]) -> str:
    words = dict.fromkeys(map(views_told, values_of(records, "views")))
    return f"{' or '.join(words)} at {_either(records, 'views', 'size')} pixels"


def _bank(records: list[Record]) -> str:
    count, size = _either(records, "views", "count"), _either(records, "views", "size")
    return f"a bank of {count} augmented views an image at {size} pixels"


def _epochs(records: list[Record]) -> str:
    teacher, student = (_either(records, role, "training", "epochs") for role in ("teacher", "student"))
    return f"at most {teacher} epochs" + (f" of the teacher, {student} of the student" if teacher != student else "")


def views_told(views: Mapping[str, Any]) -> str:
    """The views that training reads, by the settings of a record, in words."""
    if not views["count"]:
        return "fresh augmented views"
    if views.get("once"):
        return "augmented views that are read once"
    return f"{views.get('used') or views['count']} augmented views an image"


def _network(settings: Mapping[str, Any], role: str) -> str:
    network = settings[role]
    head = f"head with one hidden layer of {network['hidden']}" if network["hidden"] else "linear head"
    return f"{network['feature']} features, {head}"


def _selection(settings: Mapping[str, Any]) -> str:
    words = {"mean": "the mean of SSHP and ASHP", "sshp": "SSHP", "ashp": "ASHP"}
    return words[settings["select"]]


def _by_method(records: Iterable[Record], describe: Callable[[Mapping[str, Any]], str]) -> str:
    """What `describe` says of the settings; where methods differ in it, each text with its methods."""
    methods: dict[str, dict[str, None]] = {}
    for record in records:
        methods.setdefault(describe(record["settings"]), {})[record["run"].get("method", "")] = None
    if len(methods) == 1:
        return next(iter(methods))
    rare_first = sorted(methods, key=lambda text: len(methods[text]))
    named = [f"{text} ({', '.join(methods[text])})" for text in rare_first[:-1]]
    last = ", ".join(methods[rare_first[-1]]) if len(methods[rare_first[-1]]) < 3 else "all others"
    return " or ".join([*named, f"{rare_first[-1]} ({last})"])
