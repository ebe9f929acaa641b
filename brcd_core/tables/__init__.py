"""The study's tables, from its records alone, as csv, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from brcd_core.records import Record
from brcd_core.tables.detail_tables import features_table, redundancy_table, training_table
from brcd_core.tables.retrieval_tables import main_table, measures_table
from brcd_core.tables.run_table import run_table
from brcd_core.tables.scores import in_order
from brcd_core.tables.table import Table

__all__ = [
    "Table", "features_table", "in_order", "main_table", "measures_table", "redundancy_table", "run_table",
    "training_table", "write_tables",
]  # fmt: skip

# Each table, and the kinds of record without which there is nothing in it.
TABLES: dict[Callable[[Iterable[Record]], Table], tuple[str, ...]] = {
    main_table: ("teacher", "student"),
    measures_table: ("teacher", "student"),
    redundancy_table: ("redundancy",),
    features_table: ("features",),
    training_table: ("teacher", "student"),
}


def write_tables(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write every table that the records allow into a folder, as csv, md and tex; the paths written.

    The same records give the same bytes, whatever their order.
    """
    records = list(records)
    kinds = {record["kind"] for record in records}
    tables = [build(records) for build, needs in TABLES.items() if kinds.intersection(needs)]
    return [path for table in tables for path in table.write(folder)]
