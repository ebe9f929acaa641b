"""Augmented views of images: the same pixels for the same (seed, image, view), whatever the batch.

`draw` gives the random parameters of a batch of views, `apply` computes their pixels, `augment` does both.
The transforms are torchvision's, computed for a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import interpolate

from brcd_core.config import Frozen
from brcd_core.views.image_operations import (
    blur,
    brightness,
    contrast,
    grayscale,
    hue,
    resample,
    resize_weights,
    saturation,
)

VERSION = 1  # Raise it when a change here changes pixels: every view bank is then built anew.

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
UNIFORMS = 4 * CROP_ATTEMPTS + 13  # random numbers of one view
BLOCK_PIXELS = 16 * 112 * 112  # worked on at once, so that images stay in a CPU's cache

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class Augmentation(Frozen):
    """The paper's augmentation: chances of the transforms, and ranges of their strengths.

    Random resized crop, horizontal flip, colour jitter (brightness, contrast, saturation and hue in a random
    order), grayscale, 3x3 Gaussian blur.
    """

    crop_scale: tuple[float, float] = (0.5, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.7
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    @model_validator(mode="after")
    def _in_range(self) -> Augmentation:
        for name in ("flip", "jitter", "grayscale", "blur", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be from 0 to 0.5 (half of the colour circle), not {self.hue}")
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two rising positive numbers, not {low}, {high}")
        return self


@dataclass(frozen=True)
class Parameters:
    """What was drawn for B views; one entry a view. Crop boxes are in pixels of the source image."""

    top: Integers
    left: Integers
    height: Integers
    width: Integers
    flip: Booleans
    jitter: Booleans
    order: Integers  # (B, 4): which of brightness, contrast, saturation, hue (0..3) comes first, second, ...
    factors: Floats  # (B, 4): strengths of these four, not in order of use but as named
    grayscale: Booleans
    blur: Booleans
    sigma: Floats


def augment(
    images: Tensor, image_ids: ArrayLike, view: ArrayLike, size: int, seed: int, augmentation: Augmentation
) -> Tensor:
    """One augmented view of each image: uint8 (B, 3, H, W) -> float32 (B, 3, size, size) in [0, 1].

    `image_ids` (B,) are the images' numbers in the data set; `view` is one number for all, or (B,).
    """
    height, width = images.shape[-2:]
    return apply(images, draw(image_ids, view, seed, height, width, augmentation), size)


def clean(images: Tensor, size: int, central: float = 1.0) -> Tensor:
    """Images as they are, resized: uint8 (B, 3, H, W) -> float32 (B, 3, size, size) in [0, 1].

    `central`: of each side only this share in the middle is kept; 0.875 is the 224 of 256 pixels that are
    usual for photographs. ValueError where it is not above 0 and at most 1.
    """
    if not 0 < central <= 1:
        raise ValueError(f"central must be above 0 and at most 1, not {central}")
    height, width = (max(1, round(side * central)) for side in images.shape[-2:])
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    images = images[..., top : top + height, left : left + width]
    pixels = interpolate(_unit(images), size=(size, size), mode="bilinear", antialias=True)
    return pixels.clamp_(0, 1)


def draw(
    image_ids: ArrayLike, view: ArrayLike, seed: int, height: int, width: int, augmentation: Augmentation
) -> Parameters:
    """The random parameters of one view of each image; images are height x width pixels.

    Each (seed, image, view) has a generator of its own: Philox with key (seed, image), its counter set to
    the view. ValueError if an id, a view or the seed is negative.
    """
    ids = np.atleast_1d(np.asarray(image_ids, dtype=np.int64))
    views = np.broadcast_to(np.asarray(view, dtype=np.int64), ids.shape)
    if seed < 0 or (ids < 0).any() or (views < 0).any():
        raise ValueError("seed, image ids and views must not be negative")
    uniform = np.empty((len(ids), UNIFORMS))
    for row, one, number in zip(uniform, ids.tolist(), views.tolist(), strict=True):
        # Raw 64-bit words: numpy promises their stream for good, unlike that of its distributions.
        row[:] = np.random.Philox(key=(seed << 64) + one, counter=number << 64).random_raw(UNIFORMS) >> 11
    uniform *= 2.0**-53  # the words' upper 53 bits, now in [0, 1)

    boxes = _crop_boxes(uniform[:, 13:].reshape(-1, 4, CROP_ATTEMPTS), height, width, augmentation)
    strengths = [augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue]
    low, high = augmentation.blur_sigma
    return Parameters(
        *boxes,
        flip=uniform[:, 0] < augmentation.flip,
        jitter=uniform[:, 1] < augmentation.jitter,
        grayscale=uniform[:, 2] < augmentation.grayscale,
        blur=uniform[:, 3] < augmentation.blur,
        sigma=low + uniform[:, 4] * (high - low),
        order=np.argsort(uniform[:, 5:9], axis=1, kind="stable"),
        factors=np.array([1.0, 1.0, 1.0, 0.0]) + (2 * uniform[:, 9:13] - 1) * strengths,
    )


def _crop_boxes(
    uniform: Floats, height: int, width: int, augmentation: Augmentation
) -> tuple[Integers, Integers, Integers, Integers]:
    """Top, left, height and width of the crops, by torchvision's algorithm: the first of ten random boxes
    that fits into the image, else the largest central one of an allowed ratio. `uniform` is (B, 4, 10)."""
    (low, high), (narrow, wide) = augmentation.crop_scale, augmentation.crop_ratio
    area = height * width * (low + uniform[:, 0] * (high - low))
    ratio = np.exp(np.log(narrow) + uniform[:, 1] * (np.log(wide) - np.log(narrow)))
    w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    rows, first = np.arange(len(uniform)), fits.argmax(axis=1)
    h, w, found = h[rows, first], w[rows, first], fits[rows, first]
    top = np.floor(uniform[rows, 2, first] * (height - h + 1))
    left = np.floor(uniform[rows, 3, first] * (width - w + 1))

    central_w, central_h = min(width, round(height * wide)), min(height, round(width / narrow))
    h, w = np.where(found, h, central_h), np.where(found, w, central_w)
    top, left = np.where(found, top, (height - h) // 2), np.where(found, left, (width - w) // 2)
    return top.astype(np.int64), left.astype(np.int64), h.astype(np.int64), w.astype(np.int64)


def apply(images: Tensor, parameters: Parameters, size: int) -> Tensor:
    """The pixels of the views: uint8 (B, 3, H, W) -> float32 (B, 3, size, size) in [0, 1], on one device.

    Equal to torchvision's transforms on float images: nothing is rounded to 8 bits on the way.
    ValueError for other types or shapes.
    """
    count, device = len(images), images.device
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 (B, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    if len(parameters.top) != count or size < 2:
        raise ValueError(f"{count} images, {len(parameters.top)} parameters, size {size}: they do not fit")
    pixels = torch.empty(count, 3, size, size, device=device)
    block = max(1, BLOCK_PIXELS // size**2 if device.type == "cpu" else count)

    upright = np.zeros_like(parameters.flip)
    rows = resize_weights(parameters.top, parameters.height, upright, images.shape[2], size)
    columns = resize_weights(parameters.left, parameters.width, parameters.flip, images.shape[3], size)
    for start in range(0, count, block):
        part = slice(start, start + block)
        pixels[part] = resample(_unit(images[part]), rows[part].to(device), columns[part].to(device))

    def change(which: Booleans, operation: Callable[[Tensor, Tensor], Tensor], strength: Floats) -> None:
        chosen = np.flatnonzero(which)
        strengths = torch.from_numpy(strength[chosen]).float().view(-1, 1, 1, 1).to(device)
        places = torch.from_numpy(chosen).to(device)
        for start in range(0, len(chosen), block):
            part = places[start : start + block]
            pixels[part] = operation(pixels[part], strengths[start : start + block])

    for place in range(4):
        for number, operation in enumerate((brightness, contrast, saturation, hue)):
            which = parameters.jitter & (parameters.order[:, place] == number)
            change(which, operation, parameters.factors[:, number])
    change(parameters.grayscale, grayscale, parameters.sigma)
    change(parameters.blur, blur, parameters.sigma)
    return pixels


def _unit(images: Tensor) -> Tensor:
    return images.float().div_(255)
