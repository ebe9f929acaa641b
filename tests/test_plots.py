"""The figures draw what the records say, nothing is cut off, and the same records give the same bytes."""

from __future__ import annotations

import json
import random
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import synthetic_records as made_up
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from brcd_core import plots
from brcd_core.plots.redundancy import alike
from brcd_core.plots.scores import left_end

STUDY = made_up.study(bits=(16, 32))
ANALYSIS = made_up.redundancy("dinov2_vits14", 32)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
HITS = {
    name: (
        IMAGES[RANDOM.integers(0, 40, (3, 5))],
        RANDOM.integers(0, 20, (3, 5)),
        RANDOM.random((3, 5)) < 0.6,
    )
    for name in ("teacher", "SSHP", "ASHP")
}


@pytest.fixture(scope="module")
def figures():
    """One of each."""
    return {
        "main": plots.main_figure(STUDY),
        "training_curves": plots.training_curves(STUDY, bits=32),
        "precision_curves": plots.precision_curves(STUDY),
        "cluster_choice": plots.cluster_choice(ANALYSIS),
        "clusters_against_classes": plots.clusters_against_classes(ANALYSIS),
        "bit_means": plots.bit_means(ANALYSIS),
        "redundancy_over_margin": plots.redundancy_over_margin(ANALYSIS),
        "bit_health": plots.bit_health(ANALYSIS),
        "dropping_bits": plots.dropping_bits(ANALYSIS),
        "view_counts": plots.view_counts([made_up.view_counts("dinov2_vits14", "resnet18", 32)]),
        "view_grid": plots.view_grid(IMAGES[:3], IMAGES[3:18].reshape(3, 5, 8, 8, 3), ["cat", "dog", "ship"]),
        "search_panel": plots.search_panel(IMAGES[:3], ["cat", "dog", "ship"], HITS, bits=32),
    }


def runs_of(kind, **wanted):
    return [r for r in STUDY if r["kind"] == kind and all(r["run"].get(n) == v for n, v in wanted.items())]


def mesh_of(axes):
    return next(artist for artist in axes.collections if isinstance(artist, QuadMesh)).get_array()


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


# ---- all of them ------------------------------------------------------------------------------------------


def test_every_figure_fits_a_readme_and_its_words_neither_leave_it_nor_overlap(figures, monkeypatch):
    drawn, draw = [], mpl.text.Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        draw(text, renderer)

    monkeypatch.setattr(mpl.text.Text, "draw", record)
    for name, figure in figures.items():
        drawn.clear()
        figure.draw_without_rendering()
        assert len(drawn) > 10, name
        assert figure.get_figwidth() == 9, name
        for text, box in drawn:
            assert min(box.x0, box.y0) >= 0, (name, text)
            assert box.x1 <= figure.bbox.x1, (name, text)
            assert box.y1 <= figure.bbox.y1, (name, text)
        for (first, a), (second, b) in combinations(drawn, 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert not (wide > 1 and high > 1), (name, first, second)


def test_every_figure_has_a_title_an_explanation_and_named_axes(figures):
    for name, figure in figures.items():
        title, note = figure.texts[:2]
        assert title.get_weight() == "bold", name
        assert len(title.get_text()) > 15, name
        assert len(note.get_text()) > 60, name
        named = [axes for axes in figure.axes if axes.axison and axes.get_visible()]
        for axes in named:
            # A panel without a label of its own shares that of the panel below or left of it.
            below = [other for other in named if other.get_position().x0 == axes.get_position().x0]
            left = [other for other in named if other.get_position().y0 == axes.get_position().y0]
            assert any(other.get_xlabel() for other in below) or axes.get_label() == "<colorbar>", name
            # The main figure's lines are named by the methods themselves.
            assert any(other.get_ylabel() for other in left) or name == "main", name


def test_drawing_leaves_no_global_state(figures):
    before = dict(mpl.rcParams)
    plots.bit_health(ANALYSIS)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_a_notebook_shows_a_figure_without_setting_up(figures):
    data, size = figures["cluster_choice"]._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size == {"width": 900}


def test_figures_are_rebuilt_with_the_same_bytes_from_records_in_any_order(tmp_path):
    small = made_up.study(methods=("alone", "brcd"), bits=(16,), seeds=(0, 1))
    again = json.loads(json.dumps(small, sort_keys=True))
    random.Random(1).shuffle(again)
    again = [record for record in again if record["kind"] != "redundancy"]  # to save time
    first = plots.write_figures(small, tmp_path / "a")
    of_a_user = {"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}
    with mpl.rc_context(of_a_user):
        second = plots.write_figures(again, tmp_path / "b")
        second += plots.save(plots.bit_means(small[-1]), tmp_path / "b", "bit_means-dinov2_vits14-16")
    assert len(second) == 2 * 4 + 1
    for path in (path for path in second if path.name != "README.md"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name
    assert first[-1] == tmp_path / "a" / "README.md"
    names = {path.stem for path in first[:-1]}
    whose = "-dinov2_vits14-16"
    assert names == {
        "main", "training_curves-resnet18", "precision_curves-resnet18", "cluster_choice" + whose, "bit_means" + whose,
        "clusters_against_classes" + whose, "redundancy_over_margin" + whose, "bit_health" + whose,
        "dropping_bits" + whose,
    }  # fmt: skip
    files = [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted([*files, "README.md"])


def test_a_figure_that_was_shown_is_saved_like_one_that_was_not(tmp_path):
    shown, quiet = plots.dropping_bits(ANALYSIS), plots.dropping_bits(ANALYSIS)
    shown._repr_png_()
    shown.savefig(tmp_path / "tight.png", bbox_inches="tight", dpi=70)
    for one, two in zip(plots.save(shown, tmp_path, "shown"), plots.save(quiet, tmp_path, "quiet")):
        assert one.read_bytes() == two.read_bytes()


def test_figures_without_their_records_say_so(tmp_path):
    for draw in (plots.main_figure, plots.training_curves, plots.precision_curves):
        with pytest.raises(ValueError, match="no record of a"):
            draw([made_up.features("resnet18")])
    with pytest.raises(ValueError, match="128 bits"):
        plots.training_curves(STUDY, bits=128)
    with pytest.raises(ValueError, match="no record of student vgg"):
        plots.precision_curves(STUDY, student="vgg")
    assert plots.write_figures([made_up.features("resnet18")], tmp_path) == []


# ---- scores and curves ------------------------------------------------------------------------------------


def test_main_figure_shows_every_seed_and_the_mean(figures):
    panels = figures["main"].axes
    assert [axes.get_title("left").split("\n")[-1] for axes in panels] == ["16 bits", "32 bits"]
    methods = [label.get_text() for label in panels[0].get_yticklabels()]
    assert methods == ["alone", "rkd", "brcd", "brcd_no_mask"]
    for axes, bits in zip(panels, (16, 32)):
        drawn = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
        for paradigm, (means, seeds) in zip(("sshp", "ashp"), zip(drawn[::2], drawn[1::2])):
            wanted = {m: [r["metrics"][paradigm]["map"] for r in runs_of("student", method=m, bits=bits)]
                      for m in methods}  # fmt: skip
            for x, y in seeds.get_offsets():
                assert x in wanted[methods[round(y)]]
            assert len(seeds.get_offsets()) == 4 * 3
            for x, y in means.get_offsets():
                assert x == pytest.approx(np.mean(wanted[methods[round(y)]]))
            assert len(means.get_offsets()) == 4
        teacher = [r["metrics"]["teacher"]["map"] for r in runs_of("teacher", bits=bits)]
        assert axes.lines[0].get_xdata()[0] == pytest.approx(np.mean(teacher))
        low, high = axes.get_xlim()
        arrows = [text.get_text() for text in axes.texts if isinstance(text, Annotation)]
        alone = np.mean([r["metrics"]["ashp"]["map"] for r in runs_of("student", method="alone", bits=bits)])
        assert alone < low  # far below the others, so it is written at the edge
        assert arrows == [f"◂ {alone:.2f}"]
        everything = [x for artist in drawn for x, _ in artist.get_offsets()]
        assert max([*everything, *teacher]) < high
        assert sum(x < low for x in everything) == 4  # that mean and its three seeds


def test_axis_begins_below_the_crowd_only_if_few_are_far():
    assert left_end([0.7, 0.71, 0.75, 0.8]) is None
    assert 0.3 < left_end([0.2, 0.7, 0.71, 0.75, 0.8]) < 0.7
    assert left_end([0.2, 0.21, 0.7, 0.75, 0.8]) is None  # more than a third
    assert left_end([0.2, 0.7]) is None


def test_training_curves_are_the_histories_with_the_kept_epoch_marked(figures):
    panels = [axes for axes in figures["training_curves"].axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == [
        "teacher dinov2_vits14", "alone", "rkd", "brcd", "brcd_no_mask",
    ]  # fmt: skip
    for axes, method in zip(panels[1:], ("alone", "rkd", "brcd", "brcd_no_mask")):
        chosen = runs_of("student", method=method, bits=32)
        measures = ("map_sshp",) if method == "alone" else ("map_sshp", "map_ashp")
        assert len(axes.lines) == len(chosen) * len(measures) * 2  # a line and a mark for each
        drawn = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) > 1}
        for record in chosen:
            for measure in measures:
                assert tuple(row[measure] for row in record["training"]["history"]) in drawn
        marks = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1)
        assert marks == sorted(record["training"]["best_epoch"] for record in chosen for _ in measures)
        low, high = axes.get_ylim()
        assert all(low < y < high for line in axes.lines for y in line.get_ydata())
    # Without a teacher, ASHP is chance: far below all others, so it is written at the edge.
    chance = [r["training"]["validation"]["map_ashp"] for r in runs_of("student", method="alone", bits=32)]
    assert [texts_of(axes) for axes in panels] == [[], [f"▾ {np.mean(chance):.2f}"], [], [], []]


def test_training_curves_of_one_run_are_explained():
    for record in (runs_of("student")[0], runs_of("teacher")[0]):
        figure = plots.training_curves([record])
        said = [text.get_text().split()[0].strip(":") for text in figure.legends[0].get_texts()]
        assert said == (["teacher"] if record["kind"] == "teacher" else ["SSHP", "ASHP"])
        assert len([axes for axes in figure.axes if axes.get_visible()]) == 1


def test_precision_curves_are_means_over_seeds(figures):
    figure = figures["precision_curves"]
    assert "32 bits" in figure.texts[1].get_text()
    above, below = figure.axes[:2], figure.axes[2:]
    for paradigm, upper, lower in zip(("sshp", "ashp"), above, below):
        assert len(upper.lines) == len(lower.lines) == 1 + 4
        teacher = runs_of("teacher", bits=32)
        by_radius = np.mean([r["curves"]["teacher"]["precision"] for r in teacher], axis=0)
        assert upper.lines[0].get_ydata() == pytest.approx(by_radius)
        colours = [to_hex(line.get_color()) for line in upper.lines]
        assert len(set(colours)) == 5
        brcd = [r["curves"][paradigm] for r in runs_of("student", method="brcd", bits=32)]
        assert upper.lines[3].get_xdata() == pytest.approx(np.mean([c["recall"] for c in brcd], axis=0))
        assert lower.lines[3].get_ydata() == pytest.approx(np.mean([c["precision_at"] for c in brcd], axis=0))
        assert list(lower.lines[3].get_xdata()) == [1, 10, 100, 1000]


# ---- bits -------------------------------------------------------------------------------------------------


def test_cluster_choice_draws_the_scan_and_marks_the_choice(figures):
    scan = ANALYSIS["analysis"]["over_clusters"]
    for axes, name in zip(figures["cluster_choice"].axes, ("inertia", "silhouette", "purity")):
        curve, choice = axes.lines
        assert list(curve.get_xdata()) == [line["clusters"] for line in scan]
        assert list(curve.get_ydata()) == [line[name] for line in scan]
        assert set(choice.get_xdata()) == {10}


def test_clusters_against_classes_is_the_share_of_each_class(figures):
    axes = figures["clusters_against_classes"].axes[0]
    cells = mesh_of(axes)
    assert cells.shape == (10, 10)
    analysis = ANALYSIS["analysis"]
    rows = [int(label.get_text().split()[0]) for label in axes.get_yticklabels()]
    assert sorted(rows) == list(range(10))
    for row, cluster in enumerate(rows):
        for column in range(10):
            share = analysis["class_counts"][cluster][column] / analysis["sizes"][cluster]
            assert cells[row, column] == pytest.approx(share)
    main = [int(np.argmax(analysis["class_counts"][cluster])) for cluster in rows]
    assert main == sorted(main)
    assert len(texts_of(axes)) == (np.asarray(cells) >= 0.005).sum()


def test_bit_means_hatches_what_the_margin_masks(figures):
    above, below = figures["bit_means"].axes[:2]
    means = np.array(ANALYSIS["analysis"]["means"])
    rows = [int(label.get_text().split()[0]) for label in above.get_yticklabels()]
    everything, kept = mesh_of(above), mesh_of(below)
    assert everything.shape == kept.shape == (10, 32)
    # The columns are the bits, each once, in another order.
    assert sorted(map(tuple, np.asarray(everything).T)) == sorted(map(tuple, means[rows].T))
    assert np.array_equal(kept.mask, np.abs(everything) <= 0.5)
    assert below.patch.get_hatch()
    assert texts_of(below) == [str(int((np.abs(means[cluster]) > 0.5).sum())) for cluster in rows]


def test_alike_puts_equal_columns_together():
    a, b = np.array([1.0, 0, 0]), np.array([0, 1.0, 1])
    columns = np.stack([a, b, a, b, a, b], axis=1)
    order = alike(columns)
    assert sorted(order) == list(range(6))
    assert [i % 2 for i in order] in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    assert list(alike(columns[:, :2])) == [0, 1]


def test_redundancy_over_margin_marks_the_study(figures):
    axes = figures["redundancy_over_margin"].axes[0]
    lines = ANALYSIS["analysis"]["over_margin"]
    assert list(axes.lines[0].get_ydata()) == [line["redundant_share"] for line in lines]
    assert set(axes.lines[1].get_xdata()) == {0.5}
    assert f"{ANALYSIS['metrics']['redundant_share']:.1%}" in texts_of(axes)[0]


def test_bit_health_shows_each_bit_and_each_pair(figures):
    left, right = figures["bit_health"].axes[:2]
    bars = [patch.get_height() for patch in left.patches if isinstance(patch, Rectangle)]
    assert bars == sorted(ANALYSIS["analysis"]["balance"])
    cells, wanted = mesh_of(right), np.array(ANALYSIS["analysis"]["correlation"])
    assert np.array_equal(cells.mask, np.eye(32, dtype=bool))
    assert np.sort(cells.compressed()) == pytest.approx(np.sort(wanted[~np.eye(32, dtype=bool)]))
    assert np.allclose(cells, cells.T, atol=1e-12)


def test_dropping_bits_draws_each_order(figures):
    axes = figures["dropping_bits"].axes[0]
    for line in axes.lines:
        chosen = [x for x in ANALYSIS["analysis"]["dropping"] if x["dropped"] == line.get_label()]
        assert list(line.get_xdata()) == [x["fraction"] for x in chosen]
        assert list(line.get_ydata()) == [x["map"] for x in chosen]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["most redundant", "random", "least redundant"]


# ---- images -----------------------------------------------------------------------------------------------


def test_view_grid_places_every_view_beside_its_image(figures):
    axes = figures["view_grid"].axes[0]
    drawn = [artist for artist in axes.get_children() if isinstance(artist, AxesImage)]
    assert len(drawn) == 3 * 6
    rows = {}
    for image in drawn:
        left, _, bottom, _ = image.get_extent()
        rows.setdefault(bottom, []).append((left, np.asarray(image.get_array())))
    for row, bottom in enumerate(sorted(rows)):
        first, *views = [pixels for _, pixels in sorted(rows[bottom], key=lambda item: item[0])]
        assert np.array_equal(first, IMAGES[row])
        assert np.array_equal(np.stack(views), IMAGES[3:18].reshape(3, 5, 8, 8, 3)[row])
    assert {"image", "view 1", "view 5", "cat"} <= set(texts_of(axes))
    with pytest.raises(ValueError, match="need images"):
        plots.view_grid(IMAGES[:3], IMAGES[:10].reshape(2, 5, 8, 8, 3))
    with pytest.raises(ValueError, match="need images"):
        plots.view_grid(IMAGES[:2], IMAGES[:10].reshape(2, 5, 8, 8, 3)[:, :, :4])


def test_search_panel_marks_right_and_wrong_by_colour_and_sign(figures):
    axes = figures["search_panel"].axes[0]
    drawn = [artist for artist in axes.get_children() if isinstance(artist, AxesImage)]
    assert len(drawn) == 3 + 3 * 3 * 5
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    right = int(sum(strip[2].sum() for strip in HITS.values()))
    colours = [to_hex(frame.get_edgecolor()) for frame in frames]
    assert colours.count(plots.images.RIGHT) == right
    assert colours.count(plots.images.WRONG) == 45 - right
    texts = texts_of(axes)
    assert texts.count("✓") == right
    assert texts.count("✗") == 45 - right
    signs = {(t.get_position()): t.get_text() for t in axes.texts if t.get_text() in ("✓", "✗")}
    for frame in frames:  # a frame and the sign in its corner say the same
        x, y = frame.get_xy()
        sign = next(text for (a, b), text in signs.items() if x < a < x + 1 and y < b < y + 1)
        assert to_hex(frame.get_edgecolor()) == (plots.images.RIGHT if sign == "✓" else plots.images.WRONG)
    numbers = sorted(int(text) for text in texts if text.isdigit())
    assert numbers == sorted(int(d) for strip in HITS.values() for d in strip[1].ravel())
    assert f"{HITS['SSHP'][2][1].sum()} of 5 right" in texts


def test_search_panel_refuses_what_does_not_fit():
    images, distances, right = HITS["teacher"]
    with pytest.raises(ValueError, match="strip 'ASHP': want"):
        plots.search_panel(IMAGES[:3], ["a", "b", "c"], HITS | {"ASHP": (images, distances[:, :4], right)})
    with pytest.raises(ValueError, match="need 3 names"):
        plots.search_panel(IMAGES[:3], ["a", "b"], HITS)
    with pytest.raises(ValueError, match="at least one strip"):
        plots.search_panel(IMAGES[:3], ["a", "b", "c"], {})
