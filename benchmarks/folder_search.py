"""A folder of photographs searched: files indexed and queries answered a second, and how large the index is.

    python -m benchmarks.folder_search [--quick]

Files are decoded, squared, resized, encoded and added to the index, as by `python -m brcd_core.search index`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import made_up, rivals
from benchmarks.measure import (
    Column,
    Job,
    beside_forward,
    encoder,
    is_quick,
    machine,
    medians,
    publish,
    table,
    this_device,
)
from brcd_core import datasets
from brcd_core.backbones import Backbone
from brcd_core.codes import pack
from brcd_core.encoder import Encoder
from brcd_core.hashing import HashHead
from brcd_core.search import index
from brcd_core.search.index import Index
from brcd_core.tables.table import Table
from brcd_core.views import bank

K, BATCH, HIDDEN = 10, 64, 256
PHOTOGRAPH = (640, 480)
ABOUT = {  # what a head says of its run
    "run": {"student": "none", "teacher": "none", "method": "none", "hash_model": "none", "seed": 0, "profile": "none"},
    "settings": {"data": {}},
}
NAME = "2026/holiday/photograph-{:07d}.jpg"
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    encoders: tuple[str, ...] = ("dinov2_vits14", "mobilenet_v2")
    pixels: tuple[int, ...] = (112, 224)
    files: int = 256
    items: tuple[int, ...] = (50_000, 1_000_000)
    queries: int = 256
    repeats: int = 5


QUICK = Sizes(("tiny_student",), (32,), 8, (500, 1000), 4, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and publish both tables."""
    sizes, device = QUICK if is_quick(__doc__, argv) else Sizes(), this_device()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        publish(queries_table([answered(items, sizes, folder) for items in sizes.items], sizes))
        names = photographs(folder, sizes.files)
        found = [encoder(name, pixels, device) for pixels in sizes.pixels for name in sizes.encoders]
        rows = [indexed(one, folder, names, sizes, device) for one in found if one is not None]
    if rows:
        publish(indexing_table(rows, sizes, device))


def indexed(backbone: Backbone, folder: Path, names: list[str], sizes: Sizes, device: torch.device) -> Row:
    """Files a second of indexing, and of the backbone's forward pass on pixels that are ready."""
    coder = coder_of(backbone, device)
    pixels = coder.pixels([folder / name for name in names[:BATCH]]).contiguous(memory_format=torch.channels_last)

    forward = partial(bank.encode_pixels, backbone, pixels, coder.precision)
    forward()  # the first pass prepares the kernels
    jobs = {
        "index": Job(partial(index.build, coder, folder, folder / "head", names, lambda files: None)),
        "forward": Job(forward, len(names) / len(pixels)),
    }
    seconds = medians(jobs, sizes.repeats, device)
    row: Row = {"pixels": backbone.size, "encoder": backbone.name}
    row |= {name: len(names) / value for name, value in seconds.items()}
    return row | {"share": 100 * row["index"] / row["forward"]}


def answered(items: int, sizes: Sizes, folder: Path) -> Row:
    """Queries a second among so many codes, one at a time and together, and the megabytes of the index's files."""
    asked = rivals.problem(sizes.queries, items, made_up.BITS)
    queries, made = pack(asked.query_codes), index_of(pack(asked.database_codes))
    out = folder / f"index-{items}"
    index.write(made, out)
    jobs = {
        "one": Job(lambda: [made.nearest(queries[place : place + 1], K) for place in range(len(queries))]),
        "together": Job(partial(made.nearest, queries, K)),
        "open": Job(partial(index.read, out)),
    }
    seconds = medians(jobs, sizes.repeats)
    codes, names = sum(path.stat().st_size for path in out.glob("*.faiss")), (out / index.NAMES).stat().st_size
    return {
        "items": f"{items:,}",
        "one": sizes.queries / seconds["one"],
        "together": sizes.queries / seconds["together"],
        "open": seconds["open"],
        "codes": codes / 1e6,
        "names": names / 1e6,
    }


# ---- made up ----------------------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> list[str]:
    """The names of so many JPEG files: the committed images, as large as photographs."""
    pictures = datasets.load("sample").pixels
    names = [f"{number}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        image = Image.fromarray(pictures[number % len(pictures)])
        image.resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return names


def coder_of(backbone: Backbone, device: torch.device) -> Encoder:
    """An encoder with a head that has learnt nothing, which takes as long as one that has."""
    head = HashHead(backbone.dim, made_up.BITS, HIDDEN).to(device).eval()
    return Encoder(backbone, head, ABOUT, 1.0, bank.native_precision(device), BATCH)


def index_of(packed: np.ndarray[Any, Any]) -> Index:
    """An index of these codes, with a name for each."""
    import faiss  # type: ignore[import-untyped]

    codes = faiss.IndexBinaryFlat(made_up.BITS)
    codes.add(index.octets(packed, made_up.BITS))
    origin = index.Origin("none", made_up.BITS, ABOUT)
    names = [NAME.format(number) for number in range(len(packed))]
    return Index(Path("/photographs"), names, {}, codes, origin, Path("head.safetensors"))


# ---- shown ------------------------------------------------------------------------------------------------


def indexing_table(rows: Sequence[Row], sizes: Sizes, device: torch.device) -> Table:
    """Files a second, beside the forward pass."""
    shares = [f"{row['share']:.0f}" for row in sorted(rows, key=lambda row: float(row["share"]))]
    ends = " to ".join(dict.fromkeys((shares[0], shares[-1])))
    caption = f"How fast is a folder indexed? At {ends} % of the forward pass's speed; the rest is reading the files."
    note = (
        f"Files a second. {sizes.files} JPEG files of {PHOTOGRAPH[0]} x {PHOTOGRAPH[1]} pixels, batches of {BATCH}, "
        f"{bank.native_precision(device)}, median of {sizes.repeats}. {machine(device)}"
    )
    return table("folder_indexing", caption, note, rows, ["pixels", "encoder"], beside_forward("index", "indexing"))


def queries_table(rows: Sequence[Row], sizes: Sizes) -> Table:
    """Queries a second, and the index's size."""
    last = rows[-1]
    caption = (
        f"How fast does an index answer? {last['together']:,.0f} queries a second among {last['items']} codes, "
        f"{last['one']:,.0f} one at a time, once a query has its code."
    )
    note = (
        f"The {K} nearest of codes of {made_up.BITS} bits in ten clusters, by faiss; {sizes.queries} queries; an image "
        f"has a name of {len(NAME.format(0))} letters; median of {sizes.repeats}. {machine()}"
    )
    columns = {
        "one": Column("queries a second, one at a time", "{:,.0f}"),
        "together": Column("together", "{:,.0f}"),
        "open": Column("seconds to open", "{:.2f}"),
        "codes": Column("MB of codes", "{:.1f}"),
        "names": Column("MB of names", "{:.1f}"),
    }
    return table("folder_queries", caption, note, rows, ["items"], columns)


if __name__ == "__main__":
    main()
