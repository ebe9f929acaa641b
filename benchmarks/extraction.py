"""Images a second of building a view bank, against the backbone's own forward pass on pixels that are ready.

    python -m benchmarks.extraction [--quick]

Building reads, augments, encodes, checks and writes; what it takes beyond the forward pass is the price of the bank.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import made_up
from benchmarks.measure import (
    Job,
    beside_forward,
    encoder,
    is_quick,
    machine,
    medians,
    publish,
    reached,
    table,
    this_device,
)
from brcd_core.backbones import Backbone
from brcd_core.tables.table import Table
from brcd_core.views import bank

BATCH, VIEWS = 64, 2
AIM = 80  # per cent of the forward pass's speed


@dataclass(frozen=True)
class Sizes:
    """What is measured: so many images in VIEWS views."""

    backbones: tuple[str, ...] = ("dinov2_vits14", "mobilenet_v2", "resnet18")
    pixels: int = 112
    images: int = 128
    repeats: int = 5


QUICK = Sizes(("tiny_teacher", "tiny_student"), 32, 32, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and publish the table."""
    sizes, device = QUICK if is_quick(__doc__, argv) else Sizes(), this_device()
    found = [encoder(name, sizes.pixels, device) for name in sizes.backbones]
    rows = [speeds(one, sizes, device) for one in found if one is not None]
    if rows:
        publish(extraction_table(rows, sizes, device))


def speeds(backbone: Backbone, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Images a second of both, measured in turn."""
    images = VIEWS * sizes.images
    pixels = torch.rand(min(BATCH, images), 3, sizes.pixels, sizes.pixels).to(device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    precision = bank.native_precision(device)

    def forward() -> None:
        for _ in range(-(-images // len(pixels))):
            bank.encode_pixels(backbone, pixels, precision)

    forward()  # the first pass prepares the kernels
    jobs = {"bank": Job(lambda: build_bank(backbone, sizes.images, device)), "forward": Job(forward)}
    seconds = medians(jobs, sizes.repeats, device)
    bank_speed, forward_speed = images / seconds["bank"], images / seconds["forward"]
    share = 100 * bank_speed / forward_speed
    return {"backbone": backbone.name, "bank": bank_speed, "forward": forward_speed, "share": share}


def build_bank(backbone: Backbone, images: int, device: torch.device) -> None:
    """A bank of VIEWS views of random images, as the study builds it, in a folder of its own."""
    ids, pictures = np.arange(images), made_up.dataset(images, images)
    wanted = made_up.bank_settings(backbone.name, ids, backbone.size, VIEWS, "train", device)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bank.build(wanted, ids, pictures.tensor, backbone, place, device=device, batch=BATCH, chunk=4 * BATCH)


def extraction_table(rows: Sequence[dict[str, Any]], sizes: Sizes, device: torch.device) -> Table:
    """Both speeds of each backbone, and their ratio."""
    shares = reached(AIM, [row["share"] for row in rows], True, " %")
    caption = f"What does a view bank cost beyond the backbone? Building runs at {shares} of the forward pass's speed."
    note = (
        f"Images a second. {sizes.images} images of {made_up.SIDE} x {made_up.SIDE} pixels in {VIEWS} views, "
        f"{sizes.pixels} x {sizes.pixels}, batches of {BATCH}, {bank.native_precision(device)}, median of "
        f"{sizes.repeats}. {machine(device)}"
    )
    return table("extraction", caption, note, rows, ["backbone"], beside_forward("bank", "bank building"))


if __name__ == "__main__":
    main()
