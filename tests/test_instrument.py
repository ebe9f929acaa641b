"""Controls change the figures that they should, and no others; without a page to show them, figures stand alone."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import cache

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image
from synthetic_clusters import CENTRES, made_up

from brcd_core.bits import Clusters
from brcd_core.plots import Picture
from brcd_core.study import cluster_view, instrument, own_picture, runs
from brcd_core.study.cluster_view import Clustered
from brcd_core.study.search import hits_of


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, in place of the drawing: the name of each figure and its choice."""
    calls = []

    def draw(figure, *choice, **more):
        calls.append((figure.__name__, *choice[1:]))
        return repr((figure.__name__, *choice)).encode()

    monkeypatch.setattr(instrument, "_png", draw)
    return calls


@pytest.fixture
def controls(drawn):
    found = instrument.ClusterControls(cache(made_up), [8, 16], 16)
    assert drawn == [
        ("mask_figure", found.cluster.value, 0.4),
        ("images_figure", found.cluster.value),
        ("neighbours_figure", found.cluster.value, 0.4, 0),
    ]
    drawn.clear()
    return found


def values(controls):
    return [figure.value for figure in controls.figures]


def test_a_query_changes_the_neighbours_alone(controls, drawn):
    before = values(controls)
    controls.query.value = 3
    assert drawn == [("neighbours_figure", controls.cluster.value, 0.4, 2)]
    assert [old == new for old, new in zip(before, values(controls))] == [True, True, False]


def test_a_margin_changes_mask_and_neighbours_and_is_a_round_number(controls, drawn):
    before, cluster = values(controls), controls.cluster.value
    controls.margin.value = 0.1 + 0.05  # 0.15000000000000002
    assert drawn == [("mask_figure", cluster, 0.15), ("neighbours_figure", cluster, 0.15, 0)]
    assert [old == new for old, new in zip(before, values(controls))] == [False, True, False]


def test_a_cluster_changes_all_and_lists_its_own_queries(controls, drawn):
    controls.query.value = controls.query.max
    drawn.clear()
    first, view, before = controls.cluster.value, made_up(16), values(controls)[:2]
    other = (first + 1) % CENTRES
    controls.cluster.value = other
    assert drawn == [("mask_figure", other, 0.4), ("images_figure", other), ("neighbours_figure", other, 0.4, 0)]
    assert controls.query.max == len(view.queries(other))
    assert f"{len(view.queries(other))} query images" in controls.said.value
    # What was seen before is there at once.
    drawn.clear()
    controls.cluster.value = first
    assert drawn == []
    assert values(controls)[:2] == before


def test_a_code_length_starts_again_with_its_most_asked_cluster(controls, drawn):
    controls.margin.value = 0.7
    drawn.clear()
    controls.bits.value = 8
    view = made_up(8)
    assert drawn == [
        ("mask_figure", view.most_asked(), 0.7),
        ("images_figure", view.most_asked()),
        ("neighbours_figure", view.most_asked(), 0.7, 0),
    ]
    sizes = [int((view.found.assignment == cluster).sum()) for cluster in range(CENTRES)]
    assert [label.split(", ")[1] for label, _ in controls.cluster.options] == [f"{size} images" for size in sizes]
    assert controls.query.value == 1 and controls.query.max == len(view.queries(view.most_asked()))


def test_a_cluster_without_queries_hides_the_search(drawn):
    view = made_up(16)
    centres = np.concatenate([view.found.centres, np.full((1, 16), 50, np.float32)])  # no query is near
    assignment = np.where(np.arange(60) == 59, CENTRES, view.found.assignment)
    lonely = Clustered(view.dataset, view.ids, view.codes, Clusters(centres, assignment), 0.4, 20)
    controls = instrument.ClusterControls(lambda bits: lonely, [16], 16)
    controls.cluster.value = CENTRES
    assert controls.query.disabled and controls.figures[2].layout.display == "none"
    assert controls.said.value == "0 query images fall into this cluster: choose another."
    controls.cluster.value = 0
    assert not controls.query.disabled and controls.figures[2].layout.display is None


def test_what_goes_wrong_is_said(drawn):
    views = cache(made_up)

    def of_length(bits):
        if bits == 8:
            raise ValueError("cannot make 10 clusters <of 3 codes>")
        return views(bits)

    controls = instrument.ClusterControls(of_length, [8, 16], 16)
    controls.bits.value = 8
    assert controls.said.value == "<b>cannot make 10 clusters &lt;of 3 codes&gt;</b>"
    controls.bits.value = 16
    assert "query images fall" in controls.said.value
    drawn.clear()
    controls.margin.value = 0.9
    assert [(name, margin) for name, _, margin, *_ in drawn] == [("mask_figure", 0.9), ("neighbours_figure", 0.9)]


def test_the_figures_are_pictures_of_the_width_of_a_notebook():
    controls = instrument.ClusterControls(cache(made_up), [16], 16)
    before = values(controls)
    for figure in before:
        assert Image.open(io.BytesIO(figure)).size[0] == 1350
    controls.margin.value = 0.8
    assert [old == new for old, new in zip(before, values(controls))] == [False, True, False]


# ---- the picture of the reader's own ----------------------------------------------------------------------


class Networks:
    """Stands for a Searcher whose codes are the signs of an image's first pixels."""

    def __init__(self):
        self.view, self.asked = made_up(), []

    def search(self, pixels):
        self.asked.append(pixels)
        code = np.where(pixels.ravel()[:16] > 127, 1, -1)
        query = cluster_view.pack(code[None])
        return {way: hits_of(query, self.view.packed["database"], 10) for way in ("teacher", "SSHP", "ASHP")}

    def searcher(self):
        one = type("Encoder", (), {"bits": 16})()
        return own_picture.Searcher({"student": one}, {}, self.view.dataset, self.view.ids["database"])

    def panel(self, *found):
        return self.searcher().panel(*found)

    def summary(self, found):
        return self.searcher().summary(found)


def uploaded(content, name="mine.png"):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)}
    return (file | {"last_modified": datetime(2026, 1, 1, tzinfo=UTC)},)


def png_of(colour):
    data = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(data, "PNG")
    return data.getvalue()


def test_an_uploaded_picture_is_searched_for():
    networks, made = Networks(), []
    controls = instrument.PictureControls(lambda: made.append(1) or networks)
    assert controls.figure.layout.display == "none" and not made
    controls.upload.value = uploaded(png_of("white"))
    first = controls.figure.value
    assert Image.open(io.BytesIO(first)).size[0] == 1350 and controls.figure.layout.display is None
    assert "<table" in controls.said.value and "SSHP" in controls.said.value
    assert networks.asked[0].shape == (256, 256, 3) and (networks.asked[0] == 255).all()
    controls.upload.value = uploaded(png_of("black"), "other.png")
    assert controls.figure.value != first and (networks.asked[1] == 0).all()


def test_a_file_that_is_no_picture_is_said_so_by_its_name():
    networks = Networks()
    controls = instrument.PictureControls(lambda: networks)
    controls.upload.value = uploaded(b"no picture", "<i>mine.png")
    wanted = "<b>&lt;i&gt;mine.png cannot be read as an image: not an image that Pillow knows</b>"
    assert controls.said.value == wanted and not networks.asked
    controls.upload.value = uploaded(png_of("white"))
    assert "<table" in controls.said.value


# ---- with and without a page ------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(instrument, "display", lambda *things: found.extend(things))
    monkeypatch.setattr(cluster_view, "clustered", lambda run, report: made_up(run.bits))
    monkeypatch.setattr(own_picture, "searcher", lambda run, report: Networks())
    monkeypatch.delenv("BRCD_BATCH", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return found


def test_a_page_is_where_a_server_named_the_notebook_and_nothing_says_batch(shown, monkeypatch):
    assert not instrument.has_front_end()
    monkeypatch.setenv("JPY_SESSION_NAME", "05_bit_redundancy.ipynb")
    assert instrument.has_front_end()
    monkeypatch.setenv("BRCD_BATCH", "1")
    assert not instrument.has_front_end()


def test_clusters_are_shown_with_controls_or_as_figures(shown, monkeypatch):
    run = runs.RedundancyRun(profile="smoke")
    instrument.explore_clusters(run)
    assert [type(one) for one in shown] == [Picture] * 3
    shown.clear()
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    instrument.explore_clusters(run)
    assert [type(one) for one in shown] == [widgets.VBox]
    bits = shown[0].children[0].children[0]
    assert bits.options == (8, 16) and bits.value == 16
    bits.value = 8
    assert len(shown[0].children[0].children[1].options) == CENTRES


def test_the_readers_picture_is_shown_with_a_button_as_a_figure_or_not_at_all(shown, monkeypatch, tmp_path):
    said, path = [], tmp_path / "mine.png"
    path.write_bytes(png_of("red"))
    without = own_picture.OwnPictureRun(profile="smoke", method="brcd")
    with_one = own_picture.OwnPictureRun(profile="smoke", method="brcd", my_picture=str(path))
    instrument.search_own_picture(without, report=said.append)
    assert not shown and "my_picture" in said[0]
    instrument.search_own_picture(with_one, "about")
    figure, table = shown
    assert type(figure) is Picture and figure.caption.endswith("about")
    assert list(table.index) == ["teacher", "SSHP", "ASHP"]
    shown.clear()
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    for run, filled in ((without, False), (with_one, True)):
        instrument.search_own_picture(run)
        upload, _, picture = shown.pop().children
        assert isinstance(upload, widgets.FileUpload) and bool(picture.value) == filled
