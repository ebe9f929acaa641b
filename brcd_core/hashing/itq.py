"""ITQ (Gong and Lazebnik, CVPR 2011, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes").

Principal axes carry unequal variance, so their signs lose unequally much. ITQ turns the projections by the
rotation that brings them nearest to the corners of the cube. The ITQMatrix of faiss is not used: the rotation that
it takes in a round (1.15.1, tried) is not the nearest one, and the error can rise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.hashing.pca_sign import linear, principal_axes


class Settings(Frozen):
    """How often codes and rotation are made anew; the default is the paper's."""

    iterations: int = Field(50, ge=0)


def fit(features: Tensor, bits: int, seed: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of K = bits rotated principal axes, for raw features (N, D).

    The seed draws the rotation that it starts from. ValueError where the features vary in fewer than K directions.
    """
    axes, mean = principal_axes(features, bits)
    projected = (features.detach().cpu().numpy().astype(np.float64) - mean) @ axes.T
    start, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))
    return linear(rotation(projected, start, settings.iterations).T @ axes, mean, features)


def rotation(projected: NDArray[np.float64], start: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """The orthogonal R (K, K) after `iterations` rounds, of projections V (N, K), from the rotation `start`.

    A round takes codes B = sign(V R), then the R that minimises ||B - V R|| (orthogonal Procrustes); neither step
    can raise that error.
    """
    from scipy.linalg import orthogonal_procrustes

    rotated = start
    for _ in range(iterations):
        codes = np.where(projected @ rotated >= 0, 1.0, -1.0)
        rotated, _ = orthogonal_procrustes(projected, codes)
    return rotated
