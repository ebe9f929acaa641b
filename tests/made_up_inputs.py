"""The inputs of a student's training with random features, in place of banks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from brcd_core import distillation, profiles
from brcd_core.hashing import HashHead
from brcd_core.study.distil import distil

SIZE, WIDTH, BITS, BATCH = 40, 6, 8, 8


class MadeUpInputs:
    """What `distil` asks of inputs: SIZE training images, three views of each. `fetched` is called at each batch."""

    device = torch.device("cpu")

    def __init__(self, change: dict, labels: np.ndarray | None, fetched: Callable[[], None]) -> None:
        training = {"epochs": 1, "validate_every": 1, "batch": BATCH}
        change = {"data": {"train": SIZE}, "student": {"training": training}} | change
        self.settings = profiles.load("smoke").resolve(change=change)
        self.labelled, self.labels, self.fetched = labels is not None, {"train": labels}, fetched
        self.table = torch.randn(3, SIZE, WIDTH, generator=torch.Generator().manual_seed(0))

    def codes(self, head: HashHead, role: str, *splits: str) -> list[np.ndarray]:
        return [head.codes(self.table[0]).numpy() for _ in splits]

    def new_head(self, role: str, bits: int, seed: int) -> HashHead:
        return HashHead(WIDTH, bits, 0, seed)

    def views(self, *roles: str) -> SimpleNamespace:
        def batch(images, views):
            self.fetched()
            return [self.table[views, images]] * len(roles)

        def rotated(images):
            return [self.table[:, images].flatten(0, 1)] * len(roles)

        return SimpleNamespace(count=3, batch=batch, rotated=rotated)


def train(
    monkeypatch,
    method: str,
    settings: dict | None = None,
    hash_model: str = "cibhash",
    labels: np.ndarray | None = None,
    fetched: Callable[[], None] = lambda: None,
) -> HashHead:
    """A student's head after one epoch; nothing is validated."""
    monkeypatch.setattr("brcd_core.study.distil.validation_scores", lambda *_: {"map_sshp": 0.0, "map_ashp": 0.0})
    change = {"distillation": {"name": method}, "hash_model": {"name": hash_model}}
    inputs = MadeUpInputs(change, labels, fetched)
    chosen = distillation.methods.load(method).Settings(**settings or {})
    head, _ = distil(inputs, HashHead(WIDTH, BITS, 0, 9), chosen, BITS, 0, lambda *_: None, lambda _: None)
    return head
