"""Every example in a docstring says what really comes out, and the functions that others build on have one."""

from __future__ import annotations

import doctest
import importlib

import pytest

from brcd_core.config import repository

PACKAGE = repository() / "brcd_core"
SHOWN = sorted(path for path in PACKAGE.rglob("*.py") if "\n    >>> " in path.read_text(encoding="utf-8"))
KEY = {
    "agreement": ["agreement"],
    "bits": ["bit_balance", "bit_mask", "bit_means", "purity"],
    "bootstrap": ["paired"],
    "codes": ["hamming", "nearest", "pack", "signs"],
    "retrieval": ["average_precision", "counts", "evaluate"],
}


def examples(name):
    """Function -> its examples, of a module of brcd_core."""
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    return {test.name.removeprefix(f"{name}."): test for test in found}


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_examples_are_true(path):
    name = ".".join(path.relative_to(repository()).with_suffix("").parts)
    found = examples(name)
    assert any(test.examples for test in found.values())
    said = []
    runner = doctest.DocTestRunner()
    for test in found.values():
        runner.run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", KEY)
def test_what_others_build_on_has_an_example(name):
    found = examples(f"brcd_core.{name}")
    assert sorted(function for function, test in found.items() if test.examples) == KEY[name]
