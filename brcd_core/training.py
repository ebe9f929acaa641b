"""One loop that trains a head on frozen features, stopped early on validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from brcd_core.config import Frozen
from brcd_core.hashing import HashHead

Scores = dict[str, float]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and what is kept."""


class Training(Frozen):
    """How a head is trained: Adam; validation every `validate_every` epochs; stopped after more than
    `patience` validations without a better score."""

    learning_rate: float = Field(1e-3, gt=0)
    batch: int = Field(64, ge=2)
    epochs: int = Field(100, ge=1)
    validate_every: int = Field(5, ge=1)
    patience: int = Field(3, ge=0)


Select = Literal["mean", "sshp", "ashp"]
"""Which validation score picks a student's checkpoint: the mean of SSHP and ASHP, or one of them."""


class Views(Protocol):
    """Features of the training images under augmented views: from a bank, or computed afresh."""

    count: int | None  # views that pairs are drawn from; None: no view is read twice

    def batch(self, images: Tensor, views: Tensor) -> list[Tensor]:
        """Features (B, D), one tensor a backbone, of images (B,) in the views (B,)."""
        ...


@dataclass(frozen=True)
class Fit:
    """What a training run gives: the best epoch, its validation scores, and a row per validated epoch."""

    best_epoch: int
    best_scores: Scores
    history: list[dict[str, float]]
    steps: int
    seconds: float


def draw_views(count: int | None, epoch: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two view numbers for each of `size` images, (size,) each.

    Of `count` views a random pair of different ones, of a single view that view and itself. None: the two views
    that belong to this epoch (from 0) and to no other.
    """
    if count is None:
        return torch.full((size,), 2 * epoch), torch.full((size,), 2 * epoch + 1)
    if count == 1:
        return torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
    first = torch.randint(count, (size,), generator=generator)
    second = (first + torch.randint(1, count, (size,), generator=generator)) % count
    return first, second


def fit(
    head: HashHead,
    views: Views,
    size: int,
    loss: Callable[[Tensor, list[Tensor], list[Tensor]], Tensor],
    validate: Callable[[], Scores],
    settings: Training,
    *,
    select: Callable[[Scores], float],
    seed: int,
    extra: nn.Module | None = None,
    keep: Callable[[int, Scores], None] = lambda epoch, scores: None,
    report: Callable[[str], None] = print,
) -> Fit:
    """Train `head` in place on `size` images and leave it with the weights of its best validation.

    `loss(images, features_i, features_j)` gives a scalar of a batch's positions (B,) and of its two
    views' features, one tensor a backbone. `validate()` scores the head as it is; `select` turns the
    scores into the number to be maximised. `keep(epoch, scores)` is called at each new best, so that a
    checkpoint outlives whatever happens later. `extra` holds further parameters that the loss trains.

    TrainingError if the loss or the weights stop being finite: it names epoch and step; `keep` has saved the best so
    far.
    """
    device = head.mean.device
    generator = torch.Generator().manual_seed(seed)
    parameters = [*head.parameters(), *(extra.parameters() if extra else ())]
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    best, best_epoch, best_scores, bad = -float("inf"), 0, Scores(), 0
    best_state = {name: value.clone() for name, value in head.state_dict().items()}
    history: list[dict[str, float]] = []
    steps, started = 0, time.perf_counter()

    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(size, generator=generator)
        first, second = draw_views(views.count, epoch - 1, size, generator)
        order, first, second = order.to(device), first.to(device), second.to(device)
        losses = []
        for images in order.split(settings.batch):
            if len(images) < 2:  # a contrastive loss has nothing to contrast
                continue
            value = loss(images, views.batch(images, first[images]), views.batch(images, second[images]))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            losses.append(value.detach())
        # Looked at once an epoch, so that a GPU is not made to wait at every step.
        epoch_losses = torch.stack(losses)
        step, wrong = _not_finite(epoch_losses, parameters)
        if wrong:
            head.load_state_dict(best_state)
            raise TrainingError(
                f"{wrong} at step {step} of epoch {epoch} (step {steps + step} of the run); "
                + (f"the best checkpoint, of epoch {best_epoch}, is kept. " if best_epoch else "")
                + "Look for NaN in the features, or lower the learning rate."
            )
        steps += len(losses)

        if epoch % settings.validate_every and epoch != settings.epochs:
            continue
        scores = validate()
        history.append({"epoch": epoch, "loss": epoch_losses.mean().item(), **scores})
        report(f"epoch {epoch:4d}  loss {history[-1]['loss']:.4f}  " + _line(scores))
        if select(scores) > best:
            best, best_epoch, best_scores, bad = select(scores), epoch, scores, 0
            best_state = {name: value.clone() for name, value in head.state_dict().items()}
            keep(epoch, scores)
        else:
            bad += 1
            if bad > settings.patience:
                break

    head.load_state_dict(best_state)
    return Fit(best_epoch, best_scores, history, steps, time.perf_counter() - started)


def _not_finite(losses: Tensor, parameters: Iterable[Tensor]) -> tuple[int, str]:
    """The first step (from 1) of an epoch at which something is not finite, and what; else the last step and ""."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        return int(bad[0]) + 1, f"the loss is {losses[bad[0]].item()}"
    # A gradient of a finite loss can be NaN; what comes after it shows, but nothing comes after the last step.
    whole = all(value.isfinite().all() for value in parameters)
    return len(losses), "" if whole else "the weights are not finite"


def _line(scores: Scores) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
