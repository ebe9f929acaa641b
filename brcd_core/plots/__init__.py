"""The study's figures, one function each: from records or arrays to a matplotlib Figure.

Nothing here shows a figure or changes matplotlib's settings. With `%matplotlib inline`, a notebook shows the
figure that is a cell's last value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from brcd_core.plots.clusters import cluster_choice, clusters_against_classes
from brcd_core.plots.code_map import code_map
from brcd_core.plots.gallery import gallery
from brcd_core.plots.images import Strip, search_panel, view_grid
from brcd_core.plots.precision_curves import precision_curves
from brcd_core.plots.redundancy import bit_health, bit_means, dropping_bits, redundancy_over_margin
from brcd_core.plots.scores import main_figure, main_pages
from brcd_core.plots.sensitivity import sensitivity
from brcd_core.plots.style import Picture, save
from brcd_core.plots.training_curves import training_curves
from brcd_core.plots.view_counts import view_counts
from brcd_core.records import Record
from brcd_core.tables.scores import NoRecords, hash_model_of, in_order, of_kind, of_part

__all__ = [
    "Picture", "Strip", "bit_health", "bit_means", "cluster_choice", "clusters_against_classes", "code_map",
    "dropping_bits", "gallery", "main_figure", "precision_curves", "redundancy_over_margin", "save", "search_panel",
    "sensitivity", "training_curves", "view_counts", "view_grid", "write_figures",
]  # fmt: skip

ANALYSIS = (
    cluster_choice, clusters_against_classes, bit_means, redundancy_over_margin, bit_health, dropping_bits,
)  # fmt: skip


def write_figures(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write every figure that the records allow into a folder, as png and svg, and the gallery; the paths written.

    main (main-2, ... where there are more than three students), training_curves-STUDENT,
    precision_curves-STUDENT, sensitivity-STUDENT, view_counts, and for each analysis of bits FIGURE-TEACHER-BITS.
    The gallery shows all figures of the folder. The same records give the same bytes, whatever their order.
    """
    records = in_order(records)
    paths: list[Path] = []
    for name, draw in _figures(records).items():
        with suppress(NoRecords):
            paths += save(draw(), folder, name)
    return [*paths, gallery(folder)] if paths else []


def _figures(records: list[Record]) -> dict[str, Callable[[], Picture]]:
    """Each figure by its name. Some may find no records."""
    found: dict[str, Callable[[], Picture]] = {}
    for page in range(len(main_pages(records))):
        found[f"main-{page + 1}" if page else "main"] = partial(main_figure, records, page)
    students = sorted({record["run"]["student"] for record in of_kind(records, "student")})
    for student in students:
        found[f"training_curves-{student}"] = partial(training_curves, records, student=student)
        found[f"precision_curves-{student}"] = partial(precision_curves, records, student)
        found[f"sensitivity-{student}"] = partial(sensitivity, records, student)
    if of_part(records, "main") and not students:
        found["training_curves"] = partial(training_curves, records)
    found["view_counts"] = partial(view_counts, records)
    analyses = of_kind(records, "redundancy")
    several = len({hash_model_of(record) for record in analyses}) > 1
    for record in analyses:
        run = record["run"]
        whose = (run["teacher"], *([hash_model_of(record)] if several else []), run["bits"])
        for figure in ANALYSIS:
            found["-".join(map(str, (figure.__name__, *whose)))] = partial(figure, record)
    return found
