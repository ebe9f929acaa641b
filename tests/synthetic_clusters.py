"""Made-up codes of random images, in clusters: small enough for loops over images and bits."""

from __future__ import annotations

import numpy as np

from brcd_core import datasets
from brcd_core.bits import Clusters
from brcd_core.study.cluster_view import Clustered

CLASSES = ("cat", "dog", "a very long name")
CENTRES = 3
SIZES = {"train": 60, "query": 24, "database": 90}


def made_up(bits=16, sizes=SIZES, labelled=True, seed=0, cut=20):
    """Codes that scatter round one code a cluster, of random images."""
    random = np.random.default_rng([seed, bits])
    count = sum(sizes.values())
    lean = random.uniform(-1, 1, (CENTRES, bits))
    of_cluster = np.concatenate([np.arange(CENTRES), random.integers(CENTRES, size=count - CENTRES)])
    codes = np.where(random.random((count, bits)) < (1 + lean[of_cluster]) / 2, 1, -1).astype(np.int8)
    numbers = np.where(random.random(count) < 0.7, of_cluster, random.integers(3, size=count))
    pixels = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    labels = numbers if labelled else np.zeros((count, 0), bool)
    dataset = datasets.from_arrays("made_up", CLASSES if labelled else (), pixels, labels)
    starts = np.cumsum([0, *sizes.values()])
    order = random.permutation(count - CENTRES) + CENTRES
    order = np.concatenate([np.arange(CENTRES), order])  # each cluster has a training image
    ids = {split: order[starts[place] : starts[place + 1]] for place, split in enumerate(sizes)}
    found = Clusters(lean.astype(np.float32), of_cluster[ids["train"]])
    return Clustered(dataset, ids, {split: codes[own] for split, own in ids.items()}, found, 0.4, cut, "codes", "about")
