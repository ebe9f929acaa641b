"""The trainable part: a head on frozen features, and its output as logits, probabilities and codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Hashed(NamedTuple):
    """What a hash head gives for one view of a batch; every field is (B, K) but the first."""

    features: Tensor  # (B, D), the frozen backbone's
    logits: Tensor
    probabilities: Tensor  # sigmoid(logits), the chance of a +1 bit
    codes: Tensor  # -1 or +1, with a straight-through gradient to the probabilities


def sign(x: Tensor) -> Tensor:
    """-1 or +1 with the same shape; zero counts as +1, as in codes.pack."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def hashed(features: Tensor, logits: Tensor) -> Hashed:
    """Codes of a head's output as CIBHash defines them: p = sigmoid(logit), b = sign(p - 1/2)."""
    probabilities = torch.sigmoid(logits)
    # The sign is taken of the logit: p - 1/2 rounds to zero for logits below 1e-8.
    codes = sign(logits) - (probabilities.detach() - probabilities)
    return Hashed(features, logits, probabilities, codes)


class HashHead(nn.Module):
    """Features (B, D) to logits (B, K): one linear layer, or two with a ReLU between them.

    `hidden` is the width of the layer between; 0 means a single linear layer. Features are
    standardised per dimension with the mean and deviation of the training images (`fit_scaling`):
    backbones differ in the scale of their features by two orders of magnitude, and one learning rate
    has to serve all. The initial weights depend on `seed` alone.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, bits: int, hidden: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
            layers = [nn.Linear(dim, bits)]
            if hidden:
                layers = [nn.Linear(dim, hidden), nn.Linear(hidden, bits)]
        self.layers = nn.ModuleList(layers)

    def fit_scaling(self, features: Tensor) -> None:
        """Take mean and deviation per dimension from the training features (..., D)."""
        flat = features.reshape(-1, features.shape[-1]).float()
        self.mean.copy_(flat.mean(0))
        deviation = flat.std(0)
        # A feature that never moves on the training images must not shout when it moves elsewhere.
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, D)."""
        x = (features - self.mean) / self.deviation
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)

    def hash(self, features: Tensor) -> Hashed:
        """Logits, probabilities and codes of features (B, D)."""
        return hashed(features, self(features))

    @torch.inference_mode()
    def codes(self, features: Tensor, batch: int = 4096) -> Tensor:
        """Codes (N, K) in {-1, +1} as int8, of features (N, D), without gradients. ValueError for NaN."""
        logits = torch.cat([self(part.float()) for part in features.split(batch)])
        if logits.isnan().any():
            raise ValueError(f"{int(logits.isnan().any(1).sum())} of {len(logits)} images have NaN in their logits")
        return sign(logits).to(torch.int8)
