"""The tables beside the scores: bit redundancy, features, and training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from brcd_core.records import Record
from brcd_core.tables.cells import cell, spread, usual
from brcd_core.tables.protocol import about
from brcd_core.tables.scores import (
    NoRecords,
    Row,
    by_key,
    hash_model_of,
    in_order,
    of_kind,
    of_part,
    over_seeds,
    row_of,
    rows,
    was_trained,
)
from brcd_core.tables.table import NOTHING, Table, headers, make

REDUNDANCY = {  # metric -> heading
    "purity": "purity",
    "silhouette": "silhouette",
    "redundant_share": "redundant bits",
    "mean_abs_balance": "imbalance",
    "mean_abs_correlation": "correlation",
}
FEATURES = {  # name -> heading, decimals
    "nearest_neighbour": ("nearest neighbour right", 3),
    "dimensions": ("dimensions", 0),
    "megabytes": ("MB", 1),
}
TRAINING = {"best_epoch": ("best epoch", 1), "epochs": ("epochs", 1), "seconds": ("seconds", 1)}


def redundancy_table(records: Iterable[Record]) -> Table:
    """What the analysis of each teacher's bits found. NoRecords if there is no record of one."""
    chosen = _needed(records, "redundancy")
    lines = [
        {"teacher": record["run"]["teacher"], "hash_model": hash_model_of(record)}
        | {name: record["run"][name] for name in ("bits", "seed")}
        | {name: record["analysis"][name] for name in ("clusters", "margin")}
        | {name: record["metrics"].get(name) for name in REDUNDANCY}
        for record in chosen
    ]
    cells = {
        "clusters": [str(line["clusters"]) for line in lines],
        "margin": [f"{line['margin']:g}" for line in lines],
    }
    for name, heading in REDUNDANCY.items():
        if any(line[name] is not None for line in lines):
            cells[heading] = [_decimals(line[name]) for line in lines]
    caption = (
        "How much of a teacher's code is redundant. Its training codes are clustered; a bit is redundant in "
        "a cluster when its mean there, between -1 and +1, is not further from 0 than the margin. Purity: "
        "share of images of their cluster's main class. Redundant bits: their share over all clusters. "
        "Imbalance: mean |mean of a bit| over all images. Correlation: mean |correlation| of two bits."
    )
    columns = {name: [line[name] for line in lines] for name in ("teacher", "hash_model", "bits", "seed")}
    heads = headers(columns, always=("teacher", "bits", "seed"))
    return make("redundancy", caption, about(chosen), pd.DataFrame(lines), *heads, cells)


def features_table(records: Iterable[Record]) -> Table:
    """Quality and size of each backbone's frozen features. NoRecords if there is no record of one."""
    chosen = _needed(records, "features")
    lines = [
        {
            "backbone": record["run"]["backbone"],
            "nearest_neighbour": record["metrics"].get("nearest_neighbour"),
            "dimensions": next(bank["shape"][-1] for bank in record["banks"].values()),
            "megabytes": sum(bank["megabytes"] for bank in record["banks"].values()),
        }
        for record in chosen
    ]
    cells = {
        heading: [_decimals(line[name], decimals) for line in lines] for name, (heading, decimals) in FEATURES.items()
    }
    caption = (
        "The frozen backbones: how often the database image nearest to a validation image in their feature "
        f"space shares a label with it, and what the stored features take.{_several(chosen)}"
    )
    index = [line["backbone"] for line in lines]
    return make("features", caption, about(chosen), pd.DataFrame(lines), index, ["backbone"], cells)


def training_table(records: Iterable[Record]) -> Table:
    """Best epoch, epochs run and seconds of each network, method and code length, over the seeds.

    NoRecords if there is no record of a teacher or a student that was trained.
    """
    trained = [record for record in of_part(records, "main") if was_trained(record)]
    if not trained:
        raise NoRecords("no record of a teacher or a student, so there is no training to show")
    keys = [*Row._fields, "bits", "measure"]
    table = [
        (*row_of(record), record["run"]["bits"], name, float(record["training"][name]))
        for record in in_order(trained)
        for name in TRAINING
    ]
    values = over_seeds(pd.DataFrame(table, columns=[*keys, "value"]), keys)
    found = by_key(values, keys)
    expected = usual(values["n"])
    lines = [
        (row, bits)
        for row in rows(trained)
        for bits in sorted({record["run"]["bits"] for record in trained if row_of(record) == row})
    ]
    cells = {
        heading: [cell(*found[*row, bits, name], expected, decimals) for row, bits in lines]
        for name, (heading, decimals) in TRAINING.items()
    }
    caption = (
        "How long the heads trained: the epoch that validation chose, the epochs until training stopped, and "
        f"the seconds of a run without the computation of features ({spread(values['n'])}). A best epoch equal to the "
        "epochs run means that training may have been cut off while it still improved."
    )
    columns = {name: [getattr(row, name) for row, _ in lines] for name in Row._fields}
    columns["bits"] = [str(bits) for _, bits in lines]
    heads = headers(columns, always=("student", "method", "bits"))
    return make("training", caption, about(trained, "main"), values, *heads, cells)


def _several(chosen: Iterable[Record]) -> str:
    """Which backbones have more than one set of features."""
    sets = {r["run"]["backbone"]: sum(bank["split"] == "query" for bank in r["banks"].values()) for r in chosen}
    told = [f"{count} sets of {backbone}" for backbone, count in sets.items() if count > 1]
    return f" {' and '.join(told)}: logits too, or those of the released code's train mode." if told else ""


def _needed(records: Iterable[Record], kind: str) -> list[Record]:
    chosen = in_order(of_kind(records, kind))
    if not chosen:
        raise NoRecords(f"no {kind} record, so there is no {kind} table")
    return chosen


def _decimals(value: Any, decimals: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{decimals}f}"
