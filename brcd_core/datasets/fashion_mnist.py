"""Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017; arXiv 1708.07747): 70,000 grey images of clothes, 28x28.

Forms: the four official idx files, packed or not, and the Debian package dataset-fashion-mnist, which holds
them. Whatever the form, the decoded bytes must have the checksums below.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brcd_core.config import cache_dir
from brcd_core.datasets.archives import deb_members
from brcd_core.datasets.dataset import Dataset, from_arrays
from brcd_core.datasets.kept import Arrays, kept
from brcd_core.datasets.places import data_folder
from brcd_core.fetching import AptPackage, Url, is_intact, obtain, sha256_of

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
TRAIN_IMAGES = 60_000  # images 0 .. 59,999 are the train split, the other 10,000 the test split
IMAGES = 70_000

HOST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {  # part -> official file, its SHA-256, and that of the decoded array
    "train pixels": (
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ),
    "test pixels": (
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ),
    "train labels": (
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    "test labels": (
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}
DEBIAN = AptPackage(
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
DEBIAN_FOLDER = "usr/share/datasets/fashion-mnist"
LARGEST = 64_000_000  # bytes of an unpacked file, so that a damaged one cannot fill the memory


def load(folder: Path | None = None) -> Dataset:
    """The dataset: grey as three equal channels, (70000, 28, 28, 3), a view that takes the memory of one.

    The decoded arrays are kept in the cache and checked each time. If they are missing or damaged they are
    made anew, from `folder`, $BRCD_DATA or $BRCD_DATA/fashion_mnist (the four idx files, also as torchvision
    places them in FashionMNIST/raw; or the Debian package), else from a download.

    Raises FileNotFoundError: `folder` holds no form of it; ValueError: a file there is damaged;
    fetching.FetchError: no source could be reached.
    """
    grey, numbers = kept(cache_dir() / "data" / "fashion_mnist", check, lambda: _decode(folder))
    pixels = np.broadcast_to(grey[..., None], (*grey.shape, 3))
    return from_arrays("fashion_mnist", CLASSES, pixels, numbers)


def check(grey: np.ndarray, numbers: np.ndarray, origin: object) -> None:
    """Compare decoded arrays with the published set. ValueError names the part that differs."""
    if (grey.shape, numbers.shape) != ((IMAGES, 28, 28), (IMAGES,)):
        raise ValueError(f"{origin}: pixels {grey.shape} and labels {numbers.shape} are not Fashion-MNIST's shapes")
    if not grey.dtype == numbers.dtype == np.uint8:
        raise ValueError(f"{origin}: pixels and labels are {grey.dtype} and {numbers.dtype}, not uint8")
    for part, (_, _, expected) in FILES.items():
        array = grey if part.endswith("pixels") else numbers
        array = array[:TRAIN_IMAGES] if part.startswith("train") else array[TRAIN_IMAGES:]
        found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if found != expected:
            raise ValueError(f"{origin}: {part} are not Fashion-MNIST's: SHA-256 {found}, expected {expected}")


def parse_idx(content: bytes, origin: object) -> np.ndarray:
    """An idx file (bytes 0, 0, type 8 = uint8, dimensions; then each side as a big-endian uint32; then values)."""
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{origin} is not an idx file of bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != int(np.prod(shape, dtype=object)):
        raise ValueError(f"{origin}: {len(content) - start} bytes of values, its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _decode(folder: Path | None) -> tuple[str, Arrays]:
    origin, contents = _find(folder)
    print(f"decoding Fashion-MNIST from {origin}", file=sys.stderr)
    arrays = {part: parse_idx(_unpacked(contents[name], name), name) for part, (name, _, _) in FILES.items()}
    grey, numbers = (np.concatenate([arrays[f"train {kind}"], arrays[f"test {kind}"]]) for kind in ("pixels", "labels"))
    return origin, (grey, numbers)


def _find(folder: Path | None) -> tuple[str, Mapping[str, bytes]]:
    """Where it was found, in words, and the four files' bytes by their official names."""
    named = folder or data_folder()
    if named is not None:
        for place in (named, named / "fashion_mnist", named / "FashionMNIST" / "raw"):
            if (place / DEBIAN.filename).exists():
                if not is_intact(place / DEBIAN.filename, DEBIAN.sha256):
                    found = sha256_of(place / DEBIAN.filename)
                    raise ValueError(f"{place / DEBIAN.filename} is damaged: SHA-256 {found}; remove it")
                return str(place / DEBIAN.filename), _of_debian(place / DEBIAN.filename)
            if any(_either(place, name) for name, _, _ in FILES.values()):
                return str(place), {name: _placed(place, name) for name, _, _ in FILES.values()}
        lacking = f"{named} holds no form of Fashion-MNIST ({', '.join(name for name, _, _ in FILES.values())})"
        if folder is not None:
            raise FileNotFoundError(lacking)
        print(f"BRCD_DATA: {lacking}", file=sys.stderr)  # it may be meant for another dataset
    return _fetched()


def _fetched() -> tuple[str, Mapping[str, bytes]]:
    downloads = cache_dir() / "downloads" / "fashion_mnist"
    contents = {}
    for name, sha256, _ in FILES.values():
        advice = "Or set BRCD_DATA to a folder that holds the four files."
        delivery = obtain([Url(HOST + name, sha256), DEBIAN], downloads, advice)
        if delivery.source == DEBIAN:  # it holds all four
            return DEBIAN.description, _of_debian(delivery.path)
        contents[name] = delivery.path.read_bytes()
    return HOST, contents


def _of_debian(path: Path) -> Mapping[str, bytes]:
    members = deb_members(path, [f"{DEBIAN_FOLDER}/{name}" for name, _, _ in FILES.values()])
    return {name.rpartition("/")[2]: content for name, content in members.items()}


def _either(place: Path, name: str) -> Path | None:
    """A placed file, packed or not."""
    return next((path for path in (place / name, place / name.removesuffix(".gz")) if path.is_file()), None)


def _placed(place: Path, name: str) -> bytes:
    path = _either(place, name)
    if path is None:
        raise FileNotFoundError(f"{place} lacks {name}")
    return path.read_bytes()


def _unpacked(content: bytes, name: str) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content[:LARGEST]
    try:
        return gzip.open(io.BytesIO(content)).read(LARGEST)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is damaged: {error}") from error
