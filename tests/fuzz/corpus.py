"""A folder of files that nobody should trust, the same for the same seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fuzz.harm import HARMS, bombs
from fuzz.whole import whole_files

LONGEST = f"{'n' * 251}.png"  # the longest name that a file can have
NO_TEXT = os.fsdecode(b"no text \xff\xfe.png")
ODD_NAMES = ("new\nline.png", "tab\t.png", " .png", "-rf.png", "%s{0}$HOME.png", "na\u00efve\u202egpj.png",
             "\x1b[2J.png", "\U0001f600.png", "'\"`;&|.png", "no ending", "a.tar.gz", "CON.png", LONGEST,
             NO_TEXT)  # fmt: skip


def fill(folder: Path, harmed: int, seed: int, every: int = 1) -> None:
    """Whole images, `harmed` damaged ones, bombs, files that are no images, odd names and links, in subfolders.

    every: only each so-manieth of the forms of whole images, to be quick.
    """
    rng = np.random.default_rng(seed)
    forms = whole_files(rng, every)
    _write(folder / "whole", forms)
    _write(folder / "harmed", dict(_harmed(forms, harmed, rng)))
    _write(folder / "bombs", dict(bombs()))
    _write(folder / "no_images", dict(_no_images(forms, rng)))
    _write(folder / "wrong_endings", dict(_wrong_endings(forms)))
    _write(folder / "odd_names", dict.fromkeys(ODD_NAMES, next(iter(forms.values()))))
    _link(folder / "links")


def _harmed(forms: dict[str, bytes], count: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    names = list(forms)
    for number in range(count):
        name, harm = names[number % len(names)], HARMS[rng.integers(len(HARMS))]
        yield f"{number:04}_{harm.__name__}_{name}", harm(forms[name], rng)


def _no_images(forms: dict[str, bytes], rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Empty files, texts, programs, archives, and the first bytes of every form with noise behind them."""
    yield "empty.png", b""
    yield "one_byte.jpg", b"\xff"
    yield "text.png", b"no image"
    yield "page.jpg", b"<!doctype html><title>404</title>"
    yield "drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "program.png", b"\x7fELF" + rng.bytes(500)
    yield "archive.gif", b"PK\x03\x04" + rng.bytes(500)
    for name in ("script.eps", "script.png"):
        yield name, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(harmed) (w) file closefile\nshowpage\n"
    yield "page.pdf", b"%PDF-1.4\n1 0 obj<</OpenAction<</S/Launch/F(harmed)>>>>endobj\n"
    yield "noise.png", rng.bytes(5000)
    yield "zeros.tiff", bytes(5000)
    for name, data in forms.items():
        yield f"noise_{name}", data[: rng.integers(4, 40)] + rng.bytes(2000)


def _wrong_endings(forms: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Each file with the ending of the next one."""
    names = list(forms)
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        yield f"{name}{Path(other).suffix}", forms[name]


def _link(folder: Path) -> None:
    """Links to an image, to nothing, to themselves, to each other, to folders above; things that are no files."""
    folder.mkdir(parents=True)
    (folder / "image.png").symlink_to(f"../odd_names/{ODD_NAMES[0]}")
    (folder / "nothing.png").symlink_to("nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to(folder)
    (folder / "folder.png").mkdir()
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "not_to_be_read.png").symlink_to("/proc/self/mem")  # an error at the first byte, even for root
    os.mkfifo(folder / "pipe.png")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
