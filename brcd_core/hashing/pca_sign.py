"""PCA-sign, a shallow reference: bit k is the side of the mean on which an image lies along principal axis k.

The start of ITQ (Gong and Lazebnik, CVPR 2011), without its rotation.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brcd_core.config import Frozen


class Settings(Frozen):
    """PCA-sign has nothing to choose."""


def fit(features: Tensor, bits: int, seed: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of the K = bits first principal axes, for raw features (N, D).

    Closed form: the seed is not used. ValueError where the features vary in fewer than K directions.
    """
    axes, mean = principal_axes(features, bits)
    return linear(axes, mean, features)


def principal_axes(features: Tensor, bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first `bits` principal axes (K, D) of features (N, D), orthonormal rows, and their mean (D,).

    ValueError where the features vary in fewer directions: D and N - 1 are bounds.
    """
    from sklearn.decomposition import PCA

    values = features.detach().cpu().numpy().astype(np.float64)
    directions = min(values.shape[1], len(values) - 1)
    if bits <= directions:
        # Exact, unlike the randomised solver that "auto" may take, and fast where there are many more images than D.
        with np.errstate(invalid="ignore"):  # 0 / 0, the share of no variance at all
            pca = PCA(bits, svd_solver="covariance_eigh").fit(values)
        directions = int((pca.explained_variance_ > 1e-10 * pca.explained_variance_[0]).sum())
    if bits > directions:
        raise ValueError(
            f"{bits} bits need features that vary in {bits} directions; {len(values)} images with features of "
            f"{values.shape[1]} dimensions vary in {directions}. Take fewer bits, more images, or hash model 'lsh'"
        )
    return pca.components_, pca.mean_


def linear(axes: NDArray[np.float64], mean: NDArray[np.float64], like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of x -> axes (x - mean), as float32 on the device of `like`."""
    return (
        torch.as_tensor(axes, dtype=torch.float32, device=like.device),
        torch.as_tensor(-axes @ mean, dtype=torch.float32, device=like.device),
    )
