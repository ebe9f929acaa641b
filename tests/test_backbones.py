"""Frozen encoders: shapes, freezing, normalisation, sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brcd_core import backbones
from brcd_core.backbones import BACKBONES, Backbone, weights

SMALL = {"dinov2_vits14": 28, "vit_b16": 32, "clip_vit_b16_dequantised": 32}  # pixels; the others take 32 too
CLASSIFIERS = [name for name, entry in BACKBONES.items() if entry.classifier]


@pytest.fixture
def random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backbone gets the weights of a freshly built network instead of downloaded ones."""

    def random_state(name: str) -> tuple[dict[str, Tensor], str]:
        torch.manual_seed(0)
        state = dict(BACKBONES[name].build(518 if name == "dinov2_vits14" else 224).state_dict())
        return state, weights.checksum({"first": next(iter(state.values()))})

    monkeypatch.setattr(weights, "load_state", random_state)


def small_pixels(name: str, count: int = 2) -> Tensor:
    side = SMALL.get(name, 32)
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def load_small(name: str, feature: str = "penultimate") -> Backbone:
    return backbones.load(name, feature, size=SMALL.get(name, 32))


# ---- shapes and values


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("name", ["dinov2_vits14", "clip_vit_b16_dequantised", "tiny_teacher", "tiny_student"])
def test_dimension_of_encoders_without_classifier(name: str) -> None:
    backbone = load_small(name)
    features = backbone(small_pixels(name))
    assert features.shape == (2, backbone.dim) == (2, BACKBONES[name].dim)
    assert features.dtype == torch.float32


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_are_the_classifier_applied_to_the_penultimate_feature(name: str) -> None:
    penultimate, logits = load_small(name), load_small(name, "logits")
    pixels = small_pixels(name)
    features = penultimate(pixels)
    assert features.shape == (2, penultimate.dim) == (2, BACKBONES[name].dim)
    assert logits.dim == 1000
    # The library's own network, its BatchNorms not folded into its convolutions.
    entry = BACKBONES[name]
    network = entry.build(pixels.shape[-1]).eval()
    network.load_state_dict(entry.adapt(weights.load_state(name)[0], network, pixels.shape[-1]))
    with torch.no_grad():
        expected = network((pixels - logits.mean) / logits.std)
        torch.testing.assert_close(logits(pixels), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(getattr(network, entry.classifier)(features), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "resnet18", "efficientnet_b0", "efficientnet_b3", "vit_b16", "dinov2_vits14"]
)
def test_imagenet_normalisation(name: str) -> None:
    pixels = small_pixels(name)
    backbone = Backbone(nn.Identity(), BACKBONES[name], name, "penultimate", pixels.shape[-1], "")
    found = backbone(pixels).numpy()
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        np.testing.assert_allclose(found[:, channel], (pixels[:, channel].numpy() - mean) / std, atol=1e-6)


def test_clip_has_its_own_normalisation_and_activation() -> None:
    from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    entry = BACKBONES["clip_vit_b16_dequantised"]
    assert (entry.mean, entry.std) == (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    with torch.device("meta"):
        network = entry.build(32)
    inputs = torch.linspace(-4, 4, 50)
    activation = network.blocks[0].mlp.act  # type: ignore[union-attr,index]
    torch.testing.assert_close(activation(inputs), inputs * torch.sigmoid(1.702 * inputs))
    assert network.norm_pre.eps == 1e-5  # type: ignore[union-attr]


def test_normalisation_of_efficientnet_lite0() -> None:
    pixels = small_pixels("efficientnet_lite0")
    entry = BACKBONES["efficientnet_lite0"]
    backbone = Backbone(nn.Identity(), entry, "efficientnet_lite0", "penultimate", 32, "")
    np.testing.assert_allclose(backbone(pixels).numpy(), (255 * pixels.numpy() - 127) / 128, atol=1e-5)


def test_efficientnet_lite0_pads_and_normalises_as_tensorflow_does() -> None:
    network = BACKBONES["efficientnet_lite0"].build(32)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(module.eps == 1e-3 for module in norms)
    images = torch.randn(1, 3, 32, 32)
    stem: nn.Conv2d = network.conv_stem  # type: ignore[assignment]
    padded = nn.functional.pad(images, (0, 1, 0, 1))  # right and bottom only, for an even side and stride 2
    torch.testing.assert_close(stem(images), nn.functional.conv2d(padded, stem.weight, stride=2))


# ---- frozen


@pytest.mark.usefixtures("random_weights")
def test_statistics_do_not_move_when_a_parent_trains() -> None:
    backbone = load_small("efficientnet_lite0")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    pixels = small_pixels("efficientnet_lite0", 4)
    parent = nn.Sequential(backbone, nn.Linear(1280, 2)).train()
    features = backbone(pixels)
    parent(pixels).sum().backward()
    assert not any(module.training for module in backbone.modules())
    assert all(value.grad is None and not value.requires_grad for value in backbone.parameters())
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert torch.equal(backbone(pixels), features)
    backbone.network.train()  # what the override prevents
    backbone.network(pixels)
    assert any(not torch.equal(before[name], value) for name, value in backbone.state_dict().items())


def test_tiny_encoders_stay_in_eval_mode_and_take_no_gradient() -> None:
    parent = nn.ModuleList([backbones.load("tiny_teacher"), backbones.load("tiny_student")])
    assert parent.train().training
    assert not any(child.training for child in parent)
    assert not any(value.requires_grad for value in parent.parameters())


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_batchnorms_stay_modules_of_their_own_where_they_are_not_folded(name: str) -> None:
    folded, plain = backbones.load(name, size=32), backbones.load(name, size=32, folded=False)

    def norms(backbone: Backbone) -> int:
        return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())

    assert not plain.folded and norms(plain) > 0
    assert folded.folded == (norms(folded) == 0) == (name == "resnet18")
    assert plain.checksum == folded.checksum
    pixels = small_pixels(name)
    torch.testing.assert_close(plain(pixels), folded(pixels), rtol=1e-3, atol=1e-4)


# ---- tiny encoders


def test_tiny_encoders_are_the_same_every_time_and_differ_from_each_other() -> None:
    pixels = small_pixels("tiny_teacher")
    teacher, student = backbones.load("tiny_teacher"), backbones.load("tiny_student")
    torch.manual_seed(123)
    again = backbones.load("tiny_teacher")
    assert teacher.checksum == again.checksum != student.checksum
    assert torch.equal(teacher(pixels), again(pixels))
    assert (teacher.dim, student.dim, teacher.size) == (64, 48, 32)


def test_tiny_filters_against_whole_number_arithmetic() -> None:
    """Every weight is an exact fraction, so no processor can round it otherwise."""
    weight = backbones.load("tiny_student").network.state_dict()["first.weight"]
    numbers = np.random.Generator(np.random.PCG64(3)).random((48, 27))
    first = [int(number * 256) for number in numbers[0]]
    expected = [(27 * number - sum(first)) / 2**13 for number in first]
    assert weight[0].flatten().tolist() == expected
    assert 0.7 < float(weight.flatten(1).norm(dim=1).mean()) < 1.5


@pytest.mark.parametrize("side", [8, 33, 224])
def test_tiny_encoders_take_any_size(side: int) -> None:
    pixels = torch.rand(2, 3, side, side)
    assert backbones.load("tiny_teacher")(pixels).shape == (2, 64)
    assert backbones.load("tiny_student")(pixels).shape == (2, 48)


# ---- precision and memory layout


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize("name", ["mobilenet_v2", "dinov2_vits14", "tiny_teacher"])
def test_float32_out_under_autocast_and_with_channels_last(name: str) -> None:
    backbone, pixels = load_small(name), small_pixels(name)
    plain = backbone(pixels)
    last = backbone.to(memory_format=torch.channels_last)(pixels.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(pixels)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, plain)
    assert float(nn.functional.cosine_similarity(rough, plain).min()) > 0.99


# ---- sizes


@pytest.mark.parametrize(
    ("name", "stored", "size", "patch"),
    [("dinov2_vits14", 37, 112, 14), ("vit_b16", 14, 64, 16), ("clip_vit_b16_dequantised", 14, 112, 16)],
)
def test_positions_are_resampled_to_the_grid_of_the_size(name: str, stored: int, size: int, patch: int) -> None:
    """A constant field stays constant, a ramp stays a ramp, the class token's position does not change."""
    dim, grid = BACKBONES[name].dim, size // patch
    key = "encoder.pos_embedding" if name == "vit_b16" else "pos_embed"
    field = torch.zeros(1, stored, stored, dim)
    field[..., 0] = 3.0
    field[..., 1] = torch.linspace(0, 1, stored)[:, None]  # downwards
    token = torch.full((1, 1, dim), 7.0)
    with torch.device("meta"):
        network = BACKBONES[name].build(size)
    state = {key: torch.cat([token, field.view(1, -1, dim)], dim=1)}
    positions = BACKBONES[name].adapt(state, network, size)[key]
    assert positions.shape == (1, grid * grid + 1, dim)
    assert torch.equal(positions[:, :1], token)
    found = positions[0, 1:].view(grid, grid, dim)
    torch.testing.assert_close(found[..., 0], torch.full((grid, grid), 3.0))
    assert bool((found[1:, :, 1] > found[:-1, :, 1]).all())
    torch.testing.assert_close(found[:, 0, 1], found[:, -1, 1])


@pytest.mark.usefixtures("random_weights")
def test_size_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"dinov2_vits14.*multiple of 14.*got 100"):
        backbones.load("dinov2_vits14", size=100)
    with pytest.raises(ValueError, match="multiple of 1 "):
        backbones.load("resnet18", size=0)
    with pytest.raises(ValueError, match=r"loaded for 28 x 28 pixels, got \(42, 42\)"):
        load_small("dinov2_vits14")(torch.rand(1, 3, 42, 42))


# ---- errors


def test_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vgg16'.*dinov2_vits14.*tiny_student"):
        backbones.load("vgg16")


@pytest.mark.parametrize("name", ["dinov2_vits14", "tiny_teacher"])
def test_no_logits_without_a_classifier(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has no feature 'logits'; it has: penultimate$"):
        backbones.load(name, "logits")


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(3, 32, 32), torch.zeros(2, 1, 32, 32)],
)
def test_pixels_of_wrong_type_or_shape(pixels: Tensor) -> None:
    with pytest.raises(ValueError, match="tiny_teacher wants float pixels"):
        backbones.load("tiny_teacher")(pixels)
