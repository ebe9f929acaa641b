"""Every kind of file that a study leaves: how it is written into a folder, and how it is read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import synthetic_records as made_up
import tiny_heads

from brcd_core import checkpoints, plots, records, tables
from brcd_core.datasets import kept
from brcd_core.fetching import Url, is_intact, obtain, sha256_of
from brcd_core.hashing import HashHead
from brcd_core.plots.gallery import gallery
from brcd_core.plots.style import headed
from brcd_core.search import index
from brcd_core.views import bank

NOTHING = "nothing"
UNREAD = ("journal", "about.json")  # of a bank that is whole; where decoded data came from, a note


class Written(NamedTuple):
    """Something that is written into a folder, and how it is read: NOTHING where it is not there."""

    write: Callable[[Path], object]
    read: Callable[[Path], Any]


def fetched() -> Written:
    place = tempfile.TemporaryDirectory()  # goes with what holds it
    origin = Path(place.name, "origin.tgz")
    origin.write_bytes(b"the right bytes\n" * 3000)
    source = Url(origin.as_uri(), sha256_of(origin))

    def read(folder: Path) -> Any:
        path = folder / source.filename
        assert is_intact(path, source.sha256) or not path.exists()
        return path.read_bytes() if path.exists() else NOTHING

    def write(folder: Path) -> object:
        assert place
        return obtain([source], folder)

    return Written(write, read)


def decoded() -> Written:
    arrays = np.arange(90_000).astype(np.uint8).reshape(300, 10, 10, 3), np.arange(300)

    def check(pixels: np.ndarray, labels: np.ndarray, origin: object) -> None:
        if not (np.array_equal(pixels, arrays[0]) and np.array_equal(labels, arrays[1])):
            raise ValueError(f"{origin}: other arrays")

    def read(folder: Path) -> Any:
        found = kept._open(folder, check)
        return NOTHING if found is None else [array.tolist() for array in found]

    return Written(lambda folder: kept.kept(folder, check, lambda: ("made up", arrays)), read)


def view_bank() -> Written:
    ids, images = np.arange(30), tiny_heads.sample()
    settings = bank.BankSettings(
        dataset="sample", data_fingerprint="d", split="query", ids_checksum=bank.ids_checksum(ids), count=30,
        backbone="mean", feature="penultimate", weights_checksum="w", dim=3, size=8, views=0, augmentation=None,
        precision="float32",
    )  # fmt: skip

    def build(folder: Path) -> object:
        return bank.build(
            settings, ids, lambda some: images[some], lambda pixels: pixels.mean((2, 3)), folder, batch=5, chunk=10
        )

    def read(folder: Path) -> Any:
        there = (folder / settings.name).exists()
        return bank.open_bank(folder, settings).features.tolist() if there else NOTHING

    return Written(build, read)


def checkpoint() -> Written:
    def read(folder: Path) -> Any:
        path = folder / "head.safetensors"
        return (checkpoints.checksum(checkpoints.load_head(path)[0]), path.stat().st_size) if path.exists() else NOTHING

    return Written(
        lambda folder: checkpoints.save_head(folder / "head.safetensors", HashHead(6, 16, seed=1), {"epoch": 1}), read
    )


def record() -> Written:
    return Written(
        lambda folder: records.write(folder, made_up.features("resnet18")),
        lambda folder: records.read(folder) if records.finished(folder) else NOTHING,
    )


def collected() -> Written:
    def read(folder: Path) -> Any:
        path = folder / "records.jsonl"
        return records.load_all(path) if path.exists() else NOTHING

    return Written(lambda folder: records.save_all(folder / "records.jsonl", [made_up.features("resnet18")] * 3), read)


def table() -> Written:
    found = made_up.study(("alone", "brcd"), ("resnet18",), (16,), (0, 1), "dinov2_vits14")
    made = tables.main_table(found)

    def read(folder: Path) -> Any:
        paths = [folder / f"{made.name}.{ending}" for ending in ("csv", "md", "tex")]
        return [path.read_text() if path.exists() else NOTHING for path in paths]

    return Written(lambda folder: made.write(folder), read)


def figure() -> Written:
    picture = headed("What it shows", "How to read it.", 2.0)

    def write(folder: Path) -> object:
        return [*plots.save(picture, folder, "main"), gallery(folder)]

    def read(folder: Path) -> Any:
        paths = [folder / name for name in ("main.png", "main.svg", "README.md")]
        return [path.read_bytes() if path.exists() else NOTHING for path in paths]

    return Written(write, read)


def search_index() -> Written:
    import faiss

    codes = faiss.IndexBinaryFlat(16)
    codes.add(np.arange(10, dtype=np.uint8).reshape(5, 2))
    origin = index.Origin("c", 16, tiny_heads.about_of("student"))
    made = index.Index(Path("photos"), list("abcde"), {}, codes, origin, Path("head"))

    def read(folder: Path) -> Any:
        if not (folder / index.NAMES).exists():
            return NOTHING
        found = index.read(folder)
        return found.names, faiss.serialize_index_binary(found.codes).tolist()

    return Written(lambda folder: index.write(made, folder), read)


KINDS: dict[str, Callable[[], Written]] = {
    "download": fetched, "decoded data": decoded, "view bank": view_bank, "checkpoint": checkpoint, "record": record,
    "collected records": collected, "table": table, "figure": figure, "search index": search_index,
}  # fmt: skip


def visible(folder: Path) -> list[str]:
    """The files but for rests that nobody looks at: hidden ones, locks, and UNREAD."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix != ".lock")
    return sorted(str(path) for path in paths if not path.name.startswith(".") and path.name not in UNREAD)


def none_or_new(found: Any, new: Any) -> bool:
    """Whether what is read is what was to be written, or is not there; of several files each."""
    pairs = zip(found, new, strict=True) if isinstance(found, list) and isinstance(new, list) else [(found, new)]
    return found == NOTHING or all(one in (NOTHING, right) for one, right in pairs)
