"""Search with a picture of one's own, against the encoder on the file and a loop over the database."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from brcd_core import encoder, plots
from brcd_core.codes import unpack
from brcd_core.datasets.image_files import ImageError
from brcd_core.profiles import ParameterError
from brcd_core.study import own_picture, parameters
from brcd_core.study.features import load_inputs
from brcd_core.study.search import WAYS


@pytest.fixture(scope="module")
def run(places):
    return own_picture.OwnPictureRun(profile="smoke", method="alone", shown=7)


@pytest.fixture(scope="module")
def searcher(run):
    return own_picture.searcher(run, lambda line: None)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((400, 300)).save(path)
    return path


def test_hits_are_those_of_the_file_s_code_and_the_study_s_database(run, searcher, picture):
    pixels = own_picture.read(picture)
    found = searcher.search(pixels)
    inputs = load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    assert list(found) == list(WAYS)
    for way, (asks, answers) in WAYS.items():
        folders = {"teacher": run.teacher_run().folder, "student": run.student_run().folder}
        networks = {role: encoder.load(folder / "head.safetensors") for role, folder in folders.items()}
        code = unpack(networks[asks].encode([picture]), run.bits)[0]
        (database,) = inputs.codes(networks[answers].head, answers, "database")
        distances = [sum(a != b for a, b in zip(code, other)) for other in database]
        order = sorted(range(len(distances)), key=lambda place: (distances[place], place))[:7]
        assert found[way].positions.tolist() == [order]
        assert found[way].distances.tolist() == [[distances[place] for place in order]]
        assert found[way].right is None


def test_the_panel_shows_the_picture_and_the_summary_counts_classes(searcher, picture):
    pixels = own_picture.read(picture)
    found = searcher.search(pixels)
    figure = plots.search_panel(**searcher.panel(pixels, found), about="about")
    query, *hits = figure.axes[0].images
    assert np.array_equal(query.get_array(), pixels) and len(hits) == 3 * 7
    dataset, table = searcher.dataset, searcher.summary(found)
    for row, way in enumerate(WAYS):
        names = []
        for place, position in enumerate(found[way].positions[0]):
            image = searcher.ids[position]
            assert np.array_equal(hits[7 * row + place].get_array(), dataset.pixels[image])
            names.append(dataset.classes[dataset.labels[image].argmax()])
        counts = dict(reversed(one.split(" ", 1)) for one in table.loc[way, "found"].split(", "))
        assert counts == {name: str(names.count(name)) for name in names}
        assert table.loc[way, "nearest"] == found[way].distances[0, 0]


def test_a_picture_is_its_central_square_upright(tmp_path):
    image = Image.new("RGB", (300, 200), "red")
    image.paste("blue", (0, 0, 300, 100))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = own_picture.read(tmp_path / "turned.png")
    assert pixels.shape == (256, 256, 3) and pixels.dtype == np.uint8
    assert pixels[5, 128].tolist() == [255, 0, 0] and pixels[-5, 128].tolist() == [0, 0, 255]
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png cannot be read"):
        own_picture.read(tmp_path / "bad.png")


def test_a_path_that_is_none_is_refused_before_anything_is_computed(tmp_path):
    for path in (tmp_path / "gone.png", tmp_path):
        given = {"profile": "smoke", "method": "alone", "my_picture": str(path)}
        with pytest.raises(ParameterError, match="my_picture: there is no file"):
            parameters.read(given, own_picture.OwnPictureRun)
