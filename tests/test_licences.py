"""LICENCES.md names all that is needed, and nothing else."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from brcd_core import datasets
from brcd_core.backbones.weight_sources import SOURCES
from brcd_core.config import repository
from brcd_core.datasets import cifar10, fashion_mnist
from brcd_core.fetching import Url

ROOT = repository()
PAGE = (ROOT / "LICENCES.md").read_text(encoding="utf-8")
WITH_CARE = re.compile("GPL|MPL|Mozilla|Proprietary|EUPL|CC-BY|not said|unknown", re.IGNORECASE)


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its header."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    assert section, heading
    rows = [line.strip("|").split("|") for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


PACKAGES = table("Packages")


def test_every_pin_has_a_row_and_there_is_no_other() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^(\S+?)==(\S+)", lock, flags=re.M)
    rows = [(name, version) for name, version, *_ in PACKAGES]
    missing, gone = sorted(set(pins) - set(rows)), sorted(set(rows) - set(pins))
    assert not missing and not gone, f"LICENCES.md lacks {missing} and still has {gone}; see: make licences"
    assert rows == sorted(set(rows)) and f"All {len(rows)} pins" in PAGE
    assert all(licence for _, _, licence, _ in PACKAGES)


def test_licences_are_what_packages_say() -> None:
    """Compared with the metadata of those that are installed in the version of the page."""
    compared = 0
    for name, version, licence, note in PACKAGES:
        try:
            about = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        classifiers = [one for one in about.get_all("Classifier", []) if one.startswith("License :: OSI Approved :: ")]
        said = [about["License-Expression"], *[one.split(" :: ")[-1] for one in classifiers], about["License"]]
        said = [" ".join(one.split()) for one in said if one]
        if about["Version"] == version:
            compared += 1
            assert any(one in licence for one in said) or (not said and note), f"{name}: {licence}, it says {said}"
    assert compared > 20


def test_what_needs_care_is_marked() -> None:
    for name, _, licence, note in PACKAGES:
        assert bool(WITH_CARE.search(licence)) == note.startswith("**"), name
    care = PAGE.partition("## ")[0]
    for name, _, licence, _ in PACKAGES:
        if WITH_CARE.search(licence) and "nvidia" not in name and name != "cuda-toolkit":
            assert name in care


@pytest.mark.parametrize("backbone", SOURCES)
def test_every_weight_file_has_a_row(backbone: str) -> None:
    rows = [row[1:3] for row in table("Weights") if row[0] == backbone]
    assert len(rows) == len(SOURCES[backbone])
    for (filename, origin), file in zip(rows, SOURCES[backbone], strict=True):
        assert filename == file.source.filename
        assert isinstance(file.source, Url) or file.source.description.startswith(f"{origin}, file ")


def test_every_dataset_has_a_row() -> None:
    rows = {row[0]: row[1] for row in table("Data sets")}
    assert set(rows) == set(datasets.names())
    assert rows["cifar10"].endswith(cifar10.NPM.description)
    assert rows["fashion_mnist"].endswith(fashion_mnist.DEBIAN.description)
    assert {row[0] for row in table("Weights")} == set(SOURCES)
    for row in [*table("Weights"), *table("Data sets")]:
        assert row[-2] and (row[-1] or "not said" not in row[-2])
