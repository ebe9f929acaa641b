"""Properties of the tables' statistics: means over seeds, the best of a column, numbers as text."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brcd_core.tables import cells, scores

few = settings(max_examples=40, deadline=None)
SCORES = st.floats(0, 1)
SEEDS = st.dictionaries(st.integers(0, 9), SCORES, max_size=6)


@few
@given(SEEDS, st.none() | SEEDS, st.floats(-2, 2))
def test_a_summary_is_mean_and_sample_deviation_of_what_both_have(
    own: dict[int, float], minus: dict[int, float] | None, shift: float
) -> None:
    common = [seed for seed in own if minus is None or seed in minus]
    values = [own[seed] - (minus[seed] if minus is not None else 0) for seed in common]
    found = scores.summary(own, minus)
    if not values:
        assert found is None
        return
    assert found is not None
    mean, std, n = found
    assert (mean, n) == (pytest.approx(statistics.fmean(values), abs=1e-12), len(values))
    assert np.isnan(std) if n == 1 else std == pytest.approx(statistics.stdev(values), abs=1e-9)
    assert scores.summary(dict(reversed(own.items())), minus) == pytest.approx(found, nan_ok=True)
    moved = scores.summary({seed: value + shift for seed, value in own.items()}, minus)
    assert moved == pytest.approx((mean + shift, std, n), abs=1e-9, nan_ok=True)


@few
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(8, 9), SCORES | st.just(float("nan"))), max_size=12))
def test_groups_are_summarised_one_by_one(lines: list[tuple[str, int, float]]) -> None:
    table = pd.DataFrame(lines, columns=["method", "bits", "value"]).astype({"value": float})
    found = scores.by_key(scores.over_seeds(table, ["method", "bits"]), ["method", "bits"])
    groups: dict[tuple[str, int], list[float]] = {}
    for method, bits, value in lines:
        if not np.isnan(value):
            groups.setdefault((method, bits), []).append(value)
    assert list(found) == list(groups)  # in the order of their first lines
    for key, values in groups.items():
        expected = scores.summary(dict(enumerate(values)))
        assert found[key] == pytest.approx(expected, abs=1e-9, nan_ok=True)


@few
@given(st.lists(st.none() | st.just(float("nan")) | SCORES, max_size=8), st.booleans(), st.integers(0, 4))
def test_the_best_are_those_that_no_rounded_value_beats(
    values: list[float | None], low: bool, decimals: int
) -> None:
    marks = cells.best(values, low, decimals)
    there = [None if value is None or np.isnan(value) else round(value, decimals) for value in values]
    several = sum(value is not None for value in there) > 1
    for value, mark in zip(there, marks, strict=True):
        others = [other for other in there if other is not None and value is not None]
        beaten = any(other < value if low else other > value for other in others)
        assert mark == (several and value is not None and not beaten)
    negative = [None if value is None else -value for value in values]
    assert cells.best(negative, not low, decimals) == marks


@few
@given(st.lists(st.tuples(st.sampled_from([None, ("a",), ("b",)]), st.none() | SCORES), max_size=8))
def test_the_best_of_groups_is_the_best_of_each(lines: list[tuple[tuple[str] | None, float | None]]) -> None:
    groups = [group for group, _ in lines]
    column = [None if mean is None else (mean, 0.1, 2) for _, mean in lines]
    marks = cells.best_of_groups(groups, column)
    for name in (None, ("a",), ("b",)):
        means = [line[0] if line else None for group, line in zip(groups, column) if group == name]
        own = [mark for group, mark in zip(groups, marks) if group == name]
        assert own == (cells.best(means) if name else [False] * len(own))


@few
@given(st.lists(st.integers(0, 5), max_size=9))
def test_the_usual_number_is_the_larger_of_the_most_frequent(counts: list[int]) -> None:
    ranked = sorted(counts, key=lambda n: (counts.count(n), n))
    assert cells.usual(counts) == (ranked[-1] if counts else 0)
    assert cells.usual(reversed(counts)) == cells.usual(counts)


@few
@given(st.floats(-2000, 2000), st.integers(0, 5), st.sampled_from(["", "+"]), st.floats(0, 3), st.integers(1, 6))
def test_a_number_is_read_back_as_what_it_rounds_to(
    value: float, decimals: int, sign: str, std: float, n: int
) -> None:
    text = cells.number(value, decimals, sign)
    assert "-" not in text
    assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(round(value, decimals), abs=1e-9)
    assert text.startswith("−") == (round(value, decimals) < 0)
    assert text.startswith("+") == (sign == "+" and round(value, decimals) >= 0)
    whole = cells.cell(value, std, n, expected=3, decimals=decimals, sign=sign)
    assert whole.startswith(text)
    assert ("±" in whole) == (n > 1) and whole.endswith(f" (n={n})") == (n != 3)
