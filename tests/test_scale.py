"""What a larger database costs: by hand, by what the code really needs, and from the committed measurements."""

import csv
import json
import statistics
import tracemalloc

import numpy as np
import pytest
import synthetic_records as made_up
import synthetic_study

from brcd_core import records
from brcd_core.codes import nearest, pack
from brcd_core.config import repository
from brcd_core.plots.scale import scale_figure
from brcd_core.plots.trade_off import trade_off
from brcd_core.profiles import ParameterError
from brcd_core.records import RecordError
from brcd_core.study import scale
from brcd_core.study.scale import ScaleRun
from brcd_core.tables import scale_table as table
from brcd_core.tables.scale_table import Encoder, Measured
from brcd_core.tables.scores import NoRecords

TEACHER = Encoder("big", "teacher", dim=300, images_per_second=50.0, query=0.02, training=11.0)
STUDENT = Encoder("small", "student", dim=1000, images_per_second=400.0, query=0.004, training=33.0)
MEASURED = Measured(
    encoders=[TEACHER, STUDENT],
    train=500,
    views=8,
    lengths=[16, 64],
    searches={"nearest": {1000: 0.001, 5000: 0.003}, "faiss": {1000: 0.0005, 5000: 0.002}},
    validation=1e-5,
)


# ---- by hand


def test_what_grows_with_the_database():
    found = {(c.what, c.of): (c.value, c.unit, c.known) for c in table.database_costs(MEASURED, [100_000], 12)}
    assert found == {
        ("clean features", "big"): (60_000_000, "bytes", "counted"),
        ("clean features", "small"): (200_000_000, "bytes", "counted"),
        ("encoding", "big"): (pytest.approx(2000), "seconds", "extrapolated"),
        ("encoding", "small"): (pytest.approx(250), "seconds", "extrapolated"),
        ("codes", "16 bits"): (200_000, "bytes", "counted"),
        ("codes", "64 bits"): (800_000, "bytes", "counted"),
        ("memory of a search", "nearest"): (1_800_000, "bytes", "counted"),
        ("memory of a search", "faiss"): (800_000, "bytes", "counted"),
        ("one query, searched", "nearest"): (pytest.approx(0.06), "seconds", "extrapolated"),
        ("one query, searched", "faiss"): (pytest.approx(0.04), "seconds", "extrapolated"),
        ("index on disk", "codes of 64 bits"): (800_000, "bytes", "counted"),
        ("index on disk", "names of 12 letters"): (1_800_000, "bytes", "counted"),
        ("one validation", "any student"): (pytest.approx(1), "seconds", "extrapolated"),
    }


def test_what_it_does_not_change():
    found = {(c.what, c.of): c.value for c in table.fixed_costs(MEASURED)}
    assert found == {
        ("view bank", "big"): 2_400_000,
        ("view bank", "small"): 8_000_000,
        ("building the view bank", "big"): pytest.approx(80),
        ("building the view bank", "small"): pytest.approx(10),
        ("training a teacher", "big"): 11,
        ("training a student", "small"): 33,
        ("one query, encoded", "big"): 0.02,
        ("one query, encoded", "small"): 0.004,
    }


@pytest.mark.parametrize(
    ("items", "seconds"), [(100, 1e-4), (1000, 1e-3), (2000, 1.5e-3), (4000, 2.5e-3), (5000, 3e-3), (10**6, 0.6)]
)
def test_a_search_lies_between_what_was_measured_and_grows_in_proportion_beyond(items, seconds):
    times = MEASURED.searches["nearest"]
    assert table.search_seconds(times, items) == pytest.approx(seconds)
    assert table.reach(times, seconds) == pytest.approx(items)


def test_no_time_reaches_nothing():
    assert table.reach(MEASURED.searches["faiss"], 0) == 0
    assert table.reach(MEASURED.searches["faiss"], -1) == 0


def test_the_finding_is_about_the_quicker_way_and_the_quickest_student():
    assert table.finding(MEASURED, [1000, 50_000_000], wait=0.05) == (
        "On one core an exhaustive search (faiss) takes as long as small takes to encode the query at 0.01 million "
        "codes; keeps a query of small within 50 ms up to 0.12 million; takes 20 s at 50,000,000: 0.05 queries a "
        "second."
    )


@pytest.mark.parametrize(
    ("value", "unit", "digits", "text"),
    [
        (None, "bytes", 3, "–"),
        (999, "bytes", 3, "999 B"),
        (38_400_000, "bytes", 3, "38.4 MB"),
        (2.56e9, "bytes", 3, "2.56 GB"),
        (2.56e11, "bytes", 2, "260 GB"),
        (4e15, "bytes", 3, "4,000 TB"),
        (0.00096, "seconds", 3, "0.96 ms"),
        (1.4984, "seconds", 3, "1,500 ms"),
        (2.0, "seconds", 3, "2 s"),
        (119.0, "seconds", 3, "119 s"),
        (5400, "seconds", 2, "90 min"),
        (7200, "seconds", 2, "2 h"),
        (1.2e6, "seconds", 2, "14 days"),
    ],
)
def test_numbers_are_told_in_units_that_suit_them(value, unit, digits, text):
    assert table.told(value, unit, digits) == text


def test_the_tables_say_what_is_extrapolated_and_what_is_not_known():
    unknown = [TEACHER._replace(images_per_second=None, query=None, training=None), STUDENT]
    measured = Measured(unknown, 500, 8, [64], MEASURED.searches, 1e-5)
    growing = table.scale_table(measured, [5000, 50_000], 20, 0.05, "note")
    assert list(growing.cells.columns) == ["5,000 images", "50,000 images"]
    assert list(growing.cells.loc[("one query, searched", "nearest")]) == ["3 ms", "about 30 ms"]
    assert list(growing.cells.loc[("encoding", "big")]) == ["–", "–"]
    assert growing.cells.loc[("encoding", "small"), "50,000 images"] == "about 2.1 min"
    fixed = table.fixed_table(measured, "note")
    assert fixed.cells.loc[("building the view bank", "big"), "cost"] == "–"
    assert fixed.cells.loc[("view bank", "small"), "cost"] == "8 MB"
    assert "one query, encoded" in fixed.markdown() and r"\begin{table}" in growing.latex()


# ---- what the code really needs


def test_a_search_needs_the_memory_that_is_counted():
    random, items = np.random.default_rng(0), 400_000
    database = random.integers(0, 2**64, (items, 1), np.uint64)
    query = pack(np.where(random.random((1, 64)) < 0.5, 1, -1))
    nearest(query, database[:1000], 10)
    tracemalloc.start()
    nearest(query, database, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak == pytest.approx(table.WORKING["nearest"] * items, rel=0.05)


def test_an_index_has_the_bytes_that_are_counted():
    import faiss

    def size(items):
        index = faiss.IndexBinaryFlat(table.BITS)
        index.add(np.zeros((items, table.BITS // 8), np.uint8))
        names = [f"{number:016d}.jpg" for number in range(items)]
        return len(faiss.serialize_index_binary(index)), len(json.dumps({"names": names}, indent=1))

    few, many = size(100), size(1100)
    assert many[0] - few[0] == 1000 * table.BITS / 8
    assert many[1] - few[1] == 1000 * (20 + table.QUOTED)


# ---- from measurements


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with made-up measurements of the quick profile, but at the size of the benchmark's images."""
    results = tmp_path / "results"
    (results / "quick").mkdir(parents=True)
    (results / "benchmarks").mkdir()
    found = made_up.study(("alone", "brcd"), bits=(16, 64))
    records.save_all(results / "quick" / "records.jsonl", found)
    files = {
        "extraction": "backbone,bank,forward,share\ndinov2_vits14,80,90,88\n",
        "search": 'items,ours,faiss\n"50,000",0.1,0.09\n"1,000,000",1.5,1.0\n',
        "latency": "pixels,encoder,as,encode\n98,resnet18,student,7\n112,resnet18,student,8\n",
        "student_run": "training,step,validations,run,faster\nbank,4,20,54,2\nfly,1,20,9,1\n",
    }
    for name, text in files.items():
        (results / "benchmarks" / f"{name}.csv").write_text(text)
    monkeypatch.setattr(scale, "repository", lambda: tmp_path)
    monkeypatch.setattr(scale, "PIXELS", 98)  # the quick profile's
    return results


def test_measurements_are_read(place):
    found = scale.measured(ScaleRun(profile="quick"))
    trained = [r["training"]["seconds"] for r in map(json.loads, (place / "quick/records.jsonl").open())
               if r["kind"] == "student" and r["run"]["method"] == "brcd" and r["run"]["bits"] == 64]  # fmt: skip
    assert found.encoders[1] == Encoder("resnet18", "student", 384, None, 0.007, statistics.median(trained))
    assert found.encoders[0][:5] == ("dinov2_vits14", "teacher", 384, 80.0, None)
    assert found.searches["nearest"] == pytest.approx({50_000: 1e-4, 1_000_000: 1.5e-3})
    assert found.searches["faiss"] == pytest.approx({50_000: 9e-5, 1_000_000: 1e-3})
    assert found.validation == pytest.approx(20 / 20 / 50_000)
    assert (found.train, found.views, list(found.lengths)) == (1000, 4, [16, 64])


def test_speeds_at_another_size_of_image_are_none(place, monkeypatch):
    monkeypatch.setattr(scale, "PIXELS", 112)
    assert [one.images_per_second for one in scale.measured(ScaleRun(profile="quick")).encoders] == [None, None]
    assert "dinov2_vits14: not measured at 98 pixels" in scale.speeds_told(ScaleRun(profile="quick"))


def test_speeds_that_are_given_take_the_place_of_the_measured(place):
    run = ScaleRun(profile="quick", images_per_second={"resnet18": 2000.0})
    assert [one.images_per_second for one in scale.measured(run).encoders] == [80, 2000]
    assert scale.speeds_told(run).splitlines() == [
        "dinov2_vits14: 80.0 images a second, measured on two cores",
        "resnet18: 2,000.0 images a second, given by you",
    ]
    growing, fixed = scale.tables(run)
    assert "resnet18 at the speed that was given" in growing.note and "resnet18 at the speed" in fixed.note
    assert growing.cells.loc[("encoding", "resnet18"), "1,000,000 images"] == "about 8.3 min"
    with pytest.raises(ParameterError, match="unknown backbone resnet19; there are: dinov2_vits14, resnet18"):
        scale.measured(ScaleRun(profile="quick", images_per_second={"resnet19": 1.0}))


def test_what_is_missing_is_named(place, capsys):
    with pytest.raises(RecordError, match=r"views/records\.jsonl; take a profile whose records are committed"):
        scale.measured(ScaleRun(profile="views"))
    (place / "benchmarks" / "search.csv").unlink()
    assert scale.main(["quick"]) == 1
    assert "search.csv; run: make bench" in capsys.readouterr().err
    assert scale.main(["no_such"]) == 1


def test_the_committed_measurements_give_the_tables(tmp_path, monkeypatch, capsys):
    """From the files to a few cells by hand, whatever was measured last."""
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    assert scale.main([]) == 0
    assert "about" in capsys.readouterr().out
    written = list(csv.DictReader((tmp_path / "results/scale/scale.csv").open()))
    values = {(row["what"], row["of"], int(row["items"])): row["value"] for row in written}

    def benchmark(name):
        return list(csv.DictReader((repository() / "results" / "benchmarks" / f"{name}.csv").open()))

    for row in benchmark("extraction"):
        if ("encoding", row["backbone"], 10**6) in values:
            hours = 10**6 / float(row["bank"]) / 3600
            assert float(values["encoding", row["backbone"], 10**6]) / 3600 == pytest.approx(hours)
    largest = benchmark("search")[-1]
    assert largest["items"] == "1,000,000"
    for way, column in (("nearest", "ours"), ("faiss", "faiss")):
        assert float(values["one query, searched", way, 10**6]) == pytest.approx(float(largest[column]) / 1000)
        assert float(values["one query, searched", way, 10**8]) == pytest.approx(float(largest[column]) / 10)
    assert float(values["clean features", "dinov2_vits14", 10**8]) == 384 * 2 * 10**8
    assert sorted(path.name for path in (tmp_path / "figures/scale").iterdir()) == [
        "scale.png", "scale.svg", "trade_off.png", "trade_off.svg",
    ]  # fmt: skip


def test_the_figure_shows_what_was_measured_as_dots_and_the_rest_dashed():
    figure = scale_figure(MEASURED, [2000, 10**6], 0.05)
    lines = figure.axes[0].get_lines()
    dots = [line for line in lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in dots] == [[1000, 5000], [1000, 5000]]
    assert list(dots[0].get_ydata()) == pytest.approx([1, 3])
    dashed = [line for line in lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[-1] for line in dashed] == pytest.approx([10**6, 10**6])
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx([5000, 5000])
    assert dashed[0].get_ydata()[-1] == pytest.approx(600)
    assert table.finding(MEASURED, [2000, 10**6], 0.05) in figure.caption


def test_labels_of_encoders_that_are_close_do_not_overlap():
    near = [STUDENT, STUDENT._replace(name="other", query=0.0041), TEACHER, TEACHER._replace(name="third", query=None)]
    figure = scale_figure(Measured(near, 500, 8, [64], MEASURED.searches, 1e-5), [10**6], 0.05)
    below, above, alone = figure.axes[0].texts
    assert [text.get_text() for text in (below, above, alone)] == [
        "encoding by small, 4 ms", "encoding by other, 4.1 ms", "encoding by big, 20 ms"
    ]  # fmt: skip
    assert [text.xy[1] for text in (below, above, alone)] == pytest.approx([4, 4.1, 20])
    assert [text.get_va() for text in (below, above, alone)] == ["top", "bottom", "bottom"]


# ---- what a student loses and saves


def test_scores_stand_beside_the_time_of_a_query():
    """Every mark is a mean by hand, every bar a time; the caption says how many times as fast."""
    study = synthetic_study.whole_study(bits=(16, 64))
    own = [record for record in study if record["run"].get("teacher") != "clip_vitb16"]
    figure = trade_off(own, 64, {"dinov2_vits14": 20.0, "resnet18": 8.0, "another": 1.0}, "As told.")
    left, right = figure.axes

    def mean(paradigm, **wanted):
        wanted |= {"bits": 64, "hash_model": "cibhash"}
        found = [r for r in own if "metrics" in r and all(r["run"].get(n) == value for n, value in wanted.items())]
        return statistics.mean(record["metrics"][paradigm]["map"] for record in found if paradigm in record["metrics"])

    shown = [float(marks.get_offsets()[0][0]) for marks in left.collections if len(marks.get_offsets()) == 1]
    assert shown == pytest.approx([
        mean("teacher", teacher="dinov2_vits14"),
        mean("sshp", student="resnet18", method="brcd"),
        mean("ashp", student="resnet18", method="brcd"),
        mean("sshp", student="resnet18", method="alone"),
    ])  # fmt: skip
    assert [bar.get_width() for bar in right.patches] == [20.0, 8.0]
    assert [text.get_text() for text in right.texts] == ["20.0 ms", "8.0 ms, 2.5× as fast"]
    assert "resnet18 answers 2.5 times as fast as dinov2_vits14. As told. Protocol" in figure.caption


def test_students_of_other_teachers_and_without_brcd_stay_out():
    study = synthetic_study.whole_study(students=("resnet18", "mobilenet_v2"), bits=(64,))
    for record in study:
        if record["run"].get("student") == "mobilenet_v2":
            record["parts"] = ["backbones"]
    without = [r for r in study if (r["run"].get("student"), r["run"].get("method")) != ("mobilenet_v2", "brcd")]
    for records_, students in ((study, ["mobilenet_v2", "resnet18"]), (without, ["resnet18"])):
        figure = trade_off(records_, 64, {"dinov2_vits14": 20.0, "resnet18": 8.0, "mobilenet_v2": 4.0}, "")
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names == ["dinov2_vits14\nteacher", *(f"{student}\nstudent" for student in students)]
        assert f"Records: 2 teacher, {4 * len(students)} student of part backbones" in figure.caption


def test_a_profile_of_other_pixels_has_the_other_figure_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    assert scale.main(["quick"]) == 0
    said = "not drawn: results/benchmarks/latency.csv has no query of 98 pixels among 4,000 codes"
    assert said in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "figures/scale").iterdir()) == ["scale.png", "scale.svg"]


@pytest.mark.parametrize("times", [{}, {"resnet18": 8.0}, {"dinov2_vits14": 20.0}])
def test_without_their_times_nothing_is_shown(times):
    with pytest.raises(NoRecords, match="of one teacher and its students with 64 bits in part backbones"):
        trade_off(synthetic_study.whole_study(), 64, times, "")
