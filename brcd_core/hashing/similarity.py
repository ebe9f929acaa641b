"""Cosine similarities of the pairs of a batch: what the hash models that copy the features' similarities share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pair_cosines(rows: Tensor) -> Tensor:
    """Cosine of every pair i < j of rows (B, D): (B (B - 1) / 2,). A row of zeros has cosine 0 to all."""
    rows = F.normalize(rows, dim=1)
    i, j = torch.triu_indices(len(rows), len(rows), offset=1, device=rows.device)
    return (rows @ rows.T)[i, j]


def similarity_regression(codes: Tensor, features: Tensor) -> Tensor:
    """Mean squared difference between the cosines of codes (B, K) and of features (B, D), over all pairs i != j.

    The authors of GreedyHash and BiHalf pair the first half of a batch with the second, a random sample of these
    pairs. The features are the frozen backbone's as they come, as in both papers: behind a ReLU no cosine is
    negative, and the codes are asked for none either.
    """
    return F.mse_loss(pair_cosines(codes), pair_cosines(features))


def straight_through(codes: Tensor, logits: Tensor) -> Tensor:
    """The codes (B, K) as they are, with their gradient passed on to the logits unchanged."""
    return codes - (logits.detach() - logits)
