"""Two very small encoders with random weights: they let the tests and a first try run with no download.

Random convolutions carry some meaning. By 10 nearest neighbours (4,000 CIFAR-10 images, 1,000 queries, chance
10 %) the teacher names the class of 38 % of the queries and the student of 28 %.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


class TinyTeacher(nn.Module):
    """Two convolutions, pooled over a 2 x 2 grid: features (B, 64) of images of any size from 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _random_convolution(3, 32, seed=1)
        self.second = _random_convolution(32, 16, seed=8)

    def forward(self, images: Tensor) -> Tensor:
        hidden = nn.functional.max_pool2d(self.first(images).relu(), 2)
        return nn.functional.adaptive_avg_pool2d(self.second(hidden).relu(), 2).flatten(1)


class TinyStudent(nn.Module):
    """One convolution, pooled over the whole image: features (B, 48)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _random_convolution(3, 48, seed=3)

    def forward(self, images: Tensor) -> Tensor:
        return self.first(images).relu().mean(dim=(2, 3))


def _random_convolution(inputs: int, outputs: int, seed: int) -> nn.Conv2d:
    """A 3 x 3 convolution with filters of mean 0 and length near 1, bit for bit the same on every machine.

    Only exact steps: the raw stream of PCG64, whole numbers, and a division by a power of two.
    """
    weights = inputs * 9
    raw = np.random.Generator(np.random.PCG64(seed)).random((outputs, weights))
    whole = np.floor(raw * 256).astype(np.int64)
    centred = whole * weights - whole.sum(axis=1, keepdims=True)
    scale = 2 ** round(math.log2(74 * weights**1.5))  # 74: standard deviation of a number from 0 to 255
    filters = (centred / scale).astype(np.float32).reshape(outputs, inputs, 3, 3)
    layer = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(filters))
    return layer
