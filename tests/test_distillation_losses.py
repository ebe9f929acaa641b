"""KL, RKD, PKT, SP and the three losses on bits against loops over images, pairs and triplets, and other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.distributions import Bernoulli, Categorical, kl_divergence

from brcd_core.distillation import (
    Batch,
    bit_cross_entropy,
    kl,
    logit_mse,
    methods,
    pkt,
    rkd,
    soft_bit_cross_entropy,
    sp,
)
from brcd_core.hashing import Hashed, hashed

# The oracles work on single numbers, which are tensors only so that their gradients can be compared too.


def slow_kl(s, t, chosen):
    total = 0.0
    for r in range(len(s)):
        ours = [(x / chosen.temperature).exp() for x in s[r]]
        theirs = [(x / chosen.temperature).exp() for x in t[r]]
        for a, b in zip(ours, theirs):
            p, q = a / sum(ours), b / sum(theirs)
            total = total + q * (q / p).log()
    return chosen.weight * chosen.temperature**2 * total / len(s)


def slow_logit_mse(s, t, chosen):
    terms = [(a - b) ** 2 for row, other in zip(s, t) for a, b in zip(row, other)]
    return chosen.weight * sum(terms) / len(terms)


def slow_bit_cross_entropy(s, t, chosen):
    terms = []
    for row, bits in zip(s, t):
        for logit, bit in zip(row, bits):
            p = 1 / (1 + (-logit).exp())
            terms.append(-(p if bit > 0 else 1 - p).log())
    return chosen.weight * sum(terms) / len(terms)


def slow_soft_bit_cross_entropy(s, t, chosen):
    terms = []
    for row, other in zip(s, t):
        for a, b in zip(row, other):
            p = 1 / (1 + (-a / chosen.temperature).exp())
            q = 1 / (1 + (-b / chosen.temperature).exp())
            terms.append(-(q * p.log() + (1 - q) * (1 - p).log()))
    return chosen.weight * chosen.temperature**2 * sum(terms) / len(terms)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def length(a):
    squared = dot(a, a)
    return squared.sqrt() if squared > 0 else 0.0


def minus(a, b):
    return [x - y for x, y in zip(a, b)]


def angle(f, i, j, k):
    """Cosine of the angle at j; 0 where i or k has the code of j."""
    left, right = minus(f[i], f[j]), minus(f[k], f[j])
    lengths = length(left) * length(right)
    return dot(left, right) / lengths if lengths > 0 else 0.0


def huber(x):
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def slow_rkd(s, t, chosen):
    images = range(len(s))
    pairs = [(i, j) for i in images for j in images if i != j]
    triplets = [(i, j, k) for i, j in pairs for k in images if k not in (i, j)]
    ours = [length(minus(s[i], s[j])) for i, j in pairs]
    theirs = [length(minus(t[i], t[j])) for i, j in pairs]
    mean, their_mean = sum(ours) / len(pairs), sum(theirs) / len(pairs) or 1.0
    distance = sum(huber(a / mean - b / their_mean) for a, b in zip(ours, theirs)) / len(pairs)
    total = chosen.distance * distance
    if triplets:
        differences = [angle(s, i, j, k) - angle(t, i, j, k) for i, j, k in triplets]
        total = total + chosen.angle * sum(huber(x) for x in differences) / len(triplets)
    return chosen.weight * total


def slow_pkt(s, t, chosen):
    def chances(f, i):
        kernel = [(dot(f[i], f[j]) / (length(f[i]) * length(f[j])) + 1) / 2 for j in range(len(f))]
        return [k / sum(kernel) for k in kernel]

    total = 0.0
    for i in range(len(s)):
        for p, q in zip(chances(s, i), chances(t, i)):
            total = total + q * ((q + 1e-7) / (p + 1e-7)).log()
    return chosen.weight * total / len(s) ** 2


def slow_sp(s, t, chosen):
    def rows(items):
        gram = [[dot(a, b) for b in items] for a in items]
        return [[x / length(row) for x in row] for row in gram]

    def squared_difference(items, others):
        pairs = [(a, b) for row, other in zip(rows(items), rows(others)) for a, b in zip(row, other)]
        return sum((a - b) ** 2 for a, b in pairs) / len(items) ** 2

    if chosen.released.over_bits:  # the items are the K single bits of a code
        bits = [squared_difference([[x] for x in a], [[x] for x in b]) for a, b in zip(s, t)]
        return chosen.weight * sum(bits) / len(bits)
    return chosen.weight * squared_difference(s, t)


OVER_BITS = sp.Settings(released=sp.Released(over_bits=True))
# name: module, settings, its oracle, what it may see of the student and of the teacher
METHODS = {
    "kl": (kl, kl.Settings(), slow_kl, "logits", "logits"),
    "kl, T 1.5": (kl, kl.Settings(temperature=1.5), slow_kl, "logits", "logits"),
    "rkd": (rkd, rkd.Settings(), slow_rkd, "codes", "codes"),
    "pkt": (pkt, pkt.Settings(), slow_pkt, "codes", "codes"),
    "sp": (sp, sp.Settings(), slow_sp, "codes", "codes"),
    "sp over bits": (sp, OVER_BITS, slow_sp, "codes", "codes"),
    "logit mse": (logit_mse, logit_mse.Settings(), slow_logit_mse, "logits", "logits"),
    "bits": (bit_cross_entropy, bit_cross_entropy.Settings(), slow_bit_cross_entropy, "logits", "codes"),
    "soft bits": (
        soft_bit_cross_entropy,
        soft_bit_cross_entropy.Settings(temperature=2.5),
        slow_soft_bit_cross_entropy,
        "logits",
        "logits",
    ),
}
every_method = pytest.mark.parametrize("name", METHODS)
RELATIONAL = ("rkd", "pkt", "sp")  # they see how images stand to each other, not the codes themselves


def only(field, value):
    """A view of which a loss may look at one field: the others are NaN."""
    return Hashed(**{name: value if name == field else torch.full_like(value, torch.nan) for name in Hashed._fields})


def measure(name, student, teacher, **changes):
    """The loss of (B, K) values of view i, of the fields that the method may see; view j is NaN."""
    module, chosen, _, student_field, teacher_field = METHODS[name]
    s, t = only(student_field, student), only(teacher_field, teacher)
    nothing = only("", student)
    batch = Batch(torch.arange(len(student)), s, nothing, t, nothing)
    return module.loss(batch, None, chosen.model_copy(update=changes))


def draw(size, bits, seed, twins=False):
    """Logits of student and teacher (B, K); `twins`: two images with the same student logits, so the same code."""
    student, teacher = torch.as_tensor(np.random.default_rng(seed).normal(0, 2, (2, size, bits)))
    if twins:
        student[1] = student[0]
    return student, teacher


def seen(logits, field, binary=True):
    """What a method sees of a head's logits: themselves, its codes, or any real numbers in the codes' place."""
    return logits if field == "logits" or not binary else hashed(logits, logits).codes


def loss_of_logits(name, student, teacher):
    _, _, _, student_field, teacher_field = METHODS[name]
    return measure(name, seen(student, student_field), seen(teacher, teacher_field))


@every_method
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    size=st.integers(2, 5),
    bits=st.integers(2, 6),
    seed=st.integers(0, 10**6),
    binary=st.booleans(),
    twins=st.booleans(),
)
def test_value_and_gradient_are_the_slow_loops(name, size, bits, seed, binary, twins):
    _, chosen, slow, student_field, teacher_field = METHODS[name]
    student, teacher = draw(size, bits, seed, twins and size > 2)
    assume((student.sign() != student[0].sign()).any())  # all codes the same: see the test of small gradients
    student.requires_grad_()
    ours, theirs = seen(student, student_field, binary), seen(teacher, teacher_field)
    found, expected = measure(name, ours, theirs), slow(list(ours), list(theirs), chosen)
    assert found.item() == pytest.approx(expected.item(), rel=1e-8, abs=1e-9)
    gradient = torch.autograd.grad(found, student, retain_graph=True)[0]
    slow_gradient = torch.autograd.grad(expected, student)[0]
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-6, atol=1e-9 * max(chosen.weight, 1))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(size=st.integers(3, 9), seed=st.integers(0, 10**6))
def test_other_libraries_agree(size, seed):
    student, teacher = draw(size, 7, seed)
    s, t = student / 4, teacher / 4
    softmax = kl_divergence(Categorical(logits=t), Categorical(logits=s)).mean()
    assert measure("kl", student, teacher).item() == pytest.approx(16 * softmax.item())
    bits = -Bernoulli(logits=student).log_prob((teacher > 0).double()).mean()
    assert measure("bits", student, teacher.sign()).item() == pytest.approx(bits.item())
    q = Bernoulli(logits=t)
    soft = (kl_divergence(q, Bernoulli(logits=s)) + q.entropy()).mean()
    assert measure("soft bits", student, teacher, temperature=4.0).item() == pytest.approx(16 * soft.item())

    from scipy.spatial.distance import pdist, squareform
    from scipy.special import huber as scipy_huber
    from scipy.stats import entropy

    distances = [pdist(f.numpy()) for f in (student, teacher)]
    relative = scipy_huber(1, distances[0] / distances[0].mean() - distances[1] / distances[1].mean()).mean()
    assert measure("rkd", student, teacher, angle=0.0).item() == pytest.approx(25 * relative)
    p, q = [2 - squareform(pdist(f.numpy(), "cosine")) for f in (student, teacher)]  # rows need no scale for scipy
    assert measure("pkt", student, teacher).item() == pytest.approx(
        30000 * entropy(q, p, axis=1).sum() / size**2, rel=1e-3
    )


def test_the_angle_part_of_known_triangles():
    """Equal sides against a right angle with equal legs: cosines 1/2, 1/2, 1/2 against 0, 1/sqrt 2, 1/sqrt 2."""
    even = torch.eye(3, dtype=torch.float64)
    right = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    expected = 50 * (0.5 * 0.25 + 2 * 0.5 * (math.sqrt(0.5) - 0.5) ** 2) / 3
    assert measure("rkd", even, right, distance=0.0).item() == pytest.approx(expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(size=st.integers(1, 6), bits=st.integers(2, 16), seed=st.integers(0, 10**6))
def test_sp_over_bits_is_its_closed_form_and_ignores_sign(size, bits, seed):
    s, t = (x.sign() for x in draw(size, bits, seed))
    expected = 0.0
    for a, b in zip(s.tolist(), t.tolist()):
        cosine = dot(a, b) / bits
        expected += 2 * (1 - cosine**2) / bits
    assert measure("sp over bits", s, t, weight=1.0).item() == pytest.approx(expected / size, abs=1e-12)
    assert measure("sp over bits", -t, t).item() == pytest.approx(0, abs=1e-9)


@every_method
def test_the_teachers_own_values_are_the_best(name):
    student, teacher = draw(7, 12, 3)
    teacher_like = teacher.clone().requires_grad_()
    best = loss_of_logits(name, teacher_like, teacher)
    other = loss_of_logits(name, student.requires_grad_(), teacher)
    assert best < other
    assert best < loss_of_logits(name, teacher * student.sign(), teacher)
    (gradient,), (usual,) = torch.autograd.grad(best, teacher_like), torch.autograd.grad(other, student)
    if name != "bits":  # where surer bits are better still
        assert gradient.abs().max() < 1e-6 * usual.abs().max()
    if name not in ("bits", "soft bits"):
        assert best.item() == pytest.approx(0, abs=1e-9)


@every_method
def test_only_relational_methods_forgive_renamed_bits(name):
    """The student's bits in another order and half of them turned round: its codes no longer meet the teacher's."""
    _, teacher = draw(7, 12, 4)
    renamed = teacher.roll(1, dims=1) * torch.tensor([1.0, -1.0]).repeat(6)
    lost = loss_of_logits(name, renamed, teacher) - loss_of_logits(name, teacher, teacher)
    assert (abs(lost.item()) < 1e-8) if name in RELATIONAL else lost > 1e-3


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_small_where_codes_coincide(name, dtype):
    """Two equal codes, all codes equal, opposite codes, and the teacher's own: all happen with a few bits."""
    student, teacher = (x.to(dtype) for x in draw(6, 16, 5))
    twins, opposite = student.clone(), student.clone()
    twins[1] = student[0]
    opposite[1] = -student[0]
    usual = torch.autograd.grad(loss_of_logits(name, student.requires_grad_(), teacher), student)[0].abs().max()
    assert usual > 0
    for case in (twins, opposite, student.detach()[:1].repeat(6, 1), teacher.clone()):
        value = loss_of_logits(name, case.requires_grad_(), teacher)
        (gradient,) = torch.autograd.grad(value, case)
        assert value.isfinite() and gradient.isfinite().all()
        assert gradient.abs().max() < 100 * usual


@every_method
@pytest.mark.filterwarnings("error")
def test_sure_bits_neither_overflow_nor_warn(name):
    student, teacher = (1000 * x.float() for x in draw(6, 16, 6))
    student.requires_grad_()
    value = loss_of_logits(name, student, teacher)
    assert value.isfinite() and torch.autograd.grad(value, student)[0].isfinite().all()


@every_method
def test_the_teacher_gets_no_gradient(name):
    student, teacher = (x.requires_grad_() for x in draw(5, 8, 7))
    loss_of_logits(name, student, teacher).backward()
    assert student.grad is not None and student.grad.any() and teacher.grad is None


@every_method
def test_weight_scales_the_loss(name):
    student, teacher = draw(5, 8, 8)
    teacher = teacher.sign() if METHODS[name][4] == "codes" else teacher
    one = measure(name, student, teacher, weight=1.0).item()
    assert one > 0
    assert measure(name, student, teacher).item() == pytest.approx(METHODS[name][1].weight * one)
    assert measure(name, student, teacher, weight=2.5).item() == pytest.approx(2.5 * one)
    assert measure(name, student, teacher, weight=0.0).item() == 0


@every_method
def test_descent_halves_what_is_to_gain(name):
    student, teacher = draw(8, 15, 9)  # an odd length: over bits, a code halfway to the teacher's has no gradient
    student.requires_grad_()
    first, least = loss_of_logits(name, student, teacher).item(), loss_of_logits(name, teacher, teacher).item()
    optimiser = torch.optim.Adam([student], lr=0.3)
    for _ in range(100):
        optimiser.zero_grad()
        value = loss_of_logits(name, student, teacher)
        value.backward()
        optimiser.step()
    assert loss_of_logits(name, student, teacher).item() - least < (first - least) / 2


def test_settings_are_the_published_ones_and_checked():
    published = {"kl": 1, "rkd": 1, "pkt": 30000, "sp": 3000}
    assert {name: methods.load(name).Settings().weight for name in published} == published
    assert kl.Settings().temperature == 4 and (rkd.Settings().distance, rkd.Settings().angle) == (25, 50)
    assert not sp.Settings().released.over_bits
    for module in {row[0] for row in METHODS.values()}:
        with pytest.raises(ValidationError, match="weight"):
            module.Settings(weight=-1)
    with pytest.raises(ValidationError, match="temperature"):
        kl.Settings(temperature=0)


def test_pkt_as_released_has_weight_one_and_no_other():
    assert pkt.Settings(released=pkt.Released(unit_weight=True)).weight == 1.0
    assert pkt.Settings(released={"unit_weight": True}).model_fields_set == {"weight", "released"}
    with pytest.raises(ValidationError, match=r"released\.unit_weight is on, and weight is 30\.0"):
        pkt.Settings(weight=30.0, released=pkt.Released(unit_weight=True))
