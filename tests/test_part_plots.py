"""The figures of a whole study: many methods at once, sensitivity, maps of codes, and the gallery."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
import synthetic_records as made_up
import synthetic_study
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from brcd_core import plots
from brcd_core.plots.precision_curves import BACK
from brcd_core.plots.scores import ROWS, main_pages
from brcd_core.tables import NoRecords, write_tables

STUDY = synthetic_study.whole_study(bits=(64,))
RANDOM = np.random.default_rng(0)


def visible(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def student_map(method, paradigm, seed=0):
    return next(
        record["metrics"][paradigm]["map"]
        for record in STUDY
        if record["kind"] == "student" and record["run"]["hash_model"] == "cibhash"
        and record["run"]["teacher"] == "dinov2_vits14"
        and (record["run"]["method"], record["run"]["seed"]) == (method, seed)
    )  # fmt: skip


# ---- many methods -----------------------------------------------------------------------------------------


def test_training_curves_of_many_methods_have_three_rows_at_most():
    figure = plots.training_curves(STUDY, student="resnet18")
    panels = visible(figure)
    assert [axes.get_title("left") for axes in panels] == ["teacher", *made_up.METHODS]
    assert len({round(axes.get_position().y0, 3) for axes in panels}) == 3
    assert "resnet18 taught by dinov2_vits14" in figure.texts[1].get_text()
    runs = [r for r in STUDY if r["kind"] in ("teacher", "student") and "main" in r["parts"]]
    last = sum(r["training"]["best_epoch"] == r["training"]["history"][-1]["epoch"] for r in runs)
    assert f"Of {len(runs)} runs {last} kept their last epoch" in figure.caption


def test_precision_curves_colour_brcd_alone_and_the_two_best_and_grey_the_rest():
    figure = plots.precision_curves(STUDY)
    for axes in figure.axes:
        colours = {line.get_label(): to_hex(line.get_color()) for line in axes.lines}
        assert set(colours) == {"teacher", *made_up.METHODS}
        plain = {name for name, colour in colours.items() if colour != BACK}
        level = {
            name: np.mean([student_map(name, p, s) for p in ("sshp", "ashp") for s in (0, 1)])
            for name in made_up.METHODS
            if name not in ("alone", "brcd")
        }
        best = sorted(level, key=level.__getitem__)[-2:]
        assert plain == {"teacher", "alone", "brcd", *best}
        assert len({colours[name] for name in plain}) == 5
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["teacher dinov2_vits14", "brcd", *reversed(best), "alone", "9 other methods"]


def test_precision_at_k_leaves_room_for_what_differs_and_names_what_lies_below():
    left, right = plots.precision_curves(STUDY).axes[2:]
    low, high = left.get_ylim()
    below = [line for axes in (left, right) for line in axes.lines if max(line.get_ydata()) < low]
    ends = [np.mean(line.get_ydata()) for line in below]
    assert len(below) == 7
    assert [text.get_text() for text in right.texts] == [f"▾ 7 methods, {min(ends):.2f} to {max(ends):.2f}"]
    assert not left.texts
    inside = [y for axes in (left, right) for line in axes.lines if line not in below for y in line.get_ydata()]
    assert low < min(inside) and max(inside) < high


def test_main_figure_of_many_students_goes_on_in_a_second_one():
    students = tuple(f"student{number}" for number in range(5))
    found = made_up.study(("alone", "brcd"), students, (16,), (0,))
    pages = main_pages(found)
    assert [len(page) for page in pages] == [ROWS, 2]
    titles = [axes.get_title("left").split("\n")[0] for page in (0, 1) for axes in plots.main_figure(found, page).axes]
    assert titles == list(students)


# ---- sensitivity ------------------------------------------------------------------------------------------


def test_sensitivity_shows_each_varied_setting_with_the_study_in_the_middle():
    figure = plots.sensitivity(STUDY)
    panels = visible(figure)
    assert [axes.get_xlabel() for axes in panels] == list(synthetic_study.SENSITIVITY)
    for axes, (name, values) in zip(panels, synthetic_study.SENSITIVITY.items()):
        own = made_up.BRCD[name]
        *curves, usual = axes.lines
        assert set(usual.get_xdata()) == {own}
        for curve, paradigm in zip(curves, ("sshp", "ashp")):
            wanted = {value: student_map(f"brcd-{name}-{value:g}", paradigm) for value in values}
            wanted[own] = student_map("brcd", paradigm)
            assert dict(zip(curve.get_xdata(), curve.get_ydata())) == pytest.approx(wanted)
        assert (axes.get_xscale() == "log") == (name in ("n_clusters", "temperature", "weight"))
    spans = {
        name: np.ptp([student_map("brcd", "sshp"), *(student_map(f"brcd-{name}-{v:g}", "sshp") for v in values)])
        for name, values in synthetic_study.SENSITIVITY.items()
    }
    most, least = max(spans, key=spans.__getitem__), min(spans, key=spans.__getitem__)
    said = f"SSHP: {most} moves it most ({spans[most]:.3f} from worst to best value), {least} least"
    assert said in figure.caption


def test_sensitivity_takes_runs_that_differ_in_one_number_only():
    found = [r for r in STUDY if "sensitivity" not in r.get("parts", [])]
    with pytest.raises(NoRecords, match="varied setting"):
        plots.sensitivity(found)
    parts = ("sensitivity",)
    two = {"alpha": 0.1, "margin": 0.2}
    odd = [
        made_up.student_record("dinov2_vits14", "resnet18", "brcd-two", 64, 0, parts=parts, change=two),
        made_up.student_record("dinov2_vits14", "resnet18", "brcd-word", 64, 0, parts=parts, change={"mask": "none"}),
    ]
    with pytest.raises(NoRecords):
        plots.sensitivity(found + odd)
    one = made_up.student_record("dinov2_vits14", "resnet18", "brcd-one", 64, 1, parts=parts, change={"alpha": 0.3})
    axes = visible(plots.sensitivity([*found, *odd, one]))
    assert [panel.get_xlabel() for panel in axes] == ["alpha"]
    # The point of the study itself is of the same seed.
    assert list(axes[0].lines[0].get_xdata()) == [0.3, 0.8]
    assert axes[0].lines[0].get_ydata()[1] == student_map("brcd", "sshp", seed=1)
    with pytest.raises(NoRecords, match="for mobilenet_v2"):
        plots.sensitivity(STUDY, "mobilenet_v2")


# ---- numbers of views -------------------------------------------------------------------------------------


def test_numbers_of_views_are_drawn_with_every_seed_and_those_read_once_apart():
    record = next(record for record in STUDY if record["kind"] == "view_counts")
    figure = plots.view_counts(STUDY)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "5", "10", "on the fly"]
    for place, paradigm in enumerate(("teacher", "sshp", "ashp")):
        wanted = [[r[f"map_{paradigm}"] for r in record["rows"] if r["views"] == v] for v in (1, 2, 5, 10, "once")]
        means = [sum(values) / 3 for values in wanted]
        curve, last, level = axes.lines[3 * place : 3 * place + 3]
        assert list(curve.get_ydata()) == pytest.approx(means[:4])
        assert list(last.get_ydata()) == pytest.approx(means[4:]) == [level.get_ydata()[0]]
        dots = [tuple(dot) for part in axes.collections[5 * place : 5 * place + 5] for dot in part.get_offsets()]
        assert dots == [(x, pytest.approx(value)) for x, values in enumerate(wanted) for value in values]
    for text in ("The weight of the distillation was chosen", "On validation, no more than 0.005 below on the fly"):
        assert text in figure.caption
    few = {**record, "rows": [row for row in record["rows"] if row["views"] != "once"]}
    few = plots.view_counts([few])
    assert len(few.axes[0].lines) == 3 and "fly" not in few.caption
    with pytest.raises(NoRecords, match="numbers of views"):
        plots.view_counts([made_up.teacher_record("t", 16, 0)])


def test_a_number_of_views_that_is_far_worse_does_not_flatten_the_others():
    record = made_up.view_counts("dinov2_vits14", "resnet18", 64)
    for row in record["rows"]:
        for name in ("teacher", "sshp", "ashp"):
            row[f"map_{name}"] = {1: 0.1, 2: 0.6, 5: 0.602, 10: 0.603, "once": 0.604}[row["views"]]
    figure = plots.view_counts([record])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["▾ 0.10"] * 3
    assert all(text.xy[0] == 0 for text in axes.texts)  # the first number of views
    assert 0.59 < axes.get_ylim()[0] < 0.6 < 0.604 < axes.get_ylim()[1] < 0.61
    assert "Arrow: a mean below the axis, with its value." in figure.caption


# ---- maps of codes ----------------------------------------------------------------------------------------


def test_code_map_colours_classes_and_counts_neighbours_of_the_same_class():
    places, numbers = RANDOM.normal(size=(60, 2)), RANDOM.integers(-1, 3, 60)
    places[:4] = places[0]  # equal codes may fall on one another
    figure = plots.code_map(
        {"teacher": (places, numbers), "brcd": (places[::-1], numbers[::-1])}, ["a", "b", "c"], "X."
    )
    drawn = [axes.collections[0] for axes in figure.axes]
    legend = figure.legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["a", "b", "c", "none, or several"]
    colours = [to_hex(handle.get_color()) for handle in legend.legend_handles]
    found = {(*place, to_hex(c)) for place, c in zip(drawn[0].get_offsets().tolist(), drawn[0].get_facecolor())}
    assert found == {(*place, colours[number]) for place, number in zip(places.tolist(), numbers)}
    # Equal places leave the choice of the neighbour open, so the share is checked without them.
    places, numbers = places[3:], numbers[3:]
    right = known = 0
    for i in range(len(places)):
        if numbers[i] >= 0:
            distances = [(np.hypot(*(places[i] - places[j])), j) for j in range(len(places)) if j != i]
            known, right = known + 1, right + (numbers[min(distances)[1]] == numbers[i])
    figure = plots.code_map({"one": (places, numbers)}, ["a", "b", "c"], "Protocol: X.")
    assert figure.axes[0].get_title("left") == f"one ({right / known:.0%})"
    assert figure.caption.endswith(f"one {right / known:.0%}. Protocol: X.")


def test_long_titles_of_code_maps_do_not_touch():
    places, numbers = RANDOM.normal(size=(9, 2)), np.arange(9) % 2
    names = ("teacher clip_vit_b16_dequantised", "efficientnet_lite0, soft_bit_cross_entropy", "mobilenet_v2, brcd")
    figure = plots.code_map(dict.fromkeys(names, (places, numbers)), ["a", "b"])
    figure.draw_without_rendering()
    titles = [text for text in figure.findobj(Text) if "%)" in text.get_text()]
    boxes = [text.get_window_extent() for text in titles]
    assert [one.x1 < other.x0 for one, other in itertools.pairwise(boxes)] == [True, True]


def test_code_map_refuses_what_does_not_fit():
    places, numbers = RANDOM.normal(size=(5, 2)), np.array([0, 1, 0, 1, 1])
    with pytest.raises(ValueError, match="need one to 9 panels, got 0"):
        plots.code_map({}, ["a", "b"])
    with pytest.raises(ValueError, match="panel 't': need coordinates"):
        plots.code_map({"t": (places[:4], numbers)}, ["a", "b"])
    with pytest.raises(ValueError, match="classes go from 0 to 1"):
        plots.code_map({"t": (places, numbers)}, ["a"])


# ---- captions and gallery ---------------------------------------------------------------------------------


def test_a_saved_figure_carries_its_caption_and_the_gallery_shows_it(tmp_path):
    small = [r for r in STUDY if r["kind"] != "redundancy" and "sensitivity" in r.get("parts", ["sensitivity"])]
    small += [r for r in STUDY if r["run"].get("method") == "brcd"]
    shuffled = json.loads(json.dumps(small))
    random.Random(2).shuffle(shuffled)
    folder = tmp_path / "made_up"
    codes = plots.code_map({"brcd": (RANDOM.normal(size=(9, 2)), np.arange(9) % 2)}, ["a", "b"], "Protocol: Y.")
    plots.save(codes, folder, "tsne-resnet18-64")
    Image.new("RGB", (2, 2)).save(folder / "stray.png")
    (folder / ".main.4242.part.png").write_bytes(b"what a killed process left")
    written = plots.write_figures(small, folder)
    page = written[-1].read_text()
    assert written[-1] == folder / "README.md"
    for number, name in (("", "main"), ("F1 ", "sensitivity-resnet18"), ("F4 ", "tsne-resnet18-64")):
        with Image.open(folder / f"{name}.png") as image:
            title, caption = image.info["Title"], image.info["Description"]
        assert f"## {number}{title}\n\n![{title}]({name}.png)\n\n{caption} [As svg]({name}.svg)." in page
        assert f"- [{number}{title}](#" in page.split("\n## ")[0]
        assert "Protocol: " in caption
        assert title.replace("'", "&apos;") in (folder / f"{name}.svg").read_text().replace("'", "&apos;")
    assert page.startswith("# Figures of profile made_up\n")
    assert "- [F4 Do codes of a class lie together?](#f4-do-codes-of-a-class-lie-together)" in page
    assert page.index("(main.png)") < page.index("(sensitivity-") < page.index("(tsne-")
    assert "stray" not in page
    for name in ("main", "sensitivity-resnet18"):
        with Image.open(folder / f"{name}.png") as image:
            assert "; see results/made_up/runs.csv." in image.info["Description"]
    before = {path: path.read_bytes() for path in written}
    assert plots.write_figures(shuffled, folder) == written
    assert {path: path.read_bytes() for path in written} == before


def test_a_few_records_give_the_figures_that_they_allow(tmp_path):
    names = {path.stem for path in plots.write_figures([made_up.teacher_record("t", 16, 0)], tmp_path)}
    assert names == {"main", "training_curves", "README"}
    closed = made_up.student_record("t", "s", "alone", 16, 0, "itq")
    names = {path.stem for path in plots.write_figures([closed], tmp_path / "closed")}
    assert names == {"main", "precision_curves-s", "README"}


def test_a_study_without_labels_has_tables_and_figures_of_agreement(tmp_path):
    found = synthetic_study.without_labels(
        [r for r in synthetic_study.whole_study(bits=(64,)) if "sens" not in str(r.get("parts"))]
    )
    paths = write_tables(found, tmp_path) + plots.write_figures(found, tmp_path)
    names = {path.stem for path in paths}
    assert {"main", "hash_models", "ablation", "measures", "training_curves-resnet18"} <= names
    whose = "-dinov2_vits14-64"
    assert {"cluster_choice" + whose, "bit_means" + whose} <= names
    gone = {"precision_curves-resnet18", "clusters_against_classes" + whose, "dropping_bits" + whose, "comparisons"}
    assert not gone & names
    text = (tmp_path / "main.md").read_text()
    record = next(r for r in found if r["run"].get("method") == "rkd" and r["run"]["seed"] == 0)
    assert "Agreement of codes with the teacher's features" in text
    assert "mAP" not in text
    other = next(r for r in found if r["run"].get("method") == "rkd" and r["run"]["seed"] == 1)
    mean = (record["metrics"]["sshp"]["agreement"] + other["metrics"]["sshp"]["agreement"]) / 2
    assert f"| resnet18 | rkd | {mean:.3f} ±" in text
