"""BRCD's loss against a loop over rows and pairs that follows the method's description word by word."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from brcd_core import distillation
from brcd_core.distillation import Batch, TeacherKnowledge, brcd
from brcd_core.hashing import Hashed
from brcd_core.hashing.heads import sign


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b)) / norm if norm else 0.0


def masked(mask, code):
    return [m * x for m, x in zip(mask, code)]


def slow_loss(s, t, u, clusters, other_clusters, masks, alpha, tau, use_clusters=True, individual=True, own=False):
    """s, t, u: lists of codes; masks: one list of bits per cluster."""
    size = len(s)
    mask = [masks[c] for c in clusters] * 2
    rows = [*s, *u]
    meaning = [*clusters, *other_clusters]
    total, rows_counted = 0.0, 0
    for a in range(2 * size):
        r = a % size
        if use_clusters and not individual and other_clusters[r] != clusters[r]:
            continue
        rows_counted += 1
        weight = 1.0 if use_clusters and other_clusters[r] != clusters[r] else alpha
        structural = cosine(masked(mask[r], s[r]), masked(mask[r], u[r]))
        positive = (weight * cosine(s[r], t[r]) + (1 - weight) * structural) / tau
        denominator = math.exp(positive)
        for c in range(2 * size):
            if c % size == r:
                continue
            if use_clusters and meaning[c] == meaning[a]:
                continue
            theirs = mask[c] if own else mask[a]
            denominator += math.exp(cosine(masked(mask[a], rows[a]), masked(theirs, rows[c])) / tau)
        total += -math.log(math.exp(positive) / denominator)
    return total / max(rows_counted, 1)


def draw(size, bits_, n_clusters, seed):
    rng = np.random.default_rng(seed)
    codes = [torch.as_tensor(rng.choice([-1.0, 1.0], (size, bits_))) for _ in range(3)]
    prepared = brcd.Prepared(
        centres=torch.as_tensor(rng.uniform(-1, 1, (n_clusters, bits_))),
        assignment=torch.as_tensor(rng.integers(n_clusters, size=size + 5)),
        mask=torch.as_tensor(rng.integers(0, 2, (n_clusters, bits_)).astype(float)),
    )
    images = torch.as_tensor(rng.permutation(size + 5)[:size])
    return *codes, prepared, images


def as_batch(s, t, u, images):
    def hashed(codes):
        return Hashed(codes, codes, codes, codes)

    return Batch(images, hashed(s), hashed(torch.full_like(s, torch.nan)), hashed(t), hashed(u))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(2, 7),
    bits_=st.sampled_from([8, 16]),
    n_clusters=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    alpha=st.floats(0, 1),
    use_clusters=st.booleans(),
    individual=st.booleans(),
    own=st.booleans(),
)
def test_the_loss_is_the_slow_loop(size, bits_, n_clusters, seed, alpha, use_clusters, individual, own):
    s, t, u, prepared, images = draw(size, bits_, n_clusters, seed)
    distances = ((u[:, None] - prepared.centres[None]) ** 2).sum(2)
    expected = slow_loss(
        s.tolist(),
        t.tolist(),
        u.tolist(),
        prepared.assignment[images].tolist(),
        [min(range(n_clusters), key=row.__getitem__) for row in distances.tolist()],
        prepared.mask.tolist(),
        alpha if individual else 0.0,
        0.3,
        use_clusters,
        individual,
        own,
    )
    released = brcd.Released(own_masks=own)
    chosen = brcd.Settings(alpha=alpha, clusters=use_clusters, individual=individual, released=released)
    # The third view of the batch, the student's of view j, is NaN: the loss must not look at it.
    found = brcd.loss(as_batch(s, t, u, images), prepared, chosen)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_individual_alone_ignores_the_mask_in_its_positives():
    s, t, u, prepared, images = draw(6, 16, 3, 1)
    chosen = brcd.Settings(structural=False, clusters=False)
    rows = slow_loss(
        s.tolist(), t.tolist(), u.tolist(), prepared.assignment[images].tolist(), [0] * 6, prepared.mask.tolist(),
        alpha=1.0, tau=0.3, use_clusters=False,
    )  # fmt: skip
    assert brcd.loss(as_batch(s, t, u, images), prepared, chosen).item() == pytest.approx(rows, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 9), n_clusters=st.integers(1, 4), seed=st.integers(0, 10**6), alpha=st.floats(0, 1))
def test_as_released_it_is_the_closed_form_of_individual_alignment(size, n_clusters, seed, alpha):
    """mean log(1 + n_a exp(-a_r cos(s_r, t_r) / tau)), n_a candidates left: what the published command trains."""
    s, t, u, prepared, images = draw(size, 16, n_clusters, seed)
    everything = brcd.Released(**dict.fromkeys(brcd.Released.model_fields, True))
    chosen = brcd.Settings(alpha=alpha, n_clusters=n_clusters, released=everything)
    prepared = brcd.Prepared(prepared.centres, prepared.assignment, torch.zeros_like(prepared.mask))

    least = min(range(n_clusters), key=lambda c: sum(x * x for x in prepared.centres[c].tolist()))
    clusters = prepared.assignment[images].tolist()
    terms = []
    for a in range(2 * size):
        r = a % size
        left = 0
        for c in range(2 * size):
            meaning = clusters[c] if c < size else least
            left += c % size != r and meaning != clusters[r]
        share = alpha if clusters[r] == least else 1.0
        terms.append(math.log(1 + left * math.exp(-share * cosine(s[r].tolist(), t[r].tolist()) / 0.3)))
    found = brcd.loss(as_batch(s, t, u, images), prepared, chosen)
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9, abs=1e-12)


def test_as_released_every_bit_is_masked_whatever_the_margin():
    chosen = brcd.Settings(n_clusters=3, margin=0.0, released=brcd.Released(zero_mask=True))
    assert not brcd.prepare(TeacherKnowledge(planted(), seed=0), chosen).mask.any()


def test_each_released_deviation_changes_the_loss_by_itself():
    s, t, u, prepared, images = draw(9, 16, 3, 5)
    batch = as_batch(s, t, u, images)
    plain = brcd.loss(batch, prepared, brcd.Settings(n_clusters=3)).item()
    for name in ("mask_before_clusters", "repeated_false_negatives", "own_masks"):
        one = brcd.Settings(n_clusters=3, released=brcd.Released(**{name: True}))
        assert brcd.loss(batch, prepared, one).item() != pytest.approx(plain)


def test_a_cluster_that_keeps_no_bit_gives_a_finite_gradient():
    s, t, u, prepared, images = draw(6, 16, 2, 7)
    prepared = brcd.Prepared(prepared.centres, prepared.assignment, torch.zeros_like(prepared.mask))
    s.requires_grad_()
    brcd.loss(as_batch(s, t, u, images), prepared, brcd.Settings()).backward()
    assert s.grad.isfinite().all()


def test_weight_scales_the_loss():
    s, t, u, prepared, images = draw(5, 16, 3, 2)
    one = brcd.loss(as_batch(s, t, u, images), prepared, brcd.Settings())
    assert brcd.loss(as_batch(s, t, u, images), prepared, brcd.Settings(weight=2.5)).item() == pytest.approx(
        2.5 * one.item()
    )


def test_gradients_reach_the_student_and_pull_it_to_the_teacher():
    s, t, u, prepared, images = draw(6, 32, 2, 3)
    prepared = brcd.Prepared(prepared.centres, prepared.assignment, torch.ones_like(prepared.mask))
    logits = torch.where(s > 0, 0.1, -0.1).requires_grad_()
    codes = logits + (sign(logits) - logits).detach()
    batch = as_batch(codes, t, u, images)
    before = brcd.loss(batch, prepared, brcd.Settings())
    before.backward()
    stepped = sign(logits.detach() - 10 * logits.grad)
    after = brcd.loss(as_batch(stepped, t, u, images), prepared, brcd.Settings())
    assert after < before


def planted(n_clusters=3, per_cluster=20, bits_=24, seed=0):
    """Codes with known clusters, the last 6 bits of each random."""
    rng = np.random.default_rng(seed)
    centres = rng.choice([-1, 1], (n_clusters, bits_))
    codes = np.repeat(centres, per_cluster, axis=0)
    codes[:, -6:] = rng.choice([-1, 1], (len(codes), 6))
    return torch.as_tensor(codes).float()


def test_prepare_masks_the_undecided_bits():
    codes = planted()
    prepared = brcd.prepare(TeacherKnowledge(codes, seed=0), brcd.Settings(n_clusters=3, margin=0.6))
    assert prepared.mask[:, :-6].all() and prepared.mask[:, -6:].mean() < 0.2
    for cluster in range(3):
        members = codes[prepared.assignment == cluster]
        means = [sum(member[k].item() for member in members) / len(members) for k in range(24)]
        assert prepared.mask[cluster].tolist() == [float(abs(mean) > 0.6) for mean in means]


def test_mask_settings():
    knowledge = TeacherKnowledge(planted(), seed=0)
    kept = brcd.prepare(knowledge, brcd.Settings(n_clusters=3)).mask
    opposite = brcd.prepare(knowledge, brcd.Settings(n_clusters=3, mask="redundant")).mask
    unmasked = brcd.prepare(knowledge, brcd.Settings(n_clusters=3, mask="none")).mask
    assert torch.equal(kept, 1 - opposite) and unmasked.all()


def test_assignment_is_the_nearest_centre():
    codes = planted(seed=4)
    prepared = brcd.prepare(TeacherKnowledge(codes, seed=1), brcd.Settings(n_clusters=3))
    for row, cluster in zip(codes, prepared.assignment.tolist()):
        distances = ((prepared.centres - row.double()) ** 2).sum(1)
        assert distances[cluster] == distances.min()
    assert prepared.centres.dtype == torch.float64  # a single-precision near tie may go to another centre


def test_clusters_depend_on_the_teachers_seed_alone():
    codes = torch.as_tensor(np.random.default_rng(0).choice([-1.0, 1.0], (100, 16)))  # no clusters to be found
    one, again, other = (brcd.prepare(TeacherKnowledge(codes, seed), brcd.Settings()) for seed in (3, 3, 4))
    assert torch.equal(one.centres, again.centres) and torch.equal(one.assignment, again.assignment)
    assert not torch.equal(one.assignment, other.assignment)


def test_a_near_tie_is_no_offset_positive():
    """Codes come in single precision, which cannot tell these two centres apart; the second is nearer."""
    s, t, u = torch.ones(3, 4, 16)
    centres = torch.tensor([[-1e-9], [1e-9]], dtype=torch.float64).repeat(1, 16)
    prepared = brcd.Prepared(centres, torch.ones(4, dtype=torch.long), torch.ones(2, 16))
    # All rows have one meaning, so there is no negative.
    assert brcd.loss(as_batch(s, t, u, torch.arange(4)), prepared, brcd.Settings()) == 0


def test_bad_settings_are_named():
    message = "brcd: individual and structural are both off; turn one on or use method 'none' "
    with pytest.raises(ValidationError, match=message):
        brcd.Settings(individual=False, structural=False)
    with pytest.raises(ValidationError, match="alpha"):
        brcd.Settings(alpha=1.5)
    with pytest.raises(ValidationError, match="margn"):
        brcd.Settings(margn=0.5)
    with pytest.raises(ValueError, match="clusters"):
        brcd.prepare(TeacherKnowledge(planted()[:2], seed=0), brcd.Settings(n_clusters=3))


def test_methods_are_found_by_file_name():
    assert {"brcd", "none"} <= set(distillation.methods.names())
    assert "batch" not in distillation.methods.names()
    with pytest.raises(ValueError, match=r"unknown distillation method 'brdc'; there are: .*brcd"):
        distillation.methods.load("brdc")
