"""What backbones cost, against counts by hand and published ones, and a network whose speed is known."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.backends import mha
from torchvision import models

from brcd_core import backbones
from brcd_core.backbones import BACKBONES, Backbone, efficiency
from brcd_core.backbones.efficiency import measure, multiply_adds


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0.05)
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path))


def counted_convolution(layer: nn.Conv2d, height: int, width: int) -> int:
    """Multiplications one by one: every output value, every tap of its filter."""
    count = 0
    for _ in range(layer.out_channels):
        for _ in range(height * width):
            count += layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    return count


# ---- multiply-adds


@pytest.mark.parametrize("images", [1, 3])
def test_convolutions_and_linear_layers_by_hand(images: int) -> None:
    first, grouped = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 12, (1, 3), groups=4)
    network = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), grouped, nn.Flatten(), nn.Linear(12 * 5 * 3, 7)).eval()
    expected = counted_convolution(first, 5, 5) + counted_convolution(grouped, 5, 3) + 12 * 5 * 3 * 7
    assert multiply_adds(network, torch.rand(images, 3, 10, 10)) == images * expected


def transformer_by_hand(patch: int, patches: int, dim: int, depth: int, mlp: int) -> int:
    tokens = patches + 1
    count = patches * 3 * patch * patch * dim
    for _ in range(depth):
        count += tokens * dim * 3 * dim  # queries, keys, values
        for _ in range(tokens):  # each query: a product with every key, and a sum over all values
            count += 2 * tokens * dim
        count += tokens * dim * dim + 2 * tokens * dim * mlp
    return count


def test_attention_by_hand_in_timm_and_in_torchvision_s_fast_path() -> None:
    """torchvision's encoder uses nn.MultiheadAttention, which goes another way in eval mode."""
    expected = transformer_by_hand(patch=4, patches=9, dim=16, depth=2, mlp=64)
    pixels = torch.rand(1, 3, 12, 12)
    timm = VisionTransformer(img_size=12, patch_size=4, embed_dim=16, depth=2, num_heads=4, num_classes=0).eval()
    torchvision = models.VisionTransformer(
        image_size=12, patch_size=4, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=64
    ).eval()
    torchvision.heads = nn.Identity()  # type: ignore[assignment]
    for network in (timm, torchvision):
        assert multiply_adds(network.requires_grad_(False), pixels) == expected
    assert mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("name", "billions"), [("mobilenet_v2", 0.31), ("resnet18", 1.82), ("efficientnet_b0", 0.40), ("vit_b_16", 17.6)]
)
def test_near_timm_s_published_counts_at_224_pixels(name: str, billions: float) -> None:
    """Those count BatchNorms too, a few per cent of a small network."""
    with torch.device("meta"):
        network, pixels = models.get_model(name).eval(), torch.empty(1, 3, 224, 224)
    assert multiply_adds(network, pixels) == pytest.approx(billions * 1e9, rel=0.05)


# ---- the whole measurement


class Sleeper(nn.Module):
    """Takes 4 ms an image, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        time.sleep(0.004 * len(images))
        return images.mean(dim=(2, 3)).repeat(1, 16)


def sleeper() -> Backbone:
    return Backbone(Sleeper(), BACKBONES["tiny_student"], "tiny_student", "penultimate", 32, "")


def test_speed_of_a_network_that_sleeps() -> None:
    backbone = sleeper()
    found = measure(backbone, batch=6)
    assert 4 <= found["latency_ms"] < 12
    assert 80 < found["images_per_second"] <= 250
    assert found["batch"] == 6
    batches = backbone.network.batches  # type: ignore[union-attr]
    assert batches.count(1) >= 3 + 10 + 1  # to warm up, timed, and the count of multiply-adds
    assert len(batches) < 40


def test_a_batch_that_would_take_too_long_is_made_smaller() -> None:
    found = measure(sleeper(), batch=1000)
    assert 2 <= found["batch"] <= 12  # 0.05 s at 4 ms an image


def test_sizes_of_a_tiny_encoder_with_a_head() -> None:
    plain, headed = measure(backbones.load("tiny_teacher")), measure(backbones.load("tiny_teacher"), (1000, 64))
    convolutions = 32 * 27 + 16 * 32 * 9
    assert plain["parameters"] == convolutions
    assert plain["multiply_adds"] == 32 * 32 * 32 * 27 + 16 * 16 * 16 * 32 * 9
    assert headed["parameters"] == convolutions + 64 * 1000 + 1000 + 1000 * 64 + 64
    assert headed["multiply_adds"] == plain["multiply_adds"] + 64 * 1000 + 1000 * 64
    assert plain["megabytes"] == headed["megabytes"] == pytest.approx(convolutions * 4 / 1e6, abs=0.0006)
    assert set(plain) == {
        "parameters", "multiply_adds", "megabytes", "latency_ms", "images_per_second", "batch", "threads", "size",
        "device",
    }  # fmt: skip
    assert (plain["size"], plain["device"], plain["threads"]) == (32, "cpu", torch.get_num_threads())


def test_megabytes_are_those_of_the_file_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny_student.safetensors").write_bytes(b"x" * 2_500_000)
    assert measure(backbones.load("tiny_student"))["megabytes"] == 2.5


@pytest.mark.parametrize(("head", "batch"), [((0,), 4), ((), 0)])
def test_batches_and_widths_below_one_are_refused(head: tuple[int, ...], batch: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1, got batch"):
        measure(backbones.load("tiny_student"), head, batch=batch)
