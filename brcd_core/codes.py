"""Binary codes and their labels: signs, packed words, Hamming distances, nearest codes.

A code is a row of K signs {-1, +1}. Packed, it is ceil(K / 64) uint64 words, unused bits zero, so that a
Hamming distance is an XOR and a bit count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Array = NDArray[Any]


def signs(codes: ArrayLike, name: str = "codes") -> NDArray[np.int8]:
    """Signs of real codes (N, K) as int8 {-1, +1}; zero counts as +1.

    Raises ValueError for codes that are empty, not 2-D, NaN, or of a dtype that cannot be negative.

    >>> signs([[0.3, -2.0, 0.0]])
    array([[ 1, -1,  1]], dtype=int8)
    """
    values = np.asarray(codes)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} must have shape (N, K) with N and K at least 1, got {values.shape}")
    if values.dtype.kind not in "if":
        raise ValueError(f"{name} are {values.dtype}, which has no sign; give -1 and +1 (2 * bits - 1)")
    if values.dtype.kind == "f" and np.isnan(values).any():
        rows = int(np.isnan(values).any(axis=1).sum())
        raise ValueError(f"{name} contain NaN in {rows} of {len(values)} rows; check the output of the head")
    return 2 * (values >= 0).view(np.int8) - 1  # np.where takes many times as long


def pack(codes: ArrayLike, name: str = "codes") -> NDArray[np.uint64]:
    """Pack codes (N, K) into uint64 (N, ceil(K / 64)); bit i of word w is the sign of column 64 w + i.

    K must be a positive multiple of 8. Raises ValueError for another K and for whatever `signs` refuses.

    >>> pack([[1, 1, -1, -1, -1, -1, -1, -1]])
    array([[3]], dtype=uint64)
    """
    bits = signs(codes, name) > 0
    if bits.shape[1] % 8:
        raise ValueError(f"{name} have {bits.shape[1]} bits; a code length must be a positive multiple of 8")
    return words_of(bits)


def unpack(packed: NDArray[np.uint64], bits: int) -> NDArray[np.int8]:
    """Unpack uint64 (N, words) into int8 codes {-1, +1} of shape (N, bits). Inverse of `pack`."""
    if packed.ndim != 2 or bits < 1 or -(-bits // 64) != packed.shape[1]:
        raise ValueError(f"{bits} bits do not fit packed codes of shape {packed.shape}: need 64 bits a word")
    little = np.ascontiguousarray(packed.astype("<u8", copy=False)).view(np.uint8)
    return signs(np.unpackbits(little, axis=1, count=bits, bitorder="little").astype(np.int8) * 2 - 1)


def hamming(query_packed: NDArray[np.uint64], database_packed: NDArray[np.uint64]) -> NDArray[np.int32]:
    """All Hamming distances, int32 (Q, N): the whole matrix, so for small sets only.

    >>> hamming(pack([[1] * 8]), pack([[1] * 8, [-1] * 8, [1] * 7 + [-1]]))
    array([[0, 8, 1]], dtype=int32)
    """
    columns = columns_of(query_packed, database_packed)
    distances = np.empty((len(query_packed), len(database_packed)), np.int32)
    scratch = np.empty(len(database_packed), np.uint64)
    for query, row in zip(query_packed, distances, strict=True):
        distances_to(query, columns, None, scratch, row)
    return distances


def nearest(
    query_packed: NDArray[np.uint64], database_packed: NDArray[np.uint64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The k nearest items of each query in stable order, ties by database index.

    Packed codes (Q, words), (N, words) -> indices and distances, both (Q, min(k, N)). Sorts only the items
    up to the distance of place k. Raises ValueError for k < 1, empty sets and other code lengths.

    >>> indices, distances = nearest(pack([[1] * 8]), pack([[-1] * 8, [1] * 7 + [-1], [1] * 8]), k=2)
    >>> indices.tolist(), distances.tolist()
    ([[2, 1]], [[0, 1]])
    """
    columns, size = columns_of(query_packed, database_packed), len(database_packed)
    k = place_cut(k, size)
    indices = np.empty((len(query_packed), k), np.int64)
    distances = np.empty((len(query_packed), k), np.int32)
    scratch, row = np.empty(size, np.uint64), np.empty(size, np.min_scalar_type(64 * len(columns)))
    histogram_of_row = counter(row, 64 * len(columns) + 1)
    for q, query in enumerate(query_packed):
        distances_to(query, columns, None, scratch, row)
        limit = int(np.searchsorted(np.cumsum(histogram_of_row()), k))  # int: bytes stay bytes in `<=`
        inside = np.flatnonzero(row <= limit)
        order = inside[np.argsort(row[inside], kind="stable")[:k]]
        indices[q], distances[q] = order, row[order]
    return indices, distances


def pack_both(query_codes: ArrayLike, database_codes: ArrayLike) -> tuple[Array, Array, int]:
    """Both sets packed, and their code length. ValueError where the lengths differ."""
    queries, database = pack(query_codes, "query codes"), pack(database_codes, "database codes")
    bits, other = np.shape(query_codes)[1], np.shape(database_codes)[1]
    if bits != other:
        raise ValueError(f"query codes have {bits} bits, database codes {other}; they must be equal")
    return queries, database, bits


def pack_labels(wanted: ArrayLike, offered: ArrayLike, queries: int, size: int) -> tuple[Array, Array]:
    """Check labels and pack them: (Q, words) for the queries, columns (words, N) for the database."""
    packed, widths = [], []
    for name, labels, length in (("query", wanted, queries), ("database", offered, size)):
        values = np.asarray(labels)
        if values.ndim != 2 or values.shape[0] != length or values.shape[1] == 0:
            raise ValueError(f"{name} labels must have shape ({length}, L), a row a code, got {values.shape}")
        if values.dtype != bool and not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} labels must be bool or 0/1, one column a label (not class numbers)")
        packed.append(words_of(values.astype(bool)))
        widths.append(values.shape[1])
    if widths[0] != widths[1]:
        raise ValueError(f"query labels have {widths[0]} columns, database labels {widths[1]}; must be equal")
    return packed[0], np.ascontiguousarray(packed[1].T)


def distances_to(query: Array, columns: Array, mask: Array | None, scratch: Array, out: Array) -> None:
    """Hamming distances of one query (words,) to columns (words, N), written into `out` (N,)."""
    for word, column in enumerate(columns):
        np.bitwise_xor(column, query[word], out=scratch)
        if mask is not None:
            np.bitwise_and(scratch, mask[word], out=scratch)
        if word == 0:
            np.bitwise_count(scratch, out=out)
        else:
            out += np.bitwise_count(scratch)


def counter(values: Array, bins: int) -> Callable[[], ArrayLike]:
    """A function that counts how often each number below `bins` is in `values` (N,) when it is called.

    Pillow counts bytes, as the grey levels of an image that shares their memory, two to three times as fast as
    np.bincount, which first makes 64-bit integers of them.
    """
    if values.dtype != np.uint8 or bins > 256:
        return lambda: np.bincount(values, minlength=bins)
    image = Image.frombuffer("L", (len(values), 1), values, "raw", "L", 0, 1)
    return lambda: image.histogram()[:bins]


def columns_of(query_packed: Array, database_packed: Array) -> Array:
    """Check packed codes; the database as contiguous columns (words, N)."""
    for name, packed in (("query", query_packed), ("database", database_packed)):
        if packed.dtype != np.uint64 or packed.ndim != 2 or packed.size == 0:
            got = f"{packed.dtype} {packed.shape}"
            raise ValueError(f"{name} codes must be packed: uint64 (N, words), not empty; got {got}")
    words = query_packed.shape[1], database_packed.shape[1]
    if words[0] != words[1]:
        raise ValueError(f"query codes have {words[0]} words, database codes {words[1]}; they must be equal")
    return np.ascontiguousarray(database_packed.T)


def words_of(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack booleans (N, B) into uint64 (N, ceil(B / 64)), unused bits zero."""
    octets = np.zeros((len(bits), -(-bits.shape[1] // 64) * 8), np.uint8)
    used = np.packbits(bits, axis=1, bitorder="little")
    octets[:, : used.shape[1]] = used
    return octets.view("<u8").astype(np.uint64, copy=False)


def place_cut(k: int, size: int) -> int:
    """The cut k of a ranking of `size` items: ValueError below 1, the whole ranking beyond its end."""
    if k < 1:
        raise ValueError(f"the cut k must be at least 1, got {k}")
    return min(int(k), size)
