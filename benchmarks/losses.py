"""The losses of a training step against their textbook form, and what the time of a step is made of.

    python -m benchmarks.losses [--quick]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import device as Device
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import made_up, rivals, slow_losses
from benchmarks.measure import Column, Job, clocked, is_quick, machine, medians, publish, table, this_device
from benchmarks.student_run import train
from brcd_core.distillation import Batch, TeacherKnowledge, brcd
from brcd_core.hashing import Hashed, cibhash
from brcd_core.study.distil import hash_both
from brcd_core.study.features import Inputs
from brcd_core.tables.table import Table

BITS, TIMES = made_up.BITS, 20  # how often the quick form is run at once
MOVED = 10  # of so many images one has a second view of another meaning
OPERATORS = 10  # that the profile lists


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    batches: tuple[int, ...] = (64, 128, 256, 512, 1024)
    rows: int = 8  # that the textbook form is timed on
    repeats: int = 3
    teacher: str = "dinov2_vits14"
    student: str = "mobilenet_v2"
    train: int = 5000
    views: int = 20
    epochs: int = 10
    steps: int = 200  # profiled


QUICK = Sizes((8, 16), 2, 1, "tiny_teacher", "tiny_student", 128, 2, 1, 4)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and publish both tables."""
    sizes, device = QUICK if is_quick(__doc__, argv) else Sizes(), this_device()
    publish(loss_table(sizes, device))
    publish(step_table(sizes, device))


# ---- the losses -------------------------------------------------------------------------------------------


def loss_table(sizes: Sizes, device: Device) -> Table:
    """Milliseconds forward and backward at each batch size; AssertionError where the two forms differ."""
    rows: list[dict[str, Any]] = []
    for size in sizes.batches:
        whole, settings = losses(size, device), {"repeats": sizes.repeats, "device": device}
        if size == min(sizes.batches):
            for one in whole.values():
                agree(one.ours, partial(one.textbook, range(2 * size)))
        for name, one in whole.items():
            few = [round(place * 2 * size / sizes.rows) for place in range(sizes.rows)]
            jobs = {
                "ours": Job(partial(several, one.ours, TIMES), 1 / TIMES),
                "rows": Job(partial(one.textbook, few), 2 * size / len(few)),
                "once": Job(one.once),
            }
            seconds = medians(jobs, **settings)  # type: ignore[arg-type]
            ours, textbook = seconds["ours"], seconds["rows"] + seconds["once"]
            rows.append(
                {"loss": name, "batch": size, "ours": 1e3 * ours, "textbook": 1e3 * textbook}
                | {"faster": textbook / ours}
            )
    rows.sort(key=lambda row: list(whole).index(row["loss"]))
    caption = (
        "What does a loss cost, forward and backward? The same numbers and gradients as two loops over the rows of a "
        f"batch, {min(row['faster'] for row in rows):,.0f} to {max(row['faster'] for row in rows):,.0f} times as fast."
    )
    note = (
        f"{BITS} bits; the loops are timed on {sizes.rows} of the rows and scaled, and were checked to give the same "
        f"value and gradient at a batch of {min(sizes.batches)}. Median of {sizes.repeats}. {machine(device)}"
    )
    columns = {
        "ours": Column("ours (ms)"),
        "textbook": Column("two loops (ms)", "{:,.0f}"),
        "faster": Column("times as fast", "{:,.0f}"),
    }
    return table("losses", caption, note, rows, ["loss", "batch"], columns)


Loss = Callable[..., Tensor]  # forward and backward; returns the gradient


class Forms(NamedTuple):
    """A loss in both forms. `once`: what the textbook form does once for a batch, not for each of its rows."""

    ours: Loss
    textbook: Loss  # takes its rows
    once: Callable[[], object] = lambda: None


def losses(size: int, device: Device) -> dict[str, Forms]:
    """NT-Xent and BRCD on a batch of codes in ten clusters."""
    known = torch.from_numpy(rivals.problem(0, 10 * size, BITS).database_codes).to(device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randperm(len(known), generator=generator)[:size].to(device)
    teacher_i, other = known[images], known[images].clone()
    other[::MOVED] = -other[::MOVED]
    student_i = (teacher_i + torch.randn(size, BITS, generator=generator).to(device)).requires_grad_()
    student_j = torch.randn(size, BITS, generator=generator).to(device)
    batch = Batch(images, *(Hashed(one, one, one, one) for one in (student_i, student_j, teacher_i, other)))
    chosen = brcd.Settings()
    prepared = brcd.prepare(TeacherKnowledge(known, 0), chosen)
    tau = cibhash.Settings().temperature
    meanings = partial(slow_losses.meanings, batch, prepared)
    meaning = meanings()

    def gradient(loss: Callable[..., Tensor], *rows: Any) -> Tensor:
        student_i.grad = None
        value = loss(*rows)
        value.backward()
        assert student_i.grad is not None
        return torch.cat([value.detach()[None], student_i.grad.flatten()])

    return {
        "NT-Xent": Forms(
            partial(gradient, lambda: cibhash.nt_xent(student_i, student_j, tau)),
            partial(gradient, lambda rows: slow_losses.nt_xent(student_i, student_j, tau, rows)),
        ),
        "BRCD": Forms(
            partial(gradient, lambda: brcd.loss(batch, prepared, chosen)),
            partial(gradient, lambda rows: slow_losses.brcd(batch, prepared, chosen, meaning, rows)),
            meanings,
        ),
    }


def agree(ours: Loss, textbook: Loss) -> None:
    """AssertionError unless both forms give the same value and gradient."""
    torch.testing.assert_close(ours(), textbook(), rtol=1e-4, atol=1e-5)


def several(job: Callable[[], object], times: int) -> None:
    """The same job again and again."""
    for _ in range(times):
        job()


# ---- a step -----------------------------------------------------------------------------------------------


def step_table(sizes: Sizes, device: Device) -> Table:
    """Steps a second of head training, and the shares of a step: by part, and by operator."""
    data = {"train": sizes.train, "validation": 1, "database": sizes.train, "query": 1}
    epochs, networks = sizes.epochs, {"student": sizes.student, "teacher": sizes.teacher}
    settings = {
        method: made_up.settings(data, sizes.views, 112, epochs, epochs, method) for method in ("none", "brcd")
    }
    inputs = made_up.inputs(settings["brcd"], networks, device)
    clocks = {method: partial(_per_step, replace(inputs, settings=chosen)) for method, chosen in settings.items()}
    speeds = clocked(clocks, sizes.repeats)
    rows = profiled(inputs, sizes.steps)
    parts = [row for row in rows if row["by"] == "part"]
    first, second = sorted(parts, key=lambda row: -row["share"])[:2]
    caption = (
        f"What bounds head training? {1 / speeds['none']:,.0f} steps a second without distillation, "
        f"{1 / speeds['brcd']:,.0f} with BRCD, of which {first['share']:.0f} % are {first['name']} and "
        f"{second['share']:.0f} % {second['name']}."
    )
    note = (
        f"{sizes.student} taught by {sizes.teacher}, a head with one hidden layer of 256, {BITS} bits, batches of 64, "
        f"from banks of {sizes.views} views of {sizes.train:,} images. Shares of processor time over {sizes.steps} "
        f"steps of BRCD, by torch.profiler; operators: their own time, the {OPERATORS} longest. {machine(device)}"
    )
    return table("head_training", caption, note, rows, ["by", "name"], {"share": Column("share", "{:.1f} %")})


def _per_step(inputs: Inputs) -> float:
    done = train(inputs)
    return done.seconds / done.steps


def profiled(inputs: Inputs, steps: int) -> list[dict[str, Any]]:
    """Shares of the time of BRCD's training steps: those of the study's loop, its parts named."""
    device, generator = inputs.device, torch.Generator().manual_seed(0)
    views, head = inputs.views("student", "teacher"), inputs.new_head("student", BITS, seed=0)
    taught_by = inputs.new_head("teacher", BITS, seed=0)
    (codes,) = inputs.codes(taught_by, "teacher", "train")
    chosen = brcd.Settings()
    prepared = brcd.prepare(TeacherKnowledge(torch.from_numpy(codes).float().to(device), 0), chosen)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-3, fused=True)
    size, count = len(codes), inputs.settings.views.count

    def step() -> None:
        images = torch.randint(size, (64,), generator=generator).to(device)
        first = torch.randint(count, (64,), generator=generator).to(device)
        with record_function("gather features"):
            features_i, features_j = views.batch(images, first), views.batch(images, (first + 1) % count)
        with record_function("heads, forward"):
            student_i, student_j = hash_both(head, features_i[0], features_j[0])
            with torch.no_grad():
                teacher_i, teacher_j = hash_both(taught_by, features_i[1], features_j[1])
        with record_function("losses, forward"):
            batch = Batch(images, student_i, student_j, teacher_i, teacher_j)
            loss = cibhash.loss(student_i, student_j, cibhash.Settings()) + brcd.loss(batch, prepared, chosen)
        with record_function("backward"):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
        with record_function("Adam"):
            optimiser.step()

    several(step, 3)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports that there is no GPU
    with profile(activities=[ProfilerActivity.CPU]) as found:
        several(step, steps)
    events = found.key_averages()
    parts = ("gather features", "heads, forward", "losses, forward", "backward", "Adam")
    by_part = {one.key: one.cpu_time_total for one in events if one.key in parts}
    own = {one.key: one.self_cpu_time_total for one in events if one.key.startswith("aten::")}
    longest = sorted(own, key=lambda name: -own[name])[:OPERATORS]
    everything = sum(by_part.values()) / 100
    rows = [{"by": "part", "name": name, "share": by_part[name] / everything} for name in parts]
    operators = [(name.removeprefix("aten::"), own[name] / everything) for name in longest]
    return rows + [{"by": "operator", "name": name, "share": share} for name, share in operators]


if __name__ == "__main__":
    main()
