"""A training step asks the device for no value: on a GPU each such question makes the host wait for all work so far.

There need be no GPU to see it: what would wait there is counted here on the CPU.
"""

import made_up_inputs
import numpy as np
import pytest
import torch
from made_up_inputs import BATCH, SIZE
from torch.utils._python_dispatch import TorchDispatchMode

from brcd_core import distillation, hashing

TRAINED = [name for name in hashing.models.names() if hasattr(hashing.models.load(name), "loss")]
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


@pytest.mark.parametrize("method", distillation.methods.names())
@pytest.mark.parametrize("hash_model", TRAINED)
def test_a_step_waits_for_nothing(method, hash_model, waits, monkeypatch):
    seen = []
    made_up_inputs.train(monkeypatch, method, hash_model=hash_model, fetched=lambda: seen.append(waits.count))
    assert len(seen) == 2 * SIZE / BATCH
    assert set(seen[2:]) == {seen[2]}  # the first step may compute what it keeps for all


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
