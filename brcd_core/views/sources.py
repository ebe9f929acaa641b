"""Features of training images under augmented views, batch by batch: from view banks, or computed afresh.

Both sources have one interface: `count`, the views that pairs are drawn from (None: no view is read twice),
`batch(images, views)`, one tensor (B, D) float32 a backbone, and `rotated(images)`, one tensor (3B, D) a backbone
of view 0 turned by 90, 180 and 270 degrees. All backbones see the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brcd_core.views.augmentation import Augmentation, augment
from brcd_core.views.bank import TURNS, Bank, Encode, Precision, ReadImages, encode_pixels, turned

SAME = (
    "dataset", "data_fingerprint", "split", "ids_checksum", "views", "rotated", "augmentation", "seed", "version",
)  # fmt: skip


class BankViews:
    """Features from banks of one training set, one bank a backbone, held on the device.

    `rotations` are the banks of rotated views, where a method needs these. `used`: pairs are of the first so many
    views (None: of all). `once`: no view is read twice, as with fresh ones.
    ValueError if the banks hold clean views or fewer than are used, or if they differ in images, augmentation or seed.
    """

    def __init__(
        self,
        banks: Sequence[Bank],
        device: torch.device | str = "cpu",
        rotations: Sequence[Bank] = (),
        *,
        used: int | None = None,
        once: bool = False,
    ) -> None:
        if not banks or banks[0].settings.views == 0:
            raise ValueError("training needs banks of augmented views; clean ones have views = 0")
        for together in (banks, rotations):
            _same_views(together)
        views = banks[0].settings.views
        if used is not None and not 1 <= used <= views:
            raise ValueError(f"{used} views of each image are to be used, the banks have {views}")
        self.count: int | None = None if once else used or views
        self._features = [bank.tensor(device) for bank in banks]
        self._rotated = [bank.tensor(device) for bank in rotations]

    def batch(self, images: Tensor, views: Tensor) -> list[Tensor]:
        """Features (B, D) float32, one tensor a bank, of images at positions (B,) in views (B,)."""
        return [features[views, images].float() for features in self._features]

    def rotated(self, images: Tensor) -> list[Tensor]:
        """Features (3B, D) float32, one tensor a bank of rotated views: B rows of each of the three turns."""
        return [features[:, images].float().flatten(0, 1) for features in self._rotated]


class FreshViews:
    """Features computed when they are asked for, so that no view need come back; far slower than a bank.

    `ids` (N,) are the training images' numbers in the data set, `read_images` gives their pixels. The same
    view number gives the same pixels as in a bank.
    """

    count: int | None = None

    def __init__(
        self,
        read_images: ReadImages,
        ids: NDArray[np.integer],
        encoders: Sequence[Encode],
        *,
        size: int,
        seed: int,
        augmentation: Augmentation,
        precision: Precision,
        device: torch.device | str = "cpu",
    ) -> None:
        self._read_images, self._encoders, self._device = read_images, list(encoders), device
        self._ids = np.asarray(ids, dtype=np.int64)
        self._size, self._seed, self._augmentation, self._precision = size, seed, augmentation, precision

    def batch(self, images: Tensor, views: Tensor) -> list[Tensor]:
        """Features (B, D) float32, one tensor an encoder, of images at positions (B,) in views (B,)."""
        return self._encode(self._pixels(images, views))

    def rotated(self, images: Tensor) -> list[Tensor]:
        """Features (3B, D) float32, one tensor an encoder: B rows of each of the three turns."""
        pixels = self._pixels(images, torch.zeros_like(images))
        return self._encode(torch.cat([turned(pixels, turn) for turn in TURNS]))

    def _pixels(self, images: Tensor, views: Tensor) -> Tensor:
        ids = self._ids[images.cpu().numpy()]
        pixels = self._read_images(ids).to(self._device)
        return augment(pixels, ids, views.cpu().numpy(), self._size, self._seed, self._augmentation)

    def _encode(self, pixels: Tensor) -> list[Tensor]:
        # The copy is an ordinary tensor, which a head can be trained on; those of inference mode cannot.
        return [encode_pixels(encode, pixels, self._precision).clone() for encode in self._encoders]


def _same_views(banks: Sequence[Bank]) -> None:
    """ValueError if banks differ in what determines the pixels."""
    for name in SAME:
        values = [getattr(bank.settings, name) for bank in banks]
        if any(value != values[0] for value in values):
            raise ValueError(f"the banks differ in {name}, so they are not of the same views: {values}")
