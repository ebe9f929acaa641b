"""What pretrained backbones answer to a known picture, and how a wrong answer is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brcd_core import backbones
from brcd_core.backbones import BACKBONES, Backbone, known_answers, weights

PRETRAINED = [name for name, entry in BACKBONES.items() if entry.pretrained]
CLASSIFIERS = [name for name, entry in BACKBONES.items() if entry.classifier]


class Constant(nn.Module):
    """Answers the same features to every picture."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return self.features.expand(len(images), -1)


def answering(monkeypatch: pytest.MonkeyPatch, features: Tensor) -> None:
    def load(name: str, feature: str = "penultimate", size: int | None = None) -> Backbone:
        return Backbone(Constant(features), BACKBONES[name], name, feature, 224, "")

    monkeypatch.setattr(backbones, "load", load)


def test_every_pretrained_backbone_has_a_known_answer() -> None:
    answers = json.loads(known_answers.ANSWERS.read_text())
    assert set(answers) == set(PRETRAINED) == set(weights.known_names())
    assert len(answers["dinov2_vits14"]["cls"]) == 384
    assert len(answers["clip_vit_b16_dequantised"]["cls"]) == 768
    for name in CLASSIFIERS:
        assert set(answers[name]["classes"]) <= {281, 282, 285}
    assert [known_answers._class_name(number) for number in known_answers.CATS] == [
        "tabby",
        "tiger cat",
        "Egyptian cat",
    ]


def test_wrong_feature_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.tensor(json.loads(known_answers.ANSWERS.read_text())["dinov2_vits14"]["cls"])
    answering(monkeypatch, right)
    assert "cosine 1.0" in known_answers.check_known_answer("dinov2_vits14")
    for wrong in (right.flip(0), torch.full((384,), torch.nan)):
        answering(monkeypatch, wrong)
        with pytest.raises(known_answers.KnownAnswerError, match=r"dinov2_vits14 \(weights: .*expected.*of 0.999"):
            known_answers.check_known_answer("dinov2_vits14")


def test_wrong_class_or_wrong_confidence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.loads(known_answers.ANSWERS.read_text())["resnet18"]
    rest = (1 - answer["probability"]) / 999
    for top, probability, right in ((285, answer["probability"], True), (285, 0.9, False), (9, 0.548, False)):
        logits = torch.full((1000,), rest).log()
        logits[top] = np.log(probability)
        answering(monkeypatch, logits)
        if right:
            assert "Egyptian cat" in known_answers.check_known_answer("resnet18")
            continue
        with pytest.raises(known_answers.KnownAnswerError, match=r"resnet18.*expected Egyptian cat \(0.5.*found"):
            known_answers.check_known_answer("resnet18")


def test_backbones_whose_answer_was_not_measured_must_see_a_cat(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, nn.functional.one_hot(torch.tensor(282), 1000).float())
    assert "tiger cat" in known_answers.check_known_answer("vit_b16")
    answering(monkeypatch, nn.functional.one_hot(torch.tensor(283), 1000).float())
    with pytest.raises(known_answers.KnownAnswerError, match="expected tabby or tiger cat or Egyptian cat"):
        known_answers.check_known_answer("vit_b16")


def test_tiny_encoders_need_no_known_answer() -> None:
    assert "random" in known_answers.check_known_answer("tiny_teacher")


def test_command_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path))
    assert known_answers.main(["check", "vit_b16"]) == 1
    assert "vit_b16: not in the cache" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        known_answers.main(["check", "vgg16"])


# ---- with the real weights


@pytest.mark.weights
@pytest.mark.parametrize("name", PRETRAINED)
def test_real_weights_give_the_known_answer(name: str) -> None:
    if not weights.cached_path(name).exists():
        pytest.skip(f"cache/weights has no {name}; python -m brcd_core.backbones.known_answers fetch {name}")
    known_answers.check_known_answer(name)


@pytest.mark.weights
def test_dinov2_equals_its_published_graph_where_positions_are_resampled_alike() -> None:
    """The graph resamples by 16.1 / 37, bilinear; with that, nothing but rounding is left."""
    if not weights.cached_path("dinov2_vits14").exists():
        pytest.skip("cache/weights has no dinov2_vits14; make test-weights fetches it")
    backbone = backbones.load("dinov2_vits14")
    stored = weights.load_state("dinov2_vits14")[0]["pos_embed"]
    grid = stored[:, 1:].view(1, 37, 37, 384).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, scale_factor=16.1 / 37, mode="bilinear")
    positions: Tensor = backbone.network.pos_embed  # type: ignore[assignment]
    positions.data = torch.cat([stored[:, :1], grid.flatten(2).mT], dim=1)
    expected = torch.tensor(json.loads(known_answers.ANSWERS.read_text())["dinov2_vits14"]["cls"])
    with torch.no_grad():
        found = backbone(known_answers._picture())[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.weights
def test_clip_equals_its_published_graph_with_weights_made_float_and_is_near_the_8_bit_one() -> None:
    if not weights.cached_path("clip_vit_b16_dequantised").exists():
        pytest.skip("cache/weights has no clip_vit_b16_dequantised; make test-weights fetches it")
    with torch.no_grad():
        found = backbones.load("clip_vit_b16_dequantised")(known_answers._picture())[0]
    expected = torch.from_numpy(known_answers.clip_by_onnxruntime())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    # Activations of 8 bits cost more than weights of 8 bits: cosine 0.954 to 0.957, as processors and orders differ.
    integers = torch.from_numpy(known_answers.clip_by_onnxruntime(integers=True))
    assert 0.93 < float(nn.functional.cosine_similarity(found, integers, dim=0)) < 0.9999
