"""What a dataset is: images, labels, and the fingerprint that names their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brcd_core.datasets.image_files import ImageFiles

if TYPE_CHECKING:
    import torch

BLOCK_IMAGES = 4096  # hashed at once, so that arrays that repeat a channel are never copied whole


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels. pixels: uint8 (N, H, W, 3), an array or files that are decoded when indexed.

    labels: bool (N, L), one column a class; L is 0 where images have no labels. `central`: the share of the
    side that a clean view keeps. The fingerprint is a SHA-256 of the content.
    """

    name: str
    classes: tuple[str, ...]
    pixels: np.ndarray | ImageFiles
    labels: np.ndarray
    fingerprint: str
    central: float = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    def tensor(self, ids: Any) -> torch.Tensor:
        """Images as uint8 (B, 3, H, W), a copy. ids: B indices. IndexError where one is out of range."""
        import torch  # here, because it takes seconds to load and the command line does without

        ids = np.atleast_1d(np.asarray(ids, dtype=np.int64))
        if ids.size and ids.min() < 0:
            raise IndexError(f"image index {ids.min()} is negative")
        return torch.from_numpy(np.ascontiguousarray(self.pixels[ids].transpose(0, 3, 1, 2)))


def from_arrays(
    name: str, classes: Sequence[str], pixels: np.ndarray, labels: np.ndarray, central: float = 1.0
) -> Dataset:
    """A dataset that is in memory. pixels: uint8 (N, H, W, 3); labels: bool (N, L), or class numbers (N,).

    ValueError for other types or shapes, or a class number that has no class.
    """
    if labels.ndim == 1:
        labels = one_hot(labels, len(classes))
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(f"{name}: pixels must be uint8 (N, H, W, 3), not {pixels.dtype} {pixels.shape}")
    if labels.dtype != bool or labels.shape != (len(pixels), len(classes)):
        raise ValueError(
            f"{name}: labels must be bool {(len(pixels), len(classes))}, not {labels.dtype} {labels.shape}"
        )
    return Dataset(name, tuple(classes), pixels, labels, fingerprint_of(pixels, labels), central)


def one_hot(numbers: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers (N,) as labels: bool (N, classes). ValueError where a number has no class."""
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < classes:
        raise ValueError(f"class numbers from {numbers.min()} to {numbers.max()}: there are {classes} classes")
    return numbers[:, None] == np.arange(classes)


def fingerprint_of(pixels: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of the bytes of pixels, then of labels (C order)."""
    digest = hashlib.sha256()
    for start in range(0, len(pixels), BLOCK_IMAGES):
        digest.update(np.ascontiguousarray(pixels[start : start + BLOCK_IMAGES]).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()
