"""The study's figures, one function each: from records or arrays to a matplotlib Figure.

Nothing here shows a figure or changes matplotlib's settings. With `%matplotlib inline`, a notebook shows the
figure that is a cell's last value.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from brcd_core.plots.clusters import cluster_choice, clusters_against_classes
from brcd_core.plots.curves import precision_curves, training_curves
from brcd_core.plots.images import Strip, search_panel, view_grid
from brcd_core.plots.redundancy import bit_health, bit_means, dropping_bits, redundancy_over_margin
from brcd_core.plots.scores import main_figure
from brcd_core.plots.style import save
from brcd_core.records import Record
from brcd_core.tables.scores import in_order, of_kind

__all__ = [
    "Strip", "bit_health", "bit_means", "cluster_choice", "clusters_against_classes", "dropping_bits",
    "main_figure", "precision_curves", "redundancy_over_margin", "save", "search_panel", "training_curves",
    "view_grid", "write_figures",
]  # fmt: skip

ANALYSIS = (
    cluster_choice, clusters_against_classes, bit_means, redundancy_over_margin, bit_health, dropping_bits,
)  # fmt: skip


def write_figures(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write every figure that the records allow into a folder, as png and svg; the paths written.

    main, training_curves, precision_curves-STUDENT, and for each analysis of bits FIGURE-TEACHER-BITS.
    The same records give the same bytes, whatever their order.
    """
    records = in_order(records)
    figures = {}
    if of_kind(records, "teacher") or of_kind(records, "student"):
        figures = {"main": main_figure(records), "training_curves": training_curves(records)}
    for student in sorted({record["run"]["student"] for record in of_kind(records, "student")}):
        figures[f"precision_curves-{student}"] = precision_curves(records, student)
    for record in of_kind(records, "redundancy"):
        whose = f"{record['run']['teacher']}-{record['run']['bits']}"
        figures |= {f"{figure.__name__}-{whose}": figure(record) for figure in ANALYSIS}
    return [path for name, figure in figures.items() for path in save(figure, folder, name)]
