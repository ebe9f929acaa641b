"""What goes wrong around a study: kills, full disks, flipped bytes, two at once. `make test-faults` runs these tests.

They take minutes, so that `make test`, which asks for all of tests/, does not collect them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # made-up heads and records


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only those who name this folder get its tests."""
    asked = any("faults" in argument for argument in config.invocation_params.args)
    return None if asked else True
