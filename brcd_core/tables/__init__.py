"""The study's tables, from its records alone, as csv, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from brcd_core.records import Record
from brcd_core.tables.comparison_tables import comparisons_table, weights_table
from brcd_core.tables.detail_tables import features_table, redundancy_table, training_table
from brcd_core.tables.efficiency_table import efficiency_table
from brcd_core.tables.pair_tables import backbones_table, hash_models_table
from brcd_core.tables.protocol import about
from brcd_core.tables.retrieval_tables import main_table, measures_table
from brcd_core.tables.run_table import run_table
from brcd_core.tables.scores import NoRecords, in_order
from brcd_core.tables.table import Table
from brcd_core.tables.variation_tables import ablation_table, released_table
from brcd_core.tables.view_counts_table import view_counts_table

__all__ = [
    "NoRecords", "Table", "ablation_table", "about", "backbones_table", "comparisons_table", "efficiency_table",
    "features_table", "hash_models_table", "in_order", "main_table", "measures_table", "redundancy_table",
    "released_table", "run_table", "training_table", "view_counts_table", "weights_table", "write_tables",
]  # fmt: skip

TABLES: tuple[Callable[[Iterable[Record]], Table], ...] = (
    main_table,
    comparisons_table,
    ablation_table,
    hash_models_table,
    backbones_table,
    released_table,
    efficiency_table,
    weights_table,
    view_counts_table,
    measures_table,
    redundancy_table,
    features_table,
    training_table,
)


def write_tables(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write every table that the records allow into a folder, as csv, md and tex; the paths written.

    The same records give the same bytes, whatever their order.
    """
    records = list(records)
    paths: list[Path] = []
    for build in TABLES:
        with suppress(NoRecords):
            paths += build(records).write(folder)
    return paths
