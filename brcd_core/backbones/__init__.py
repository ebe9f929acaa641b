"""Frozen image encoders by name.

A backbone takes pixels in [0, 1], normalises them as its own training did, and returns one feature vector an
image: its "penultimate" feature (pooled, before any classifier) or, where it has a classifier, its 1000
ImageNet "logits".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from brcd_core.backbones import weights
from brcd_core.backbones.tiny import TinyStudent, TinyTeacher
from brcd_core.backbones.weight_formats import State

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LOGITS = 1000
VERSION = 1  # Raise it when a change here changes features: every view bank is then built anew.


@dataclass(frozen=True)
class Entry:
    """What is needed to build one backbone."""

    build: Callable[[int], nn.Module]  # the network for an input size, with random weights
    dim: int  # of the penultimate feature
    classifier: str = ""  # the attribute of the network that turns the penultimate feature into logits
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size: int = 224  # in pixels, when none is asked for
    patch: int = 0  # of a transformer: the size must be a multiple of it, and is fixed once built
    pretrained: bool = True
    foldable: bool = False  # BatchNorms can be folded into convolutions (torch.fx can trace the network)
    adapt: Callable[[State, nn.Module, int], State] = lambda state, network, size: state  # to a size

    @property
    def features(self) -> dict[str, int]:
        """The features that can be asked for, and their dimensions."""
        return {"penultimate": self.dim} | ({"logits": LOGITS} if self.classifier else {})


class Backbone(nn.Module):
    """A frozen encoder: eval mode always, no gradients to its weights.

    Attributes: name, feature, dim, size (pixels), checksum (SHA-256 of the weights).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, entry: Entry, name: str, feature: str, size: int, checksum: str) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.name, self.feature, self.size, self.checksum = name, feature, size, checksum
        self.dim = entry.features[feature]
        self._fixed_size = bool(entry.patch)
        self.register_buffer("mean", torch.tensor(entry.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(entry.std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, dim) float32 of pixels (B, 3, S, S) in [0, 1]; also under autocast and channels-last.

        ValueError for another shape or for integers; a transformer wants the size that it was loaded for.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise ValueError(
                f"{self.name} wants float pixels in [0, 1] of shape (B, 3, S, S), got {pixels.dtype} "
                f"{tuple(pixels.shape)}"
            )
        if self._fixed_size and pixels.shape[2:] != (self.size, self.size):
            raise ValueError(
                f"{self.name} was loaded for {self.size} x {self.size} pixels, got "
                f"{tuple(pixels.shape[2:])}; resize the images, or load it with size=..."
            )
        features: Tensor = self.network((pixels - self.mean) / self.std)
        return features.float()

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode whatever a parent module asks: statistics, dropout and depth must not move."""
        super().train(False)
        return self


def load(name: str, feature: str = "penultimate", size: int | None = None) -> Backbone:
    """A frozen backbone with its weights, on the CPU; they are fetched the first time.

    `size` is the side of the square input in pixels: 224 if not given, 32 for the tiny encoders.
    ValueError for an unknown name or feature, or a size that does not fit; FetchError if no source delivers.
    """
    entry = entry_of(name)
    size = entry.size if size is None else size
    check(name, feature, size)
    network = entry.build(size)
    if entry.pretrained:
        state, checksum = weights.load_state(name)
        network.load_state_dict(entry.adapt(state, network, size))
    else:
        checksum = weights.checksum(network.state_dict())
    if entry.classifier and feature == "penultimate":
        setattr(network, entry.classifier, nn.Identity())
    if entry.foldable:
        network = _fused(network)
    return Backbone(network, entry, name, feature, size, checksum)


def check(name: str, feature: str, size: int) -> None:
    """ValueError for an unknown backbone or feature, or an input size that does not fit."""
    dim(name, feature)
    step = max(entry_of(name).patch, 1)
    if size < 1 or size % step:
        raise ValueError(f"{name} wants a size that is a multiple of {step} pixels, got {size}")


def entry_of(name: str) -> Entry:
    """The table's entry of a backbone. ValueError for an unknown name, with the known ones."""
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; there are: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def names() -> list[str]:
    """All backbones."""
    return list(BACKBONES)


def dim(name: str, feature: str) -> int:
    """Dimensions of a feature. ValueError for an unknown backbone or feature."""
    features = entry_of(name).features
    if feature not in features:
        raise ValueError(f"{name} has no feature {feature!r}; it has: {', '.join(features)}")
    return features[feature]


@cache
def checksum(name: str) -> str:
    """SHA-256 of a backbone's weights, which are fetched the first time, without building the network."""
    entry = entry_of(name)
    if entry.pretrained:
        return weights.load_state(name)[1]
    return weights.checksum(entry.build(entry.size).state_dict())


def _fused(network: nn.Module) -> nn.Module:
    """The same function with every BatchNorm folded into its convolution: up to twice as fast on a CPU."""
    from torch.fx.experimental.optimization import fuse

    fused: nn.Module = fuse(network.eval())
    return fused


# The model libraries take seconds to import, and a run whose banks are there needs none of them: each network
# imports its own when it is built.


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None, **options)
    return network


def _dinov2_positions(state: State, network: nn.Module, size: int) -> State:
    """The stored positions are a grid of 37 x 37 patches (518 pixels); timm resamples it to that of `size`.

    Bicubic with antialiasing, timm's default. The makers' code has no antialiasing, which costs much at small
    sizes: at 112 pixels, 10 neighbours out of 2,000 CIFAR-10 images name the class of 80 % of 800 queries,
    against 89 % with antialiasing.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    adapted: State = checkpoint_filter_fn(state, network)  # type: ignore[arg-type]
    return adapted


def _vit_b16_positions(state: State, network: nn.Module, size: int) -> State:
    """The stored positions are a grid of 14 x 14 patches (224 pixels)."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    return dict(interpolate_embeddings(size, 16, state))  # type: ignore[arg-type]


BACKBONES: dict[str, Entry] = {
    # The class token after the last normalisation; timm's network has no classifier.
    "dinov2_vits14": Entry(
        lambda size: _timm("vit_small_patch14_dinov2", img_size=size),
        dim=384,
        patch=14,
        adapt=_dinov2_positions,
    ),
    "vit_b16": Entry(
        lambda size: _torchvision("vit_b_16", image_size=size),
        dim=768,
        classifier="heads",
        patch=16,
        adapt=_vit_b16_positions,
    ),
    "mobilenet_v2": Entry(
        lambda size: _torchvision("mobilenet_v2"), dim=1280, classifier="classifier", foldable=True
    ),
    "resnet18": Entry(lambda size: _torchvision("resnet18"), dim=512, classifier="fc", foldable=True),
    # Google's weights: TensorFlow's padding and BatchNorm eps 1e-3 (both in timm's tf_ variant), and its own
    # normalisation, (255 x - 127) / 128.
    "efficientnet_lite0": Entry(
        lambda size: _timm("tf_efficientnet_lite0"),
        dim=1280,
        classifier="classifier",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
    "efficientnet_b0": Entry(
        lambda size: _torchvision("efficientnet_b0"), dim=1280, classifier="classifier", foldable=True
    ),
    "tiny_teacher": Entry(lambda size: TinyTeacher(), dim=64, size=32, pretrained=False),
    "tiny_student": Entry(lambda size: TinyStudent(), dim=48, size=32, pretrained=False),
}
