"""BiHalf, GreedyHash, SDC, and the closed-form ITQ, PCA-sign, LSH: against loops over pairs and other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from brcd_core import hashing, retrieval
from brcd_core.config import Frozen
from brcd_core.hashing import HashHead, bihalf, greedyhash, hashed, itq, lsh, pca_sign, sdc
from brcd_core.hashing.heads import sign
from brcd_core.plugins import Plugins

TRAINED = {"bihalf": bihalf, "greedyhash": greedyhash, "sdc": sdc}
CLOSED_FORM = {"itq": itq, "pca_sign": pca_sign, "lsh": lsh}


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b)) / norm if norm else 0.0


def pairs(size):
    return [(i, j) for i in range(size) for j in range(i + 1, size)]


def slow_regression(codes, features):
    codes, features = codes.tolist(), features.tolist()
    terms = [(cosine(codes[i], codes[j]) - cosine(features[i], features[j])) ** 2 for i, j in pairs(len(codes))]
    return sum(terms) / len(terms)


def two_views(size=7, bits=8, dim=5, seed=0):
    logits = [normal(size, bits, seed=seed), normal(size, bits, seed=seed + 1)]
    features = [normal(size, dim, seed=seed + 2).relu(), normal(size, dim, seed=seed + 3).relu()]
    return [hashed(f, u) for f, u in zip(features, logits)]


# BiHalf


def slow_half_and_half(logits):
    codes = torch.full_like(logits, -1)
    for bit in range(logits.shape[1]):
        ranking = sorted(range(len(logits)), key=lambda row: -logits[row, bit].item())
        for row in ranking[: len(logits) // 2]:
            codes[row, bit] = 1
    return codes


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 10**6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_upper_half_of_each_bit_is_plus_one(size, bits, seed, with_ties):
    logits = normal(size, bits, seed=seed)
    logits = logits.round() if with_ties else logits
    codes = bihalf.half_and_half(logits)
    assert torch.equal(codes, slow_half_and_half(logits))
    assert codes.sum(0).tolist() == [-(size % 2)] * bits  # even: balanced; odd: one -1 more


def test_bihalf_is_the_loop_over_pairs_plus_the_proximal_term():
    views = two_views()
    expected = 0.0
    for view in views:
        codes = slow_half_and_half(view.logits)
        off = [(u - c) ** 2 for u, c in zip(view.logits.flatten().tolist(), codes.flatten().tolist())]
        expected += (slow_regression(codes, view.features) + 1.5 * sum(off) / len(off)) / 2
    assert bihalf.loss(*views, bihalf.Settings(gamma=3)).item() == pytest.approx(expected, rel=1e-12)


def numerical_gradient(function, at, step=1e-6):
    """Central differences of a scalar function of a tensor."""
    gradient = torch.zeros_like(at)
    for index in range(at.numel()):
        moved = torch.zeros_like(at).flatten()
        moved[index] = step
        moved = moved.reshape(at.shape)
        gradient.view(-1)[index] = (function(at + moved) - function(at - moved)) / (2 * step)
    return gradient


@pytest.mark.parametrize("size", [4, 5])
def test_bihalf_gradient_is_straight_through_plus_proximal(size):
    """dL/dU = dL/dB + gamma (U - B) / (B K), with dL/dB by differences of the loop over pairs."""
    logits, features = normal(size, 3, seed=1).requires_grad_(), normal(size, 4, seed=2)
    view = hashed(features, logits)
    bihalf.loss(view, view, bihalf.Settings(gamma=6)).backward()
    codes = slow_half_and_half(logits.detach())
    through = numerical_gradient(lambda b: slow_regression(b, features), codes)
    expected = through + 6 * (logits.detach() - codes) / (size * 3)
    torch.testing.assert_close(logits.grad, expected, atol=1e-8, rtol=1e-6)


# GreedyHash


def test_greedyhash_is_the_loop_over_pairs_plus_the_cubic_penalty():
    views = two_views(seed=5)
    expected = 0.0
    for view in views:
        penalty = [abs(abs(h) - 1) ** 3 for h in view.logits.flatten().tolist()]
        expected += (slow_regression(sign(view.logits), view.features) + 0.4 * sum(penalty) / len(penalty)) / 2
    assert greedyhash.loss(*views, greedyhash.Settings(alpha=0.4)).item() == pytest.approx(expected, rel=1e-12)


def test_greedyhash_hands_the_codes_gradient_to_the_logits_unchanged():
    logits, features = normal(4, 3, seed=6).requires_grad_(), normal(4, 5, seed=7)
    view = hashed(features, logits)
    greedyhash.loss(view, view, greedyhash.Settings(alpha=0.1)).backward()
    h = logits.detach()
    through = numerical_gradient(lambda b: slow_regression(b, features), sign(h))
    penalty = 3 * (h.abs() - 1) * (h.abs() - 1).abs() * sign(h) / h.numel()
    torch.testing.assert_close(logits.grad, through + 0.1 * penalty, atol=1e-8, rtol=1e-6)


def test_the_penalty_is_zero_at_the_corners_only():
    assert greedyhash.corner_penalty(torch.tensor([[1.0, -1.0]])) == 0
    assert greedyhash.corner_penalty(torch.tensor([[1.0, -3.0]])) == pytest.approx(4)


# SDC


@pytest.mark.parametrize(("size", "a", "b"), [(2, 5, 5), (3, 1, 1), (9, 5, 5), (9, 2, 7)])
def test_calibration_is_the_wasserstein_distance_where_codes_and_features_agree(size, a, b):
    cosines = [
        cosine(x, y) for k in [normal(size, 4, seed=3).tolist()] for x, y in [(k[i], k[j]) for i, j in pairs(size)]
    ]
    n = len(cosines)
    targets = [2 * stats.beta.ppf((k + 0.5) / n, a, b) - 1 for k in range(n)]
    found = sdc.calibration(torch.tensor(cosines), torch.tensor(cosines), sdc.Settings(a=a, b=b, orthogonal=False))
    assert found.item() == pytest.approx(stats.wasserstein_distance(cosines, targets), rel=1e-5)


def test_wrong_order_costs_more_than_the_wasserstein_distance():
    cosines, choice = torch.linspace(-0.9, 0.9, 15, dtype=torch.float64), sdc.Settings()
    right = sdc.calibration(cosines, cosines, choice)
    assert sdc.calibration(cosines, -cosines, choice) > right + 0.1
    assert sdc.calibration(cosines, 3 * cosines + 1, choice) == right  # the features' order counts, not their values


@pytest.mark.parametrize("orthogonal", [True, False])
def test_sdc_is_the_loop_over_sorted_pairs(orthogonal):
    views, choice = two_views(size=6, seed=9), sdc.Settings(a=2, b=3, orthogonal=orthogonal, quantisation=0.7)
    expected = 0.0
    for view in views:
        h, f = view.logits.tolist(), view.features.tolist()
        ranked = sorted(pairs(6), key=lambda pair: cosine(f[pair[0]], f[pair[1]]))
        targets = [2 * stats.beta.ppf((k + 0.5) / 15, 2, 3) - 1 for k in range(15)]
        targets = [max(t, 0) for t in targets] if orthogonal else targets
        expected += sum(abs(cosine(h[i], h[j]) - t) for (i, j), t in zip(ranked, targets)) / 15 / 2
        expected += 0.7 * sum(1 - cosine(row, [1 if x >= 0 else -1 for x in row]) for row in h) / 6 / 2
    assert sdc.loss(*views, choice).item() == pytest.approx(expected, rel=1e-6)


def test_quantiles_of_a_uniform_beta_are_evenly_spread():
    np.testing.assert_allclose(sdc.beta_quantiles(4, 1, 1).numpy(), [-0.75, -0.25, 0.25, 0.75], atol=1e-12)


# All trained models


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("case", ["equal features", "zero features", "two images", "equal logits", "zero logits"])
def test_degenerate_batches_are_finite(name, case):
    logits = torch.randn(2 if case == "two images" else 6, 8)
    features = torch.randn(len(logits), 5)
    if case == "equal features":
        features = features[:1].repeat(6, 1)
    if case == "zero features":
        features = torch.zeros(6, 5)
    if case == "equal logits":
        logits = logits[:1].repeat(6, 1)
    if case == "zero logits":
        logits = torch.zeros(6, 8)
    logits.requires_grad_()
    view = hashed(features, logits)
    loss = TRAINED[name].loss(view, view, TRAINED[name].Settings())
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_the_mean_over_both_views(name):
    one, other = two_views(seed=11)
    module = TRAINED[name]
    both, first, second = (
        module.loss(a, b, module.Settings()).item() for a, b in [(one, other), (one, one), (other, other)]
    )
    assert both == pytest.approx((first + second) / 2)
    assert first != pytest.approx(second)


def clusters(images=30, classes=6, dim=24, spread=0.9, seed=0):
    """Features of separable clusters behind a ReLU, and their labels as columns."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, dim)) * 1.5
    label = np.repeat(np.arange(classes), images)
    features = centres[label] + spread * rng.standard_normal((len(label), dim))
    return torch.as_tensor(np.maximum(features, 0), dtype=torch.float32), np.eye(classes, dtype=bool)[label]


def mean_average_precision(head, features, labels):
    codes = head.codes(features).numpy()
    return retrieval.mean_average_precision(retrieval.counts(codes, codes, labels, labels), 50)


@pytest.mark.parametrize("name", TRAINED)
def test_training_raises_retrieval(name):
    module, (features, labels) = TRAINED[name], clusters()
    head = HashHead(features.shape[1], 8, seed=0)
    head.fit_scaling(features)
    before = mean_average_precision(head, features, labels)
    optimiser, generator = torch.optim.Adam(head.parameters(), lr=0.01), torch.Generator().manual_seed(0)
    for _ in range(20):
        for images in torch.randperm(len(features), generator=generator).split(60):
            views = [features[images] + 0.1 * torch.randn(len(images), 24, generator=generator) for _ in range(2)]
            loss = module.loss(*[head.hash(view) for view in views], module.Settings())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    after = mean_average_precision(head, features, labels)
    assert after > before + 0.1


# Closed form


def linear_head(weight, bias):
    head = HashHead(weight.shape[1], len(weight))
    head.load_state_dict(head.state_dict() | {"layers.0.weight": weight, "layers.0.bias": bias})
    return head


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_closed_forms_give_a_linear_head_that_depends_on_its_seed_alone(name):
    module, (features, labels) = CLOSED_FORM[name], clusters()
    weight, bias = module.fit(features, 8, 3, module.Settings())
    assert weight.shape == (8, 24) and bias.shape == (8,) and weight.dtype == bias.dtype == torch.float32
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = module.fit(features, 8, 3, module.Settings())
    assert torch.equal(weight, again[0]) and torch.equal(bias, again[1])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(weight, module.fit(features, 8, 4, module.Settings())[0]) == (name == "pca_sign")
    # The planes go through the mean.
    torch.testing.assert_close(weight @ features.mean(0) + bias, torch.zeros(8), atol=1e-4, rtol=0)
    chance = np.mean([labels[:, c].mean() for c in range(labels.shape[1])])
    assert mean_average_precision(linear_head(weight, bias), features, labels) > 2 * chance


def test_pca_sign_takes_the_singular_vectors_up_to_sign():
    features = normal(40, 12, seed=1) * torch.linspace(5, 0.5, 12) + 30
    weight, bias = pca_sign.fit(features.float(), 5, 0, pca_sign.Settings())
    centred = features.float().double().numpy() - features.float().double().numpy().mean(0)
    right = np.linalg.svd(centred)[2][:5]
    agreement = (weight.double().numpy() * right).sum(1)
    np.testing.assert_allclose(np.abs(agreement), 1, atol=1e-6)
    logits = weight.double() @ features.T + bias.double()[:, None]
    np.testing.assert_allclose(logits.numpy(), np.sign(agreement)[:, None] * (right @ centred.T), atol=1e-4)


def random_start(bits, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]


def error(projected, rotation):
    rotated = projected @ rotation
    return np.square(np.where(rotated >= 0, 1, -1) - rotated).sum()


def test_itq_rotates_and_never_raises_the_quantisation_error():
    projected = normal(300, 8, seed=2).numpy() * np.linspace(3, 0.3, 8)
    rotations = [itq.rotation(projected, random_start(8, 0), rounds) for rounds in range(12)]
    for rotation in rotations:
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-12)
    errors = [error(projected, rotation) for rotation in rotations]
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.99 * errors[0]


def test_a_round_of_itq_finds_the_best_rotation_of_the_plane():
    """Against all rotations and reflections of the plane, in steps of a tenth of a degree."""
    projected, start = normal(50, 2, seed=3).numpy() * [2, 0.5], random_start(2, 1)
    codes = np.where(projected @ start >= 0, 1, -1)

    def distance(rotation):
        return np.square(codes - projected @ rotation).sum()

    turns = [
        np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
        for t in np.arange(0, 2 * np.pi, np.pi / 1800)
    ]
    best = min(distance(turn @ flip) for turn in turns for flip in (np.eye(2), np.diag([1, -1])))
    found = distance(itq.rotation(projected, start, 1))
    assert best * (1 - 1e-4) < found <= best


def test_itq_codes_are_the_signs_of_the_rotated_projections():
    features, _ = clusters()
    weight, bias = itq.fit(features, 6, 4, itq.Settings(iterations=7))
    axes, offset = pca_sign.fit(features, 6, 0, pca_sign.Settings())
    projected = (features @ axes.T + offset).double().numpy()
    rotated = projected @ itq.rotation(projected, random_start(6, 4), 7)
    np.testing.assert_allclose((features @ weight.T + bias).numpy(), rotated, atol=1e-4)


def test_lsh_bits_differ_with_probability_angle_over_pi():
    features = normal(12, 5, seed=4).float() + 3
    bits = 20_000
    weight, bias = lsh.fit(features, bits, 0, lsh.Settings())
    codes, centred = sign(features @ weight.T + bias), features - features.mean(0)
    for i, j in pairs(12):
        p = math.acos(cosine(centred[i].tolist(), centred[j].tolist())) / math.pi
        differ = (codes[i] != codes[j]).float().mean().item()
        assert abs(differ - p) < 4.5 * math.sqrt(p * (1 - p) / bits)


@pytest.mark.parametrize("module", [itq, pca_sign])
def test_too_few_directions_are_named(module):
    for features in (torch.randn(50, 6), torch.randn(7, 20), torch.randn(50, 6) @ torch.randn(6, 20)):
        assert module.fit(features, 6, 0, module.Settings())[0].isfinite().all()
        with pytest.raises(ValueError, match=r"8 bits need .* vary in 6. Take fewer bits, more images, or .*'lsh'"):
            module.fit(features, 8, 0, module.Settings())
    with pytest.raises(ValueError, match="vary in 0"):
        module.fit(torch.ones(50, 20), 8, 0, module.Settings())


def test_lsh_takes_any_number_of_bits():
    weight, bias = lsh.fit(torch.randn(1, 3), 64, 0, lsh.Settings())
    assert weight.shape == (64, 3) and bias.isfinite().all()


# The package


def test_all_models_are_found_and_bad_settings_named():
    assert {"bihalf", "cibhash", "greedyhash", "itq", "lsh", "pca_sign", "sdc"} <= set(hashing.models.names())
    for name in hashing.models.names():
        module = hashing.models.load(name)
        assert isinstance(module.Settings(), Frozen)
        assert hasattr(module, "loss") != hasattr(module, "fit")
        with pytest.raises(ValidationError, match="gama"):
            module.Settings(gama=1)
    for module, setting in [
        (bihalf, {"gamma": -1}),
        (greedyhash, {"alpha": -1}),
        (sdc, {"a": 0}),
        (itq, {"iterations": -1}),
    ]:
        with pytest.raises(ValidationError, match=next(iter(setting))):
            module.Settings(**setting)


def test_a_model_without_loss_or_fit_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "planted_models"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "empty.py").write_text("Settings = dict\n")
    (folder / "good.py").write_text("Settings = dict\ndef fit(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    models = Plugins("planted_models", kind="hash model", needs=("Settings",), one_of=("loss", "fit"))
    assert models.load("good").Settings is dict
    with pytest.raises(ValueError, match=r"hash model 'empty': .*empty.py does not define loss or fit"):
        models.load("empty")
