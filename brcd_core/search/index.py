"""An index on disk: a folder's codes as a binary index of faiss, and a JSON file with the images' names.

The JSON file names the file of codes and is replaced last, so that an index is whole, or still the one before. One
process writes at a time. What is read is checked here, because faiss does not check it: an index may be anyone's.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brcd_core.atomic import replacing, write_text
from brcd_core.config import fingerprint
from brcd_core.datasets import ImageError, image_folder
from brcd_core.datasets.image_files import decode, in_threads
from brcd_core.encoder import Encoder
from brcd_core.fetching import lock
from brcd_core.search.pairs import Origin, check_origin, origin_of

NAMES = "index.json"
HEADER = struct.Struct("<4siiqBiQ")  # of a flat index of faiss: its kind, bits, bytes a code, codes, two more, bytes


class BrokenIndexError(RuntimeError):
    """There is no index, or it is damaged; the message names it and says what to do."""


@dataclass(frozen=True, eq=False)
class Index:
    """The codes of the images folder/name, in the order of the names, and the head that they come from.

    skipped: the files that cannot be read, and why. codes: a faiss.IndexBinaryFlat. query_head: the file of the head
    that queries are to be encoded with.
    """

    folder: Path
    names: list[str]
    skipped: dict[str, str]
    codes: Any
    origin: Origin
    query_head: Path

    def nearest(self, packed: NDArray[np.uint64], k: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The k nearest images of each query: positions and Hamming distances, (Q, min(k, N)), rising.

        packed: uint64 (Q, words). ValueError for k below 1.
        """
        if k < 1:
            raise ValueError(f"the number of hits k must be at least 1, got {k}")
        distances, positions = self.codes.search(octets(packed, self.origin.bits), min(k, len(self.names)))
        order = np.lexsort((positions, distances))
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)


def build(encoder: Encoder, folder: Path, query_head: Path, names: list[str], report: Callable[[int], Any]) -> Index:
    """Encode the files folder/name, `encoder.batch` at a time; `report(files)` after each batch.

    Files that cannot be read as images are left out, and images whose logits are NaN.
    """
    import faiss

    codes = faiss.IndexBinaryFlat(encoder.bits)
    found: list[str] = []
    skipped: dict[str, str] = {}
    for good, packed, problems in encode_files(encoder, folder, names):
        codes.add(octets(packed, encoder.bits))
        found += good
        skipped |= problems
        report(len(good) + len(problems))
    return Index(folder, found, skipped, codes, origin_of(encoder), query_head)


def encode_files(
    encoder: Encoder, folder: Path, names: Sequence[str]
) -> Iterator[tuple[list[str], NDArray[np.uint64], dict[str, str]]]:
    """Of each batch of files: the names of those that have a code, their packed codes, and why the others have none."""
    words = -(-encoder.bits // 64)
    for start in range(0, len(names), encoder.batch):
        batch = names[start : start + encoder.batch]
        images = list(in_threads(_read, [folder / name for name in batch]))
        codes = iter(_codes(encoder, [image for image in images if not isinstance(image, str)]))
        found = [image if isinstance(image, str) else next(codes) for image in images]
        problems = {name: one for name, one in zip(batch, found, strict=True) if isinstance(one, str)}
        packed = [one for one in found if not isinstance(one, str)]
        yield [name for name in batch if name not in problems], np.array(packed, np.uint64).reshape(-1, words), problems


def write(index: Index, out: Path) -> None:
    """Write an index into the folder `out`, in place of the one that is there."""
    import faiss

    content = faiss.serialize_index_binary(index.codes).tobytes()
    checksum = hashlib.sha256(content).hexdigest()
    file = out / f"codes-{checksum[:12]}.faiss"
    about = {
        "codes": file.name,
        "sha256": checksum,
        "folder": str(index.folder),
        "head": index.origin._asdict(),
        "query_head": str(index.query_head),
        "skipped": index.skipped,
        "names": index.names,
    }
    about |= {"checksum": fingerprint(about)}
    out.mkdir(parents=True, exist_ok=True)
    with lock(out / NAMES):
        before = _codes_of(out)
        with replacing(file) as part:
            part.write_bytes(content)  # what faiss.write_index_binary writes, but a full disk is said plainly
        write_text(out / NAMES, json.dumps(about, indent=1) + "\n")
        if before and before != file:
            before.unlink(missing_ok=True)


def read(out: Path) -> Index:
    """The index in a folder. BrokenIndexError if there is none, or if it is damaged."""
    if not (out / NAMES).exists():
        raise BrokenIndexError(f"there is no index in {out}; make one: python -m brcd_core.search index --help")
    try:
        try:
            return _opened(out)
        except FileNotFoundError:  # replaced by another process, between the two files
            return _opened(out)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenIndexError(f"the index in {out} is damaged ({error}); make it again") from error


def files_of(folder: Path) -> list[str]:
    """The relative paths of all files below a folder, hidden ones left out. NotADirectoryError if it is none."""
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {folder}")
    return sorted(image_folder.files(folder))


def octets(packed: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    """Packed codes uint64 (N, words) as faiss takes them: uint8 (N, bits / 8)."""
    return np.ascontiguousarray(packed.astype("<u8").view(np.uint8)[:, : bits // 8])


def _opened(out: Path) -> Index:
    about = json.loads((out / NAMES).read_text(encoding="utf-8"))
    if not isinstance(about, dict) or about.pop("checksum", None) != fingerprint(about):
        raise ValueError("its names are not those that were written")
    content = (out / _own_name(about["codes"])).read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError("its codes are not those that were written")
    codes, names = _flat(content), about["names"]
    origin = Origin(**about["head"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its names are no list of texts")
    if codes.ntotal != len(names):
        raise ValueError(f"it has {codes.ntotal} codes and {len(names)} names")
    if codes.d != origin.bits:
        raise ValueError(f"its codes have {codes.d} bits, those of its head {origin.bits}")
    check_origin(origin)
    return Index(Path(about["folder"]), names, about["skipped"], codes, origin, Path(about["query_head"]))


def _flat(content: bytes) -> Any:
    """The faiss.IndexBinaryFlat that was serialised as these bytes. ValueError where they are anything else."""
    import faiss

    try:
        kind, bits, width, count, _, _, size = HEADER.unpack_from(content)
    except struct.error:
        kind = b""
    if kind != b"IBxF" or not bits == 8 * width > 0 or not count * width == size == len(content) - HEADER.size:
        raise ValueError("Error in its codes: they are no flat index of faiss")
    codes = faiss.IndexBinaryFlat(bits)
    codes.add(np.frombuffer(content, np.uint8, offset=HEADER.size).reshape(count, width))
    return codes


def _codes_of(out: Path) -> Path | None:
    """The file of codes that an index names. None where there is no index that names one."""
    try:
        return out / _own_name(json.loads((out / NAMES).read_text(encoding="utf-8"))["codes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _own_name(name: str) -> str:
    """The name of a file that `write` has made. ValueError for another one, which may lie anywhere."""
    if not re.fullmatch(r"codes-[0-9a-f]+\.faiss", name):
        raise ValueError(f"its codes are said to be in {name!r}")
    return name


def _codes(encoder: Encoder, images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint64] | str]:
    """Of each image its packed code (words,), or why it has none: its logits are NaN."""
    if not images:
        return []
    try:
        return list(encoder.encode(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)))
    except ValueError as error:
        return [str(error)] if len(images) == 1 else [code for one in images for code in _codes(encoder, [one])]


def _read(path: Path) -> NDArray[np.uint8] | str:
    """An image file as uint8 (256, 256, 3), or why it cannot be read."""
    try:
        return decode(path, upright=True)
    except ImageError as error:
        return error.reason
    except FileNotFoundError:
        return "not there"
