"""Tests use the CPU, one thread each, folders of their own for data and results, and one kernel of nbval at a time."""

from __future__ import annotations

import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Before torch is imported. Two threads on busy cores crawl; and tests are of the CPU, whose numbers repeat.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


class ByFile(LoadFileScheduling):
    """A test module stays on one worker; so do all notebooks, because kernels that start together race for ports.

    Not by xdist's own groups: with pytest 9.2 xdist 3.8 takes no notice of them, and deals out a notebook's cells.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "notebooks" if file.endswith(".ipynb") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Takes the place of what --dist names."""
    return ByFile(config, log)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A cache and an output folder of this module's own."""
    folder = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRCD_CACHE", str(folder / "cache"))
        patch.setenv("BRCD_OUTPUT", str(folder))
        yield folder
