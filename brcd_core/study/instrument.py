"""Notebooks that answer: controls beside figures in JupyterLab, ordinary figures where nobody can turn a control.

The figures are those of cluster_view and own_picture. Here a choice is only passed to them, and their answer shown.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from brcd_core import plots
from brcd_core.datasets.image_files import ImageError
from brcd_core.encoder import printable
from brcd_core.plots import Picture
from brcd_core.plots.style import DPI, style
from brcd_core.study import cluster_view, own_picture
from brcd_core.study.cluster_view import Clustered
from brcd_core.study.outcome import Report
from brcd_core.study.own_picture import OwnPictureRun, Searcher
from brcd_core.study.runs import RedundancyRun

WIDTH = 900  # pixels of a figure, as in a notebook's other cells
KEPT = 256  # figures that are kept, about 100 kB each


def explore_clusters(run: RedundancyRun, report: Report = print) -> None:
    """Show the clusters of a run's teacher: with controls in JupyterLab, else the first view."""

    @cache
    def of_length(bits: int) -> Clustered:
        return cluster_view.clustered(RedundancyRun(**run.model_dump() | {"bits": bits}), report)

    if has_front_end():
        display(ClusterControls(of_length, cluster_view.lengths(run), run.bits).box)
    else:
        display(*cluster_view.first_figures(of_length(run.bits)))


def search_own_picture(run: OwnPictureRun, about: str = "", report: Report = print) -> None:
    """Show what the picture of a run finds; in JupyterLab with a button for others, else nothing without a picture."""

    @cache
    def networks() -> Searcher:
        return own_picture.searcher(run, report)

    path = None if run.my_picture is None else Path(run.my_picture).expanduser()
    if has_front_end():
        controls = PictureControls(networks, about)
        if path:
            controls.show(path)
        display(controls.box)
    elif path:
        searcher, pixels = networks(), own_picture.read(path)
        found = searcher.search(pixels)
        display(plots.search_panel(**searcher.panel(pixels, found), about=about), searcher.summary(found))
    else:
        report("no picture of yours: my_picture names one, and in JupyterLab there is a button")


def has_front_end() -> bool:
    """Whether a Jupyter server runs this kernel for a page that can show controls.

    A server tells the kernel the notebook's name; papermill, nbval and nbconvert do not. BRCD_BATCH=1 says no, too.
    """
    return "JPY_SESSION_NAME" in os.environ and os.environ.get("BRCD_BATCH") != "1"


class ClusterControls:
    """Code length, cluster, margin and query, and the three figures of cluster_view for them.

    Sliders speak when they are let go. A figure is drawn again only where what it depends on has changed, and once for
    each choice. `of_length`: the codes of a length, which takes seconds the first time.
    """

    def __init__(self, of_length: Callable[[int], Clustered], lengths: Sequence[int], bits: int) -> None:
        self._of_length, self._setting = of_length, False
        self.bits = widgets.Dropdown(options=list(lengths), value=bits, description="bits")
        self.cluster = widgets.Dropdown(description="cluster")
        self.margin = widgets.FloatSlider(of_length(bits).margin, min=0, max=1, step=0.05, description="margin")
        self.query = widgets.IntSlider(1, min=1, max=1, description="query")
        self.said = widgets.HTML()
        self.figures = [_picture() for _ in range(3)]
        controls = (self.bits, self.cluster, self.margin, self.query)
        self.box = widgets.VBox([widgets.HBox(controls[:2]), widgets.HBox(controls[2:]), self.said, *self.figures])
        self._drawn = lru_cache(KEPT)(_png)
        self._changed({"owner": self.bits})
        for control in controls:
            control.layout.width, control.continuous_update = f"{WIDTH // 2}px", False
            control.observe(self._changed, "value")

    def _changed(self, change: Any) -> None:
        if self._setting:  # by this function itself
            return
        self._setting, owner = True, change["owner"]
        try:
            if owner is self.bits:
                self._list_clusters()
            if owner in (self.bits, self.cluster):
                self._list_queries()
            self._draw()
        except Exception as error:  # nobody would see what a control raises
            self.said.value = _told(error)
        finally:
            self._setting = False

    def _list_clusters(self) -> None:
        """The clusters of this code length; the one that most queries fall into is chosen."""
        self.said.value = f"clustering the {self.bits.value}-bit codes …"
        view = self._of_length(self.bits.value)
        self.cluster.options = [
            (f"{view.name(cluster).removeprefix('cluster ')}, {size:,} images", cluster)
            for cluster, size in enumerate(view.sizes())
        ]
        self.cluster.value = view.most_asked()

    def _list_queries(self) -> None:
        """The queries that fall into this cluster; the first is chosen."""
        count = len(self._of_length(self.bits.value).queries(self.cluster.value))
        self.query.value, self.query.max = 1, max(count, 1)
        self.query.disabled = not count
        self.said.value = f"{count:,} query images fall into this cluster" + ("." if count else ": choose another.")

    def _draw(self) -> None:
        view, cluster, margin = self._of_length(self.bits.value), self.cluster.value, round(self.margin.value, 2)
        mask, images, neighbours = self.figures
        mask.value = self._drawn(cluster_view.mask_figure, view, cluster, margin)
        images.value = self._drawn(cluster_view.images_figure, view, cluster)
        neighbours.layout.display = "none" if self.query.disabled else None
        if not self.query.disabled:
            neighbours.value = self._drawn(
                cluster_view.neighbours_figure, view, cluster, margin, self.query.value - 1
            )


class PictureControls:
    """A button that takes a picture, and what teacher and student find for it. `networks`: made when first needed."""

    def __init__(self, networks: Callable[[], Searcher], about: str = "") -> None:
        self._networks, self._about = networks, about
        self.upload = widgets.FileUpload(accept="image/*", description="your picture")
        self.said, self.figure = widgets.HTML(), _picture()
        self.figure.layout.display = "none"
        self.box = widgets.VBox([self.upload, self.said, self.figure])
        self.upload.observe(self._uploaded, "value")

    def show(self, path: Path, name: str = "") -> None:
        """Search with the picture in a file; a file that is none is said so, with its name."""
        self.said.value = "encoding …"
        try:
            pixels, networks = own_picture.read(path), self._networks()
            found = networks.search(pixels)
            self.figure.value = _png(plots.search_panel, about=self._about, **networks.panel(pixels, found))
            self.figure.layout.display, self.said.value = None, networks.summary(found).to_html()
        except ImageError as error:
            self.said.value = _told(f"{name or path.name} cannot be read as an image: {error.reason}")
        except Exception as error:
            self.said.value = _told(error)

    def _uploaded(self, change: Any) -> None:
        for file in change["new"][-1:]:
            with tempfile.NamedTemporaryFile() as copy:
                copy.write(file["content"])
                copy.flush()
                self.show(Path(copy.name), file["name"])


def _picture() -> widgets.Image:
    """An empty place for a figure."""
    shape = widgets.Layout(width=f"{WIDTH}px", max_width="100%", object_fit="contain")
    return widgets.Image(format="png", layout=shape)


def _png(draw: Callable[..., Picture], *choice: Any, **more: Any) -> bytes:
    data = io.BytesIO()
    with style():
        # As a notebook shows it, but packed less tightly: that takes a tenth of the time.
        draw(*choice, **more).savefig(data, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    return data.getvalue()


def _told(problem: object) -> str:
    return f"<b>{escape(printable(problem))}</b>"
