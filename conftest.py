"""Tests use the CPU, one thread each, folders of their own for data and results, and one kernel of nbval at a time."""

from __future__ import annotations

import os

import pytest

# Before torch is imported. Two threads on busy cores crawl; and tests are of the CPU, whose numbers repeat.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test module stays on one worker; so do all notebooks, because kernels that start together race for ports."""
    for item in items:
        group = "notebooks" if item.path.suffix == ".ipynb" else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cache and an output folder of this module's own."""
    folder = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRCD_CACHE", str(folder / "cache"))
        patch.setenv("BRCD_OUTPUT", str(folder))
        yield folder
