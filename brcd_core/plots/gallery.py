"""One page with all figures of a profile and their captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from brcd_core.atomic import write_text

NAME = "README.md"
ORDER = (  # beginnings of names, in reading order; what is not named comes last
    "main", "precision_curves", "training_curves", "sensitivity", "view_counts", "tsne", "code_map", "search",
    "cluster_choice", "clusters_against_classes", "bit_means", "redundancy_over_margin", "bit_health", "dropping_bits",
)  # fmt: skip
ESCAPED = str.maketrans({character: f"\\{character}" for character in "|*`<>"})


class Captioned(NamedTuple):
    """A saved figure, and what its png tells: title, caption, and (width, height) in pixels."""

    path: Path
    title: str
    caption: str
    size: tuple[int, int]


def gallery(folder: Path) -> Path:
    """Write README.md of a folder: each figure with its title and caption, as its png tells; the path.

    Figures that carry no caption are left out.
    """
    paragraphs, above = [f"# Figures of profile {folder.resolve().name}"], ""
    for path, *told, _ in captioned(folder):
        title, caption = (text.translate(ESCAPED) for text in told)
        # Figures of one kind, e.g. one a student, stand below one heading.
        paragraphs += [f"## {title}"] if title != above else []
        paragraphs += [f"![{title}]({path.name})", f"{caption} [As svg]({path.stem}.svg)."]
        above = title
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
    begins = [place for place, name in enumerate(ORDER) if path.stem == name or path.stem.startswith(f"{name}-")]
    return (begins or [len(ORDER)])[0], path.stem
