"""SDC (Ng et al., BMVC 2023, "Unsupervised Hashing with Similarity Distribution Calibration").

Features' cosines crowd in a narrow range, and codes that copy them cannot tell near from far ("similarity
collapse"). SDC keeps only the order of the pairs by feature similarity: the k-th of n pairs should have the k-th
of n quantiles of a Beta distribution stretched to [-1, 1] as the cosine of its codes.

The equations of the published text could not be read here. What its abstract leaves open (the cosine of logits as
relaxed code cosine, absolute differences, targets not below zero, the cosine form of the quantisation loss, every
default) is what the authors' public configuration states. Two things differ from it: all pairs of a batch are
used, not a random sample of B/2; and its head ends in a batch normalisation of the bits, which the one head of
this study has not.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.hashing.heads import Hashed, sign
from brcd_core.hashing.similarity import pair_cosines


class Settings(Frozen):
    """Shape of the Beta distribution, whether its negative quantiles become 0 (dissimilar images get orthogonal
    codes, not opposite ones), and the weight of the quantisation loss."""

    a: float = Field(5.0, gt=0)
    b: float = Field(5.0, gt=0)
    orthogonal: bool = True
    quantisation: float = Field(1.0, ge=0)


def calibration(cosines: Tensor, feature_cosines: Tensor, settings: Settings) -> Tensor:
    """Mean absolute difference between the cosines of n pairs (n,), in the order of their features' (n,), and the
    n targets in ascending order. Equal features keep the order of the batch.

    It is the Wasserstein-1 distance of the two distributions where codes order the pairs as features do, and
    more than that elsewhere: so it asks for the distribution and for the order.
    """
    order = feature_cosines.argsort(stable=True)
    targets = beta_quantiles(len(cosines), settings.a, settings.b, cosines.device, cosines.dtype)
    return F.l1_loss(cosines[order], targets.relu() if settings.orthogonal else targets)


@lru_cache(maxsize=64)
def beta_quantiles(
    count: int, a: float, b: float, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Quantiles (k - 1/2) / n, k = 1..n = count, of Beta(a, b) stretched to [-1, 1], ascending."""
    from scipy.stats import beta

    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.as_tensor(2 * beta.ppf(grid.numpy(), a, b) - 1).to(device, dtype)


def quantisation_loss(logits: Tensor) -> Tensor:
    """Mean over images of 1 - cos(h, sign(h)), logits h (B, K)."""
    return (1 - F.cosine_similarity(logits, sign(logits.detach()))).mean()


def loss(view_i: Hashed, view_j: Hashed, settings: Settings) -> Tensor:
    """Calibration over all pairs of a batch plus the weighted quantisation loss; for a batch B >= 2.

    Both are on the logits. The paper has one view of an image; here the loss is the mean over the two views.
    """
    return (_view_loss(view_i, settings) + _view_loss(view_j, settings)) / 2


def _view_loss(view: Hashed, settings: Settings) -> Tensor:
    calibrated = calibration(pair_cosines(view.logits), pair_cosines(view.features), settings)
    return calibrated + settings.quantisation * quantisation_loss(view.logits)
