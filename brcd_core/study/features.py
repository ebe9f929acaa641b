"""The inputs of a run: splits, labels, and the frozen features of every backbone that takes part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brcd_core import backbones, datasets, records
from brcd_core.config import cache_dir
from brcd_core.hashing import HashHead
from brcd_core.settings import Data, Settings
from brcd_core.study import banking, code_version
from brcd_core.study.runs import FeatureRun
from brcd_core.views.augmentation import augment, clean
from brcd_core.views.bank import Bank, ids_checksum
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
    # role -> split -> features; "train" holds the augmented views, "rotated" those of them that are turned
    banks: dict[str, dict[str, Bank]]

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Split -> bool (N, L)."""
        return {split: self.dataset.labels[ids] for split, ids in self.ids.items()}

    @property
    def labelled(self) -> bool:
        """Whether there are labels to judge retrieval by."""
        return self.dataset.labels.shape[1] > 0

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
        return self.banks[role][split].tensor(self.device)[0]

    def codes(self, head: HashHead, role: str, *splits: str) -> list[np.ndarray]:
        """Codes (N, K) in {-1, +1} of the clean images, one array a split. Takes the head to the device."""
        head = head.to(self.device)
        return [head.codes(self.features(role, split)).cpu().numpy() for split in splits]

    def new_head(self, role: str, bits: int, seed: int) -> HashHead:
        """An untrained head for a role, its scaling taken from the clean training images."""
        features = self.features(role, "train")
        head = HashHead(features.shape[1], bits, self.settings.network(role).hidden, seed)
        head.fit_scaling(features.cpu())
        return head.to(self.device)

    def views(self, *roles: str) -> BankViews | FreshViews:
        """Augmented views of the training images: one tensor of features a role, of the same pixels."""
        views = self.settings.views
        if views.count:
            banks = [self.banks[role] for role in roles]
            rotations = [one["rotated"] for one in banks if "rotated" in one]
            return BankViews(
                [one["train"] for one in banks], self.device, rotations, used=views.used, once=views.once
            )
        return FreshViews(
            self.dataset.tensor,
            self.ids["train"],
            [banking.load(self.settings, role, self.networks[role], self.device) for role in roles],
            size=views.size,
            seed=views.seed,
            augmentation=views.augmentation,
            precision=banking.precision(self.settings, self.device),
            device=self.device,
        )


def load_inputs(settings: Settings, networks: Mapping[str, str]) -> Inputs:
    """Splits, labels and features for these backbones; a bank that is not there yet is built now.

    With the rotated views of the training images where the distillation method needs them. Raises what data,
    weights and banks raise: each names the file and the way out.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset, ids = _images(settings.data)
    of_training = ["train", "rotated"] if settings.uses_rotated() else ["train"]
    splits = [*(of_training if settings.views.count else []), *SPLITS]
    banks = {
        role: {split: banking.obtain(settings, role, name, split, dataset, ids, device) for split in splits}
        for role, name in networks.items()
    }
    return Inputs(settings, networks, device, dataset, ids, banks)


def _images(data: Data) -> tuple[datasets.Dataset, dict[str, np.ndarray]]:
    """A dataset and its splits (image ids), both as they were when the process first asked for them."""
    return _opened(data.dataset, tuple(data.sizes().items()), data.place(), cache_dir())


@lru_cache(maxsize=2)
def _opened(
    name: str, sizes: tuple[tuple[str, int], ...], place: Path | None, cache: Path
) -> tuple[datasets.Dataset, dict[str, np.ndarray]]:
    """`cache` is there to tell one cache from another."""
    return datasets.load(name, place), datasets.split(name, dict(sizes), place)


def prepare(run: FeatureRun) -> records.Record:
    """Check a backbone's weights by its known answer, build all its banks, measure its speed, leave a record.

    The record says how good the features are by themselves: how often the nearest database image (cosine)
    shares a label with a validation image.
    """
    started = time.perf_counter()
    from brcd_core.backbones import efficiency, known_answers

    answer = known_answers.check_known_answer(run.backbone)
    found: dict[str, Bank] = {}
    for role, settings in run.variants():
        banks = load_inputs(settings, {role: run.backbone}).banks[role]
        found |= {one.settings.name: one for one in banks.values()}
    inputs = load_inputs(run.settings, {role: run.backbone for role in run.roles})
    encoder = banking.load(run.settings, run.roles[0], run.backbone, inputs.device)
    record = {
        "kind": "features",
        "run": run.model_dump(mode="json"),
        "settings": run.settings.model_dump(mode="json"),
        "code": code_version.of(run),
        "metrics": {"nearest_neighbour": nearest_neighbour_accuracy(inputs, run.roles[0]) if inputs.labelled else None},
        "known_answer": answer,
        "efficiency": efficiency.measure(encoder, device=inputs.device)
        | {"device": records.device_name(inputs.device)},
        "banks": {
            name: {
                "split": one.settings.split,
                "shape": list(one.settings.shape),
                "checksum": one.checksum,
                "megabytes": round(one.features.nbytes / 1e6, 1),
            }
            for name, one in found.items()
        },
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, inputs.checksums),
    }
    records.write(run.folder, record)
    return record


def example_views(settings: Settings, images: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Some training images as backbones see them: clean (n, S, S, 3), and views (n, v, S, S, 3), in [0, 1]."""
    chosen, (dataset, splits) = settings.views, _images(settings.data)
    ids = splits["train"][:images]
    pixels = dataset.tensor(ids)
    drawn = [augment(pixels, ids, v, chosen.size, chosen.seed, chosen.augmentation) for v in range(views)]
    return (
        clean(pixels, chosen.size, dataset.central).permute(0, 2, 3, 1).numpy(),
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
