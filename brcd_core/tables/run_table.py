"""The table of all runs, one row each, for a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brcd_core.config import fingerprint
from brcd_core.records import Record
from brcd_core.tables.scores import TRAINED, in_order

SHORT = 12  # digits of a checksum


def run_table(records: Iterable[Record]) -> pd.DataFrame:
    """All runs, one row each: what was run, its scalar metrics, how long it took, and where it comes from.

    Metrics carry their paradigm, e.g. map_sshp; checksums are shortened. Empty cell: a kind has no such.
    Comparisons are made from runs and are none themselves.
    """
    lines = [_line(record) for record in in_order(records) if record["kind"] != "comparisons"]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    # Metrics of all kinds stand together, before what only tells where a row comes from.
    last = [column for column in columns if column in ABOUT or column.endswith("_checksum")]
    first = [column for column in columns if column not in last]
    # As objects, so that a whole number stays one where other rows have nothing.
    return pd.DataFrame(lines, columns=[*first, *last], dtype=object)


ABOUT = (
    "best_epoch", "epochs", "steps", "training_seconds", "total_seconds",
    "device", "git_revision", "git_dirty", "torch", "settings",
)  # fmt: skip


def _line(record: Record) -> dict[str, Any]:
    run, provenance, training = record["run"], record["provenance"], record.get("training", {})
    inputs = provenance["inputs"]
    names = ("profile", "teacher", "hash_model", "student", "method", "backbone", "bits", "seed")
    line = {"kind": record["kind"]} | {name: run.get(name) for name in names}
    if record["kind"] in TRAINED:
        line["parts"] = " ".join(record.get("parts", ["main"]))
    line |= _metrics(record.get("metrics", {}))
    line |= {name: training.get(name) for name in ("best_epoch", "epochs", "steps")}
    line |= {
        "training_seconds": training.get("seconds"),
        "total_seconds": provenance["seconds"],
        "device": provenance["device"],
        "git_revision": (provenance["git_revision"] or "")[:SHORT],
        "git_dirty": provenance["git_dirty"],
        "torch": provenance["packages"].get("torch"),
        "settings": fingerprint(record["settings"])[:SHORT],
    }
    return line | {f"{name}_checksum": _short(value) for name, value in sorted(inputs.items())}


def _metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """map of sshp becomes map_sshp; a metric without a paradigm keeps its name."""
    flat: dict[str, Any] = {}
    for name, value in sorted(metrics.items()):
        parts = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{part}_{name}".lstrip("_"): number for part, number in sorted(parts.items())}
    return flat


def _short(value: Any) -> str:
    """The first digits of a checksum, or of one over several: enough to see whether two runs had the same."""
    return (value if isinstance(value, str) else fingerprint(value))[:SHORT]
