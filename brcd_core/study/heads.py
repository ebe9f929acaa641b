"""How a role gets its hash head where no training is needed: the shallow, closed-form hash models."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from brcd_core import hashing
from brcd_core.hashing import HashHead
from brcd_core.study.features import Inputs
from brcd_core.study.runs import TeacherRun
from brcd_core.training import Fit, Scores


def closed_form(hash_model: Any) -> bool:
    """Whether a hash model (its module) is fitted in one step instead of trained."""
    return hasattr(hash_model, "fit")


def fit_closed_form(
    inputs: Inputs, role: str, run: TeacherRun, validate: Callable[[HashHead], Scores]
) -> tuple[HashHead, Fit]:
    """A linear head on a role's frozen features, from the clean training images; its one validation is epoch 0."""
    started = time.perf_counter()
    model = hashing.models.load(run.hash_model)
    features = inputs.features(role, "train").float().cpu()
    weight, bias = model.fit(features, run.bits, run.seed, run.settings.hash_settings())
    head = HashHead(features.shape[1], run.bits)
    head.layers[0].load_state_dict({"weight": weight, "bias": bias})
    head = head.to(inputs.device)
    seconds = time.perf_counter() - started
    scores = validate(head)
    return head, Fit(0, scores, [{"epoch": 0, **scores}], 0, seconds)
