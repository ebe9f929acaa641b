"""The table of all runs, one row each, for a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from brcd_core.config import fingerprint
from brcd_core.records import Record
from brcd_core.tables.scores import in_order

SHORT = 12  # digits of a checksum


def run_table(records: Iterable[Record]) -> pd.DataFrame:
    """All runs, one row each: what was run, its scalar metrics, how long it took, and where it comes from.

    Metrics carry their paradigm, e.g. map_sshp; checksums are shortened. Empty cell: a kind has no such.
    """
    lines = [_line(record) for record in in_order(records)]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    # Metrics of all kinds stand together, before what only tells where a row comes from.
    last = [column for column in columns if column.startswith(("input_", "bank_"))]
    middle = [column for column in columns if column in PROVENANCE]
    first = [column for column in columns if column not in (*last, *middle)]
    # As objects, so that a whole number stays one where other rows have nothing.
    return pd.DataFrame(lines, columns=[*first, *middle, *sorted(last)], dtype=object)


PROVENANCE = (
    "best_epoch", "epochs", "steps", "training_seconds", "total_seconds",
    "device", "git_revision", "git_dirty", "torch", "settings",
)  # fmt: skip


def _line(record: Record) -> dict[str, Any]:
    run, provenance, training = record["run"], record["provenance"], record.get("training", {})
    names = ("profile", "teacher", "student", "method", "backbone", "bits", "seed")
    line = {"kind": record["kind"]} | {name: run.get(name) for name in names} | _metrics(record["metrics"])
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
    banks = record.get("banks", {})
    line |= dict(_flat(provenance["inputs"], "input"))
    return line | {f"bank_{split}": bank["checksum"][:SHORT] for split, bank in banks.items()}


def _metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """map of sshp becomes map_sshp; a metric without a paradigm keeps its name."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{part}_{name}".lstrip("_"): number for part, number in parts.items()}
    return flat


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    """The leaves of nested dictionaries under joined names; a checksum is shortened."""
    if isinstance(value, Mapping):
        return [leaf for key, item in value.items() for leaf in _flat(item, f"{name}_{key}")]
    return [(name, value[:SHORT] if isinstance(value, str) and len(value) == 64 else value)]
