"""Agreement of codes with features against numpy's correlation over an explicit list of pairs."""

import numpy as np
import pytest
import torch

from brcd_core.agreement import agreement


def draw(queries, items, bits, dim, seed):
    rng = np.random.default_rng(seed)
    codes = [rng.choice([-1, 1], (count, bits)) for count in (queries, items)]
    features = [torch.as_tensor(rng.normal(size=(count, dim))).float() for count in (queries, items)]
    return codes, features


@pytest.mark.parametrize(("queries", "items"), [(1, 7), (5, 9), (300, 4)])
def test_it_is_the_correlation_over_all_pairs(queries, items):
    codes, features = draw(queries, items, 16, 5, queries)
    x, y = [], []
    for q in range(queries):
        for n in range(items):
            x.append(codes[0][q] @ codes[1][n] / 16)
            a, b = features[0][q].numpy(), features[1][n].numpy()
            y.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert agreement(*codes, *features) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_features_that_are_the_codes_agree_wholly_and_opposite_ones_not_at_all():
    codes, _ = draw(6, 8, 24, 1, 0)
    own = [torch.as_tensor(part).float() for part in codes]
    assert agreement(*codes, *own) == pytest.approx(1.0)
    assert agreement(*codes, own[0], -own[1]) == pytest.approx(-1.0)


def test_codes_that_are_all_the_same_agree_with_nothing():
    _, features = draw(4, 5, 8, 3, 1)
    assert agreement(np.ones((4, 8)), np.ones((5, 8)), *features) == 0.0


def test_codes_and_features_of_other_images_are_refused():
    codes, features = draw(4, 5, 8, 3, 2)
    with pytest.raises(ValueError, match="4 codes and 3 features"):
        agreement(*codes, features[0][:3], features[1])
