"""Fashion-MNIST: a small stand-in for it in its published forms, and harm done to them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from brcd_core.datasets import archives, fashion_mnist
from brcd_core.fetching import AptPackage, FetchError, sha256_of

TRAIN, ALL = 30, 42
NAMES = [name for name, _, _ in fashion_mnist.FILES.values()]


def idx(array: np.ndarray) -> bytes:
    """The format as its page describes it, byte by byte."""
    content = bytearray([0, 0, 8, array.ndim])
    for side in array.shape:
        content += bytes([side >> 24 & 255, side >> 16 & 255, side >> 8 & 255, side & 255])
    return bytes(content) + bytes(array.ravel().tolist())


def debian_package(path: Path, members: dict[str, bytes], compression: str = "xz") -> None:
    """An ar archive of debian-binary, control.tar and data.tar, as dpkg-deb writes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": packed.getvalue()}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))


class Tiny:
    """A stand-in with 42 random images, in a folder for each form."""

    def __init__(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        self.grey = rng.integers(0, 256, (ALL, 28, 28), dtype=np.uint8)
        self.numbers = rng.integers(0, 10, ALL, dtype=np.uint8)
        halves = {"train": slice(0, TRAIN), "test": slice(TRAIN, None)}
        arrays = {f"{half} {kind}": array[part] for half, part in halves.items()
                  for kind, array in (("pixels", self.grey), ("labels", self.numbers))}  # fmt: skip
        self.contents = {name: idx(arrays[part]) for part, (name, _, _) in fashion_mnist.FILES.items()}
        packed = {name: gzip.compress(content) for name, content in self.contents.items()}
        self.files = {
            part: (name, hashlib.sha256(packed[name]).hexdigest(), hashlib.sha256(arrays[part].tobytes()).hexdigest())
            for part, (name, _, _) in fashion_mnist.FILES.items()
        }
        self.folders = {form: root / form for form in ("packed", "plain", "torchvision", "debian")}
        places = {**self.folders, "torchvision": root / "torchvision" / "FashionMNIST" / "raw"}
        for place in places.values():
            place.mkdir(parents=True)
        for name in NAMES:
            (places["packed"] / name).write_bytes(packed[name])
            (places["torchvision"] / name).write_bytes(packed[name])
            (places["plain"] / name.removesuffix(".gz")).write_bytes(self.contents[name])
        deb = places["debian"] / fashion_mnist.DEBIAN.filename
        debian_package(deb, {f"{fashion_mnist.DEBIAN_FOLDER}/{name}": packed[name] for name in NAMES})
        self.debian = AptPackage(fashion_mnist.DEBIAN.name, fashion_mnist.DEBIAN.version, sha256_of(deb))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    made = Tiny(tmp_path / "forms")
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRCD_DATA", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))  # no apt-get
    changes = {"IMAGES": ALL, "TRAIN_IMAGES": TRAIN, "FILES": made.files, "DEBIAN": made.debian}
    for name, value in {**changes, "HOST": "http://127.0.0.1:9/"}.items():
        monkeypatch.setattr(fashion_mnist, name, value)
    return made


@pytest.mark.parametrize("form", ["packed", "plain", "torchvision", "debian"])
def test_every_form_gives_the_same_images(tiny: Tiny, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = fashion_mnist.load(tiny.folders[form])
    assert dataset.pixels.shape == (ALL, 28, 28, 3) and dataset.pixels.dtype == np.uint8
    for channel in range(3):
        assert np.array_equal(dataset.pixels[..., channel], tiny.grey)
    assert [row.nonzero()[0].tolist() for row in dataset.labels] == [[number] for number in tiny.numbers]
    assert dataset.classes[9] == "Ankle boot"
    batch = dataset.tensor([41, 0])
    assert batch.shape == (2, 3, 28, 28)
    assert batch.is_contiguous() and np.array_equal(batch[0, 1].numpy(), tiny.grey[41])
    assert "decoding" in capsys.readouterr().err
    assert fashion_mnist.load().fingerprint == dataset.fingerprint  # from the cache
    assert "decoding" not in capsys.readouterr().err


def test_download_folder_and_environment(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.folders["packed"].rename(tiny.folders["packed"].with_name("fashion_mnist"))
    monkeypatch.setenv("BRCD_DATA", str(tmp_path / "forms"))
    assert len(fashion_mnist.load()) == ALL
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "other"))
    (tmp_path / "other" / "downloads").mkdir(parents=True)
    tiny.folders["debian"].rename(tmp_path / "other" / "downloads" / "fashion_mnist")
    monkeypatch.delenv("BRCD_DATA")
    assert len(fashion_mnist.load()) == ALL


def test_nothing_to_be_had(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} holds no form of Fashion-MNIST .*t10k-labels-idx1"):
        fashion_mnist.load(tmp_path)
    monkeypatch.setenv("BRCD_DATA", str(tmp_path))
    with pytest.raises(FetchError, match=r"(?s)not reachable.*apt-get is not installed.*BRCD_DATA"):
        fashion_mnist.load()


def test_harm_to_a_file_is_named(tiny: Tiny) -> None:
    place = tiny.folders["packed"]
    path = place / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for harm in (whole[:-9], whole[:200] + b"\0\0\0" + whole[203:]):
        path.write_bytes(harm)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is damaged"):
            fashion_mnist.load(place)
    content = bytearray(tiny.contents[path.name])
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match="train pixels are not Fashion-MNIST's: SHA-256"):
        fashion_mnist.load(place)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{place} lacks train-images-idx3-ubyte.gz"):
        fashion_mnist.load(place)
    deb = tiny.folders["debian"] / tiny.debian.filename
    deb.write_bytes(deb.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"_all.deb is damaged: SHA-256"):
        fashion_mnist.load(tiny.folders["debian"])


def test_idx() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(fashion_mnist.parse_idx(idx(array), "it"), array)
    whole = idx(array)
    for wrong in (b"", whole[:3], whole[:9], b"\0\0\x0d" + whole[3:], b"\1" + whole[1:]):
        with pytest.raises(ValueError, match="it is not an idx file of bytes"):
            fashion_mnist.parse_idx(wrong, "it")
    for wrong in (whole[:-1], whole + b"x"):
        with pytest.raises(ValueError, match=r"it: 2[35] bytes of values, its header says \(2, 3, 4\)"):
            fashion_mnist.parse_idx(wrong, "it")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_members_of_a_debian_package(tmp_path: Path, compression: str) -> None:
    members = {"usr/share/one": b"1" * 11, "usr/share/two": b"22", "etc/other": b""}
    debian_package(tmp_path / "a.deb", members, compression)
    wanted = ["usr/share/one", "usr/share/two"]
    assert archives.deb_members(tmp_path / "a.deb", wanted) == {name: members[name] for name in wanted}
    with pytest.raises(ValueError, match=r"a.deb lacks ./usr/share/three"):
        archives.deb_members(tmp_path / "a.deb", ["usr/share/three"])
    for harm in (b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, (tmp_path / "a.deb").read_bytes()[1:]):
        (tmp_path / "b.deb").write_bytes(harm)
        with pytest.raises(ValueError, match=r"b.deb is not a Debian package"):
            archives.deb_members(tmp_path / "b.deb", wanted)
