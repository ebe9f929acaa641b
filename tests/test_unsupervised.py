"""No method learns from labels, though they are at hand: with them, with others, and without comes the same student."""

import made_up_inputs
import numpy as np
import pytest
import torch
from made_up_inputs import SIZE

from brcd_core import distillation

CLASSES = np.eye(5, dtype=bool)[np.arange(SIZE) % 5]


def weights(*arguments, **named):
    return torch.nn.utils.parameters_to_vector(made_up_inputs.train(*arguments, **named).parameters())


@pytest.mark.parametrize("method", distillation.methods.names())
def test_labels_teach_nothing(method, monkeypatch):
    without = weights(monkeypatch, method)
    for labels in (CLASSES, CLASSES[::-1].copy()):
        assert torch.equal(weights(monkeypatch, method, labels=labels), without)


@pytest.mark.parametrize("method", ["crd", "packd"])
def test_but_for_the_leak_of_the_released_code(method, monkeypatch):
    found = {}
    for on in (False, True):
        found[on] = weights(monkeypatch, method, {"released": {"true_label_negatives": on}}, labels=CLASSES)
    assert not torch.equal(found[True], found[False])
