"""Inputs of a student run made of random numbers: they take as long to compute with as real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from brcd_core import backbones
from brcd_core.datasets import Dataset
from brcd_core.settings import Choice, Data, Network, Settings, Views
from brcd_core.study.features import Inputs
from brcd_core.training import Training
from brcd_core.views.augmentation import Augmentation
from brcd_core.views.bank import Bank, BankSettings, ids_checksum, native_precision

CLASSES, SIDE = 10, 32  # as CIFAR-10
BITS = 64


def settings(data: Mapping[str, int], views: int, size: int, epochs: int, validate_every: int, method: str) -> Settings:
    """A student with one hidden layer, as in the study's profiles; `data`: images a split."""
    training = Training(epochs=epochs, validate_every=validate_every)
    return Settings(
        data=Data.model_validate({"dataset": "cifar10", **data}),
        views=Views(count=views, size=size),
        student=Network(hidden=256, training=training),
        distillation=Choice(name=method),
    )


def dataset(images: int, pictures: int) -> Dataset:
    """Labels of random classes for all images, and random pixels for the first of them."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (pictures, SIDE, SIDE, 3), np.uint8)
    labels = np.eye(CLASSES, dtype=bool)[random.integers(0, CLASSES, images)]
    return Dataset("random", tuple(map(str, range(CLASSES))), pixels, labels, "random")


def inputs(chosen: Settings, networks: Mapping[str, str], device: torch.device) -> Inputs:
    """All that a run trains and judges with; the augmented features are there if the settings have views."""
    data = chosen.data
    images = dataset(data.database + data.validation + data.query, data.train)
    ends = np.cumsum([data.database, data.validation, data.query])
    parts = np.split(np.arange(len(images.labels)), ends[:-1])
    ids = dict(zip(("database", "validation", "query"), parts, strict=True))
    ids["train"] = ids["database"][: data.train]
    banks: dict[str, dict[str, Bank]] = {role: {} for role in networks}
    for role, name in networks.items():
        for split, numbers in ids.items():
            views = chosen.views.count if split == "train" else 0
            if split != "train" or views:
                wanted = bank_settings(name, numbers, chosen.views.size, views, split, device)
                banks[role][split] = Bank(wanted, "random", _features(wanted.shape))
    return Inputs(chosen, networks, device, images, ids, banks)


def bank_settings(
    backbone: str, ids: np.ndarray[Any, Any], size: int, views: int, split: str, device: torch.device
) -> BankSettings:
    """What a bank of a backbone's penultimate feature would be; of the precision that the device gains by."""
    return BankSettings(
        dataset="random",
        data_fingerprint="random",
        split=split,
        ids_checksum=ids_checksum(ids),
        count=len(ids),
        backbone=backbone,
        feature="penultimate",
        weights_checksum="",
        dim=backbones.dim(backbone, "penultimate"),
        size=size,
        views=views,
        augmentation=Augmentation() if views else None,
        precision=native_precision(device),
    )


def _features(shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Random features (V, N, D); every view holds those of the first in another order."""
    first = np.random.default_rng(0).standard_normal(shape[1:], np.float32).astype(np.float16)
    return np.stack([np.roll(first, view, axis=0) for view in range(shape[0])])
