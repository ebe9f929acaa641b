"""CIBHash (Qiu et al., IJCAI 2021, "Unsupervised Hashing with Contrastive Information Bottleneck").

Two augmented views of an image should get the same code, other images other codes (NT-Xent on the
binary codes), and the bits' probabilities of the two views should agree (symmetric Bernoulli KL).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from brcd_core.config import Frozen
from brcd_core.hashing.heads import Hashed


class Settings(Frozen):
    """tau of NT-Xent and the weight of the KL term; defaults are the published ones."""

    temperature: float = Field(0.3, gt=0)
    kl_weight: float = Field(0.001, ge=0)


def nt_xent(codes_i: Tensor, codes_j: Tensor, temperature: float) -> Tensor:
    """NT-Xent of two views' codes (B, K): the mean over 2B rows of the cross-entropy of picking the
    other view of the same image among the 2B - 1 other rows, by cosine / temperature.

    Source: Chen et al., ICML 2020 (SimCLR), eq. 1; CIBHash eq. 6.
    """
    rows = F.normalize(torch.cat([codes_i, codes_j]), dim=1)
    logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -torch.inf)
    half = len(codes_i)
    partner = torch.arange(2 * half, device=rows.device).roll(half)
    return F.cross_entropy(logits, partner)


def bernoulli_kl(p: Tensor, q: Tensor, eps: float = 1e-7) -> Tensor:
    """KL(p || q) of independent bits with probabilities p, q (B, K): summed over bits, mean over the batch."""
    p, q = p.clamp(eps, 1 - eps), q.clamp(eps, 1 - eps)
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return divergence.sum(1).mean()


def loss(view_i: Hashed, view_j: Hashed, settings: Settings) -> Tensor:
    """NT-Xent + kl_weight * (KL(p_i || p_j) + KL(p_j || p_i)) / 2; the second argument carries no gradient."""
    p_i, p_j = view_i.probabilities, view_j.probabilities
    kl = (bernoulli_kl(p_i, p_j.detach()) + bernoulli_kl(p_j, p_i.detach())) / 2
    return nt_xent(view_i.codes, view_j.codes, settings.temperature) + settings.kl_weight * kl
