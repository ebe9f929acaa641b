"""The training loop: what it draws, when it stops, what it keeps; and checkpoints."""

import math

import pytest
import torch

from brcd_core.hashing import HashHead
from brcd_core.training import Training, TrainingError, draw_views, fit


class FakeViews:
    """Features that say where they come from: (image, view)."""

    def __init__(self, count=4):
        self.count = count
        self.asked = []

    def batch(self, images, views):
        self.asked.append((images.tolist(), views.tolist()))
        return [torch.stack([images.float(), views.float()], dim=1)]


def run(scores, *, loss=None, settings=None, size=10, views=None, **more):
    """Train on fakes with a scripted list of validation scores; returns fit's result, the head and what was kept."""
    head, kept, script = HashHead(2, 8, seed=0), [], iter(scores)
    result = fit(
        head,
        views or FakeViews(),
        size,
        loss or (lambda images, i, j: head(i[0]).square().mean()),
        lambda: {"map": next(script)},
        settings or Training(epochs=len(scores), validate_every=1, patience=10, batch=4),
        select=lambda s: s["map"],
        seed=0,
        keep=lambda epoch, s: kept.append((epoch, head.layers[0].weight.detach().clone())),
        report=lambda line: None,
        **more,
    )
    return result, head, kept


def test_the_best_epoch_is_kept_and_restored():
    result, head, kept = run([0.1, 0.5, 0.3, 0.2])
    assert result.best_epoch == 2 and result.best_scores == {"map": 0.5}
    assert [epoch for epoch, _ in kept] == [1, 2]
    assert torch.equal(head.layers[0].weight, kept[-1][1])
    assert [row["map"] for row in result.history] == [0.1, 0.5, 0.3, 0.2]


@pytest.mark.parametrize(("patience", "expected"), [(0, 3), (1, 4), (2, 5), (3, 6)])
def test_it_stops_after_more_than_patience_bad_validations(patience, expected):
    scores = [0.1, 0.5, 0.4, 0.4, 0.4, 0.4]
    result, _, _ = run(scores, settings=Training(epochs=6, validate_every=1, patience=patience, batch=4))
    assert len(result.history) == expected


def test_it_validates_every_n_epochs_and_at_the_end():
    result, _, _ = run([0.1, 0.2, 0.3], settings=Training(epochs=5, validate_every=2, patience=9, batch=4))
    assert [row["epoch"] for row in result.history] == [2, 4, 5]


def test_every_image_is_seen_once_an_epoch_in_two_different_views():
    views = FakeViews(count=3)
    run([0.1, 0.2, 0.3], views=views, size=11, settings=Training(epochs=3, validate_every=1, batch=4))
    firsts, seconds = views.asked[0::2], views.asked[1::2]
    for epoch in range(3):
        seen = [image for images, _ in firsts[3 * epoch : 3 * epoch + 3] for image in images]
        assert sorted(seen) == list(range(11))
    for (images, one), (same, other) in zip(firsts, seconds):
        assert images == same and all(a != b for a, b in zip(one, other))
    assert {v for _, one in firsts for v in one} == {0, 1, 2}


def test_a_last_batch_of_one_image_is_left_out():
    views = FakeViews()
    result, _, _ = run([0.1], views=views, size=9, settings=Training(epochs=1, validate_every=1, batch=4))
    assert result.steps == 2 and all(len(images) == 4 for images, _ in views.asked)


def test_fresh_views_never_come_back():
    pairs = [draw_views(None, epoch, 3, torch.Generator()) for epoch in range(4)]
    numbers = [int(side[0]) for pair in pairs for side in pair]
    assert numbers == list(range(8))


def test_view_pairs_are_uniform():
    one, other = draw_views(3, 0, 60_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(one * 3 + other, minlength=9).reshape(3, 3)
    assert counts.diagonal().sum() == 0
    expected = 60_000 / 6
    assert ((counts[counts > 0] - expected).abs() < 5 * math.sqrt(expected)).all()


def test_of_a_single_view_a_pair_is_that_view_twice():
    views = FakeViews(count=1)
    run([0.1, 0.2], views=views)
    assert {view for _, numbers in views.asked for view in numbers} == {0}


def test_the_same_seed_gives_the_same_head():
    (_, one, _), (_, two, _) = run([0.1, 0.2]), run([0.1, 0.2])
    assert torch.equal(one.layers[0].weight, two.layers[0].weight)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_best():
    head = HashHead(2, 8, seed=0)
    steps, kept = iter(range(100)), []

    def loss(images, i, j):
        value = head(i[0]).square().mean()
        return value * float("nan") if next(steps) == 4 else value  # second step of the second epoch

    with pytest.raises(TrainingError, match=r"nan at step 2 of epoch 2 \(step 5 of the run\).*of epoch 1, is kept"):
        fit(
            head, FakeViews(), 12, loss, lambda: {"map": 0.5}, Training(epochs=5, validate_every=1, batch=4),
            select=lambda s: s["map"], seed=0,
            keep=lambda epoch, s: kept.append(head.layers[0].weight.detach().clone()), report=lambda line: None,
        )  # fmt: skip
    assert len(kept) == 1 and torch.equal(head.layers[0].weight, kept[0])


def test_a_gradient_that_is_not_a_number_at_the_last_step_stops_the_run_too():
    head = HashHead(2, 8, seed=0)
    steps = iter(range(100))

    def loss(images, i, j):
        value = head(i[0]).square().mean()
        return value + (0 * value).sqrt() if next(steps) == 2 else value  # finite, but its gradient is 0 / 0

    with pytest.raises(TrainingError, match="the weights are not finite at step 3 of epoch 1"):
        fit(
            head, FakeViews(), 12, loss, lambda: {"map": 0.5}, Training(epochs=1, batch=4),
            select=lambda s: s["map"], seed=0, report=lambda line: None,
        )  # fmt: skip
    assert head.layers[0].weight.isfinite().all()


def test_extra_parameters_are_trained_too():
    extra = torch.nn.Linear(2, 1)
    before = extra.weight.detach().clone()
    run([0.1], loss=lambda images, i, j: extra(i[0]).square().mean(), extra=extra)
    assert not torch.equal(before, extra.weight)
