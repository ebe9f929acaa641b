"""The view bank: features of (image, view) from a frozen backbone, computed once and kept on disk.

`build` computes a bank or opens the one that is there; `open_bank` opens and verifies. On disk a bank is a
folder that holds features.npy, float16 (V * N, D), and meta.json: its settings and the checksum of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from brcd_core.atomic import write_text
from brcd_core.config import Frozen, fingerprint
from brcd_core.fetching import NO_SPACE, is_intact, lock, sha256_of
from brcd_core.views import chunked
from brcd_core.views.augmentation import VERSION, Augmentation, augment, clean

Precision = Literal["bfloat16", "float32"]
ReadImages = Callable[[NDArray[np.int64]], Tensor]  # image ids (B,) -> uint8 (B, 3, H, W)
Encode = Callable[[Tensor], Tensor]  # pixels in [0, 1], (B, 3, S, S) -> features (B, D)
TURNS = (1, 2, 3)  # quarters of a turn


class BankError(RuntimeError):
    """A bank cannot be built or trusted; the message names the file and says what to do."""


class BankSettings(Frozen):
    """Everything that determines a bank's features, and so its name."""

    dataset: str
    data_fingerprint: str
    split: str
    ids_checksum: str  # of `ids_checksum(ids)`
    count: int = Field(ge=1)  # images
    backbone: str
    feature: str
    weights_checksum: str
    dim: int = Field(ge=1)
    size: int = Field(ge=2)  # pixels, the side of the backbone's input
    views: int = Field(ge=0)  # augmented views of each image; 0: the clean view alone
    augmentation: Augmentation | None
    seed: int = Field(0, ge=0)  # of the augmentation
    precision: Precision
    central: float = Field(1.0, gt=0, le=1)  # share of the side that a clean view keeps
    rotated: bool = False  # the three views are view 0 turned by 90, 180 and 270 degrees
    train_mode_batch: int = 0  # images that share a batch of a backbone in train mode (train_mode.py); 0: eval mode
    backbone_version: int = 1  # of the code that turns pixels into features
    version: int = VERSION

    @model_validator(mode="after")
    def _clean_or_augmented(self) -> BankSettings:
        if (self.views == 0) != (self.augmentation is None):
            raise ValueError("a bank has either views = 0 and no augmentation, or both")
        if self.views == 0 and self.seed != 0:
            raise ValueError("clean views depend on no seed: leave it at 0, so that all seeds share one bank")
        if self.rotated and self.views != len(TURNS):
            raise ValueError(f"a bank of rotated views has {len(TURNS)} views, not {self.views}")
        return self

    @property
    def name(self) -> str:
        """The bank's folder: <backbone>-<split>-<views>-<first digits of the SHA-256 of all settings>."""
        return f"{self.backbone}-{self.split}-{self.views}-{fingerprint(self)[:12]}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(V, N, D)"""
        return max(self.views, 1), self.count, self.dim


@dataclass(frozen=True, eq=False)
class Bank:
    """Verified features (V, N, D) float16, memory-mapped; `checksum` is the SHA-256 of their file."""

    settings: BankSettings
    checksum: str
    features: NDArray[np.float16]

    def view(self, number: int) -> NDArray[np.float16]:
        """Features (N, D) of one view; of a clean bank, view 0."""
        return self.features[number]

    @lru_cache(maxsize=16)  # noqa: B019  the runs of a process share few banks, and the features of each once
    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        """All features (V, N, D) float16, copied to the device, once for all who ask."""
        return torch.from_numpy(np.array(self.features)).to(device)


def ids_checksum(ids: NDArray[np.integer]) -> str:
    """SHA-256 of image ids (N,), order included."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()


def native_precision(device: torch.device | str) -> Precision:
    """bfloat16 where the processor gains by it, else float32.

    On a CPU that means AMX. With AVX512_BF16 alone DINOv2 ran at 60 % of its float32 speed, ResNet-18 at 75 %.
    """
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # A private function of torch: where it is gone, float32 is never wrong.
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if torch.device(device).type == "cpu" and amx() else "float32"


def build(
    settings: BankSettings,
    ids: NDArray[np.integer],
    read_images: ReadImages,
    encode: Encode,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    batch: int = 64,
    chunk: int = 256,
    report: Callable[[int], object] | None = None,
) -> Bank:
    """The bank of these settings in `folder`: opened if it is there, else computed for the images `ids` (N,).

    Computed in chunks of (view, image) rows, each flushed to the disk and noted in a journal, so that an
    interrupted build goes on after its last whole chunk. Of several processes that ask for the same bank one
    builds and the others wait. `report(rows)` is called after each chunk; there are V * N rows.

    ValueError: `ids` are not those of the settings, or the encoder gives another shape. BankError: features
    that are not finite in float16, a full disk, or an existing bank that does not pass `open_bank`.
    """
    numbers = np.asarray(ids, dtype=np.int64)
    if numbers.shape != (settings.count,) or ids_checksum(numbers) != settings.ids_checksum:
        raise ValueError(f"view bank {settings.name}: the ids {numbers.shape} are not those of its settings")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / settings.name

    def features(rows: range) -> NDArray[np.float16]:
        parts = [range(first, min(first + batch, rows.stop)) for first in rows[::batch]]
        return np.concatenate(
            [_encode(settings, numbers, read_images, encode, device, part) for part in parts]
        )

    with lock(path):
        if not path.exists():
            part = path.with_name(f"{path.name}.partial")
            try:
                rows = settings.shape[0] * settings.shape[1]
                tell = report or (lambda count: None)
                file = chunked.write(part, (rows, settings.dim), features, chunk, tell)
                meta = {"settings": settings.model_dump(mode="json"), "sha256": sha256_of(file)}
                write_text(part / "meta.json", json.dumps(meta | {"torch": torch.__version__}, indent=1))
                part.rename(path)
                (path / chunked.JOURNAL).unlink()
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                raise BankError(
                    f"no space left in {folder} for the view bank {settings.name}, "
                    f"{np.prod(settings.shape) * 2 / 1e6:.1f} MB in all. What is finished is kept: free some "
                    "space and run again, or set BRCD_CACHE to a folder on a larger disk."
                ) from error
    return open_bank(folder, settings)


def open_bank(folder: Path, settings: BankSettings) -> Bank:
    """Open the bank of these settings and verify it: settings, size, SHA-256, and that all is finite.

    FileNotFoundError: it was not built. BankError: it differs from what was asked or written.
    """
    path = folder / settings.name
    if not path.is_dir():
        raise FileNotFoundError(f"there is no view bank {path}: build it first")
    advice = f"Delete the folder {path} and run again."
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        asked, found = settings.model_dump(mode="json"), dict(meta["settings"])
        checksum = str(meta["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BankError(f"{path / 'meta.json'} is missing or damaged ({error!r}). {advice}") from error
    differing = sorted(key for key in asked.keys() | found.keys() if asked.get(key) != found.get(key))
    if differing:
        what = "; ".join(f"{key} is {found.get(key)!r}, not {asked.get(key)!r}" for key in differing)
        raise BankError(f"the bank {path} is of other settings: {what}. {advice}")
    file = path / "features.npy"
    if not is_intact(file, checksum):
        raise BankError(f"{file} is damaged: it is missing, or its SHA-256 is not what was written. {advice}")
    features = np.load(file, mmap_mode="r").reshape(settings.shape)
    for number, view in enumerate(features):
        if not np.isfinite(view).all():
            raise BankError(f"{file} holds NaN or infinite features in view {number}. {advice}")
    return Bank(settings, checksum, features)


def turned(pixels: Tensor, turn: int) -> Tensor:
    """Images (B, 3, S, S) turned counter-clockwise by a number of quarters."""
    return torch.rot90(pixels, turn, dims=(2, 3))


@torch.inference_mode()
def encode_pixels(encode: Encode, pixels: Tensor, precision: Precision) -> Tensor:
    """Features (B, D) float32 of pixels (B, 3, S, S), in the given precision and without a graph."""
    with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return encode(pixels.contiguous(memory_format=torch.channels_last)).float()


def _encode(
    settings: BankSettings,
    ids: NDArray[np.int64],
    read_images: ReadImages,
    encode: Encode,
    device: torch.device | str,
    rows: range,
) -> NDArray[np.float16]:
    """Features (R, D) of rows of the bank; row v * N + n is view v of the n-th image."""
    views, positions = np.divmod(np.asarray(rows), settings.count)
    images = read_images(ids[positions]).to(device)
    if settings.augmentation is None:
        pixels = clean(images, settings.size, settings.central)
    elif settings.rotated:
        pixels = augment(images, ids[positions], 0, settings.size, settings.seed, settings.augmentation)
        pixels = torch.cat([turned(pixels[views == place], turn) for place, turn in enumerate(TURNS)])
    else:
        pixels = augment(images, ids[positions], views, settings.size, settings.seed, settings.augmentation)
    features = encode_pixels(encode, pixels, settings.precision)
    if features.shape != (len(rows), dim := settings.dim):
        raise ValueError(f"{settings.backbone} gives {tuple(features.shape)}, not {(len(rows), dim)}")
    half = features.half()
    bad = (~half.isfinite()).any(dim=1).cpu().numpy()
    if bad.any():
        cases = [f"image {i} view {v}" for i, v in zip(ids[positions][bad][:8], views[bad][:8], strict=True)]
        raise BankError(
            f"{settings.backbone} gives NaN or features too large for float16 for {bad.sum()} of {len(rows)} "
            f"rows: {', '.join(cases)}. Look at these images, or at the backbone's precision, "
            f"{settings.precision}."
        )
    return half.cpu().numpy()
