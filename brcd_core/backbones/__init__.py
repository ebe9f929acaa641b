"""Frozen image encoders by name.

A backbone takes pixels in [0, 1], normalises them as its own training did, and returns one feature vector an
image: its "penultimate" feature (pooled, before any classifier) or, where it has a classifier, its 1000
ImageNet "logits".
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from brcd_core.backbones import weights
from brcd_core.backbones.entries import BACKBONES, Entry

VERSION = 1  # Raise it when a change here changes features: every view bank is then built anew.


class Backbone(nn.Module):
    """A frozen encoder: eval mode always, no gradients to its weights.

    Attributes: name, feature, dim, size (pixels), checksum (SHA-256 of the weights), folded (no BatchNorm is left
    that could be folded into a convolution).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        entry: Entry,
        name: str,
        feature: str,
        size: int,
        checksum: str,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.name, self.feature, self.size, self.checksum = name, feature, size, checksum
        self.dim, self.folded = entry.features[feature], folded
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


def load(name: str, feature: str = "penultimate", size: int | None = None, folded: bool = True) -> Backbone:
    """A frozen backbone with its weights, on the CPU; they are fetched the first time.

    `size` is the side of the square input in pixels: 224 if not given, 32 for the tiny encoders.
    `folded`: BatchNorms become part of the convolutions before them where that is possible, which is faster;
    without it they stay modules of their own, as train_mode.py needs them. The features are the same but for rounding.
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
    folded = folded and entry.foldable
    if folded:
        network = _fused(network)
    return Backbone(network, entry, name, feature, size, checksum, folded)


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
