"""The inputs of a run: splits, labels, and the frozen features of every backbone that takes part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brcd_core import backbones, datasets, records
from brcd_core.bars import track
from brcd_core.config import cache_dir
from brcd_core.hashing import HashHead
from brcd_core.profiles import Settings
from brcd_core.study.runs import FeatureRun
from brcd_core.training import Views
from brcd_core.views import bank
from brcd_core.views.augmentation import augment, clean
from brcd_core.views.bank import Bank, BankSettings, ids_checksum, native_precision
from brcd_core.views.sources import BankViews, FreshViews

SPLITS = ("validation", "query", "database")  # clean views; the database begins with the training images


@dataclass(frozen=True)
class Inputs:
    """What a run trains and judges with. `networks` maps a role (teacher, student) to its backbone's name."""

    settings: Settings
    networks: Mapping[str, str]
    device: torch.device
    dataset: datasets.Dataset
    ids: dict[str, np.ndarray]  # split -> image ids
    banks: dict[str, dict[str, Bank]]  # role -> split -> features; "train" holds the augmented views
    _held: dict[tuple[str, str], Tensor] = field(default_factory=dict)  # clean features that are on the device

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Split -> bool (N, L)."""
        return {split: self.dataset.labels[ids] for split, ids in self.ids.items()}

    @property
    def checksums(self) -> dict[str, Any]:
        """What the run's numbers depend on: checksums of data, splits, weights and banks."""
        return {
            "data": self.dataset.fingerprint,
            "splits": {split: ids_checksum(ids) for split, ids in self.ids.items()},
            "weights": {name: backbones.checksum(name) for name in self.networks.values()},
            "banks": {
                found.settings.name: found.checksum for banks in self.banks.values() for found in banks.values()
            },
        }

    def features(self, role: str, split: str) -> Tensor:
        """Clean features (N, D) float16 on the device; those of "train" are the first of the database."""
        if split == "train":
            return self.features(role, "database")[: len(self.ids["train"])]
        if (role, split) not in self._held:
            self._held[role, split] = self.banks[role][split].tensor(self.device)[0]
        return self._held[role, split]

    def codes(self, head: HashHead, role: str, *splits: str) -> list[np.ndarray]:
        """Codes (N, K) in {-1, +1} of the clean images, one array a split."""
        return [head.codes(self.features(role, split)).cpu().numpy() for split in splits]

    def new_head(self, role: str, bits: int, seed: int) -> HashHead:
        """An untrained head for a role, its scaling taken from the clean training images."""
        features = self.features(role, "train")
        head = HashHead(features.shape[1], bits, self.settings.network(role).hidden, seed)
        head.fit_scaling(features.cpu())
        return head.to(self.device)

    def views(self, *roles: str) -> Views:
        """Augmented views of the training images: one tensor of features a role, of the same pixels."""
        views = self.settings.views
        if views.count:
            return BankViews([self.banks[role]["train"] for role in roles], self.device)
        return FreshViews(
            self.dataset.tensor,
            self.ids["train"],
            [_load(self.settings, role, self.networks[role], self.device) for role in roles],
            size=views.size,
            seed=views.seed,
            augmentation=views.augmentation,
            precision=_precision(self.settings, self.device),
            device=self.device,
        )


def load_inputs(settings: Settings, networks: Mapping[str, str]) -> Inputs:
    """Splits, labels and features for these backbones; a bank that is not there yet is built now.

    Raises what data, weights and banks raise: each names the file and the way out.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = datasets.load(settings.data.dataset)
    ids = datasets.split(settings.data.dataset, settings.data.sizes())
    banks = {
        role: {
            split: _bank(settings, role, name, split, dataset, ids[split], device)
            for split in (["train"] if settings.views.count else []) + list(SPLITS)
        }
        for role, name in networks.items()
    }
    return Inputs(settings, networks, device, dataset, ids, banks)


def prepare(run: FeatureRun) -> records.Record:
    """Check a backbone's weights by its known answer, build all its banks, and leave a record.

    The record says how good the features are by themselves: how often the nearest database image (cosine)
    shares a label with a validation image.
    """
    started = time.perf_counter()
    from brcd_core.backbones import known_answers

    answer = known_answers.check_known_answer(run.backbone)
    inputs = load_inputs(run.settings, {role: run.backbone for role in run.roles})
    found = {(role, split): one for role, banks in inputs.banks.items() for split, one in banks.items()}
    record = {
        "kind": "features",
        "run": run.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "metrics": {"nearest_neighbour": nearest_neighbour_accuracy(inputs, run.roles[0])},
        "known_answer": answer,
        "banks": {
            f"{role} {split}": {
                "name": one.settings.name,
                "shape": list(one.settings.shape),
                "checksum": one.checksum,
                "megabytes": round(one.features.nbytes / 1e6, 1),
            }
            for (role, split), one in found.items()
        },
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, inputs.checksums),
    }
    records.write(run.folder, record)
    return record


def example_views(settings: Settings, images: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Some training images as backbones see them: clean (n, S, S, 3), and views (n, v, S, S, 3), in [0, 1]."""
    dataset = datasets.load(settings.data.dataset)
    ids = datasets.split(settings.data.dataset, settings.data.sizes())["train"][:images]
    pixels, chosen = dataset.tensor(ids), settings.views
    drawn = [augment(pixels, ids, v, chosen.size, chosen.seed, chosen.augmentation) for v in range(views)]
    return (
        clean(pixels, chosen.size).permute(0, 2, 3, 1).numpy(),
        torch.stack(drawn, dim=1).permute(0, 1, 3, 4, 2).numpy(),
    )


def nearest_neighbour_accuracy(inputs: Inputs, role: str) -> float:
    """Share of validation images that share a label with their nearest database image by cosine."""
    query, database = (
        torch.nn.functional.normalize(inputs.features(role, split).float(), dim=1)
        for split in ("validation", "database")
    )
    nearest = torch.cat([(part @ database.T).argmax(1) for part in query.split(512)]).cpu().numpy()
    labels = inputs.labels
    return float((labels["validation"] & labels["database"][nearest]).any(1).mean())


def _bank(
    settings: Settings,
    role: str,
    name: str,
    split: str,
    dataset: datasets.Dataset,
    ids: np.ndarray,
    device: torch.device,
) -> Bank:
    """The bank of one split, opened or built."""
    views, feature = settings.views, settings.network(role).feature
    augmented = split == "train"
    wanted = BankSettings(
        dataset=dataset.name,
        data_fingerprint=dataset.fingerprint,
        split=split,
        ids_checksum=ids_checksum(ids),
        count=len(ids),
        backbone=name,
        feature=feature,
        weights_checksum=backbones.checksum(name),
        dim=backbones.dim(name, feature),
        size=views.size,
        views=views.count if augmented else 0,
        augmentation=views.augmentation if augmented else None,
        seed=views.seed if augmented else 0,
        precision=_precision(settings, device),
        backbone_version=backbones.VERSION,
    )
    folder = cache_dir() / "banks"
    if (folder / wanted.name).exists():
        return bank.open_bank(folder, wanted)
    encoder = _load(settings, role, name, device)
    rows = wanted.shape[0] * wanted.shape[1]
    with track(rows, f"{name}, {split} images" + (f", {views.count} views" if augmented else "")) as bar:
        return bank.build(
            wanted, ids, dataset.tensor, encoder, folder,
            device=device, batch=settings.extraction.batch, report=bar.update,
        )  # fmt: skip


def _load(settings: Settings, role: str, name: str, device: torch.device) -> backbones.Backbone:
    encoder = backbones.load(name, settings.network(role).feature, settings.views.size)
    return encoder.to(device).to(memory_format=torch.channels_last)


def _precision(settings: Settings, device: torch.device) -> bank.Precision:
    asked = settings.extraction.precision
    return native_precision(device) if asked == "auto" else asked
