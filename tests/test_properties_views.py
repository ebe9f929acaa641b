"""Properties of image operations, of clean and augmented views and of their sources, against loops over pixels."""

from __future__ import annotations

import colorsys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from brcd_core.views import image_operations as operations
from brcd_core.views.augmentation import Augmentation, augment, clean
from brcd_core.views.bank import TURNS, turned
from brcd_core.views.sources import SAME, BankViews

few = settings(max_examples=15, deadline=None)
SIDES, SEEDS = st.integers(2, 6), st.integers(0, 2**32 - 1)
PIXELS = arrays.arrays(np.uint8, st.tuples(st.just(2), st.just(3), SIDES, SIDES))


def unit(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).float() / 255


def strengths(first: float, second: float) -> torch.Tensor:
    return torch.tensor([first, second]).view(-1, 1, 1, 1)


def gray(red: float, green: float, blue: float) -> float:
    return 0.2989 * red + 0.587 * green + 0.114 * blue


# ---- one operation at a time ------------------------------------------------------------------------------


@few
@given(PIXELS, st.floats(0, 2), st.floats(0, 2))
def test_colours_change_pixel_by_pixel(images: np.ndarray, first: float, second: float) -> None:
    pixels, factors = unit(images), strengths(first, second)
    names = ("brightness", "contrast", "saturation", "grayscale")
    found = {name: getattr(operations, name)(pixels.clone(), factors).numpy() for name in names}
    for image in range(2):
        factor, columns = float(factors[image]), pixels[image].flatten(1).T.tolist()
        mean = sum(gray(*rgb) for rgb in columns) / len(columns)
        for place, rgb in enumerate(columns):
            level = gray(*rgb)
            expected = {
                "brightness": [x * factor for x in rgb],
                "contrast": [mean + factor * (x - mean) for x in rgb],
                "saturation": [level + factor * (x - level) for x in rgb],
                "grayscale": [level] * 3,
            }
            for name, values in expected.items():
                own = found[name][image].reshape(3, -1)[:, place]
                assert own == pytest.approx([min(max(x, 0), 1) for x in values], abs=2e-5), name


@few
@given(PIXELS, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_hue_turns_the_colour_circle(images: np.ndarray, first: float, second: float) -> None:
    pixels, turns = unit(images), strengths(first, second)
    found = operations.hue(pixels.clone(), turns)
    for image in range(2):
        for place, rgb in enumerate(pixels[image].flatten(1).T.tolist()):
            angle, saturation, value = colorsys.rgb_to_hsv(*rgb)
            expected = colorsys.hsv_to_rgb((angle + float(turns[image])) % 1, saturation, value)
            assert found[image].flatten(1)[:, place].tolist() == pytest.approx(expected, abs=1e-4)
    back = operations.hue(found.clone(), -turns)
    torch.testing.assert_close(back, pixels, atol=2e-4, rtol=0)


@few
@given(PIXELS, st.floats(0.1, 2), st.floats(0.1, 2))
def test_blur_is_a_weighted_mean_of_nine_pixels(images: np.ndarray, first: float, second: float) -> None:
    pixels, sigmas = unit(images), strengths(first, second)
    found = operations.blur(pixels.clone(), sigmas)
    height, width = images.shape[2:]
    for image in range(2):
        weights = [np.exp(-0.5 * step**2 / float(sigmas[image]) ** 2) for step in (-1, 0, 1)]
        weights = np.array(weights) / sum(weights)
        padded = np.pad(pixels[image].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
        for y in range(height):
            for x in range(width):
                window = padded[:, y : y + 3, x : x + 3]
                expected = (window * weights[:, None] * weights).sum(axis=(1, 2))
                assert found[image, :, y, x].numpy() == pytest.approx(expected, abs=1e-5)


@few
@given(st.integers(2, 9), st.integers(1, 12), SEEDS)
def test_resize_weights_are_means_of_the_crop(size: int, source: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    length = random.integers(1, source + 1, 4)
    start = random.integers(0, source - length + 1)
    mirror = random.random(4) < 0.5
    weights = operations.resize_weights(start, length, mirror, source, size)
    assert weights.shape == (4, size, source) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(4, size))
    inside = (np.arange(source) >= start[:, None]) & (np.arange(source) < (start + length)[:, None])
    assert not weights[torch.from_numpy(~inside)[:, None].expand_as(weights)].any()
    other_way = operations.resize_weights(start, length, ~mirror, source, size)
    torch.testing.assert_close(weights.flip(1), other_way, atol=1e-5, rtol=0)
    whole = operations.resize_weights(np.zeros(1, int), np.array([size]), np.zeros(1, bool), size, size)
    torch.testing.assert_close(whole[0], torch.eye(size), atol=1e-5, rtol=0)


@few
@given(PIXELS, SEEDS)
def test_resample_is_two_products_of_matrices(images: np.ndarray, seed: int) -> None:
    pixels, (height, width) = unit(images), images.shape[2:]
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.rand(2, 4, side, generator=generator) / side for side in (height, width))
    found = operations.resample(pixels, rows, columns)
    for image in range(2):
        for channel in range(3):
            expected = rows[image] @ pixels[image, channel] @ columns[image].T
            torch.testing.assert_close(found[image, channel], expected.clamp(0, 1), atol=1e-6, rtol=1e-5)


# ---- views ------------------------------------------------------------------------------------------------


@few
@given(PIXELS, st.integers(2, 8), st.floats(0.2, 1))
def test_a_clean_view_keeps_the_middle(images: np.ndarray, size: int, central: float) -> None:
    given_images, (height, width) = torch.from_numpy(images), images.shape[2:]
    kept = [max(1, round(side * central)) for side in (height, width)]
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    middle = given_images[:, :, top : top + kept[0], left : left + kept[1]]
    torch.testing.assert_close(clean(given_images, size, central), clean(middle, size))
    assert torch.equal(clean(given_images, size, 1.0), clean(given_images, size))
    flat = torch.full_like(given_images, 51)
    torch.testing.assert_close(clean(flat, size, central), torch.full((2, 3, size, size), 0.2))
    if height == width:
        torch.testing.assert_close(clean(given_images, height), unit(images), atol=1e-6, rtol=0)


@few
@given(PIXELS, st.integers(2, 8), SEEDS, st.integers(0, 9))
def test_views_stay_in_range_and_nothing_is_changed_where_nothing_is_asked(
    images: np.ndarray, size: int, seed: int, view: int
) -> None:
    given_images, ids = torch.from_numpy(images), np.arange(2)
    found = augment(given_images, ids, view, size, seed, Augmentation())
    assert found.shape == (2, 3, size, size) and found.min() >= 0 and found.max() <= 1
    side = min(images.shape[2:])
    square, never = given_images[:, :, :side, :side], dict.fromkeys(("flip", "jitter", "grayscale", "blur"), 0.0)
    nothing = Augmentation(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), **never)
    torch.testing.assert_close(augment(square, ids, view, size, seed, nothing), clean(square, size), atol=1e-5, rtol=0)
    mirrored = nothing.model_copy(update={"flip": 1.0})
    expected = clean(square, size).flip(3)
    torch.testing.assert_close(augment(square, ids, view, size, seed, mirrored), expected, atol=1e-5, rtol=0)


@few
@given(PIXELS, st.integers(-4, 8))
def test_turns_are_counter_clockwise(images: np.ndarray, turn: int) -> None:
    side = min(images.shape[2:])
    square = unit(images)[:, :, :side, :side]
    once = turned(square, 1)
    for y in range(side):
        for x in range(side):
            assert torch.equal(once[:, :, side - 1 - x, y], square[:, :, y, x])
    assert torch.equal(turned(turned(square, turn), 1), turned(square, turn + 1))
    assert torch.equal(turned(square, 4), square)


# ---- sources ----------------------------------------------------------------------------------------------


def bank(features: torch.Tensor, views: int) -> SimpleNamespace:
    """As much of a bank as a source reads."""
    said = SimpleNamespace(**dict.fromkeys(SAME) | {"views": views})
    return SimpleNamespace(settings=said, tensor=lambda device: features.to(device))


@few
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), SEEDS)
def test_bank_views_are_the_rows_that_are_asked_for(views: int, images: int, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = [torch.rand(views, images, dim + more, generator=generator).half() for more in (0, 1)]
    rotated = torch.rand(len(TURNS), images, dim, generator=generator).half()
    source = BankViews([bank(one, views) for one in features], rotations=[bank(rotated, len(TURNS))])
    which = torch.randint(images, (5,), generator=generator)
    view = torch.randint(views, (5,), generator=generator)
    for found, stored in zip(source.batch(which, view), features, strict=True):
        assert found.dtype == torch.float32
        assert found.tolist() == [stored[v, i].tolist() for i, v in zip(which.tolist(), view.tolist())]
    (turns,) = source.rotated(which)
    assert turns.tolist() == [rotated[turn, i].tolist() for turn in range(len(TURNS)) for i in which.tolist()]
    assert source.count == views
    one = [bank(features[0], views)]
    assert [BankViews(one, used=n).count for n in range(1, views + 1)] == list(range(1, views + 1))
    assert BankViews(one, once=True).count is None
    for wrong in (0, views + 1):
        with pytest.raises(ValueError, match=f"^{wrong} views of each image are to be used, the banks have {views}$"):
            BankViews(one, used=wrong)


# ---- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("central", [0.0, -1.0, 1.01, float("nan")])
def test_a_share_of_the_side_is_above_0_and_at_most_1(central: float) -> None:
    with pytest.raises(ValueError, match=f"^central must be above 0 and at most 1, not {central}$"):
        clean(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 4, central)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (torch.zeros(2, 3, 4, 4), 4, "images must be uint8"),
        (torch.zeros(2, 4, 4, 4, dtype=torch.uint8), 4, "images must be uint8"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int16), 4, "images must be uint8"),
        (torch.zeros(3, 3, 4, 4, dtype=torch.uint8), 4, "3 images, 2 parameters, size 4: they do not fit"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), 1, "2 images, 2 parameters, size 1: they do not fit"),
    ],
)
def test_images_that_cannot_be_viewed_are_refused(images: torch.Tensor, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        augment(images, np.arange(2), 0, size, 0, Augmentation())


def test_banks_without_views_are_no_source() -> None:
    for banks in ([], [bank(torch.zeros(1, 2, 3), 0)]):
        with pytest.raises(ValueError, match=r"^training needs banks of augmented views; clean ones have views = 0$"):
            BankViews(banks)
