"""Small random tensors for property tests, and the cosine of two rows by loops."""

import math

import torch
from hypothesis import settings
from hypothesis import strategies as st

few = settings(max_examples=20, deadline=None)
SEEDS, SIZES = st.integers(0, 2**31), st.integers(2, 6)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b)) / lengths if lengths else 0.0
