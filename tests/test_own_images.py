"""A folder of one's own images through the whole study, with labels and without."""

import numpy as np
import pytest
import yaml
from PIL import Image

from brcd_core import profiles, records
from brcd_core.study import collect, features, plan, redundancy, runs, search, student, summary, teacher


@pytest.fixture(params=["labelled", "unlabelled"])
def study(request, tmp_path, monkeypatch):
    """A folder of 140 pictures in three colours, odd sizes and formats, and a profile that uses it."""
    labelled = request.param == "labelled"
    rng = np.random.default_rng(0)
    for number in range(140):
        kind = number % 3
        pixels = rng.integers(0, 120, (40 + number % 7, 52, 3)).astype(np.uint8)
        pixels[..., kind] += 100
        place = tmp_path / "mine" / (("red", "green", "blue")[kind] if labelled else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:03}.{('png', 'jpg', 'bmp')[number % 2]}")
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    own = yaml.safe_load((profiles.profiles_dir() / "own_images.yaml").read_text())
    own["like"] = "smoke"
    sizes = {"train": 40, "validation": 20, "query": 20, "database": 80}
    own["settings"] = {"data": {"dataset": "folder", "folder": str(tmp_path / "mine")} | sizes}
    own["runs"][0] |= {"teachers": ["tiny_teacher"], "students": ["tiny_student"], "bits": [16]}
    (tmp_path / "profiles").mkdir()
    for name in ("smoke", "quick"):
        (tmp_path / "profiles" / f"{name}.yaml").write_text((profiles.profiles_dir() / f"{name}.yaml").read_text())
    (tmp_path / "profiles" / "own.yaml").write_text(yaml.safe_dump(own))
    monkeypatch.setattr(profiles, "profiles_dir", lambda: tmp_path / "profiles")
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    profiles.load.cache_clear()
    yield labelled
    profiles.load.cache_clear()


def test_everything_works_with_and_without_labels(study):
    def quiet(line):
        pass

    measure = "map" if study else "agreement"
    for run in plan.features("own"):
        record = features.prepare(run)
        assert (record["metrics"]["nearest_neighbour"] is None) != study
    for run in plan.teachers("own"):
        assert teacher.train_teacher(run, quiet).record["metrics"]["teacher"][measure] > 0
    for group in plan.student_groups("own"):
        for record in student.students(group, quiet):
            assert set(record["training"]["validation"]) == {f"{measure}_sshp", f"{measure}_ashp"}
            assert np.isfinite([record["metrics"][way][measure] for way in ("sshp", "ashp")]).all()
    for run in plan.redundancy("own"):
        assert (redundancy.analyse(run, quiet)["metrics"]["purity"] is None) != study
    looked = runs.SearchRun(profile="own", method="brcd", queries=3, shown=4)
    found = search.search(looked, quiet)
    assert len(found.summary()) == 3
    figure_inputs, maps = found.panel(), search.code_maps(looked, report=quiet)
    from brcd_core import plots

    plots.search_panel(**figure_inputs)
    plots.code_map(*maps)

    collected = collect.collect("own")
    run = runs.StudyRun(profile="own")
    written = summary.rebuild(run, records.load_all(run.results / collect.COLLECTED))
    assert written and all(path.stat().st_size for path in written)
    assert ("mAP" if study else "agreement") in summary.summary(run, collected)


def test_a_picture_that_is_added_while_a_process_goes_on_is_not_looked_at(study, tmp_path):
    run = plan.teachers("own")[0]
    before = features.load_inputs(run.settings, {"teacher": run.teacher})
    Image.new("RGB", (40, 40)).save(tmp_path / "mine" / ("blue" if study else "") / "0000.png")
    after = features.load_inputs(run.settings, {"teacher": run.teacher})
    assert after.checksums == before.checksums
    assert all(np.array_equal(after.ids[split], ids) for split, ids in before.ids.items())
