"""BiHalf (Li and van Gemert, AAAI 2021, "Deep Unsupervised Image Hashing by Maximizing Bit Entropy").

A bit says most when it is +1 for half of the images. So in a batch each bit is +1 for the upper half of its
ranking of logits and -1 for the lower half, whatever their signs: the codes of the optimal transport from the
logits to a half-half distribution. The cosines of these codes are regressed on those of the frozen features.
Outside training a code is the sign of its logits; the proximal term draws the two together.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.hashing.heads import Hashed
from brcd_core.hashing.similarity import similarity_regression, straight_through


class Settings(Frozen):
    """The weight of the proximal term; the default is that of all image sets in the authors' public code."""

    gamma: float = Field(6.0, ge=0)


def half_and_half(logits: Tensor) -> Tensor:
    """Codes (B, K) in {-1, +1}: +1 for the B // 2 highest logits of each bit. Of equal ones the first is higher."""
    upper = logits.argsort(dim=0, descending=True, stable=True)[: len(logits) // 2]
    return torch.full_like(logits, -1.0).scatter(0, upper, 1.0)


def loss(view_i: Hashed, view_j: Hashed, settings: Settings) -> Tensor:
    """Regression of the pairs' code cosines on their feature cosines, plus the proximal term; for a batch B >= 2.

    The gradient at the logits U (B, K) with half-half codes C is the paper's,
    dL/dU = dL/dC + gamma (U - C) / (B K). There the second part is written into the backward pass of the layer;
    here it is the gradient of gamma/2 mean (U - C)^2, so that the value of the loss holds it too. The division by
    B K is that of the authors' code; without it the proximal part would drown the other.
    The paper has one view of an image; here each view is a batch of its own and the loss is the mean of the two.
    """
    return (_view_loss(view_i, settings.gamma) + _view_loss(view_j, settings.gamma)) / 2


def _view_loss(view: Hashed, gamma: float) -> Tensor:
    codes = half_and_half(view.logits.detach())
    proximal = (view.logits - codes).square().mean()
    return similarity_regression(straight_through(codes, view.logits), view.features) + gamma / 2 * proximal
