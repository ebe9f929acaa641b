"""What every other module stands on: frozen settings, their fingerprint, and where files live."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all settings: values are typed and cannot change; an unknown key is an error.

    Strict: the text "16" is not the number 16 and "true" is not true, so a parameter that a shell
    or a command line turned into text is found at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value or of settings, independent of the order of keys."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def repository() -> Path:
    """The folder that holds brcd_core/, notebooks/, results/ and figures/."""
    return Path(__file__).resolve().parents[1]


def cache_dir() -> Path:
    """Where downloads, data, weights and banks are kept: $BRCD_CACHE (from the repository, if relative), or cache/."""
    return repository() / (os.environ.get("BRCD_CACHE") or "cache")


def output_dir() -> Path:
    """Where results/ and figures/ are written: $BRCD_OUTPUT, else the repository."""
    return repository() / os.environ.get("BRCD_OUTPUT", "")


def shown(path: Path) -> str:
    """A path under results/ or figures/ as people read it: from there on."""
    return str(path.relative_to(output_dir()))
