"""From settings to the view bank of one backbone and split: which bank it is, and which network computes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brcd_core import backbones, datasets
from brcd_core.bars import track
from brcd_core.config import cache_dir
from brcd_core.settings import Settings
from brcd_core.views import bank
from brcd_core.views.augmentation import augment
from brcd_core.views.bank import TURNS, Bank, BankSettings, Encode, Precision, ids_checksum, native_precision


def obtain(
    settings: Settings,
    role: str,
    name: str,
    split: str,
    dataset: datasets.Dataset,
    ids: Mapping[str, np.ndarray],
    device: torch.device,
) -> Bank:
    """The bank of a split, opened or built: "train" are augmented views, "rotated" are view 0 of these turned
    by 90, 180 and 270 degrees, every other split has clean views."""
    views, feature = settings.views, settings.network(role).feature
    augmented = split in ("train", "rotated")
    of = "train" if augmented else split
    wanted = BankSettings(
        dataset=dataset.name,
        data_fingerprint=dataset.fingerprint,
        split=of,
        ids_checksum=ids_checksum(ids[of]),
        count=len(ids[of]),
        backbone=name,
        feature=feature,
        weights_checksum=backbones.checksum(name),
        dim=backbones.dim(name, feature),
        size=views.size,
        views={"train": views.count, "rotated": len(TURNS)}.get(split, 0),
        augmentation=views.augmentation if augmented else None,
        seed=views.seed if augmented else 0,
        precision=precision(settings, device),
        central=1.0 if augmented else dataset.central,
        rotated=split == "rotated",
        train_mode_batch=settings.extraction.batch if _in_train_mode(settings, role) else 0,
        backbone_version=backbones.VERSION,
    )
    folder = cache_dir() / "banks"
    if (folder / wanted.name).exists():
        return opened(folder, wanted)
    encode: Encode = (
        _as_released(settings.model_dump_json(), role, name, dataset, device, augmented)
        if wanted.train_mode_batch
        else load(settings, role, name, device)
    )
    rows = wanted.shape[0] * wanted.shape[1]
    with track(rows, f"{name}, {of} images" + (f", {wanted.views} {split} views" if augmented else "")) as bar:
        # Whole batches in a chunk: in train mode it matters who shares a batch.
        batch = settings.extraction.batch
        bank.build(
            wanted, ids[of], dataset.tensor, encode, folder,
            device=device, batch=batch, chunk=4 * batch, report=bar.update,
        )  # fmt: skip
    return opened(folder, wanted)


@lru_cache(maxsize=64)
def opened(folder: Path, wanted: BankSettings) -> Bank:
    """A bank that is there, verified once a process."""
    return bank.open_bank(folder, wanted)


def load(settings: Settings, role: str, name: str, device: torch.device) -> backbones.Backbone:
    """The frozen backbone of a role, ready on the device."""
    encoder = backbones.load(name, settings.network(role).feature, settings.views.size)
    return encoder.to(device).to(memory_format=torch.channels_last)


def precision(settings: Settings, device: torch.device) -> Precision:
    """The precision of the features: what the settings say, or what the device gains by."""
    asked = settings.extraction.precision
    return native_precision(device) if asked == "auto" else asked


def _in_train_mode(settings: Settings, role: str) -> bool:
    """Of the student alone: a teacher's features serve all methods, so that no method may change them."""
    return settings.extraction.released.train_mode and role == "student"


@lru_cache(maxsize=1)  # the clean splits of one backbone follow each other, and drifting takes long
def _as_released(
    settings_json: str, role: str, name: str, dataset: datasets.Dataset, device: torch.device, augmented: bool
) -> Encode:
    """The backbone as the released code runs it: in train mode on augmented views, and on clean ones in eval
    mode with the statistics that have drifted over all augmented views by then."""
    from brcd_core.backbones import train_mode

    settings = Settings.model_validate_json(settings_json)
    views, batch = settings.views, settings.extraction.batch
    ids = datasets.split(settings.data.dataset, settings.data.sizes(), settings.data.place())["train"]
    backbone = backbones.load(name, settings.network(role).feature, views.size, folded=False)
    backbone = backbone.to(device).to(memory_format=torch.channels_last)
    if augmented:
        return train_mode.TrainMode(backbone, views.seed)

    def batches() -> Iterator[Tensor]:
        for view in range(views.count):
            for chosen in np.split(ids, range(batch, len(ids), batch)):
                pixels = dataset.tensor(chosen).to(device)
                yield augment(pixels, chosen, view, views.size, views.seed, views.augmentation)

    train_mode.drift(backbone, batches())
    return backbone
