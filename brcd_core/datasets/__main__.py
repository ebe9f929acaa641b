"""Command line of the datasets: fetch one, or draw the committed lists and the sheet of samples anew."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from brcd_core.atomic import replacing, write_text
from brcd_core.datasets import SPLIT_SIZES, SPLITS, cifar10, fingerprint_of, load, names, sample, split_files
from brcd_core.datasets.drawing import SEED, draw_sample, draw_splits, to_grid
from brcd_core.fetching import FetchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 1 with a message if not."""
    parser = argparse.ArgumentParser(prog="python -m brcd_core.datasets", description="Datasets of the study.")
    commands = parser.add_subparsers(required=True)

    fetch = commands.add_parser("fetch", help="get or find a dataset, decode and check it; say what is there")
    fetch.add_argument("--dataset", default="cifar10", choices=names())
    fetch.add_argument("--folder", type=Path, help="a folder that holds it already")
    fetch.set_defaults(run=_fetch)

    splits = commands.add_parser("splits", help="draw the lists of a dataset anew (the committed ones exist)")
    splits.add_argument("--dataset", default="cifar10", choices=sorted(SPLIT_SIZES))
    splits.add_argument("--seed", type=int, default=SEED)
    splits.add_argument("--out", type=Path, default=SPLITS, help="a folder named after the dataset is made in it")
    splits.set_defaults(run=_draw_splits)

    sheet = commands.add_parser("sample", help="draw the sheet of 300 images anew (the committed one exists)")
    sheet.add_argument("--seed", type=int, default=SEED)
    sheet.add_argument("--out", type=Path, default=sample.FOLDER)
    sheet.set_defaults(run=_draw_sample)

    chosen = parser.parse_args(arguments)
    try:
        print(chosen.run(chosen))
    except (FetchError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _fetch(chosen: argparse.Namespace) -> str:
    started = time.monotonic()
    dataset = load(chosen.dataset, chosen.folder)
    count, height, width, _ = dataset.pixels.shape
    classes = f"{len(dataset.classes)} classes" if dataset.classes else "no labels"
    return (
        f"{dataset.name}: {count:,} images of {width}x{height}, {classes}, checked "
        f"(SHA-256 {dataset.fingerprint[:16]}), {time.monotonic() - started:.1f} s"
    )


def _draw_splits(chosen: argparse.Namespace) -> str:
    name = chosen.dataset
    labels = load(name).labels
    one_each = (labels.sum(axis=1) == 1).all()
    numbers = labels.argmax(axis=1) if one_each else np.zeros(len(labels), int)
    train_images, per_class, validation = SPLIT_SIZES[name]
    splits = draw_splits(numbers, train_images, per_class, validation, chosen.seed)
    command = f"python -m brcd_core.datasets splits --dataset {name} --seed {chosen.seed}"
    split_files.write(splits, chosen.out / name, {"dataset": name, "seed": chosen.seed, "command": command})
    counts = ", ".join(f"{part} {len(indices):,}" for part, indices in splits.items())
    return f"{chosen.out / name}: {counts}"


def _draw_sample(chosen: argparse.Namespace) -> str:
    dataset = load("cifar10")
    numbers = dataset.labels.argmax(axis=1)
    indices = draw_sample(numbers, cifar10.TRAIN_IMAGES, 20, 10, chosen.seed)
    pixels, labels = np.asarray(dataset.pixels[indices]), dataset.labels[indices]
    with replacing(chosen.out / "cifar10_sample.png") as part:
        Image.fromarray(to_grid(pixels, sample.COLUMNS)).save(part, optimize=True)
    about = {
        "source": "CIFAR-10, A. Krizhevsky, 2009; index 0-49999: train split, 50000-59999: test split",
        "command": f"python -m brcd_core.datasets sample --seed {chosen.seed}",
        "cifar10_index": indices,
        "labels": numbers[indices].tolist(),
    }
    write_text(chosen.out / "cifar10_sample.json", json.dumps(about) + "\n")
    return f"{chosen.out}: {len(indices)} images, SHA-256 {fingerprint_of(pixels, labels)}"


if __name__ == "__main__":
    raise SystemExit(main())
