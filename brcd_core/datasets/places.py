"""Where data lies that the user has placed: a folder that is named, or one under $BRCD_DATA."""

from __future__ import annotations

import os
from pathlib import Path

from brcd_core.config import repository

PAGE = "brcd_core/datasets/README.md"


def data_folder() -> Path | None:
    """$BRCD_DATA (from the repository, if relative), or None."""
    return repository() / os.environ["BRCD_DATA"] if os.environ.get("BRCD_DATA") else None


def placed(name: str, folder: Path | None) -> Path:
    """The folder of a dataset that nothing can fetch: `folder`, else $BRCD_DATA/name. FileNotFoundError if none."""
    data = data_folder()
    place = folder or (data / name if data else None)
    if place is None:
        raise FileNotFoundError(
            f"dataset {name!r} has to be placed by hand: name its folder, or set BRCD_DATA to the folder that "
            f"holds {name}/. {PAGE} says what belongs into it."
        )
    if not place.is_dir():
        raise FileNotFoundError(f"dataset {name!r}: there is no folder {place}. {PAGE} says what belongs into it.")
    return place
