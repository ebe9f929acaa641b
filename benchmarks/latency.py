"""What one query waits for: an image through teacher or student to its code, then the search among the codes.

    python -m benchmarks.latency [--quick]

One image at a time, from pixels that are ready to the nearest codes. The figure is what a student is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor
from torch import device as Device

from benchmarks import made_up, rivals
from benchmarks.measure import (
    Column,
    Job,
    encoder,
    is_quick,
    machine,
    medians,
    one_core,
    publish,
    table,
    this_device,
)
from brcd_core.backbones import Backbone
from brcd_core.codes import nearest, pack
from brcd_core.config import output_dir
from brcd_core.hashing import HashHead
from brcd_core.plots.style import GREY, INK, Picture, drawn, grid, headed, save
from brcd_core.tables.table import Table
from brcd_core.views import bank

K, HIDDEN = 100, 256
CALLS = 3  # of a job at once: the first finds the processor's caches full of another network
ENCODE, SEARCH = "#0072b2", "#e69f00"


@dataclass(frozen=True)
class Sizes:
    """What is measured. The first of the encoders is the teacher."""

    encoders: tuple[str, ...] = ("dinov2_vits14", "mobilenet_v2", "efficientnet_lite0", "resnet18")
    pixels: tuple[int, ...] = (112, 224)
    items: tuple[int, ...] = (50_000, 1_000_000)
    repeats: int = 15


QUICK = Sizes(("tiny_teacher", "tiny_student"), (32,), (500, 1000), 1)
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, publish both tables, and draw the figure."""
    sizes, device = QUICK if is_quick(__doc__, argv) else Sizes(), this_device()
    with one_core():
        searched = searches(sizes)
    publish(search_table(searched, sizes))
    rows = queries(sizes, searched, device)
    if rows:
        publish(latency_table(rows, sizes, device))
        for path in save(latency_figure(rows, sizes), output_dir() / "figures" / "benchmarks", "latency"):
            print(path)


# ---- measured ---------------------------------------------------------------------------------------------


def searches(sizes: Sizes) -> list[Row]:
    """Milliseconds of one query among so many codes: ours, and faiss."""
    import faiss  # type: ignore[import-untyped]

    jobs = {}
    for items in sizes.items:
        asked = rivals.problem(1, items, made_up.BITS)
        database, query = pack(asked.database_codes), pack(asked.query_codes)
        index = faiss.IndexBinaryFlat(made_up.BITS)
        index.add(database.view(np.uint8))
        jobs[items, "ours"] = Job(_again(partial(nearest, query, database, K)), 1 / CALLS)
        jobs[items, "faiss"] = Job(_again(partial(index.search, query.view(np.uint8), K)), 1 / CALLS)
    seconds = medians({f"{items} {way}": job for (items, way), job in jobs.items()}, sizes.repeats)
    return [
        {"items": f"{items:,}"} | {way: 1000 * seconds[f"{items} {way}"] for way in ("ours", "faiss")}
        for items in sizes.items
    ]


def queries(sizes: Sizes, searched: Sequence[Row], device: Device) -> list[Row]:
    """Each encoder at each size of image: milliseconds to encode one, and with the search in each database."""
    rows = []
    for pixels in sizes.pixels:
        found = [encoder(name, pixels, device) for name in sizes.encoders]
        image = torch.rand(1, 3, pixels, pixels).to(device)
        jobs = {
            one.name: Job(_again(partial(encode, one, _head(one, sizes, device), image)), 1 / CALLS)
            for one in found
            if one is not None
        }
        seconds = medians(jobs, sizes.repeats, device)
        for name, value in seconds.items():
            row: Row = {"pixels": pixels, "encoder": name, "as": _role(name, sizes), "encode": 1000 * value}
            row |= {one["items"]: row["encode"] + one["ours"] for one in searched}
            rows.append(row)
    last = searched[-1]["items"]
    teachers = {row["pixels"]: row[last] for row in rows if row["as"] == "teacher"}
    return [row | {"faster": teachers[row["pixels"]] / row[last] if teachers else None} for row in rows]


@torch.inference_mode()
def encode(backbone: Backbone, head: HashHead, image: Tensor) -> np.ndarray[Any, Any]:
    """The packed code (1, words) of an image (1, 3, S, S) that is on the device."""
    features = bank.encode_pixels(backbone, image, bank.native_precision(image.device))
    return pack(head.codes(features).cpu().numpy())


def _head(backbone: Backbone, sizes: Sizes, device: Device) -> HashHead:
    hidden = 0 if _role(backbone.name, sizes) == "teacher" else HIDDEN
    return HashHead(backbone.dim, made_up.BITS, hidden).to(device)


def _role(name: str, sizes: Sizes) -> str:
    return "teacher" if name == sizes.encoders[0] else "student"


def _again(job: Callable[[], object]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(CALLS):
            job()

    return several


# ---- shown ------------------------------------------------------------------------------------------------


def search_table(rows: Sequence[Row], sizes: Sizes) -> Table:
    """Milliseconds of a search."""
    caption = f"How long does a search take? The {K} nearest codes of one query, by XOR and popcount of all of them."
    note = f"Milliseconds, {made_up.BITS} bits, codes in ten clusters, median of {sizes.repeats}. {machine(threads=1)}"
    columns = {"ours": Column("ours (nearest)", "{:.3f}"), "faiss": Column("faiss (IndexBinaryFlat)", "{:.3f}")}
    return table("search", caption, note, rows, ["items"], columns)


def latency_table(rows: Sequence[Row], sizes: Sizes, device: Device) -> Table:
    """Milliseconds of a query."""
    caption = f"How long does a query wait? {_finding(rows, sizes)} {_share(rows, sizes)}"
    note = (
        f"Milliseconds from one image's pixels to its {K} nearest codes of {made_up.BITS} bits: backbone, hash head, "
        f"packing, search (on 1 thread). {bank.native_precision(device)}, median of {sizes.repeats}. {machine(device)}"
    )
    columns = {"encode": Column("encode", "{:.1f}")}
    columns |= {f"{items:,}": Column(f"and search {items:,}", "{:.1f}") for items in sizes.items}
    columns |= {"faster": Column("teacher / this", "{:.1f}")}
    return table("latency", caption, note, rows, ["pixels", "encoder", "as"], columns)


def _finding(rows: Sequence[Row], sizes: Sizes) -> str:
    """The quickest student beside the teacher, at the largest images that both were measured on."""
    students = [row for row in rows if row["as"] == "student" and row["faster"] is not None]
    if not students:
        return "The teacher's weights are not to be had, so there is nothing to compare with."
    most = max(students, key=lambda row: (row["pixels"], row["faster"]))
    return (
        f"At {most['pixels']} pixels {most['encoder']} answers {most['faster']:.1f} times as fast as "
        f"{sizes.encoders[0]}, search among {sizes.items[-1]:,} codes included."
    )


def _share(rows: Sequence[Row], sizes: Sizes) -> str:
    """The encoder's part of a query's time in the largest database, over all encoders."""
    items = f"{sizes.items[-1]:,}"
    shares = [100 * row["encode"] / row[items] for row in rows]
    ends = " to ".join(dict.fromkeys(f"{value:.0f}" for value in (min(shares), max(shares))))
    return f"Encoding is {ends} % of a query's time among {items} codes."


@drawn
def latency_figure(rows: Sequence[Row], sizes: Sizes) -> Picture:
    """Encoding and search of one query, stacked: a panel for each size of image, a bar for each encoder."""
    items = f"{sizes.items[-1]:,}"
    figure = headed(
        "What does a student save, query by query?",
        f"Milliseconds until one query is answered: its image is encoded on all cores, then the {K} nearest of {items} "
        f"codes of {made_up.BITS} bits are found on one. {_share(rows, sizes)}",
        height=0.75 + sum(0.45 + 0.3 * len(sizes.encoders) for _ in sizes.pixels),
        more=_finding(rows, sizes),
    )
    for (axes,), pixels in zip(grid(figure, len(sizes.pixels), 1, sharex=True), sizes.pixels, strict=True):
        _bars(axes, [row for row in rows if row["pixels"] == pixels], items)
        axes.set_title(f"images of {pixels} pixels")
    axes.set_xlim(0, 1.22 * max(row[items] for row in rows))
    axes.set_xlabel("milliseconds a query")
    handles = [Patch(color=ENCODE, label="encode the image"), Patch(color=SEARCH, label=f"search {items} codes")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor=GREY)
    return figure


def _bars(axes: Axes, rows: Sequence[Row], items: str) -> None:
    """One bar a row from the top, with its length, and how many times as fast as the teacher's it is."""
    names = [f"{row['encoder']}, {row['as']}" for row in rows]
    encoded, whole = [row["encode"] for row in rows], [row[items] for row in rows]
    axes.barh(names, encoded, height=0.62, color=ENCODE)
    axes.barh(names, [b - a for a, b in zip(encoded, whole, strict=True)], left=encoded, height=0.62, color=SEARCH)
    for place, row in enumerate(rows):
        quicker = f", {row['faster']:.1f}× as fast" if row["as"] == "student" and row["faster"] else ""
        axes.annotate(
            f"{row[items]:.1f} ms{quicker}", (row[items], place), (5, 0), textcoords="offset points", va="center",
            size=9, color=INK,
        )  # fmt: skip
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


if __name__ == "__main__":
    main()
