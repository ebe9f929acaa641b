"""One student run of 100 epochs: from view banks, against the same with every view augmented and encoded on the fly.

    python -m benchmarks.student_run [--quick]

Both train BRCD by the study's own loop. A run is measured in parts: epochs from the bank, validations, a few steps on
the fly, and the building of both backbones' banks. Random images and features: they take as long as real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import device as Device

from benchmarks import made_up
from benchmarks.extraction import VIEWS, build_bank
from benchmarks.measure import (
    Column,
    clocked,
    encoder,
    is_quick,
    machine,
    publish,
    reached,
    stopwatch,
    table,
    this_device,
)
from brcd_core.study.distil import distil, student_scores
from brcd_core.study.features import Inputs
from brcd_core.tables.table import Table
from brcd_core.training import Fit

EPOCHS, VALIDATE_EVERY, BATCH = 100, 5, 64
FASTER, PAID_BACK = 50, 1  # aims: a run from the bank, and runs until the bank has paid for itself
BANK, BUILT, FLY = "from a bank that is there", "building the bank, and the run", "on the fly"


@dataclass(frozen=True)
class Sizes:
    """What is measured; the protocol's own sizes."""

    teacher: str = "dinov2_vits14"
    student: str = "mobilenet_v2"
    pixels: int = 112
    train: int = 5000
    validation: int = 5000
    database: int = 50_000
    views: tuple[int, ...] = (4, 10, 20)  # the run reads the largest bank
    fresh_steps: int = 3
    built: int = 128  # images, in two views
    repeats: int = 3

    @property
    def networks(self) -> dict[str, str]:
        """Backbones by role."""
        return {"student": self.student, "teacher": self.teacher}

    @property
    def steps(self) -> int:
        """Of the whole run; a last batch of one image is no step."""
        return EPOCHS * (self.train // BATCH + (self.train % BATCH > 1))


QUICK = Sizes("tiny_teacher", "tiny_student", 32, 130, 20, 200, (2, 4), 1, 32, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and publish both tables."""
    sizes, device = QUICK if is_quick(__doc__, argv) else Sizes(), this_device()
    encoders = {role: encoder(name, sizes.pixels, device) for role, name in sizes.networks.items()}
    if None in encoders.values():
        print("no student run is timed: it needs both backbones")
        return
    build = {role: partial(build_bank, one, sizes.built, device) for role, one in encoders.items() if one is not None}
    seconds = clocked({**training_parts(sizes, device), **_watched(build, device)}, sizes.repeats)
    rows = runs(seconds, sizes)
    publish(run_table(rows, sizes, device))
    publish(bank_table(rows, seconds, sizes, device))


def training_parts(sizes: Sizes, device: Device) -> dict[str, Callable[[], float]]:
    """Clocks of some epochs from the bank, of a validation, and of a step on the fly."""
    data = {"train": sizes.train, "validation": sizes.validation, "database": sizes.database, "query": 1}
    banked = made_up.settings(data, max(sizes.views), sizes.pixels, VALIDATE_EVERY, VALIDATE_EVERY, "brcd")
    from_bank = made_up.inputs(banked, sizes.networks, device)
    # As many images as fill the steps, and a validation that takes no time beside them.
    few = BATCH * sizes.fresh_steps
    data = {"train": few, "validation": 1, "database": few, "query": 1}
    fresh = made_up.inputs(made_up.settings(data, 0, sizes.pixels, 1, 1, "brcd"), sizes.networks, device)

    def step() -> float:
        done = train(fresh)
        return done.seconds / done.steps

    head = from_bank.new_head("student", made_up.BITS, seed=0)
    (teacher_database,) = from_bank.codes(head, "student", "database")
    scores = partial(student_scores, from_bank, head, teacher_database)
    return {"epochs": lambda: train(from_bank).seconds, "validation": stopwatch(scores, device), "step": step}


def train(inputs: Inputs) -> Fit:
    """A student of BRCD by the settings of its inputs, taught by an untrained teacher."""
    settings = inputs.settings
    taught_by = inputs.new_head("teacher", made_up.BITS, seed=0)
    _, done = distil(
        inputs, taught_by, settings.distillation_settings(), made_up.BITS, 0,
        keep=lambda head, epoch: None, report=lambda line: None,
    )  # fmt: skip
    return done


def runs(seconds: Mapping[str, float], sizes: Sizes) -> list[dict[str, Any]]:
    """The ways to a whole run, put together from its parts."""
    share = VALIDATE_EVERY / EPOCHS  # of the run, that `epochs` measures: with one of the validations
    validations = seconds["validation"] / share
    banked, building = seconds["epochs"] / share, sum(built(seconds, sizes, max(sizes.views)).values())
    whole = {BANK: banked, BUILT: building + banked, FLY: sizes.steps * seconds["step"] + validations}
    step = (seconds["epochs"] - seconds["validation"]) / (share * sizes.steps)
    steps = {BANK: step, BUILT: step, FLY: seconds["step"]}
    return [
        {"training": way, "step": 1000 * steps[way], "validations": validations, "run": whole[way]}
        | {"faster": whole[FLY] / whole[way]}
        for way in whole
    ]


def built(seconds: Mapping[str, float], sizes: Sizes, views: int) -> dict[str, float]:
    """Seconds to build the bank of each backbone in so many views."""
    return {role: views * sizes.train * seconds[role] / (VIEWS * sizes.built) for role in sizes.networks}


def run_table(rows: Sequence[dict[str, Any]], sizes: Sizes, device: Device) -> Table:
    """A step, the validations, the whole run."""
    caption = (
        f"What does a student run of {EPOCHS} epochs cost? From a bank that is there it is "
        f"{reached(FASTER, [rows[0]['faster']], True)} as fast as on the fly, with the building of the bank before it "
        f"{rows[1]['faster']:,.1f} times."
    )
    note = (
        f"BRCD, {sizes.student} taught by {sizes.teacher} at {sizes.pixels} pixels, {sizes.train:,} images, batches "
        f"of {BATCH}, {sizes.steps:,} steps, {EPOCHS // VALIDATE_EVERY} validations of {sizes.validation:,} images "
        f"against {sizes.database:,}, whose features all ways have cached. Scaled from {VALIDATE_EVERY} epochs from "
        f"the bank of {max(sizes.views)} views, building it for {sizes.built} images in {VIEWS} views, and "
        f"{sizes.fresh_steps} steps on the fly, median of {sizes.repeats}. {machine(device)}"
    )
    columns = {
        "step": Column("a step (ms)", "{:,.2f}"),
        "validations": Column("validations (s)", "{:,.1f}"),
        "run": Column("the run (s)", "{:,.0f}"),
        "faster": Column("times as fast", "{:,.1f}"),
    }
    return table("student_run", caption, note, rows, ["training"], columns)


def bank_table(
    rows: Sequence[dict[str, Any]], seconds: Mapping[str, float], sizes: Sizes, device: Device
) -> Table:
    """How long building takes for several numbers of views, and after how many runs that is won back."""
    saved = rows[-1]["run"] - rows[0]["run"]
    lines = []
    for views in sizes.views:
        building = built(seconds, sizes, views)
        total = sum(building.values())
        lines.append({"views": views, **building, "total": total, "runs": total / saved})
    caption = (
        "When has a bank paid for itself? After "
        f"{reached(PAID_BACK, [line['runs'] for line in lines], False, ' runs')} of {EPOCHS} epochs."
    )
    note = (
        f"Seconds to build the banks of {sizes.train:,} images: " + ", ".join(
            f"{name} at {VIEWS * sizes.built / seconds[role]:.1f} images a second"
            for role, name in sizes.networks.items()
        ) + f", measured on {VIEWS * sizes.built}. Every later run, of any method, seed or code length, reads the "
        f"same banks. {machine(device)}"
    )  # fmt: skip
    columns = {role: Column(f"{name} (s)", "{:,.0f}") for role, name in sizes.networks.items()}
    columns |= {"total": Column("both (s)", "{:,.0f}"), "runs": Column("runs until paid back")}
    return table("student_bank", caption, note, lines, ["views"], columns)


def _watched(jobs: Mapping[str, Callable[[], object]], device: Device) -> dict[str, Callable[[], float]]:
    return {name: stopwatch(job, device) for name, job in jobs.items()}


if __name__ == "__main__":
    main()
