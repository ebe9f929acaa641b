"""The sources of pretrained weights, their pinned checksums, and the cache of converted weights."""

from __future__ import annotations

import errno
import hashlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import timm
import torch
from torchvision import models

from brcd_core.backbones import weights
from brcd_core.backbones.weight_formats import read_pickle, read_torch
from brcd_core.backbones.weight_sources import Digits, WeightFile
from brcd_core.fetching import FetchError, Url, obtain, sha256_of
from brcd_core.fetching.sources import SourceError


def random_state() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.randn(4, 3, 3, 3), "bn.mean": torch.randn(4), "bn.steps": torch.tensor(7)}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert torch.equal(left[name], right[name]), name


@dataclass
class LocalSource:
    """A source that copies bytes, or fails; it counts how often it is asked."""

    content: bytes
    sha256: str
    filename: str
    works: bool = True
    description: str = "a local file"
    asked: list[str] = field(default_factory=list)

    def write(self, part: Path, impatient: bool) -> None:
        self.asked.append(self.filename)
        if not self.works:
            raise SourceError("it is away")
        part.write_bytes(self.content)


# ---- the sources and their checksums


def test_published_digits_of_a_checksum_are_checked(tmp_path: Path) -> None:
    content = b"a file"
    full = hashlib.sha256(content).hexdigest()
    right = LocalSource(content, Digits(full[:8]), "right")
    assert obtain([right], tmp_path).path.read_bytes() == content
    assert obtain([right], tmp_path).path.read_bytes() == content
    assert right.asked == ["right"]  # the second time the file was there, and good
    (tmp_path / "right").write_bytes(b"another")
    assert obtain([right], tmp_path).path.read_bytes() == content
    wrong = LocalSource(content, Digits("0" + full[:7]), "wrong")
    with pytest.raises(FetchError, match="wrong checksum"):
        obtain([wrong], tmp_path)


@pytest.mark.parametrize("name", weights.known_names())
def test_checksums_are_pinned_and_agree_with_the_file_names(name: str) -> None:
    for file in weights.SOURCES[name]:
        assert re.fullmatch(r"[0-9a-f]{64}", file.source.sha256) or isinstance(file.source.sha256, Digits)
        digits = re.search(r"-([0-9a-f]{8})\.pth$", file.source.filename)
        if digits and isinstance(file.source, Url):
            assert file.source.sha256.startswith(digits.group(1))


@pytest.mark.parametrize("name", ["vit_b16", "mobilenet_v2", "resnet18", "efficientnet_b0", "efficientnet_b3"])
def test_official_address_is_torchvision_s_first_imagenet_weights(name: str) -> None:
    enumerated = models.get_model_weights(name.replace("vit_b16", "vit_b_16"))
    source = weights.SOURCES[name][0].source
    assert isinstance(source, Url)
    assert source.url == enumerated["IMAGENET1K_V1"].url


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("vit_b16", models.vit_b_16),
        ("efficientnet_b0", models.efficientnet_b0),
        ("efficientnet_b3", models.efficientnet_b3),
        ("mobilenet_v2", models.mobilenet_v2),
        ("resnet18", models.resnet18),
    ],
)
def test_official_files_are_read_under_the_library_s_names(
    name: str, build: Callable[[], torch.nn.Module], tmp_path: Path
) -> None:
    with torch.device("meta"):
        wanted = build().state_dict()
    # One stored number stands for a whole tensor, so that the file is small.
    blank = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in wanted.items()}
    torch.save(OrderedDict(blank), tmp_path / "official.pth")
    for file in weights.SOURCES[name]:
        if file.read is read_torch:
            state = file.read(tmp_path / "official.pth")
            assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in wanted.items()}
    assert weights.SOURCES[name][0].read is read_torch


def test_full_precision_clip_is_no_source_of_the_dequantised_one() -> None:
    (only,) = weights.SOURCES["clip_vit_b16_dequantised"]
    assert only.source.filename == "clip_encoder.int8.onnx"


def test_both_forms_of_lite0_get_timm_s_names(tmp_path: Path) -> None:
    wanted = dict(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict())
    official, package = (file.read for file in weights.SOURCES["efficientnet_lite0"])
    torch.save(wanted, tmp_path / "official.pth")
    torch.save({f"_block{i}": value for i, value in enumerate(wanted.values())}, tmp_path / "package.pth")
    assert_same(official(tmp_path / "official.pth"), wanted)
    assert_same(package(tmp_path / "package.pth"), wanted)


def test_dinov2_s_own_file_loses_its_mask_token(tmp_path: Path) -> None:
    state = random_state()
    torch.save(state | {"mask_token": torch.zeros(1, 384)}, tmp_path / "official.pth")
    assert_same(weights.SOURCES["dinov2_vits14"][0].read(tmp_path / "official.pth"), state)


# ---- the cache


@pytest.fixture
def state_and_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, torch.Tensor], list[LocalSource]]:
    """A backbone "toy" with a first source that is away and a second one, in another format, that works."""
    monkeypatch.setenv("BRCD_CACHE", str(tmp_path / "cache"))
    state = random_state()
    torch.save(state, tmp_path / "toy.pth")
    (tmp_path / "toy.pkl").write_bytes(pickle.dumps(state))
    sources = [
        LocalSource(path.read_bytes(), sha256_of(path), path.name)
        for path in (tmp_path / "toy.pth", tmp_path / "toy.pkl")
    ]
    sources[0].works = False
    files = (WeightFile(sources[0], read_torch), WeightFile(sources[1], read_pickle))
    monkeypatch.setattr(weights, "SOURCES", {"toy": files})
    return state, sources


Toy = tuple[dict[str, torch.Tensor], list[LocalSource]]


def test_second_source_delivers_and_the_cache_serves_the_next_call(state_and_sources: Toy) -> None:
    state, sources = state_and_sources
    first, checksum = weights.load_state("toy")
    assert_same(first, state)
    assert weights.source_of("toy") == "a local file"
    again, same_checksum = weights.load_state("toy")
    assert_same(again, state)
    assert checksum == same_checksum == weights.checksum(state)
    assert [len(source.asked) for source in sources] == [1, 1]
    assert weights.cached_path("toy").is_file()


def test_checksum_does_not_depend_on_the_source(state_and_sources: Toy) -> None:
    _, sources = state_and_sources
    _, from_second = weights.load_state("toy")
    weights.cached_path("toy").unlink()
    (weights.cached_path("toy").parents[1] / "downloads" / "toy.pkl").unlink()
    sources[0].works, sources[1].works = True, False
    _, from_first = weights.load_state("toy")
    assert from_first == from_second


def test_nobody_delivers(state_and_sources: Toy) -> None:
    _, sources = state_and_sources
    sources[1].works = False
    with pytest.raises(FetchError, match=r"it is away(.|\n)*own name; the folder is .*\$BRCD_CACHE/downloads"):
        weights.load_state("toy")
    assert not weights.cached_path("toy").exists()
    assert weights.source_of("toy") == "not in the cache"


def test_a_full_disk_is_said_plainly_and_leaves_nothing_behind(
    state_and_sources: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.suffix != ".safetensors":
            return write_bytes(path, data)
        write_bytes(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"no space left to write .*toy\.safetensors"):
        weights.load_state("toy")
    assert list(weights.cached_path("toy").parent.iterdir()) == []


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def flip_byte_of_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[12] ^= 1
    path.write_bytes(bytes(data))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_last_byte, flip_byte_of_header, cut_off, empty])
def test_damaged_cache_is_named_removed_and_made_again(
    state_and_sources: Toy, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    state, _ = state_and_sources
    _, checksum = weights.load_state("toy")
    damage(weights.cached_path("toy"))
    capsys.readouterr()
    again, same_checksum = weights.load_state("toy")
    assert_same(again, state)
    assert checksum == same_checksum
    message = capsys.readouterr().err
    assert "toy.safetensors is damaged" in message
    assert "made again" in message
    capsys.readouterr()
    weights.load_state("toy")
    assert "damaged" not in capsys.readouterr().err


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'vgg'.*dinov2_vits14.*resnet18"):
        weights.load_state("vgg")


def test_checksum_sees_names_types_shapes_and_values_but_not_order() -> None:
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    expected = weights.checksum(state)
    assert weights.checksum(dict(reversed(state.items()))) == expected
    variants = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].view(2, 3), "b": state["b"]},
        {"a": state["a"], "b": torch.ones(2, dtype=torch.float64)},
        {"a": state["a"].flip(0), "b": state["b"]},
        {"a": state["a"]},
    ]
    assert len({weights.checksum(variant) for variant in variants} | {expected}) == 6
    strided = torch.stack([state["a"], state["a"]], dim=1)[:, 0]
    assert weights.checksum({"a": strided, "b": state["b"]}) == expected
