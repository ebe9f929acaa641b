"""Properties of hash heads and of the hash models' losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tensors import SEEDS, SIZES, cosine, few, normal

from brcd_core.hashing import HashHead, cibhash, greedyhash, hashed, sdc
from brcd_core.hashing.heads import sign
from brcd_core.hashing.similarity import pair_cosines, similarity_regression, straight_through

# ---- heads ------------------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(1, 9), st.integers(1, 6), st.sampled_from([1e-12, 1.0, 1e4]))
def test_codes_are_the_signs_of_logits_of_any_size(seed: int, size: int, bits: int, scale: float) -> None:
    logits = normal(seed, size, bits).mul(scale).requires_grad_()
    view = hashed(torch.zeros(size, 1), logits)
    assert view.codes.tolist() == [[1 if x >= 0 else -1 for x in row] for row in logits.tolist()]
    assert view.probabilities.flatten().tolist() == pytest.approx(
        [1 / (1 + math.exp(-x)) if x > -700 else 0.0 for x in logits.flatten().tolist()]
    )
    assert torch.equal(sign(view.codes), view.codes) and sign(logits.float()).dtype == torch.float32


@few
@given(SEEDS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 5), st.integers(1, 9))
def test_a_head_is_its_layers_by_hand(seed: int, size: int, bits: int, hidden: int, batch: int) -> None:
    head = HashHead(3, bits, hidden, seed).double()
    features = normal(seed, size, 3)
    head.fit_scaling(normal(seed + 1, 7, 3) * 5 + 2)
    expected = []
    for row in features.tolist():
        x = [(one - mean) / spread for one, mean, spread in zip(row, head.mean.tolist(), head.deviation.tolist())]
        for place, layer in enumerate(head.layers):
            x = [max(one, 0.0) for one in x] if place else x
            weights = zip(layer.weight.tolist(), layer.bias.tolist())
            x = [sum(w * one for w, one in zip(row_weights, x)) + bias for row_weights, bias in weights]
        expected.append(x)
    torch.testing.assert_close(head(features), torch.tensor(expected, dtype=torch.float64))
    single = HashHead(3, bits, hidden, seed)
    assert torch.equal(single.codes(features.float(), batch), single.codes(features.float()))


# ---- hash models ------------------------------------------------------------------------------------------


@few
@given(SEEDS, SIZES, st.sampled_from([8, 16]), st.floats(0.1, 2))
def test_nt_xent_knows_neither_order_nor_scale_nor_signs(seed: int, size: int, bits: int, tau: float) -> None:
    one, other = normal(seed, size, bits), normal(seed + 1, size, bits)
    value = cibhash.nt_xent(one, other, tau).item()
    rows, total = [*one.tolist(), *other.tolist()], 0.0
    for a, row in enumerate(rows):
        similar = [math.exp(cosine(row, rows[c]) / tau) for c in range(2 * size) if c != a]
        total -= math.log(math.exp(cosine(row, rows[(a + size) % (2 * size)]) / tau) / sum(similar))
    assert value == pytest.approx(total / (2 * size), rel=1e-9)
    assert value == pytest.approx(cibhash.nt_xent(other, one, tau).item())
    order, flip = torch.randperm(size, generator=torch.Generator().manual_seed(seed)), sign(normal(seed + 2, bits))
    assert value == pytest.approx(cibhash.nt_xent(3 * one[order] * flip, other[order] * flip, tau).item())
    assert cibhash.nt_xent(one, one, tau) <= math.log(2 * size - 1) + 1e-9  # no worse than a guess
    assert cibhash.nt_xent(one[:1].repeat(size, 1), one[:1].repeat(size, 1), tau).item() == pytest.approx(
        math.log(2 * size - 1)
    )


@few
@given(SEEDS, SIZES, st.integers(1, 5), st.booleans())
def test_kl_of_bits_is_positive_and_zero_for_equal_ones(seed: int, size: int, bits: int, sure: bool) -> None:
    p, q = normal(seed, size, bits).sigmoid(), normal(seed + 1, size, bits).sigmoid()
    if sure:
        p, q = p.round(), q.round()
    slow = 0.0
    for a, b in zip(p.flatten().tolist(), q.flatten().tolist()):
        a, b = min(max(a, 1e-7), 1 - 1e-7), min(max(b, 1e-7), 1 - 1e-7)
        slow += a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
    assert cibhash.bernoulli_kl(p, q).item() == pytest.approx(slow / size, rel=1e-9, abs=1e-12)
    assert cibhash.bernoulli_kl(p, p) == 0
    assert cibhash.bernoulli_kl(1 - p, 1 - q).item() == pytest.approx(slow / size, rel=1e-6, abs=1e-12)


@few
@given(SEEDS, SIZES, st.integers(1, 6), st.booleans())
def test_pair_cosines_are_those_of_each_pair(seed: int, size: int, dim: int, zero: bool) -> None:
    rows, others = normal(seed, size, dim), normal(seed + 1, size, dim)
    if zero:
        rows[0] = 0
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    slow = [[cosine(x[i], x[j]) for i, j in pairs] for x in (rows.tolist(), others.tolist())]
    assert pair_cosines(rows).tolist() == pytest.approx(slow[0], abs=1e-12)
    regression = sum((a - b) ** 2 for a, b in zip(*slow)) / len(pairs)
    assert similarity_regression(rows, others).item() == pytest.approx(regression, abs=1e-12)
    assert similarity_regression(rows, 2 * rows).item() == pytest.approx(0, abs=1e-12)


@few
@given(SEEDS, SIZES, st.integers(1, 6))
def test_straight_through_and_corner_penalty(seed: int, size: int, bits: int) -> None:
    logits, codes = normal(seed, size, bits).requires_grad_(), sign(normal(seed + 1, size, bits))
    weight = normal(seed + 2, size, bits)
    passed = straight_through(codes, logits)
    torch.testing.assert_close(passed, codes, rtol=0, atol=1e-15)
    (gradient,) = torch.autograd.grad((passed * weight).sum(), logits)
    assert torch.equal(gradient, weight)
    slow = [abs(abs(x) - 1) ** 3 for x in logits.flatten().tolist()]
    assert greedyhash.corner_penalty(logits).item() == pytest.approx(sum(slow) / len(slow))
    assert greedyhash.corner_penalty(codes) == 0
    assert sdc.quantisation_loss(3 * codes).item() == pytest.approx(0, abs=1e-12)
    assert 0 <= sdc.quantisation_loss(logits) < 1


@few
@given(SEEDS, st.integers(1, 12), st.floats(0.5, 8), st.floats(0.5, 8))
def test_quantiles_rise_and_mirror(seed: int, count: int, a: float, b: float) -> None:
    found = sdc.beta_quantiles(count, a, b)
    assert found.shape == (count,) and found.dtype == torch.float64
    assert (found.diff() > 0).all() and found.min() > -1 and found.max() < 1
    torch.testing.assert_close(sdc.beta_quantiles(count, b, a), -found.flip(0), rtol=0, atol=1e-8)
    cosines, choice = normal(seed, count).tanh(), sdc.Settings(a=a, b=b)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    features = normal(seed + 1, count)
    calibrated = sdc.calibration(cosines, features, choice).item()
    assert sdc.calibration(cosines[order], features[order], choice).item() == pytest.approx(calibrated)


# ---- bad input --------------------------------------------------------------------------------------------


@few
@given(SEEDS, st.integers(1, 6), st.integers(1, 4))
def test_rows_without_a_logit_are_counted(seed: int, size: int, lost: int) -> None:
    features = normal(seed, size, 3).float()
    which = np.random.default_rng(seed).permutation(size)[:lost]
    features[which, 0] = torch.nan
    with pytest.raises(ValueError, match=f"^{len(which)} of {size} images have NaN in their logits$"):
        HashHead(3, 8).codes(features, batch=2)
