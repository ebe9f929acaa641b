"""How well codes keep the similarities of features: a measure that needs no labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brcd_core.codes import signs

ROWS = 4096  # images at once
LEAST = 1e-12  # variance of cosines; below it is rounding


def agreement(
    query_codes: ArrayLike, database_codes: ArrayLike, query_features: Tensor, database_features: Tensor
) -> float:
    """Pearson correlation, over all pairs of a query and a database image, of the two cosine similarities.

    Codes (Q, K) and (N, K), signs taken; features (Q, D) and (N, D), e.g. the teacher's frozen ones. 1: the codes
    order all pairs linearly as the features do; 0: not at all, also where one of the two never varies.
    ValueError if codes and features are not of the same images.

    >>> codes, features = [[1, 1], [1, -1]], torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(agreement(codes, codes, features, features), 3)
    1.0
    """
    codes = [np.asarray(signs(part)) for part in (query_codes, database_codes)]
    features = [query_features, database_features]
    for own, other in zip(codes, features, strict=True):
        if len(own) != len(other):
            raise ValueError(f"{len(own)} codes and {len(other)} features: they must be of the same images")
    bits, pairs = codes[0].shape[1], len(codes[0]) * len(codes[1])
    (query_sum, query_products), (database_sum, database_products) = map(_moments, codes, features)
    # The sum over pairs of (a . b)(f . g) is that of all elements of A'F times B'G: no pair is looked at.
    x, y = slice(None, bits), slice(bits, None)
    xx, yy, xy = (
        float((query_products[one, other] * database_products[one, other]).sum()) / pairs
        for one, other in ((x, x), (y, y), (x, y))
    )
    mean_x, mean_y = (float(query_sum[part] @ database_sum[part]) / pairs for part in (x, y))
    variance_x, variance_y = xx - mean_x**2, yy - mean_y**2
    if min(variance_x, variance_y) < LEAST:
        return 0.0
    return float((xy - mean_x * mean_y) / (variance_x * variance_y) ** 0.5)


def _moments(codes: NDArray[np.int8], features: Tensor) -> tuple[Tensor, Tensor]:
    """Of a set's rows z = [code, feature], both of length 1: the sum of z (K + D,), and of z z' (K + D, K + D)."""
    width = codes.shape[1] + features.shape[1]
    total = torch.zeros(width, dtype=torch.float64, device=features.device)
    products = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for first in range(0, len(codes), ROWS):
        part = slice(first, first + ROWS)
        halves = torch.as_tensor(codes[part]).to(total), features[part].to(total)
        both = torch.cat([torch.nn.functional.normalize(half, dim=1) for half in halves], dim=1)
        total += both.sum(0)
        products += both.T @ both
    return total, products
