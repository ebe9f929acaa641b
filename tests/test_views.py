"""Augmented views against torchvision image by image, and the promises about their random parameters."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from brcd_core.views import augmentation as views
from brcd_core.views import image_operations as operations
from brcd_core.views.augmentation import Augmentation, Parameters, apply, augment, clean, draw

PAPER = Augmentation()
TOLERANCE = 1e-4


def some_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth, noisy, gray, black, white and saturated images by turns."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    images[1::6] = torch.arange(width).mul(255 // width).to(torch.uint8)
    images[2::6] = images[2::6, :1]
    images[3::6] = 0
    images[4::6] = 255
    images[5::6] = (images[5::6] > 127) * torch.tensor(255, dtype=torch.uint8)
    return images


def one_by_one(images: torch.Tensor, parameters: Parameters, size: int) -> torch.Tensor:
    """The oracle: torchvision's functions on one float image after the other."""
    jitters = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    out = []
    for i, image in enumerate(images):
        p = SimpleNamespace(**{f.name: getattr(parameters, f.name)[i] for f in fields(parameters)})
        box = [int(p.top), int(p.left), int(p.height), int(p.width)]
        view = F.resized_crop(
            F.to_dtype(image, torch.float32, scale=True), *box, [size, size], antialias=True
        )
        if p.flip:
            view = F.horizontal_flip(view)
        if p.jitter:
            for number in p.order:
                view = jitters[number](view, float(p.factors[number]))
        if p.grayscale:
            view = F.rgb_to_grayscale(view, num_output_channels=3)
        if p.blur:
            view = F.gaussian_blur(view, [3, 3], [float(p.sigma)])
        out.append(view)
    return torch.stack(out)


def only(parameters: Parameters, *keep: str) -> Parameters:
    """These parameters with every operation off but the crop and those named."""
    off = np.zeros_like(parameters.flip)
    names = {"flip", "jitter", "grayscale", "blur"} - set(keep)
    return replace(parameters, **dict.fromkeys(names, off), **dict.fromkeys(keep, ~off))


@pytest.mark.parametrize("keep", [(), ("flip",), ("jitter",), ("grayscale",), ("blur",), ("flip", "blur")])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 48), (40, 64, 24), (32, 32, 32)])
def test_each_operation_is_torchvisions(keep: tuple[str, ...], height: int, width: int, size: int) -> None:
    images = some_images(24, height, width)
    parameters = only(draw(np.arange(24), 0, 1, height, width, PAPER), *keep)
    torch.testing.assert_close(
        apply(images, parameters, size), one_by_one(images, parameters, size), atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_each_jitter_is_torchvisions_over_its_whole_range(name: str, strength: float) -> None:
    pixels = some_images(12, 16, 16).float() / 255
    values = strength * np.linspace(-1, 1, 12) * (0.5 if name == "hue" else 1) + (name != "hue")
    expected = [getattr(F, f"adjust_{name}")(p, float(v)) for p, v in zip(pixels, values)]
    found = getattr(operations, name)(pixels.clone(), torch.from_numpy(values).float().view(-1, 1, 1, 1))
    torch.testing.assert_close(found, torch.stack(expected), atol=TOLERANCE, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.uint8, (2, 3, 4, 5)),
    st.floats(-0.5, 0.5),
)
def test_hue_of_any_pixels(images: np.ndarray, turn: float) -> None:
    pixels = torch.from_numpy(images).float() / 255
    found = operations.hue(pixels.clone(), torch.full((2, 1, 1, 1), turn))
    torch.testing.assert_close(found, F.adjust_hue(pixels, turn), atol=TOLERANCE, rtol=0)
    assert found.min() >= 0
    assert found.max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(2, 40),
    st.integers(0, 2**63),
    st.integers(0, 2**40),
)
def test_whole_pipeline_is_torchvisions(
    count: int, height: int, width: int, size: int, seed: int, view: int
) -> None:
    images, ids = some_images(count, height, width), np.arange(count) + 7
    parameters = draw(ids, view, seed, height, width, PAPER)
    found = augment(images, ids, view, size, seed, PAPER)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, one_by_one(images, parameters, size), atol=TOLERANCE, rtol=0)


def test_blocks_do_not_change_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    images, ids = some_images(20), np.arange(20)
    monkeypatch.setattr(views, "BLOCK_PIXELS", 3 * 24**2)
    in_threes = augment(images, ids, 0, 24, 0, PAPER)
    parameters = draw(ids, 0, 0, 32, 32, PAPER)
    torch.testing.assert_close(in_threes, one_by_one(images, parameters, 24), atol=TOLERANCE, rtol=0)


def test_images_are_left_alone() -> None:
    images = some_images(12)
    before = images.clone()
    augment(images, np.arange(12), 0, 32, 0, PAPER)
    assert images.equal(before)


@pytest.mark.parametrize("size", [16, 32, 50])
def test_clean_is_torchvisions_resize(size: int) -> None:
    images = some_images(6, 32, 40)
    expected = F.resize(images.float() / 255, [size, size], antialias=True)
    torch.testing.assert_close(clean(images, size), expected, atol=1e-6, rtol=0)


def test_a_view_is_the_same_in_any_batch() -> None:
    images, ids = some_images(30), np.arange(100, 130)
    whole = augment(images, ids, 3, 32, 5, PAPER)
    order = np.random.default_rng(0).permutation(30)
    shuffled = augment(images[order], ids[order], 3, 32, 5, PAPER)
    alone = torch.cat([augment(images[i : i + 1], ids[i : i + 1], 3, 32, 5, PAPER) for i in range(30)])
    mixed = augment(images[[6, 6]], ids[[6, 6]], np.array([2, 3]), 32, 5, PAPER)
    # Sums may be taken in another order in another batch: equal to the last bits of float32.
    torch.testing.assert_close(shuffled, whole[order], atol=2e-6, rtol=0)
    torch.testing.assert_close(alone, whole, atol=2e-6, rtol=0)
    torch.testing.assert_close(mixed[1], whole[6], atol=2e-6, rtol=0)
    assert (mixed[0] - mixed[1]).abs().max() > 0.01


def test_another_seed_view_or_image_has_other_parameters() -> None:
    def sigma(image: int, view: int, seed: int) -> float:
        return float(draw([image], view, seed, 32, 32, PAPER).sigma[0])

    # Small numbers side by side, swapped, and far apart: no two of the keys may meet.
    numbers = [0, 1, 2, 3, 2**31, 2**32, 2**40]
    drawn = {sigma(i, v, s) for i in numbers for v in numbers for s in numbers}
    assert len(drawn) == len(numbers) ** 3
    assert sigma(1, 2, 3) == sigma(1, 2, 3)


def as_columns(parameters: Parameters) -> np.ndarray:
    """All parameters side by side, (B, 17)."""
    return np.column_stack([np.asarray(getattr(parameters, f.name), float) for f in fields(parameters)])


def test_views_seeds_and_images_are_uncorrelated() -> None:
    count = 3000
    ids = np.arange(count)
    base = as_columns(draw(ids, 0, 0, 64, 64, PAPER))
    others = [
        draw(ids, 1, 0, 64, 64, PAPER),
        draw(ids, 0, 1, 64, 64, PAPER),
        draw(ids + 1, 0, 0, 64, 64, PAPER),
    ]
    for other in map(as_columns, others):
        correlation = np.corrcoef(base.T, other.T)[: base.shape[1], base.shape[1] :]
        assert np.abs(correlation).max() < 5 / math.sqrt(count)


def test_parameters_have_the_chances_and_ranges_asked_for() -> None:
    count = 4000
    drawn = draw(np.arange(count), 0, 0, 64, 64, PAPER)
    for name in ("flip", "jitter", "grayscale", "blur"):
        chance = getattr(PAPER, name)
        assert stats.binomtest(int(getattr(drawn, name).sum()), count, chance).pvalue > 1e-4, name
    low, high = PAPER.blur_sigma
    assert stats.kstest(drawn.sigma, stats.uniform(low, high - low).cdf).pvalue > 1e-4
    for number, (middle, reach) in enumerate([(1, 0.4), (1, 0.4), (1, 0.4), (0, 0.1)]):
        expected = stats.uniform(middle - reach, 2 * reach).cdf
        assert stats.kstest(drawn.factors[:, number], expected).pvalue > 1e-4
    orders = [drawn.order.tolist().count(list(order)) for order in permutations(range(4))]
    assert sum(orders) == count
    assert stats.chisquare(orders).pvalue > 1e-4
    # Nor do the parameters of one view hang together; only a box's numbers do, and the ranks in the order.
    single = [drawn.flip, drawn.jitter, *drawn.factors.T, drawn.grayscale, drawn.blur, drawn.sigma]
    ranks, box = drawn.order.argsort(axis=1).T, [drawn.top, drawn.left, drawn.height, drawn.width]
    kinds = np.array([*range(len(single)), *[100] * 4, *[200] * 4])
    correlation = np.corrcoef(np.vstack([*single, *ranks, *box]))
    assert np.abs(correlation[kinds[:, None] != kinds]).max() < 5 / math.sqrt(count)


def test_crop_boxes_are_distributed_as_torchvisions() -> None:
    count, height, width = 3000, 48, 32
    drawn = draw(np.arange(count), 0, 0, height, width, PAPER)
    transform = v2.RandomResizedCrop(8, scale=PAPER.crop_scale, ratio=PAPER.crop_ratio)
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = [transform.make_params([image]) for _ in range(count)]
    for name in ("top", "left", "height", "width"):
        ours = getattr(drawn, name)
        assert stats.ks_2samp(ours, [box[name] for box in theirs]).pvalue > 1e-4, name
    assert (drawn.top >= 0).all()
    assert (drawn.top + drawn.height <= height).all()
    assert (drawn.left >= 0).all()
    assert (drawn.left + drawn.width <= width).all()


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10), (11, 100), (97, 13)])
def test_a_crop_that_never_fits_is_the_central_one(height: int, width: int) -> None:
    whole = Augmentation(crop_scale=(1.0, 1.0))
    drawn = draw([0], 0, 0, height, width, whole)
    transform = v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=whole.crop_ratio)
    expected = transform.make_params([torch.zeros(3, height, width)])
    assert {name: int(getattr(drawn, name)[0]) for name in expected} == expected


def test_crop_takes_the_first_attempt_that_fits() -> None:
    rng = np.random.default_rng(0)
    uniform = rng.random((200, 4, views.CROP_ATTEMPTS))
    height, width, central = 26, 45, 0
    for row, box in zip(uniform, zip(*views._crop_boxes(uniform, height, width, PAPER))):
        for area, ratio, down, right in row.T:  # torchvision's loop, its random numbers given
            target = height * width * (0.5 + area * 0.5)
            aspect = math.exp(math.log(3 / 4) + ratio * (math.log(4 / 3) - math.log(3 / 4)))
            w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
            if 0 < w <= width and 0 < h <= height:
                expected = (int(down * (height - h + 1)), int(right * (width - w + 1)), h, w)
                break
        else:
            w = round(height * 4 / 3)
            expected = (0, (width - w) // 2, height, w)
            central += 1
        assert tuple(map(int, box)) == expected
    assert 0 < central < 100  # both ways are tried


def test_wrong_input_is_refused() -> None:
    images, ids = some_images(2), np.arange(2)
    with pytest.raises(ValueError, match="must be uint8"):
        augment(images.float(), ids, 0, 16, 0, PAPER)
    with pytest.raises(ValueError, match="must be uint8"):
        augment(images[:, :1], ids, 0, 16, 0, PAPER)
    with pytest.raises(ValueError, match="do not fit"):
        augment(images, np.arange(3), 0, 16, 0, PAPER)
    for bad in ({"image_ids": [-1]}, {"view": -1}, {"seed": -1}):
        arguments = {"image_ids": [0], "view": 0, "seed": 0} | bad
        with pytest.raises(ValueError, match="must not be negative"):
            draw(**arguments, height=8, width=8, augmentation=PAPER)  # type: ignore[arg-type]
    for wrong in (
        {"flip": 1.5},
        {"hue": 0.6},
        {"crop_scale": (1.0, 0.5)},
        {"blur_sigma": (0.0, 1.0)},
        {"flop": 1},
    ):
        with pytest.raises(ValidationError):
            Augmentation(**wrong)
