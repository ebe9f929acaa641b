"""The table of backbones: how each network is built, and what its input and its features are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from brcd_core.backbones.tiny import TinyStudent, TinyTeacher
from brcd_core.backbones.weight_formats import State

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LOGITS = 1000


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


# The model libraries take seconds to import, and a run whose banks are there needs none of them: each network
# imports its own when it is built.


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None, **options)
    return network


def _timm_positions(state: State, network: nn.Module, size: int) -> State:
    """The stored positions are a grid, of 37 x 37 patches in DINOv2 (518 pixels) and 14 x 14 in CLIP (224 pixels);
    timm resamples it to that of `size`.

    Bicubic with antialiasing, timm's default. DINOv2's own code has no antialiasing, which costs much at small
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
        adapt=_timm_positions,
    ),
    # CLIP's image tower, its linear weights rounded to 8 bits by whoever published them and made float32 again:
    # not quite CLIP. The class token after the last normalisation, before the projection to 512 dimensions,
    # which is not offered. QuickGELU and CLIP's own normalisation.
    "clip_vit_b16_dequantised": Entry(
        lambda size: _timm("vit_base_patch16_clip_quickgelu_224", num_classes=0, img_size=size),
        dim=768,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        patch=16,
        adapt=_timm_positions,
    ),
    "vit_b16": Entry(
        lambda size: _torchvision("vit_b_16", image_size=size),
        dim=768,
        classifier="heads",
        patch=16,
        adapt=_vit_b16_positions,
    ),
    "mobilenet_v2": Entry(lambda size: _torchvision("mobilenet_v2"), dim=1280, classifier="classifier", foldable=True),
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
    "efficientnet_b3": Entry(
        lambda size: _torchvision("efficientnet_b3"), dim=1536, classifier="classifier", foldable=True
    ),
    "tiny_teacher": Entry(lambda size: TinyTeacher(), dim=64, size=32, pretrained=False),
    "tiny_student": Entry(lambda size: TinyStudent(), dim=48, size=32, pretrained=False),
}
