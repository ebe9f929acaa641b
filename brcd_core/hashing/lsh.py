"""LSH by random hyperplanes (Charikar, STOC 2002, "Similarity Estimation Techniques from Rounding Algorithms").

Two images get different signs from a random hyperplane with probability angle / pi. It learns nothing but the
mean: the reference that every method should beat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_core.config import Frozen


class Settings(Frozen):
    """LSH has nothing to choose."""


def fit(features: Tensor, bits: int, seed: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of K = bits Gaussian hyperplanes through the mean of raw features (N, D).

    Through the mean and not the origin, for features behind a ReLU all lie on one side of most planes through
    the origin. Any number of bits will do.
    """
    weight = torch.randn(bits, features.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    bias = -weight @ features.detach().cpu().double().mean(0)
    return weight.float().to(features.device), bias.float().to(features.device)
