"""How well codes keep the similarities of features: a measure that needs no labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from brcd_core.codes import signs

ROWS = 256  # queries at once


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
    device = query_features.device
    code_rows, code_columns = (
        torch.nn.functional.normalize(torch.as_tensor(part).float().to(device), dim=1) for part in codes
    )
    rows, columns = (torch.nn.functional.normalize(part.float(), dim=1) for part in features)
    sums = torch.zeros(5, dtype=torch.float64, device=device)
    for first in range(0, len(rows), ROWS):
        part = slice(first, first + ROWS)
        x = (code_rows[part] @ code_columns.T).double()
        y = (rows[part] @ columns.T).double()
        sums += torch.stack([x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    mean_x, mean_y, xx, yy, xy = (sums / (len(rows) * len(columns))).tolist()
    variance = max(xx - mean_x**2, 0.0) * max(yy - mean_y**2, 0.0)
    return float((xy - mean_x * mean_y) / variance**0.5) if variance > 1e-18 else 0.0
