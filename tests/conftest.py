"""Tests write nowhere but into temporary folders, and use one thread each."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two threads on busy cores crawl


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cache and an output folder of this module's own."""
    folder = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRCD_CACHE", str(folder / "cache"))
        patch.setenv("BRCD_OUTPUT", str(folder))
        yield folder
