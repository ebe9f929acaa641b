"""Hash heads and CIBHash, against loops over pairs."""

import math

import numpy as np
import pytest
import torch

from brcd_core import hashing
from brcd_core.hashing import HashHead, cibhash, hashed
from brcd_core.hashing.heads import sign


def random_codes(rows, bits, seed):
    return sign(torch.randn(rows, bits, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def slow_nt_xent(codes_i, codes_j, tau):
    """The textbook form: for every row, a loop over all other rows."""
    rows = [*codes_i.tolist(), *codes_j.tolist()]
    half = len(codes_i)

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    total = 0.0
    for a in range(2 * half):
        partner = (a + half) % (2 * half)
        others = sum(math.exp(cosine(rows[a], rows[c]) / tau) for c in range(2 * half) if c != a)
        total -= math.log(math.exp(cosine(rows[a], rows[partner]) / tau) / others)
    return total / (2 * half)


@pytest.mark.parametrize(("batch", "bits", "tau"), [(2, 8, 0.3), (5, 16, 0.3), (7, 24, 1.0)])
def test_nt_xent_is_the_textbook_loop(batch, bits, tau):
    one, other = random_codes(batch, bits, 1), random_codes(batch, bits, 2)
    assert cibhash.nt_xent(one, other, tau).item() == pytest.approx(slow_nt_xent(one, other, tau), rel=1e-12)


def test_kl_is_the_sum_over_bits_and_the_mean_over_images():
    p, q = torch.rand(4, 6, dtype=torch.float64), torch.rand(4, 6, dtype=torch.float64)
    slow = np.mean(
        [
            sum(a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(row_p, row_q))
            for row_p, row_q in zip(p.tolist(), q.tolist())
        ]
    )
    assert cibhash.bernoulli_kl(p, q).item() == pytest.approx(slow, rel=1e-12)


def test_kl_of_certain_bits_is_finite():
    certain = torch.tensor([[0.0, 1.0]])
    assert torch.isfinite(cibhash.bernoulli_kl(certain, 1 - certain))


def test_nt_xent_is_that_of_pytorch_metric_learning():
    from pytorch_metric_learning import losses

    one, other = random_codes(9, 24, 0), random_codes(9, 24, 1)
    theirs = losses.NTXentLoss(temperature=0.3)(torch.cat([one, other]), torch.arange(9).repeat(2))
    assert cibhash.nt_xent(one, other, 0.3).item() == pytest.approx(theirs.item(), rel=1e-9)


def test_the_loss_is_nt_xent_plus_the_weighted_symmetric_kl():
    logits = torch.randn(6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other = hashed(torch.zeros(6, 3), logits), hashed(torch.zeros(6, 3), -logits + 0.1)
    p, q = one.probabilities, other.probabilities
    expected = slow_nt_xent(one.codes, other.codes, 0.3) + 0.5 * (
        (cibhash.bernoulli_kl(p, q) + cibhash.bernoulli_kl(q, p)).item() / 2
    )
    found = cibhash.loss(one, other, cibhash.Settings(kl_weight=0.5))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_zero_is_a_plus_one_everywhere():
    assert sign(torch.tensor([-1.0, -0.0, 0.0, 2.0])).tolist() == [-1, 1, 1, 1]
    assert hashed(torch.zeros(1, 1), torch.zeros(1, 2)).codes.tolist() == [[1, 1]]


def test_codes_are_signs_and_their_gradient_passes_straight_through():
    logits = torch.randn(3, 8, requires_grad=True)
    codes = hashed(torch.zeros(3, 1), logits).codes
    assert set(codes.flatten().tolist()) <= {-1.0, 1.0}
    weight = torch.randn(3, 8)
    (codes * weight).sum().backward()
    p = torch.sigmoid(logits.detach())
    torch.testing.assert_close(logits.grad, weight * p * (1 - p))


@pytest.mark.parametrize("hidden", [0, 12])
def test_a_head_depends_on_its_seed_alone(hidden):
    torch.manual_seed(5)
    one = HashHead(10, 16, hidden, seed=3)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    two = HashHead(10, 16, hidden, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    assert not torch.equal(one.layers[0].weight, HashHead(10, 16, hidden, seed=4).layers[0].weight)


def test_a_head_standardises_by_the_training_features():
    features = torch.randn(50, 4) * torch.tensor([1.0, 10.0, 100.0, 0.0]) + 7
    head = HashHead(4, 8)
    head.fit_scaling(features)
    scaled = (features - head.mean) / head.deviation
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0)[:3], torch.ones(3))
    moved = features[:1] + torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert (head(moved) - head(features[:1])).abs().max() < 2  # a dead feature that moves does not shout


def test_nan_is_no_code():
    with pytest.raises(ValueError, match="1 of 3 images have NaN"):
        HashHead(2, 8).codes(torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [1.0, 1.0]]))


def test_codes_in_parts_are_the_signs_of_the_logits():
    head, features = HashHead(6, 8, hidden=5), torch.randn(11, 6).half()
    expected = torch.where(head(features.float()) >= 0, 1, -1)
    assert torch.equal(head.codes(features, batch=4).long(), expected)


def test_hash_models_are_found_by_file_name():
    assert "cibhash" in hashing.models.names()
    assert "heads" not in hashing.models.names()
    with pytest.raises(ValueError, match=r"unknown hash model 'nosuch'; there are: .*cibhash"):
        hashing.models.load("nosuch")
