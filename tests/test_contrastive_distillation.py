"""CRD, CRCD, PACKD and SSKD against loops over anchors, negatives and pairs, written in the papers' own terms."""

import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from brcd_core import distillation
from brcd_core.distillation import Batch, TeacherKnowledge, crcd, crd, packd, sskd
from brcd_core.distillation.memory import Contrast, Memory
from brcd_core.hashing import Hashed

CONTRASTIVE = pytest.mark.parametrize("method", [crd, crcd, packd], ids=["crd", "crcd", "packd"])
KNOBS = {"dim": 5, "temperature": 0.3, "negatives": 4, "momentum": 0.3, "weight": 1.7}


def codes(rng, *shape):
    return torch.as_tensor(rng.choice([-1.0, 1.0], shape))


def as_batch(images, student_i, student_j, teacher_i, teacher_j, student_rotated=None, teacher_rotated=None):
    views = [student_i, student_j, teacher_i, teacher_j, student_rotated, teacher_rotated]
    return Batch(images, *(None if view is None else Hashed(view, view, view, view) for view in views))


def draw(size, n_images, bits, seed, steps=2):
    """Teacher's knowledge and a few batches, in double precision."""
    rng = np.random.default_rng(seed)
    knowledge = TeacherKnowledge(codes(rng, n_images, bits), seed=seed)
    batches = [
        as_batch(torch.as_tensor(rng.permutation(n_images)[:size]), *(codes(rng, size, bits) for _ in range(4)))
        for _ in range(steps)
    ]
    return knowledge, batches


# The oracles work on lists of numbers.


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def unit(a):
    return [x / math.sqrt(dot(a, a)) for x in a]


def minus(a, b):
    return [x - y for x, y in zip(a, b)]


def embed(layer, code):
    rows = zip(layer.weight.tolist(), layer.bias.tolist())
    return unit([dot(weight, code) + bias for weight, bias in rows])


def remember(memory, image, embedded, momentum):
    memory[image] = unit([momentum * old + (1 - momentum) * new for old, new in zip(memory[image], embedded)])


def slow_nce(exponentials, z, n_images):
    """exponentials: for each anchor e^(score) of the positive and of the negatives. In the papers' terms: the chance
    that a pair is real against noise of density 1 / n_images, with the normalisation constant z."""
    total = 0.0
    for positive, *negatives in exponentials:
        noise = len(negatives) / n_images
        total -= math.log(positive / z / (positive / z + noise))
        for negative in negatives:
            total -= math.log(1 - negative / z / (negative / z + noise))
    return total / len(exponentials)


class Slow:
    """Both memories and both constants of a contrastive method, taken over before the first batch."""

    def __init__(self, prepared):
        self.layers = [prepared.student, prepared.teacher]
        self.memories = [prepared.student_memory.rows.tolist(), prepared.teacher_memory.rows.tolist()]
        self.z = [None, None]

    def embeddings(self, batch):
        views = (batch.student_i, batch.teacher_i)
        return [[embed(layer, code) for code in view.codes.tolist()] for layer, view in zip(self.layers, views)]

    def nce(self, side, exponentials):
        n_images = len(self.memories[0])
        if self.z[side] is None:
            flat = [x for row in exponentials for x in row]
            self.z[side] = n_images * sum(flat) / len(flat)
        return slow_nce(exponentials, self.z[side], n_images)

    def remember(self, images, embedded):
        for side in (0, 1):
            for image, row in zip(images, embedded[side]):
                remember(self.memories[side], image, row, KNOBS["momentum"])


def run(method, prepared, batch, chosen):
    """The loss, and the negatives (B, M) and anchors that it drew."""
    drawn = {}

    def watch(name, function):
        def watched(*args):
            drawn[name] = function(*args)
            return drawn[name].clone()

        return watched

    with (
        patch.object(prepared, "negatives", watch("negatives", prepared.negatives)),
        patch.object(crcd, "draw_anchors", watch("anchors", crcd.draw_anchors)),
    ):
        value = method.loss(batch, prepared, chosen).item()
    return value, drawn["negatives"].tolist(), drawn["anchors"].tolist() if "anchors" in drawn else None


sizes = given(size=st.integers(2, 5), extra=st.integers(0, 4), bits=st.sampled_from([4, 8]), seed=st.integers(0, 10**6))


@settings(max_examples=25, deadline=None)
@sizes
def test_crd_is_the_slow_loop(size, extra, bits, seed):
    knowledge, batches = draw(size, size + extra, bits, seed)
    chosen = crd.Settings(**KNOBS)
    prepared = crd.prepare(knowledge, chosen)
    slow = Slow(prepared)
    for batch in batches:
        found, negatives, _ = run(crd, prepared, batch, chosen)
        images, embedded = batch.images.tolist(), slow.embeddings(batch)
        expected = 0.0
        for side in (0, 1):
            other = slow.memories[1 - side]
            exponentials = [
                [math.exp(dot(anchor, other[c]) / KNOBS["temperature"]) for c in (image, *noise)]
                for anchor, image, noise in zip(embedded[side], images, negatives)
            ]
            expected += slow.nce(1 - side, exponentials)
        slow.remember(images, embedded)
        assert found == pytest.approx(KNOBS["weight"] * expected, rel=1e-9)
        assert prepared.student_memory.rows.tolist() == [pytest.approx(row) for row in slow.memories[0]]
        assert prepared.teacher_memory.rows.tolist() == [pytest.approx(row) for row in slow.memories[1]]


@settings(max_examples=25, deadline=None)
@sizes
def test_crcd_is_the_slow_loop(size, extra, bits, seed):
    knowledge, batches = draw(size, size + extra, bits, seed)
    chosen = crcd.Settings(**KNOBS, anchors=2)
    prepared = crcd.prepare(knowledge, chosen)
    slow = Slow(prepared)

    def relation(a, b):
        difference = minus(a, b)
        return unit(difference) if math.sqrt(dot(difference, difference)) > 0.01 else [0.0] * len(a)

    for batch in batches:
        found, negatives, anchors = run(crcd, prepared, batch, chosen)
        images, embedded = batch.images.tolist(), slow.embeddings(batch)
        expected = 0.0
        for side in (0, 1):
            other, exponentials = slow.memories[1 - side], []
            for b, image in enumerate(images):
                assert len(anchors[b]) == min(2, size - 1) == len(set(anchors[b])) and b not in anchors[b]
                for a in anchors[b]:
                    seen_from = other[images[a]]
                    own = relation(embedded[side][b], seen_from)
                    relations = [relation(other[c], seen_from) for c in (image, *negatives[b])]
                    exponentials.append([math.exp(dot(own, r) / KNOBS["temperature"]) for r in relations])
            expected += slow.nce(1 - side, exponentials)
        slow.remember(images, embedded)
        assert found == pytest.approx(KNOBS["weight"] * expected, rel=1e-7)
        assert prepared.teacher_memory.rows.tolist() == [pytest.approx(row) for row in slow.memories[1]]


@settings(max_examples=25, deadline=None)
@sizes
def test_packd_is_the_slow_loop(size, extra, bits, seed):
    knowledge, batches = draw(size, size + extra, bits, seed)
    chosen, tau, epsilon = packd.Settings(**KNOBS, epsilon=0.5), KNOBS["temperature"], 0.5
    prepared = packd.prepare(knowledge, chosen)
    slow = Slow(prepared)
    for batch in batches:
        found, negatives, _ = run(packd, prepared, batch, chosen)
        images, expected = batch.images.tolist(), 0.0
        first = slow.embeddings(batch)
        second = slow.embeddings(as_batch(batch.images, batch.student_j.codes, None, batch.teacher_j.codes, None))
        for b in range(size):
            views = [(first[side][b], second[side][b]) for side in (0, 1)]
            cosine = [[dot(s, t) for t in views[1]] for s in views[0]]
            # Two points against two points: the plan has one free number, which solves a quadratic equation.
            gain = cosine[0][0] + cosine[1][1] - cosine[0][1] - cosine[1][0]
            straight = 0.5 / (1 + math.exp(-gain / (2 * epsilon)))
            crossed = 0.5 - straight
            positive = straight * (cosine[0][0] + cosine[1][1]) + crossed * (cosine[0][1] + cosine[1][0])
            for side in (0, 1):
                other = slow.memories[1 - side]
                noise = sum(math.exp(dot(view, other[c]) / tau) for view in views[side] for c in negatives[b])
                top = math.exp(positive / tau)
                expected -= math.log(top / (top + noise)) / (2 * size)
        slow.remember(images, first)
        assert found == pytest.approx(KNOBS["weight"] * expected, rel=1e-7)
        assert prepared.teacher_memory.rows.tolist() == [pytest.approx(row) for row in slow.memories[1]]


def test_the_transport_plan_is_that_of_pot():
    import ot

    half = np.full(2, 0.5)
    for epsilon in (0.5, 1.0):  # smaller ones take the iterations too long
        cost = np.random.default_rng(0).uniform(0, 2, (3, 5, 2, 2))
        plan = packd.transport_plan(torch.as_tensor(cost), epsilon).numpy()
        for found, one in zip(plan.reshape(-1, 2, 2), cost.reshape(-1, 2, 2)):
            theirs = ot.sinkhorn(half, half, one, reg=epsilon, numItermax=100_000, stopThr=1e-13)
            assert found == pytest.approx(theirs, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(costs=st.lists(st.floats(0, 2), min_size=4, max_size=4), epsilon=st.floats(0.05, 2))
def test_no_other_transport_plan_is_cheaper(costs, epsilon):
    cost = torch.tensor(costs, dtype=torch.float64).view(2, 2)

    def price(plan):
        return (plan * cost).sum() - epsilon * torch.special.entr(plan).sum()

    plan = packd.transport_plan(cost, epsilon)
    assert plan.sum(0).tolist() == plan.sum(1).tolist() == pytest.approx([0.5, 0.5])
    others = [torch.tensor([[a, 0.5 - a], [0.5 - a, a]]) for a in torch.linspace(0, 0.5, 501, dtype=torch.float64)]
    assert price(plan) <= min(price(other) for other in others) + 1e-12
    assert packd.transport_plan(cost.float(), epsilon).numpy() == pytest.approx(plan.numpy(), abs=1e-6)


def test_the_transport_plan_of_a_sharp_choice_is_finite():
    cost = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert packd.transport_plan(cost, 1e-4).tolist() == [[0.5, 0.0], [0.0, 0.5]]


def test_a_memory_moves_the_rows_it_is_given_and_no_other():
    memory = Memory(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]))
    assert memory.rows.tolist() == [[1, 0], [0, 1], [-1, 0]]
    memory.update(torch.tensor([2, 0]), torch.tensor([[0.0, 1.0], [0.6, 0.8]]), momentum=0.25)
    # Row 2: 0.25 (-1, 0) + 0.75 (0, 1); row 0: 0.25 (1, 0) + 0.75 (0.6, 0.8) = (0.7, 0.6).
    length = math.sqrt(0.25**2 + 0.75**2)
    assert memory.rows[2].tolist() == pytest.approx([-0.25 / length, 0.75 / length])
    assert memory.rows[0].tolist() == pytest.approx([0.7 / math.sqrt(0.85), 0.6 / math.sqrt(0.85)])
    assert memory.rows[1].tolist() == [0, 1]


def knowledge_of(n_images, labels=None, seed=0, bits=8):
    return TeacherKnowledge(codes(np.random.default_rng(seed), n_images, bits), seed=seed, labels=labels)


def test_negatives_are_all_other_images_equally_often():
    contrast = Contrast(knowledge_of(5), dim=4, negatives=500)
    images = torch.arange(5).repeat(1000)
    negatives = contrast.negatives(images)
    assert negatives.shape == (5000, 4)  # as many as there are other images
    for anchor in range(5):
        counts = torch.bincount(negatives[images == anchor].flatten(), minlength=5).tolist()
        assert counts.pop(anchor) == 0
        # 4,000 draws from four images: 1,000 each, with a standard deviation of 27.
        assert all(abs(count - 1000) < 140 for count in counts)
    assert Contrast(knowledge_of(9), dim=4, negatives=3).negatives(torch.tensor([8])).shape == (1, 3)


@pytest.mark.parametrize("method", [crd, packd], ids=["crd", "packd"])
def test_released_negatives_share_no_true_label(method):
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    chosen = method.Settings(released={"true_label_negatives": True})
    contrast = method.prepare(knowledge_of(5, labels), chosen)
    images = torch.arange(5).repeat(200)
    negatives = contrast.negatives(images)
    for anchor, expected in enumerate([{2, 3, 4}, {3, 4}, {0, 3, 4}, {0, 1, 2, 4}, {0, 1, 2, 3}]):
        assert set(negatives[images == anchor].flatten().tolist()) == expected
    twice = labels[:, [0, 0, 1, 2]]  # a label that always comes with another changes nothing
    again = method.prepare(knowledge_of(5, twice), chosen).negatives(images)
    assert torch.equal(again, method.prepare(knowledge_of(5, labels), chosen).negatives(images))
    # The same labels change nothing where the setting is off.
    free = method.prepare(knowledge_of(5, labels), method.Settings()).negatives(images)
    assert set(free[images == 1].flatten().tolist()) == {0, 2, 3, 4}


@pytest.mark.parametrize("method", [crd, packd], ids=["crd", "packd"])
def test_negatives_that_cannot_be_drawn_are_refused(method):
    chosen = method.Settings(released={"true_label_negatives": True})
    message = "true_label_negatives needs the labels of the training images; turn it off or give labels"
    with pytest.raises(ValueError, match=f"^{message}$"):
        method.prepare(knowledge_of(5), chosen)
    crowded = torch.tensor([[1, 0], [1, 1], [0, 1]]).bool()
    with pytest.raises(ValueError, match=r"labels \[0, 1\] shares one with every"):
        method.prepare(knowledge_of(3, crowded), chosen)
    with pytest.raises(ValueError, match="there are 1 images"):
        method.prepare(knowledge_of(1), method.Settings())


@CONTRASTIVE
def test_gradients_reach_codes_and_projections(method):
    knowledge, (batch,) = draw(6, 20, 16, 3, steps=1)
    initial = method.prepare(knowledge, method.Settings()).state_dict()
    for trained in (True, False):
        chosen = method.Settings(released={"untrained_projections": not trained})
        prepared = method.prepare(knowledge, chosen)
        student = batch.student_i.codes.clone().requires_grad_()
        fresh = replace(batch, student_i=Hashed(student, student, student, student))
        optimiser = torch.optim.Adam(prepared.parameters(), lr=0.01)  # as the training loop does
        method.loss(fresh, prepared, chosen).backward()
        optimiser.step()
        assert (student.grad != 0).all()
        for name, value in prepared.named_parameters():
            assert torch.equal(value, initial[name]) is not trained, name
        assert {name for name, _ in prepared.named_parameters()} == {
            f"{side}.{kind}" for side in ("student", "teacher") for kind in ("weight", "bias")
        }


@CONTRASTIVE
def test_a_run_repeats_bit_by_bit_and_leaves_the_global_randomness_alone(method):
    def train(seed):
        knowledge, batches = draw(8, 30, 16, 5, steps=3)
        prepared = method.prepare(TeacherKnowledge(knowledge.codes, seed), method.Settings())
        losses = [method.loss(batch, prepared, method.Settings()).item() for batch in batches]
        return losses, prepared.state_dict()

    before = torch.random.get_rng_state()
    losses, state = train(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    again, state_again = train(1)
    assert losses == again and all(torch.equal(state[name], state_again[name]) for name in state)
    assert losses != train(2)[0]


@CONTRASTIVE
def test_weight_scales_the_loss(method):
    knowledge, (batch,) = draw(6, 20, 16, 7, steps=1)
    values = []
    for weight in (1.0, 2.5):
        chosen = method.Settings(weight=weight)
        values.append(method.loss(batch, method.prepare(knowledge, chosen), chosen).item())
    assert values[1] == pytest.approx(2.5 * values[0]) and values[0] > 0


@CONTRASTIVE
def test_a_student_with_the_teachers_codes_ends_lower_than_one_with_other_images_codes(method):
    rng = np.random.default_rng(0)
    teacher = codes(rng, 64, 16)
    final = {}
    for name, student in {"same": teacher, "shuffled": teacher[torch.as_tensor(rng.permutation(64))]}.items():
        chosen = method.Settings(dim=16)
        prepared = method.prepare(TeacherKnowledge(teacher, seed=0), chosen)
        optimiser = torch.optim.Adam(prepared.parameters(), lr=0.01)
        losses = []
        for _ in range(30):
            for images in torch.arange(64).split(32):
                s, t = student[images], teacher[images]
                losses.append(method.loss(as_batch(images, s, s, t, t), prepared, chosen))
                optimiser.zero_grad()
                losses[-1].backward()
                optimiser.step()
        final[name] = sum(value.item() for value in losses[-10:]) / 10
    assert final["same"] < 0.7 * final["shuffled"]


def test_relations_without_a_direction_are_neutral():
    memory = Memory(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))  # images 0 and 1 look alike
    embedded = torch.tensor([[0.6, 0.8], [1.0, 0.0]], requires_grad=True)
    images, candidates, anchors = torch.tensor([0, 2]), torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.tensor([[1], [0]])
    found = crcd.relation_cosines(embedded, memory, images, candidates, anchors)
    assert found[1].tolist() == [[0, 0, 0]]  # the second embedding lies on its anchor, image 0
    assert found[0, 0, 2] == 0  # a candidate that is the anchor
    found.sum().backward()
    assert embedded.grad.isfinite().all() and embedded.grad[0].any()
    with pytest.raises(ValueError, match=r"^crcd: a relation needs two images in the batch$"):
        crcd.draw_anchors(1, 4, torch.Generator())


@pytest.mark.parametrize("length", [0.0, 0.0099, 0.0101, 0.03, 0.14, 1.0, 2.0])
def test_differences_have_a_direction_from_a_hundredth_on(length):
    cosine = torch.tensor(1 - length**2 / 2, dtype=torch.float64)
    expected = 1 / length if length > 0.01 else 0.0
    assert crcd._inverse_length(cosine).item() == pytest.approx(expected, rel=1e-6)


def slow_sskd(student, teacher, student_turned, teacher_turned, temperature, keep_wrong):
    size = len(student)

    def similarities(turned, upright):
        return [[dot(a, b) / math.sqrt(dot(a, a) * dot(b, b)) for b in upright] for a in turned]

    def softmax(row):
        exponentials = [math.exp(x / temperature) for x in row]
        return [x / sum(exponentials) for x in exponentials]

    rows = []
    for r, (s, t) in enumerate(zip(similarities(student_turned, student), similarities(teacher_turned, teacher))):
        better = sum(x > t[r % size] + 1e-9 for x in t)
        divergence = sum(p * math.log(p / q) for p, q in zip(softmax(t), softmax(s)))
        rows.append((better, r, divergence))
    right = [divergence for better, _, divergence in rows if better == 0]
    wrong = sorted(row for row in rows if row[0] > 0)
    kept = right + [divergence for _, _, divergence in wrong[: math.floor(keep_wrong * len(wrong))]]
    return temperature**2 * sum(kept) / max(len(kept), 1)


def sskd_codes(size, bits, seed):
    rng = np.random.default_rng(seed)
    student, teacher = codes(rng, size, bits), codes(rng, size, bits)
    flips = [torch.as_tensor(rng.choice([1.0, -1.0], (3 * size, bits), p=[0.7, 0.3])) for _ in range(2)]
    return student, teacher, student.repeat(3, 1) * flips[0], teacher.repeat(3, 1) * flips[1]


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 6),
    bits=st.sampled_from([4, 9, 16]),
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.1, 2),
    keep_wrong=st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]),
)
def test_sskd_is_the_slow_loop(size, bits, seed, temperature, keep_wrong):
    student, teacher, student_turned, teacher_turned = sskd_codes(size, bits, seed)
    chosen = sskd.Settings(temperature=temperature, keep_wrong=keep_wrong)
    nothing = torch.full_like(student, torch.nan)
    batch = as_batch(torch.arange(size), student, nothing, teacher, nothing, student_turned, teacher_turned)
    expected = slow_sskd(
        *(x.tolist() for x in (student, teacher, student_turned, teacher_turned)), temperature, keep_wrong
    )
    assert sskd.loss(batch, None, chosen).item() == pytest.approx(10 * expected, rel=1e-9, abs=1e-12)


def test_sskd_leaves_out_the_rows_that_the_teacher_gets_most_wrong():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.5, 0.2], [0.9, 0.5, 0.1], [0.1, 0.2, 0.3], [0.4, 0.4, 0.1]])
    # The own upright image is more similar than, or as similar as, all others in rows 0 and 4; one other is nearer in
    # row 1, two in rows 2 and 3.
    assert sskd.kept_rows(similarity, 0.0).tolist() == [True, False, False, False, True]
    assert sskd.kept_rows(similarity, 0.5).tolist() == [True, True, False, False, True]
    assert sskd.kept_rows(similarity, 0.75).tolist() == [True, True, True, False, True]
    assert sskd.kept_rows(similarity, 1.0).all()


def test_sskd_may_keep_a_single_row():
    student, _, student_turned, _ = sskd_codes(2, 4, 1)
    teacher = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).repeat(1, 4)
    turned = teacher.flip(0).repeat(3, 1)  # each like the other image, but for the first
    turned[0] = teacher[0]
    batch = as_batch(torch.arange(2), student, student, teacher, teacher, student_turned, turned)
    expected = slow_sskd(*(x.tolist() for x in (student, teacher, student_turned, turned)), 0.5, 0.0)
    found = sskd.loss(batch, None, sskd.Settings(keep_wrong=0.0)).item()
    assert found == pytest.approx(10 * expected) and found > 0


def test_sskd_is_zero_for_a_student_like_the_teacher_and_pulls_others():
    student, teacher, student_turned, teacher_turned = sskd_codes(6, 16, 2)
    like = as_batch(torch.arange(6), teacher, teacher, teacher, teacher, teacher_turned, teacher_turned)
    assert sskd.loss(like, None, sskd.Settings()).item() == pytest.approx(0, abs=1e-12)
    upright, turned = student.clone().requires_grad_(), student_turned.clone().requires_grad_()
    sskd.loss(
        as_batch(torch.arange(6), upright, upright, teacher, teacher, turned, teacher_turned), None, sskd.Settings()
    ).backward()
    assert upright.grad.any() and turned.grad.any()


def test_sskd_asks_for_turned_views():
    student, teacher, turned, _ = sskd_codes(4, 8, 0)
    assert sskd.ROTATED
    for rotated in ((None, None), (turned, None), (None, turned)):
        message = "sskd needs turned views: give the batch student_rotated and teacher_rotated"
        with pytest.raises(ValueError, match=f"^{message}$"):
            sskd.loss(as_batch(torch.arange(4), student, student, teacher, teacher, *rotated), None, sskd.Settings())


def test_the_methods_are_found_and_their_shared_module_is_none():
    assert {"crd", "crcd", "packd", "sskd"} <= set(distillation.methods.names())
    assert "memory" not in distillation.methods.names()
