"""GreedyHash, its unsupervised variant (Su et al., NeurIPS 2018, "Greedy Hash: Towards Fast Optimization for
Accurate Hash Coding in CNN").

The forward pass has true codes, sign(h); the backward pass hands their gradient to the logits h unchanged. The
cosines of the codes are regressed on those of the frozen features, and a cubic penalty draws each logit to -1 or
+1, so that the gradient that was handed over is a fair one.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.hashing.heads import Hashed, sign
from brcd_core.hashing.similarity import similarity_regression, straight_through


class Settings(Frozen):
    """The weight of the penalty; the default is that of the authors' public code for unsupervised hashing."""

    alpha: float = Field(0.1, ge=0)


def corner_penalty(logits: Tensor) -> Tensor:
    """Mean of | |h| - 1 |^3 over logits (B, K): zero at the corners of the cube."""
    return (logits.abs() - 1).abs().pow(3).mean()


def loss(view_i: Hashed, view_j: Hashed, settings: Settings) -> Tensor:
    """Mean over all pairs of (cos(b, b') - cos(f, f'))^2, plus alpha times the corner penalty; for a batch B >= 2.

    b: sign codes, f: frozen features. The codes' gradient goes to the logits, not to the probabilities as in
    `Hashed.codes`. The paper has one view of an image; here the loss is the mean over the two views.
    """
    return (_view_loss(view_i, settings.alpha) + _view_loss(view_j, settings.alpha)) / 2


def _view_loss(view: Hashed, alpha: float) -> Tensor:
    codes = straight_through(sign(view.logits.detach()), view.logits)
    return similarity_regression(codes, view.features) + alpha * corner_penalty(view.logits)
