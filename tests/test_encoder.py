"""Encoders from head files: the study's own codes, files and pictures, heads that cannot be used; heads taken away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_heads
import torch
from PIL import Image

from brcd_core import checkpoints, encoder, records
from brcd_core.checkpoints import CheckpointError
from brcd_core.codes import pack, unpack
from brcd_core.datasets import ImageError
from brcd_core.datasets.image_files import decode
from brcd_core.search.pairs import check_pair, read_origin
from brcd_core.study import features, plan, student, take_away, teacher, weights


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return tiny_heads.save_head(tmp_path / "head.safetensors")


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_codes_are_those_of_the_study(places: Path, tmp_path: Path, role: str) -> None:
    run = tiny_heads.student_run()
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    made = inputs.new_head(role, 16, seed=3)
    checkpoints.save_head(tmp_path / "head.safetensors", made, tiny_heads.about_of(role))
    coder = encoder.load(tmp_path / "head.safetensors", device=inputs.device)
    assert (coder.role, coder.bits, coder.size, coder.central) == (role, 16, 32, 1.0)
    assert coder.checksum == checkpoints.checksum(made)
    for split in ("query", "database"):
        (expected,) = inputs.codes(made, role, split)
        assert np.array_equal(coder.encode(inputs.dataset.tensor(inputs.ids[split])), pack(expected))


def test_codes_by_hand(head: Path) -> None:
    """From pixels to bits with numpy, one image at a time; a tiny encoder wants 32 pixels, as the images have."""
    coder, images = encoder.load(head, device="cpu"), tiny_heads.sample()[:40]
    weights_ = {name: value.numpy().astype(float) for name, value in coder.head.state_dict().items()}
    filters = coder.backbone.network.first.weight.numpy().astype(float)
    found = unpack(coder.encode(images), coder.bits)
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    for image, code in zip(images.numpy(), found):
        pixels = (image / 255 - mean) / deviation
        padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        pooled = np.maximum(np.einsum("chwij,kcij->khw", windows, filters), 0).mean((1, 2))
        scaled = (pooled.astype(np.float16) - weights_["mean"]) / weights_["deviation"]
        hidden = np.maximum(weights_["layers.0.weight"] @ scaled + weights_["layers.0.bias"], 0)
        logits = weights_["layers.1.weight"] @ hidden + weights_["layers.1.bias"]
        clear = np.abs(logits) > 1e-3  # of a sum in another order the sign may differ
        assert np.array_equal(code[clear] > 0, logits[clear] >= 0) and clear.mean() > 0.9


def test_images_go_through_in_batches(head: Path) -> None:
    coder, images = encoder.load(head), tiny_heads.sample()
    sizes: list[int] = []
    coder.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    whole = coder.encode(images)
    assert sizes == [64, 64, 64, 64, 44]
    assert np.array_equal(replace(coder, batch=7).encode(images[:50]), whole[:50])


def test_files_and_pictures_are_seen_as_a_folder_of_images_is(head: Path, tmp_path: Path) -> None:
    coder = encoder.load(head)
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = rng.integers(0, 200, (5, 1, 1, 3))
    pixels = (colours + rng.integers(0, 56, (5, 60, 90, 3))).astype(np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(pixels[1]).convert("CMYK").save(tmp_path / "b.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 30)).astype(np.uint16)).save(tmp_path / "c.png")
    Image.fromarray(pixels[2]).convert("RGBA").quantize(9).save(tmp_path / "d.png", transparency=3)
    Image.fromarray(pixels[3]).save(tmp_path / "e.gif", save_all=True, append_images=[Image.fromarray(pixels[4])])
    paths = sorted(path for path in tmp_path.iterdir() if path.suffix != ".safetensors")
    decoded = torch.from_numpy(np.stack([decode(path, upright=True) for path in paths])).permute(0, 3, 1, 2)
    expected = coder.encode(decoded)
    assert len(np.unique(expected)) == 5
    assert np.array_equal(coder.encode(paths), expected)
    assert np.array_equal(coder.encode([str(path) for path in paths]), expected)
    assert np.array_equal(coder.encode([Image.open(path) for path in paths]), expected)
    assert not np.array_equal(encoder.load(head, central=0.5).encode(paths), expected)


def test_what_is_no_image(head: Path, tmp_path: Path) -> None:
    coder = encoder.load(head)
    assert coder.encode([]).shape == (0, 1) and coder.encode([]).dtype == np.uint64
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.png cannot be read as an image"):
        coder.encode([tmp_path / "a.png"])
    with pytest.raises(FileNotFoundError, match=r"b\.png is not there"):
        coder.encode([tmp_path / "b.png"])
    with pytest.raises(ValueError, match="a list of files, not one path"):
        coder.encode(tmp_path / "a.png")  # type: ignore[arg-type]
    for wrong in (torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, 3, H, W\), not"):
            coder.encode(wrong)


def test_photographs_lose_their_edges(head: Path) -> None:
    about = tiny_heads.about_of("student")
    about["settings"]["data"]["dataset"] = "folder"
    assert encoder.load(tiny_heads.change_about(head, about)).central == 0.875
    about["settings"]["data"]["dataset"] = "mine"
    other = tiny_heads.change_about(head, about)
    with pytest.raises(CheckpointError, match="does not say which share of an image is looked at; give central="):
        encoder.load(other)
    assert encoder.load(other, central=0.5).central == 0.5
    with pytest.raises(ValueError, match="central must be above 0"):
        encoder.load(head, central=0).encode(tiny_heads.sample())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_head_says_the_precision_and_the_central_share(head: Path, precision: str) -> None:
    about = tiny_heads.about_of("student") | {"precision": precision, "central": 0.5}
    coder = encoder.load(tiny_heads.change_about(head, about))
    assert (coder.precision, coder.central) == (precision, 0.5)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ("run", "student"),
            "resnet999",
            r"head\.safetensors is of a backbone that there is not: unknown backbone 'resn",
        ),
        (("settings", "student", "feature"), "logits", "tiny_student has no feature 'logits'"),
        (("settings", "views", "size"), 0, "is of no encoder that there can be .size: Input should be greater"),
        (("settings", "views", "size"), 10**6, "size: Input should be less"),
        (("settings", "extraction", "batch"), -1, "batch: Input should be greater"),
        (("settings", "extraction", "batch"), "64", "batch: Input should be a valid integer"),
        (("settings", "extraction", "precision"), "int4", "precision: Input should be"),
        (("precision",), "int4", "precision: Input should be"),
        (("central",), 0, "central: Input should be greater"),
        (("run", "student"), ["tiny_student"], "backbone: Input should be a valid string"),
        (("run", "student"), "tiny_teacher", r"takes 48 features; tiny_teacher gives 64"),
        (("settings",), {}, r"does not say which encoder it is of \(KeyError\('extraction'\)\)"),
        (("run",), None, "does not say which encoder it is of"),
        (("settings", "extraction", "released", "train_mode"), True, "statistics drifted"),
        (("weights",), "0" * 64, "was trained on other weights of tiny_student"),
    ],
)
def test_heads_that_cannot_be_used(head: Path, keys: tuple[str, ...], value: object, message: str) -> None:
    about = tiny_heads.about_of("student")
    place = about
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(CheckpointError, match=message):
        encoder.load(tiny_heads.change_about(head, about))


def test_a_head_that_is_not_there_or_damaged(head: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        encoder.load(tmp_path / "no.safetensors")
    head.write_bytes(head.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        encoder.load(str(head))


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def study(places: Path) -> list[records.Record]:
    """The smoke profile's students of BRCD with its own hash model, 16 bits with two seeds and 8 bits with one."""
    runs = [run for run in plan.students("smoke") if run.method == "brcd" and run.hash_model == "cibhash"]
    assert sorted((run.bits, run.seed) for run in runs) == [(8, 0), (16, 0), (16, 1)]
    for run in runs:
        teacher.teacher(run.teacher_run(), quiet)
        weights.method_settings(run, quiet)
    return [student.student(run, quiet).record for run in runs]


def test_the_best_on_validation_is_taken_away(study: list[records.Record], places: Path) -> None:
    for best in (1, 0):
        for seed in (0, 1):
            folder = tiny_heads.student_run(16, seed).folder
            record = records.read(folder)
            record["training"]["validation"] = dict.fromkeys(("map_sshp", "map_ashp"), 0.9 if seed == best else 0.1)
            for way in ("sshp", "ashp"):
                record["metrics"][way]["map"] = 0.111 if seed == best else 0.999  # nobody may look at it
            records.write(folder, record)
        assert take_away.main(["smoke", "--student", "tiny_student"]) == 0
        folder = places / "results" / "smoke" / "heads"
        names = [f"tiny_student-brcd-{bits}{of}" for bits in (16, 8) for of in ("-teacher.safetensors", ".safetensors")]
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", *names]
        run = tiny_heads.student_run(16, best)
        kept, about = checkpoints.load_head(folder / "tiny_student-brcd-16.safetensors")
        assert checkpoints.checksum(kept) == records.read(run.folder)["checkpoint"]
        assert about["run"] == run.model_dump(mode="json") and about["record"]["metrics"]["sshp"]["map"] == 0.111
        readme = (folder / "README.md").read_text()
        assert f"| 16 | {best} of 0, 1 | 0.900 | 0.900 | 0.111 | 0.111 |" in readme and "| 8 | 0 |" in readme
        assert readme.count("| mAP@100, sample, 32 px |") == 2
    heads = [read_origin(folder / name) for name in names]
    check_pair(heads[1], heads[0])
    check_pair(heads[3], heads[2])
    inputs = features.load_inputs(run.settings, {"student": run.student, "teacher": run.teacher})
    for name, role in zip(names[:2], ("teacher", "student")):
        found = encoder.load(folder / name)
        (expected,) = inputs.codes(found.head, role, "query")
        assert np.array_equal(found.encode(inputs.dataset.tensor(inputs.ids["query"])), pack(expected))
        bank = inputs.banks[role]["query"].settings
        assert (found.about["precision"], found.about["central"]) == (bank.precision, bank.central)


def test_a_seed_that_is_named_is_taken(study: list[records.Record], places: Path) -> None:
    paths = take_away.take_away("smoke", "tiny_student", "brcd", seed=1)
    (paths[0].parent / ".interrupted.1.part.safetensors").write_bytes(b"")
    assert take_away.write_readme("smoke") == paths[-1]
    assert [path.name for path in paths[:-1]] == [
        "tiny_student-brcd-16-teacher.safetensors",
        "tiny_student-brcd-16.safetensors",
    ]
    assert checkpoints.load_head(paths[1])[1]["run"]["seed"] == 1
    assert "| 16 | 1 |" in paths[-1].read_text()


def test_what_cannot_be_taken_away(
    study: list[records.Record], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def said(*arguments: str) -> str:
        assert take_away.main(["smoke", "--student", "tiny_student", *arguments]) == 1
        return capsys.readouterr().err

    assert "has no student 'tiny_student' of method 'brcd' with seed 7" in said("--seed", "7")
    assert "record.json; run: make study PROFILE=smoke" in said("--method", "alone")
    folder = tiny_heads.student_run(16, 1).folder
    path, record = folder / records.NAME, records.read(folder)
    whole = path.read_text()
    for change, message in (
        ({"settings": {}}, "is of other settings or code than there is now"),
        ({"code": "0"}, "is of other settings or code than there is now"),
        ({"checkpoint": "0" * 64}, "not the checkpoint of the record"),
        ({"provenance": {"inputs": {"teacher": "0"}}}, "has learnt from another teacher"),
    ):
        records.write(folder, record | change)
        assert message in said("--seed", "1")
    path.write_text(whole)
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path))
    assert "says how features were made, and is gone or damaged" in said("--seed", "1")
