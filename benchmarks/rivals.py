"""What `brcd_core.retrieval` is measured against: a problem of random codes, and other ways to its mAP."""

from __future__ import annotations

from typing import Any, NamedTuple

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


def usual_loop(asked: Problem, k: int) -> float:
    """mAP@k as hashing code usually computes it: dot products, argsort and running precision a query."""
    total = 0.0
    query_labels, database_labels = asked.query_labels.astype(np.float32), asked.database_labels.astype(np.float32)
    for code, label in zip(asked.query_codes, query_labels, strict=True):
        relevant = database_labels @ label > 0
        distance = 0.5 * (asked.database_codes.shape[1] - asked.database_codes @ code)
        hits = relevant[np.argsort(distance, kind="stable")][:k]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            total += float((np.arange(1, len(places) + 1) / places).mean())
    return total / len(asked.query_codes)


def faiss_map(asked: Problem, k: int) -> float:
    """mAP@k of the ranking that faiss gives, ties in its own order."""
    import faiss  # type: ignore[import-untyped]

    query, database = (_bytes(codes) for codes in (asked.query_codes, asked.database_codes))
    index = faiss.IndexBinaryFlat(8 * database.shape[1])
    index.add(database)
    _, order = index.search(query, k)
    hits = asked.database_labels.argmax(1)[order] == asked.query_labels.argmax(1)[:, None]
    found = hits.cumsum(axis=1)
    return float(((found / np.arange(1, order.shape[1] + 1) * hits).sum(1) / np.maximum(found[:, -1], 1)).mean())


def torchmetrics_map(asked: Problem, k: int) -> float:
    """mAP@k by torchmetrics, query by query: all of them at once need the whole matrix of scores."""
    import torch
    from torchmetrics.functional.retrieval import retrieval_average_precision

    database, offered = torch.from_numpy(asked.database_codes), torch.from_numpy(asked.database_labels)
    values = []
    for code, label in zip(torch.from_numpy(asked.query_codes), torch.from_numpy(asked.query_labels), strict=True):
        scores = database @ code + len(code) + 1  # positive: it leaves out items with a score of 0 or less
        values.append(retrieval_average_precision(scores, (offered & label).any(1), top_k=k))
    return float(torch.stack(values).mean())


def _bytes(codes: Array) -> Array:
    """Codes as faiss wants them: uint8 (N, K / 8)."""
    return np.ascontiguousarray(pack(codes).view(np.uint8)[:, : codes.shape[1] // 8])
