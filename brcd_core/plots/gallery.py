"""One page with all figures of a profile and their captions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from brcd_core.atomic import write_text

NAME = "README.md"
ORDER = {  # beginnings of names, in reading order (others come last) -> the number that docs/results.md gives
    "main": "", "view_counts": "", "sensitivity": "F1", "cluster_choice": "F2", "clusters_against_classes": "F2",
    "bit_means": "F2", "redundancy_over_margin": "F2", "bit_health": "F2", "dropping_bits": "F2",
    "precision_curves": "F3", "tsne": "F4", "code_map": "F4", "search": "F5", "training_curves": "F6",
}  # fmt: skip
ESCAPED = str.maketrans({character: f"\\{character}" for character in "|*`<>"})


class Captioned(NamedTuple):
    """A saved figure, and what its png tells: title, caption, and (width, height) in pixels."""

    path: Path
    title: str
    caption: str
    size: tuple[int, int]


def gallery(folder: Path) -> Path:
    """Write README.md of a folder: each figure with its title and caption, as its png tells, below a list of them all;
    the path.

    Figures that carry no caption are left out.
    """
    found: dict[str, list[str]] = {}  # figures of one kind, e.g. one a student, stand below one heading
    for path, *told, _ in captioned(folder):
        title, caption = (text.translate(ESCAPED) for text in told)
        heading = f"{number} {title}" if (number := _number(path)) else title
        found.setdefault(heading, []).extend([f"![{title}]({path.name})", f"{caption} [As svg]({path.stem}.svg)."])
    contents = "\n".join(f"- [{heading}](#{anchor(heading)})" for heading in found)
    paragraphs = [f"# Figures of profile {folder.resolve().name}", contents]
    for heading, figures in found.items():
        paragraphs += [f"## {heading}", *figures]
    write_text(folder / NAME, "\n\n".join(paragraphs) + "\n")
    return folder / NAME


def captioned(folder: Path) -> Iterator[Captioned]:
    """The figures of a folder that carry a caption, in reading order."""
    for path in sorted(folder.glob("[!.]*.png"), key=_place):
        with Image.open(path) as image:
            told, size = image.info, image.size
        if "Description" in told:
            yield Captioned(path, str(told["Title"]), str(told["Description"]), size)


def _place(path: Path) -> tuple[int, str]:
    return [*map(partial(_is, path), ORDER), True].index(True), path.stem


def _number(path: Path) -> str:
    return [*ORDER.values(), ""][_place(path)[0]]


def _is(path: Path, name: str) -> bool:
    return path.stem == name or path.stem.startswith(f"{name}-")


def anchor(heading: str) -> str:
    """What GitHub calls a heading."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
