"""Backbones in train mode, as the released code leaves them, against torch's own train mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from brcd_core import backbones
from brcd_core.backbones import BACKBONES, Backbone, weights
from brcd_core.backbones.train_mode import TrainMode, drift
from brcd_core.views.bank import encode_pixels

SIZE = 32


@pytest.fixture(autouse=True)
def random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freshly built networks; their running statistics are moved away from 0 and 1."""

    def random_state(name: str) -> tuple[dict[str, Tensor], str]:
        torch.manual_seed(0)
        state = dict(BACKBONES[name].build(518 if name == "dinov2_vits14" else 224).state_dict())
        for key, value in state.items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        return state, weights.checksum(state)

    monkeypatch.setattr(weights, "load_state", random_state)


def load(name: str, feature: str = "penultimate", size: int = SIZE) -> Backbone:
    return backbones.load(name, feature, size, folded=False)


def batches(count: int = 3, size: int = SIZE) -> list[Tensor]:
    return list(torch.rand(count, 4, 3, size, size, generator=torch.Generator().manual_seed(5)))


def normalised(backbone: Backbone, pixels: Tensor) -> Tensor:
    return (pixels - backbone.mean) / backbone.std


def unchanged(backbone: Backbone, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in backbone.network.state_dict().items())


def snapshot(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in backbone.network.state_dict().items()}


# ---- drift


@pytest.mark.parametrize(
    ("name", "feature"),
    [("resnet18", "penultimate"), ("mobilenet_v2", "logits"), ("efficientnet_lite0", "logits"),
     ("efficientnet_b0", "logits")],
)  # fmt: skip
def test_drift_leaves_what_torch_s_train_mode_leaves(name: str, feature: str) -> None:
    backbone = load(name, feature)
    trained = copy.deepcopy(backbone.network).train()
    before = snapshot(backbone)
    drift(backbone, iter(batches()), seed=7)
    torch.manual_seed(7)  # dropout and stochastic depth
    with torch.no_grad():
        for pixels in batches():
            trained(normalised(backbone, pixels))
    expected = trained.state_dict()
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
        moved = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, before[key]) != moved, key
    assert not any(module.training for module in backbone.modules())
    pixels = batches()[0]
    assert torch.equal(backbone(pixels), trained.eval()(normalised(backbone, pixels)))


def test_first_running_statistics_by_hand() -> None:
    """mean' = 0.9 mean + 0.1 mean of the batch, and the same for the unbiased variance, channel by channel."""
    backbone = load("resnet18")
    norm, convolution = backbone.network.bn1, backbone.network.conv1
    mean, variance = norm.running_mean.tolist(), norm.running_var.tolist()  # type: ignore[union-attr,operator]
    for pixels in batches():
        values = convolution(normalised(backbone, pixels)).double()  # type: ignore[operator]
        for channel in range(64):
            mean[channel] = 0.9 * mean[channel] + 0.1 * float(values[:, channel].mean())
            variance[channel] = 0.9 * variance[channel] + 0.1 * float(values[:, channel].var(correction=1))
    drift(backbone, batches())
    torch.testing.assert_close(norm.running_mean, torch.tensor(mean), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.tensor(variance), rtol=1e-4, atol=1e-5)


def test_checksum_tells_a_drifted_backbone_from_another() -> None:
    one, two, longer = load("resnet18"), load("resnet18"), load("resnet18")
    fresh = one.checksum
    drift(one, batches())
    drift(two, batches())
    drift(longer, batches(4))
    assert one.checksum == two.checksum != fresh
    assert longer.checksum not in (fresh, one.checksum)


def test_a_batch_that_fails_leaves_eval_mode_and_the_random_stream() -> None:
    backbone = load("efficientnet_b0", "logits")

    def failing() -> Iterator[Tensor]:
        yield batches()[0]
        raise OSError("no more images")

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(OSError, match="no more images"):
        drift(backbone, failing())
    assert not any(module.training for module in backbone.modules())
    assert torch.equal(torch.rand(2), expected)


# ---- features of the training views


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_features_are_those_of_torch_s_train_mode_and_statistics_stay(name: str) -> None:
    """These networks drop nothing, so all is determined."""
    backbone = load(name)
    trained = copy.deepcopy(backbone.network).train()
    before = snapshot(backbone)
    pixels = batches()[0]
    in_eval = backbone(pixels)
    found = TrainMode(backbone, seed=1)(pixels)
    with torch.no_grad():
        expected = trained(normalised(backbone, pixels))
    assert torch.equal(found, expected)
    assert not torch.allclose(found, in_eval, rtol=0.05)
    assert unchanged(backbone, before)
    assert torch.equal(backbone(pixels), in_eval)
    assert torch.equal(TrainMode(backbone, seed=2)(pixels), found)


def test_an_image_s_feature_depends_on_its_batch() -> None:
    backbone = load("resnet18")
    first, second = batches()[:2]
    mixed = torch.cat([first[:1], second[1:]])
    assert not torch.allclose(TrainMode(backbone)(first)[0], TrainMode(backbone)(mixed)[0], rtol=0.05)
    torch.testing.assert_close(backbone(first)[0], backbone(mixed)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "feature"), [("efficientnet_b0", "penultimate"), ("mobilenet_v2", "logits")])
def test_what_is_dropped_depends_on_seed_and_batch_alone(name: str, feature: str) -> None:
    """EfficientNet-B0 has stochastic depth before this feature, MobileNetV2 dropout before its logits."""
    backbone = load(name, feature)
    before = snapshot(backbone)
    first, second = batches()[:2]
    encoder, another = TrainMode(backbone, seed=1), TrainMode(load(name, feature), seed=1)
    found = encoder(first)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    encoder(second)
    assert torch.equal(encoder(first), found)
    assert torch.equal(another(first), found)
    laid_out_otherwise = encoder(first.to(memory_format=torch.channels_last))
    assert float(nn.functional.cosine_similarity(laid_out_otherwise, found).min()) > 0.9999
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(TrainMode(backbone, seed=2)(first), found, rtol=0.05)
    assert unchanged(backbone, before)


def test_dropout_hits_about_its_share_and_not_the_same_ones_in_every_batch() -> None:
    """The classifier is replaced by its dropout: a zero is a feature that was dropped, with probability 0.2."""
    backbone = load("mobilenet_v2", "logits")
    classifier: nn.Module = backbone.network.classifier  # type: ignore[assignment]
    backbone.network.classifier = nn.Sequential(
        nn.Flatten(), *[one for one in classifier if isinstance(one, nn.Dropout)]
    )  # type: ignore[attr-defined]
    backbone.network.features = nn.Identity()
    encoder = TrainMode(backbone, seed=0)
    ones = [torch.full((64, 3, size, size), 0.9) for size in (4, 8)]
    # MobileNetV2 pools over the image, so its dropout sees three values an image.
    dropped = [encoder(one) == 0 for one in ones]
    assert all(0.1 < float(part.float().mean()) < 0.3 for part in dropped)
    assert not torch.equal(*dropped)


def test_parents_and_banks_may_use_it() -> None:
    backbone = load("efficientnet_b0")
    encoder = TrainMode(backbone, seed=4)
    nn.Sequential(encoder).train()
    assert not any(module.training for module in backbone.modules())
    pixels = batches()[0]
    features = encode_pixels(encoder, pixels, "float32")
    assert features.shape == (4, 1280) and features.dtype == torch.float32
    assert torch.equal(encode_pixels(encoder, pixels, "float32"), features)
    assert not encoder(pixels).requires_grad


# ---- networks that the deviation does not touch, and folded ones


@pytest.mark.parametrize(("name", "size"), [("dinov2_vits14", 28), ("tiny_teacher", 32), ("tiny_student", 32)])
def test_networks_without_batchnorm_and_dropout_are_unchanged(name: str, size: int) -> None:
    backbone = load(name, size=size)
    before, checksum = snapshot(backbone), backbone.checksum
    pixels = batches(1, size)[0]
    assert torch.equal(TrainMode(backbone, seed=1)(pixels), backbone(pixels))
    drift(backbone, [pixels])
    assert unchanged(backbone, before)
    assert backbone.checksum == checksum


def test_folded_backbones_are_refused() -> None:
    backbone = backbones.load("resnet18", size=SIZE)
    with pytest.raises(ValueError, match=r"resnet18 was loaded with its BatchNorms folded.*folded=False"):
        drift(backbone, batches())
    with pytest.raises(ValueError, match=r"resnet18.*folded=False"):
        TrainMode(backbone)
