"""What `brcd_core.retrieval` is measured against: a problem of random codes, and other ways to its mAP.

Each of these is set up for a database once, and gives the function that answers the queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from brcd_core.codes import pack

Array = np.ndarray[Any, Any]
BLOCK = 50_000  # codes drawn at once, so that a large problem needs little more memory than its codes


class Problem(NamedTuple):
    """Codes float32 (Q, K), (N, K) in {-1, +1} and one-hot labels (Q, L), (N, L): the arguments of `counts`."""

    query_codes: Array
    database_codes: Array
    query_labels: Array
    database_labels: Array

    def few(self, queries: int) -> Problem:
        """The same with its first queries alone."""
        return self._replace(query_codes=self.query_codes[:queries], query_labels=self.query_labels[:queries])


def problem(queries: int, database: int, bits: int, classes: int = 10) -> Problem:
    """Codes around one random centre a class, 15 % of the bits flipped."""
    random = np.random.default_rng(0)
    size = queries + database
    classes_of = random.integers(0, classes, size)
    codes = random.choice(np.array([-1, 1], np.float32), (classes, bits))[classes_of]
    for start in range(0, size, BLOCK):
        block = codes[start : start + BLOCK]
        block[random.random(block.shape, dtype=np.float32) < 0.15] *= -1
    labels = np.eye(classes, dtype=bool)[classes_of]
    return Problem(codes[:queries], codes[queries:], labels[:queries], labels[queries:])


def popcount_pass(queries: Array, database: Array) -> None:
    """The least that any exact method can do: XOR and popcount of every pair of packed codes."""
    columns = np.ascontiguousarray(database.T)
    scratch, bits = np.empty(len(database), np.uint64), np.empty(len(database), np.uint8)
    for query in queries:
        for word, column in zip(query, columns, strict=True):
            np.bitwise_xor(column, word, out=scratch)
            np.bitwise_count(scratch, out=bits)


def usual_loop(asked: Problem, k: int, kind: Literal["stable"] | None = None) -> Callable[[], float]:
    """mAP@k as hashing code usually computes it: dot products, argsort and running precision a query.

    The sort is numpy's default, as in that code: ties in whatever order it leaves them. A stable one takes longer.
    """
    query_labels, database_labels = asked.query_labels.astype(np.float32), asked.database_labels.astype(np.float32)

    def answer() -> float:
        total = 0.0
        for code, label in zip(asked.query_codes, query_labels, strict=True):
            relevant = database_labels @ label > 0
            distance = 0.5 * (asked.database_codes.shape[1] - asked.database_codes @ code)
            hits = relevant[np.argsort(distance, kind=kind)][:k]
            if hits.any():
                places = np.flatnonzero(hits) + 1
                total += float((np.arange(1, len(places) + 1) / places).mean())
        return total / len(asked.query_codes)

    return answer


def faiss_map(asked: Problem, k: int) -> Callable[[], float]:
    """mAP@k of the ranking that faiss gives, ties in its own order."""
    import faiss  # type: ignore[import-untyped]

    database, classes = _bytes(asked.database_codes), asked.database_labels.argmax(1)
    index = faiss.IndexBinaryFlat(8 * database.shape[1])
    index.add(database)

    def answer() -> float:
        _, order = index.search(_bytes(asked.query_codes), k)
        hits = classes[order] == asked.query_labels.argmax(1)[:, None]
        found = hits.cumsum(axis=1)
        return float(((found / np.arange(1, order.shape[1] + 1) * hits).sum(1) / np.maximum(found[:, -1], 1)).mean())

    return answer


def torchmetrics_map(asked: Problem, k: int) -> Callable[[], float]:
    """mAP@k by torchmetrics, query by query: all of them at once need the whole matrix of scores."""
    import torch
    from torchmetrics.functional.retrieval import retrieval_average_precision

    database, offered = torch.from_numpy(asked.database_codes), torch.from_numpy(asked.database_labels)
    queries, wanted = torch.from_numpy(asked.query_codes), torch.from_numpy(asked.query_labels)

    def answer() -> float:
        values = []
        for code, label in zip(queries, wanted, strict=True):
            scores = database @ code + len(code) + 1  # positive: it leaves out items with a score of 0 or less
            values.append(retrieval_average_precision(scores, (offered & label).any(1), top_k=k))
        return float(torch.stack(values).mean())

    return answer


def _bytes(codes: Array) -> Array:
    """Codes as faiss wants them: uint8 (N, K / 8)."""
    return np.ascontiguousarray(pack(codes).view(np.uint8)[:, : codes.shape[1] // 8])
