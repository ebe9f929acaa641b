"""Properties of what the distillation losses are made of, and where they compute."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tensors import SEEDS, SIZES, cosine, few, normal
from torch._subclasses.fake_tensor import FakeTensorMode

from brcd_core.distillation import (
    Batch,
    bit_cross_entropy,
    brcd,
    crcd,
    kl,
    logit_mse,
    none,
    pkt,
    rkd,
    soft_bit_cross_entropy,
    sp,
    sskd,
)
from brcd_core.distillation.memory import Memory, nce
from brcd_core.hashing import Hashed, cibhash, hashed
from brcd_core.hashing.heads import sign

# ---- what the distillation losses are made of -------------------------------------------------------------


@few
@given(SEEDS, SIZES, st.sampled_from([4, 8]), st.booleans())
def test_masked_cosines_are_those_of_the_bits_that_are_kept(seed: int, size: int, bits: int, own: bool) -> None:
    rows, masks = normal(seed, size, bits), (normal(seed + 1, size, bits) > 0).double()
    masks[0] = 0
    found = brcd.masked_cosines(rows, masks, own)
    for a in range(size):
        for c in range(size):
            left, right = masks[a] * rows[a], masks[c if own else a] * rows[c]
            assert found[a, c].item() == pytest.approx(cosine(left.tolist(), right.tolist()), abs=1e-9)
    assert not found[0].any()
    assert own or torch.equal(found, brcd.masked_cosines(rows, masks))
    same = masks[1:2].repeat(size, 1)
    torch.testing.assert_close(brcd.masked_cosines(rows, same), brcd.masked_cosines(rows, same, own=True))


@few
@given(SEEDS, SIZES, st.integers(2, 6))
def test_relations_of_images_are_those_of_lengths_and_angles(seed: int, size: int, bits: int) -> None:
    codes = normal(seed, size, bits)
    turn, _ = torch.linalg.qr(normal(seed + 1, bits, bits))
    moved = 3 * codes @ turn + normal(seed + 2, bits)
    for function in (rkd.relations,):  # neither a shift nor a turn nor a scale
        for one, other in zip(function(codes), function(moved)):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    distances, angles = rkd.relations(codes)
    assert distances.sum().item() == pytest.approx(size * (size - 1))
    assert torch.equal(distances, distances.T) and not distances.diagonal().any()
    assert (angles.abs() <= 1 + 1e-12).all()
    chances = pkt.neighbour_probabilities(codes)
    torch.testing.assert_close(chances.sum(1), torch.ones(size, dtype=torch.float64))
    assert (chances >= 0).all()
    torch.testing.assert_close(pkt.neighbour_probabilities(2 * codes @ turn), chances)
    (gram,) = sp.similarities(codes)
    torch.testing.assert_close(gram.norm(dim=1), torch.ones(size, dtype=torch.float64))
    torch.testing.assert_close(sp.similarities(-codes @ turn)[0], gram)
    bitwise = sp.similarities(codes, over_bits=True)
    assert bitwise.shape == (size, bits, bits)
    torch.testing.assert_close(sp.similarities(-codes, over_bits=True), bitwise)


@few
@given(SEEDS, st.integers(2, 9), st.integers(1, 12))
def test_anchors_are_different_other_images(seed: int, size: int, count: int) -> None:
    found = crcd.draw_anchors(size, count, torch.Generator().manual_seed(seed))
    assert found.shape == (size, min(count, size - 1))
    for image, anchors in enumerate(found.tolist()):
        assert len(set(anchors)) == len(anchors) and image not in anchors and set(anchors) <= set(range(size))


@few
@given(SEEDS, st.integers(2, 5), st.integers(1, 4), st.integers(3, 6))
def test_a_memory_keeps_unit_rows_and_knows_every_cosine(seed: int, size: int, dim: int, images: int) -> None:
    memory, embedded = Memory(normal(seed, images, dim)), torch.nn.functional.normalize(normal(seed + 1, size, dim))
    which = torch.arange(size * 2).reshape(size, 2) % images
    for b, row in enumerate(memory.cosines(embedded, which).tolist()):
        expected = [cosine(embedded[b].tolist(), memory.rows[c].tolist()) for c in which[b].tolist()]
        assert row == pytest.approx(expected, abs=1e-12)
    one = torch.tensor([images - 1])
    before = memory.rows.clone()
    memory.update(one, embedded[:1], momentum=0.0)
    torch.testing.assert_close(memory.rows[-1], embedded[0])
    assert torch.equal(memory.rows[:-1], before[:-1])
    memory.update(one, before[-1:], momentum=0.9)
    torch.testing.assert_close(memory.rows.norm(dim=1), torch.ones(images, dtype=torch.float64))


@few
@given(SEEDS, st.integers(1, 4), st.integers(1, 5))
def test_the_contrast_constant_is_taken_once(seed: int, size: int, negatives: int) -> None:
    first, second = normal(seed, size, 1 + negatives), normal(seed + 1, size, 1 + negatives)
    memory = Memory(normal(seed, 3, 2))
    mean = sum(math.exp(x) for x in first.flatten().tolist()) / first.numel()
    torch.testing.assert_close(memory.normalised(first).exp().mean().item(), 1.0)
    torch.testing.assert_close(memory.normalised(second), second - math.log(mean))
    expected = 0.0
    for row in second.tolist():
        chances = [math.exp(x) / (math.exp(x) + negatives) for x in row]
        expected -= math.log(chances[0]) + sum(math.log(1 - h) for h in chances[1:])
    assert nce(second).item() == pytest.approx(expected / size)


@few
@given(SEEDS, st.integers(1, 5), st.sampled_from([4, 16]), st.floats(0, 1))
def test_turned_images_are_kept_by_their_rank(seed: int, size: int, bits: int, share: float) -> None:
    turned, upright = sign(normal(seed, 3 * size, bits)), sign(normal(seed + 1, size, bits))
    found = sskd.cosines(turned * 2, upright * 3)
    for r, row in enumerate(found.tolist()):
        expected = [cosine(turned[r].tolist(), other) for other in upright.tolist()]
        assert row == pytest.approx(expected, abs=1e-12)
    similarity = sskd.cosines(turned, upright)
    ranks = [sum(x > row[r % size] for x in row) for r, row in enumerate(similarity.tolist())]
    wrong = sorted((rank, r) for r, rank in enumerate(ranks) if rank)
    kept = {r for _, r in wrong[: math.floor(share * len(wrong))]} | {r for r, rank in enumerate(ranks) if not rank}
    assert sskd.kept_rows(similarity, share).tolist() == [r in kept for r in range(3 * size)]


@few
@given(SEEDS, SIZES)
def test_no_distillation_is_zero(seed: int, size: int) -> None:
    view = hashed(normal(seed, size, 3), normal(seed, size, 8))
    value = none.loss(Batch(torch.arange(size), view, view, view, view), None, none.Settings())
    assert value == 0 and value.shape == () and value.dtype == torch.float64


@pytest.mark.parametrize("method", [bit_cross_entropy, brcd, kl, logit_mse, pkt, rkd, soft_bit_cross_entropy, sp, sskd])
def test_losses_stay_where_their_tensors_are(method: Any) -> None:
    """Tensors that say they are on a GPU, and hold no numbers: a loss must not mix them with others."""
    with FakeTensorMode():
        upright, turned = (Hashed(*[torch.empty(size, 8, device="cuda")] * 4) for size in (4, 12))
        images = torch.zeros(4, dtype=torch.long, device="cuda")
        batch = Batch(images, upright, upright, upright, upright, turned, turned)
        centres = torch.empty(3, 8, device="cuda", dtype=torch.float64)
        prepared = brcd.Prepared(centres, torch.zeros(9, dtype=torch.long, device="cuda"), centres.float())
        assert method.loss(batch, prepared, method.Settings()).device.type == "cuda"
        assert cibhash.loss(upright, upright, cibhash.Settings()).device.type == "cuda"
