"""Folders of more than a thousand files from anyone, read as a data set, by the search and by the encoder.

`make test-fuzz`; FUZZ_SEED in the environment makes another corpus, FUZZ_FILES another number of damaged files.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny_heads
from PIL import Image

from brcd_core import encoder
from brcd_core.datasets import ImageError, image_folder
from brcd_core.datasets.image_files import decode
from brcd_core.search import index
from fuzz import corpus, harm, own_process
from fuzz.own_process import MB

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files

SEED = int(os.environ.get("FUZZ_SEED", 0))
FILES = int(os.environ.get("FUZZ_FILES", 1000))
LARGE = 2  # images that are as large as Pillow's limit allows


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted") / "folder"
    corpus.fill(folder, FILES, SEED)
    return folder


@pytest.fixture(scope="module")
def readable(untrusted: Path) -> list[str]:
    """The oracle: what Pillow alone can open, load and convert, below its limit and without running Ghostscript."""
    return [name for name in sorted(image_folder.files(untrusted)) if can_be_read(untrusted / name)]


def can_be_read(path: Path) -> bool:
    try:
        with Image.open(path, formats=[name for name in Image.ID if name != "EPS"]) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                return False
            image.load()
            image.convert("RGB")
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_heads.save_head(tmp_path_factory.mktemp("head") / "head.safetensors")


def test_a_seed_makes_one_corpus(tmp_path: Path) -> None:
    for name in ("a", "b"):
        corpus.fill(tmp_path / name, 50, SEED, every=5)
    names = sorted(image_folder.files(tmp_path / "a"))
    assert names == sorted(image_folder.files(tmp_path / "b"))
    for name in names:
        if "not_to_be_read" not in name:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_as_a_data_set(untrusted: Path, readable: list[str], tmp_path: Path) -> None:
    """At most 500 MB of memory: none of these images has many pixels."""
    answer = own_process.run(own_process.READ_DATASET, untrusted, cache=tmp_path)
    files = sorted(image_folder.files(untrusted))
    print(f"{len(files)} files, {len(readable)} images, {answer.peak / MB:.0f} MB")
    assert len(files) > FILES and answer.found["names"] == readable
    assert f"{len(files) - len(readable)} of {len(files)} files were left out" in answer.said
    assert answer.peak < 500 * MB


def test_as_an_index(untrusted: Path, readable: list[str], head: Path, tmp_path: Path) -> None:
    """At most 1.5 GB, of which torch and faiss take the half."""
    answer = own_process.run(own_process.MAKE_INDEX, untrusted, head, tmp_path / "index", cache=tmp_path)
    print(f"{answer.peak / MB:.0f} MB")
    found = index.read(tmp_path / "index")
    assert answer.found["code"] == 0 and found.names == readable
    assert set(found.skipped) == set(image_folder.files(untrusted)) - set(readable) and all(found.skipped.values())
    assert f"{len(found.skipped):,} of {len(readable) + len(found.skipped):,} files were left out" in answer.said
    assert answer.peak < 1500 * MB

    coder = encoder.load(head)
    stored = found.codes.reconstruct_n(0, len(readable))
    for name in found.skipped:
        with pytest.raises(ImageError):
            coder.encode([untrusted / name])
    for place in np.random.default_rng(SEED).choice(len(readable), 50, replace=False):
        code = coder.encode([untrusted / readable[place]])
        assert np.array_equal(index.octets(code, coder.bits)[0], stored[place])


def test_images_as_large_as_they_may_be(tmp_path: Path) -> None:
    """Each may be decoded at the same time as the others, on a machine with as many cores."""
    side = int(Image.MAX_IMAGE_PIXELS**0.5)
    content = harm.png(side, side, 6, full=True)
    (tmp_path / "folder").mkdir()
    for number in range(LARGE):
        (tmp_path / "folder" / f"{number}.png").write_bytes(content)
    (tmp_path / "folder" / "larger.png").write_bytes(harm.png(side + 10, side, 0, 1, full=True))
    answer = own_process.run(own_process.READ_DATASET, tmp_path / "folder", cache=tmp_path, seconds=3600)
    print(f"{answer.peak / MB:.0f} MB")
    assert answer.found["names"] == [f"{number}.png" for number in range(LARGE)]
    assert answer.peak < 150 * MB + own_process.largest(LARGE)


def test_decoding_is_what_it_was(untrusted: Path, readable: list[str]) -> None:
    """A damaged file may be read in part, but the same part each time."""
    for name in readable[:: max(1, len(readable) // 100)]:
        assert np.array_equal(decode(untrusted / name, upright=True), decode(untrusted / name, upright=True)), name
