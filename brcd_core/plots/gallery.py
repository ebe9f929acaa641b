"""One page with all figures of a profile and their captions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from brcd_core.atomic import write_text

NAME = "README.md"
ORDER = (  # beginnings of names, in reading order; what is not named comes last
    "main", "precision_curves", "training_curves", "sensitivity", "view_counts", "tsne", "code_map", "search",
    "cluster_choice", "clusters_against_classes", "bit_means", "redundancy_over_margin", "bit_health", "dropping_bits",
)  # fmt: skip
ESCAPED = str.maketrans({character: f"\\{character}" for character in "|*`<>"})


def gallery(folder: Path) -> Path:
    """Write README.md of a folder: each figure with its title and caption, as its png tells; the path.

    Figures that carry no caption are left out.
    """
    paragraphs, above = [f"# Figures of profile {folder.resolve().name}"], ""
    for path in sorted(folder.glob("*.png"), key=_place):
        with Image.open(path) as image:
            told = image.info
        if "Description" in told:
            title, caption = (str(told[name]).translate(ESCAPED) for name in ("Title", "Description"))
            # Figures of one kind, e.g. one a student, stand below one heading.
            paragraphs += [f"## {title}"] if title != above else []
            paragraphs += [f"![{title}]({path.name})", f"{caption} [As svg]({path.stem}.svg)."]
            above = title
    write_text(folder / NAME, "\n\n".join(paragraphs) + "\n")
    return folder / NAME


def _place(path: Path) -> tuple[int, str]:
    begins = [place for place, name in enumerate(ORDER) if path.stem == name or path.stem.startswith(f"{name}-")]
    return (begins or [len(ORDER)])[0], path.stem
