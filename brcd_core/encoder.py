"""A trained encoder to take away: one head file names its backbone, and images become packed codes.

    student = encoder.load("results/paper112/heads/mobilenet_v2-brcd-64.safetensors")
    codes = student.encode(["a.jpg", "b.png"])  # uint64 (2, 1)

An image goes the way that it goes in the study: the clean view, the frozen backbone, its features rounded to float16
as view banks store them, the head, its signs. So on the same CPU and precision the codes are the study's, bit for
bit; a GPU chooses its sums by the size of the batch, so a bit whose logit is all but zero may differ there. A head that
was taken away says which precision that was, and it is used on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError
from torch import Tensor

from brcd_core import backbones, checkpoints
from brcd_core.backbones import Backbone
from brcd_core.checkpoints import CheckpointError
from brcd_core.codes import pack
from brcd_core.config import Frozen
from brcd_core.datasets import SPLIT_SIZES, image_files, image_lists
from brcd_core.hashing import HashHead
from brcd_core.views.augmentation import clean
from brcd_core.views.bank import Precision, encode_pixels, native_precision

Images = Tensor | Sequence[Path | str | Image.Image]
MOST = 4096  # pixels of a side, and images at once


@dataclass(frozen=True, eq=False)
class Encoder:
    """Images to codes, by a frozen backbone and the head that was trained on its features; both in eval mode.

    about: what the head's file says of the run that made it. central: the share of an image's side that is looked
    at. batch: images that are decoded and encoded at once, which bounds the memory that is needed.
    """

    backbone: Backbone
    head: HashHead
    about: dict[str, Any]
    central: float
    precision: Precision
    batch: int

    @property
    def bits(self) -> int:
        """Length of a code."""
        return bits_of(self.head)

    @property
    def size(self) -> int:
        """Pixels of a side, as the backbone gets them."""
        return self.backbone.size

    @property
    def role(self) -> str:
        """Teacher or student."""
        return role_of(self.about)

    @property
    def checksum(self) -> str:
        """SHA-256 of the head's weights."""
        return checkpoints.checksum(self.head)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.head.mean.device

    def encode(self, images: Images) -> NDArray[np.uint64]:
        """Packed codes uint64 (N, words), as codes.pack gives them, of images: uint8 (N, 3, H, W), or files, or PIL.

        Raises FileNotFoundError, ImageError: a file is not there, or cannot be read; ValueError: images of another
        form, or NaN.
        """
        if isinstance(images, str | Path):
            raise ValueError(f"images are a list of files, not one path: [{str(images)!r}]")
        starts = range(0, len(images), self.batch)
        parts = [self._encode(self.pixels(images[start : start + self.batch])) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, -(-self.bits // 64)), np.uint64)

    def pixels(self, images: Images) -> Tensor:
        """What the backbone gets to see of images: float32 (N, 3, size, size) in [0, 1] on the device.

        Of files and PIL images it is the central square, turned upright, as of a folder of images in the study.
        """
        if not isinstance(images, Tensor):
            decoded = np.stack(list(image_files.in_threads(_decode, list(images))))
            images = torch.from_numpy(decoded).permute(0, 3, 1, 2)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}")
        return clean(images.to(self.device), self.size, self.central)

    def _encode(self, pixels: Tensor) -> NDArray[np.uint64]:
        features = encode_pixels(self.backbone, pixels, self.precision).half()
        return pack(self.head.codes(features).cpu().numpy())


class Recipe(Frozen):
    """What a head's file says of the way from images to features, checked: the file may be anyone's."""

    backbone: str
    feature: str
    size: int = Field(ge=1, le=MOST)
    precision: Precision | Literal["auto"]
    batch: int = Field(ge=1, le=MOST)
    central: float | None = Field(gt=0, le=1)


def load(path: Path | str, device: torch.device | str | None = None, central: float | None = None) -> Encoder:
    """The encoder that a head's file names; the weights of its backbone are fetched the first time.

    device: the GPU if there is one, else the CPU. central: as of the dataset that the head was trained on. A head from
    the folder of its run says no precision where its profile says auto: it is then what this device gains by.
    Raises CheckpointError: the file is damaged or senseless, or its backbone is unknown, cannot be built again, or is
    not the one that the head was trained on; FetchError: no source delivers the weights.
    """
    path = Path(path)
    head, about = checkpoints.load_head(path)
    try:
        role, settings = role_of(about), about["settings"]
        extraction = settings["extraction"]
        recipe = Recipe(
            backbone=about["run"][role],
            feature=settings[role]["feature"],
            size=settings["views"]["size"],
            precision=about.get("precision", extraction["precision"]),
            batch=extraction["batch"],
            central=about.get("central", _central(settings["data"]["dataset"])),
        )
        drifted = role == "student" and extraction["released"]["train_mode"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not say which encoder it is of ({error!r}); train it again") from error
    except ValidationError as error:
        wrong = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
        raise CheckpointError(f"{path} is of no encoder that there can be ({wrong}); train it again") from error
    name, feature, size = recipe.backbone, recipe.feature, recipe.size
    share = recipe.central if central is None else central
    if share is None:
        raise CheckpointError(
            f"{path} does not say which share of an image is looked at; give central=, or take the head away by "
            "brcd_core.study.take_away, which writes it down"
        )
    try:
        backbones.check(name, feature, size)
        dim = backbones.dim(name, feature)
    except ValueError as error:
        raise CheckpointError(f"{path} is of a backbone that there is not: {error}") from error
    if len(head.mean) != dim:
        raise CheckpointError(f"{path} takes {len(head.mean)} features; {name} gives {dim}")
    if drifted:
        raise CheckpointError(f"{path} is of a backbone whose statistics drifted in training, and these are not kept")
    backbone = backbones.load(name, feature, size)
    if about.get("weights", backbone.checksum) != backbone.checksum:
        raise CheckpointError(f"{path} was trained on other weights of {name} than there are now")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Encoder(
        backbone.to(device).to(memory_format=torch.channels_last),
        head.to(device),
        about,
        share,
        native_precision(device) if recipe.precision == "auto" else recipe.precision,
        recipe.batch,
    )


def bits_of(head: HashHead) -> int:
    """Length of a head's codes."""
    last: Any = head.layers[-1]
    return int(last.out_features)


def role_of(about: dict[str, Any]) -> str:
    """Whether a head is a teacher's or a student's. KeyError, TypeError where nothing says so."""
    return "student" if "student" in about["run"] else "teacher"


def printable(text: object, keep: str = "") -> str:
    """Text as it may be printed: names of files, and what is in them, may hold control codes or bytes that are no text.

    keep: control codes that may stay, such as an error's line breaks.
    """
    readable = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(one if one.isprintable() or one in keep else "\N{REPLACEMENT CHARACTER}" for one in readable)


def _central(dataset: str) -> float | None:
    """Photographs lose their edges, as in the study; images of a fixed size are seen whole. None: not known."""
    if dataset in (*image_lists.LABELS, "folder"):
        return image_lists.CENTRAL
    return 1.0 if dataset in SPLIT_SIZES else None


def _decode(image: Path | str | Image.Image) -> np.ndarray:
    """A file or a PIL image as uint8 (256, 256, 3)."""
    if isinstance(image, Image.Image):
        return image_files.square(image, upright=True)
    return image_files.decode(Path(image), upright=True)
