"""How numbers become the text of a table's cells, and which of them are marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from brcd_core.tables.scores import Summary


def usual(counts: Iterable[int]) -> int:
    """The most frequent number of seeds, the larger one of two that are as frequent; 0 for none."""
    ranked = Counter(int(count) for count in counts)
    return max(ranked, key=lambda n: (ranked[n], n), default=0)


def cell(mean: float, std: float, n: int, expected: int, decimals: int = 3, sign: str = "") -> str:
    """A mean and its spread for a reader: 0.812 ± 0.004; with (n=2) where another number is expected.

    `sign`: "+" for a difference, so that a gain shows as one.
    """
    text = number(mean, decimals, sign)
    if n > 1 and np.isfinite(std):
        text += f" ± {std:,.{decimals}f}"
    return text if n == expected else f"{text} (n={n})"


def number(value: float, decimals: int = 3, sign: str = "") -> str:
    """A number with a true minus; what rounds to zero has no minus."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{sign},.{decimals}f}".replace("-", "−")


def spread(counts: Iterable[int]) -> str:
    """What the cells of a table mean, where `counts` are its numbers of seeds; `cell` writes those unlike the usual."""
    counts = list(counts)
    expected = usual(counts)
    if max(counts, default=0) < 2:
        return "one seed, so no spread"
    if expected < 2:
        return "mean ± sample standard deviation over n seeds where n is given, elsewhere a single run"
    others = " (another number: n)" if set(counts) != {expected} else ""
    return f"mean ± sample standard deviation over {expected} seeds{others}"


def best(values: Sequence[float | None], low: bool = False, decimals: int = 3) -> list[bool]:
    """Which of the values are the best, as a reader sees them: rounded. None of them if there is only one."""
    shown = [None if value is None or np.isnan(value) else round(value, decimals) for value in values]
    there = [value for value in shown if value is not None]
    if len(there) < 2:
        return [False] * len(shown)
    top = min(there) if low else max(there)
    return [value == top for value in shown]


def best_of_groups(
    groups: Sequence[tuple[str, ...] | None], column: Sequence[Summary | None], low: bool = False
) -> list[bool]:
    """The best mean within each group of lines; a line without a group takes no part."""
    marks = [False] * len(groups)
    for group in dict.fromkeys(group for group in groups if group is not None):
        places = [place for place, other in enumerate(groups) if other == group]
        means = [summary[0] if (summary := column[place]) else None for place in places]
        for place, mark in zip(places, best(means, low), strict=True):
            marks[place] = mark
    return marks
