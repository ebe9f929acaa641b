"""Features of training images under augmented views, batch by batch: from view banks, or computed afresh.

Both sources have one interface: `count`, the views that an image has (None: as many as one asks for), and
`batch(images, views)`, one tensor (B, D) float32 a backbone. All backbones see the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brcd_core.views.augmentation import Augmentation, augment
from brcd_core.views.bank import Bank, Encode, Precision, ReadImages, encode_pixels

SAME = ("dataset", "data_fingerprint", "split", "ids_checksum", "views", "augmentation", "seed", "version")


class BankViews:
    """Features from banks of one training set, one bank a backbone, held on the device.

    ValueError if the banks hold clean views, or if they differ in images, augmentation or seed.
    """

    def __init__(self, banks: Sequence[Bank], device: torch.device | str = "cpu") -> None:
        settings = [bank.settings for bank in banks]
        if not settings or settings[0].views == 0:
            raise ValueError("training needs banks of augmented views; clean ones have views = 0")
        for name in SAME:
            values = [getattr(one, name) for one in settings]
            if any(value != values[0] for value in values):
                raise ValueError(f"the banks differ in {name}, so they are not of the same views: {values}")
        self.count: int | None = settings[0].views
        self._features = [bank.tensor(device) for bank in banks]

    def batch(self, images: Tensor, views: Tensor) -> list[Tensor]:
        """Features (B, D) float32, one tensor a bank, of images at positions (B,) in views (B,)."""
        return [features[views, images].float() for features in self._features]


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
        ids = self._ids[images.cpu().numpy()]
        pixels = self._read_images(ids).to(self._device)
        pixels = augment(pixels, ids, views.cpu().numpy(), self._size, self._seed, self._augmentation)
        # The copy is an ordinary tensor, which a head can be trained on; those of inference mode cannot.
        return [encode_pixels(encode, pixels, self._precision).clone() for encode in self._encoders]
