"""A training step asks the device for no value: on a GPU each such question makes the host wait for all work so far.

There need be no GPU to see it: what would wait there is counted here on the CPU.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brcd_core import distillation, hashing, profiles
from brcd_core.hashing import HashHead
from brcd_core.settings import Settings
from brcd_core.study.distil import distil

SIZE, WIDTH, BITS = 40, 6, 8
ASK = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal")
LEAVE = ("cpu", "numpy", "tolist", "__array__")


class Waits(TorchDispatchMode):
    """Counts what needs a value or a shape that only the device knows."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]
        )
        repeated_by = name == "repeat_interleave" and any(isinstance(one, torch.Tensor) for one in args[-1:])
        self.count += name in ASK or by_mask or repeated_by
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waits(monkeypatch):
    counter = Waits()

    def counted(kept):
        def leave(tensor, *arguments, **named):
            counter.count += 1
            return kept(tensor, *arguments, **named)

        return leave

    for name in LEAVE:
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    with counter:
        yield counter


class MadeUp:
    """The inputs of a study with random features, whose views note how often was waited when a batch is fetched."""

    device, labelled, labels = torch.device("cpu"), True, {"train": np.eye(5, dtype=bool)[np.arange(SIZE) % 5]}

    def __init__(self, settings: Settings, waits: Waits) -> None:
        self.settings, self.waits, self.seen = settings, waits, []
        self.table = torch.randn(3, SIZE, WIDTH, generator=torch.Generator().manual_seed(0))

    def codes(self, head: HashHead, role: str, *splits: str):
        return [head.codes(self.table[0]).numpy() for _ in splits]

    def new_head(self, role: str, bits: int, seed: int) -> HashHead:
        return HashHead(WIDTH, bits, 0, seed)

    def views(self, *roles: str):
        def batch(images, views):
            self.seen.append(self.waits.count)
            return [self.table[views, images]] * len(roles)

        def rotated(images):
            return [self.table[:, images].flatten(0, 1)] * len(roles)

        return SimpleNamespace(count=3, batch=batch, rotated=rotated)


@pytest.mark.parametrize("method", distillation.methods.names())
@pytest.mark.parametrize("hash_model", ["cibhash", "bihalf", "greedyhash", "sdc"])
def test_a_step_waits_for_nothing(method, hash_model, waits, monkeypatch):
    monkeypatch.setattr("brcd_core.study.distil.validation_scores", lambda *_: {"map_sshp": 0.0, "map_ashp": 0.0})
    training = {"epochs": 1, "validate_every": 1, "batch": 8}
    change = {"data": {"train": SIZE}, "student": {"training": training}}
    change |= {"distillation": {"name": method}, "hash_model": {"name": hash_model}}
    inputs = MadeUp(profiles.load("smoke").resolve(change=change), waits)
    chosen = distillation.methods.load(method).Settings()
    distil(inputs, HashHead(WIDTH, BITS, 0, 9), chosen, BITS, 0, lambda *_: None, lambda _: None)
    assert len(inputs.seen) == 2 * SIZE / 8
    assert set(inputs.seen[2:]) == {inputs.seen[2]}  # the first step may compute what it keeps for all


def test_every_hash_model_that_trains_is_tried():
    trained = [name for name in hashing.models.names() if hasattr(hashing.models.load(name), "loss")]
    assert trained == ["bihalf", "cibhash", "greedyhash", "sdc"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x[0].item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_fill_(x > 0, 0)[x > 0].sum(),
        lambda x: x.unique(),
        lambda x: x.tolist(),
        lambda x: np.asarray(x),
        lambda x: x.cpu(),
        lambda x: torch.equal(x, x + 1),
        lambda x: x.repeat_interleave(torch.tensor([1, 2, 3])),
    ],
)
def test_waiting_is_seen(ask, waits):
    before = waits.count
    ask(torch.tensor([1.0, -1.0, 2.0]))
    assert waits.count > before
