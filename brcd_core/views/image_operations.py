"""Image operations on a batch, each image with a strength of its own: what torchvision does image by image.

Pixels are float32 (B, 3, H, W) in [0, 1], strengths (B, 1, 1, 1); the result is again in [0, 1]. An operation
may overwrite the pixels that it is given. The definitions are those of torchvision.transforms.v2.functional.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def resize_weights(
    start: NDArray[np.int64], length: NDArray[np.int64], mirror: NDArray[np.bool_], source: int, size: int
) -> Tensor:
    """Matrices (B, size, source), along one side of the image: they crop `length` pixels from `start`,
    resize these to `size` with antialiased bilinear weights, and turn them round where `mirror`."""
    scale = (length / size)[:, None]
    centre = (np.arange(size) + 0.5) * scale  # in source pixels, from the first one of the crop
    centre = np.where(mirror[:, None], length[:, None] - centre, centre)
    pixel = torch.arange(source) - torch.from_numpy(start).view(-1, 1, 1)
    reach = torch.from_numpy(np.maximum(scale, 1)).float().unsqueeze(2)
    weights = 1 - (pixel + 0.5 - torch.from_numpy(centre).float().unsqueeze(2)).abs() / reach
    weights = weights.clamp_(min=0) * ((pixel >= 0) & (pixel < torch.from_numpy(length).view(-1, 1, 1)))
    return weights / weights.sum(dim=2, keepdim=True)


def resample(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Crop and resize by two matrices an image: rows (B, S, H), columns (B, S, W) -> (B, 3, S, S)."""
    # Two products of matrices: for small images several times faster than one resize after another.
    wide = torch.bmm(pixels.flatten(1, 2), columns.transpose(1, 2)).unflatten(1, pixels.shape[1:3])
    return torch.matmul(rows.unsqueeze(1), wide).clamp_(0, 1)


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Pixels times factor."""
    return pixels.mul_(factor).clamp_(0, 1)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """The mean of the gray image plus factor times the difference from it."""
    mean = _gray(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return pixels.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """The gray image plus factor times the difference from it."""
    return torch.lerp(_gray(pixels), pixels, factor).clamp_(0, 1)


def grayscale(pixels: Tensor, _: Tensor) -> Tensor:
    """The gray image in all three channels; it has no strength."""
    return _gray(pixels).expand_as(pixels)


def hue(pixels: Tensor, turn: Tensor) -> Tensor:
    """The hue turned by `turn` of the colour circle; value and saturation of HSV stay.

    A channel is lowest + chroma * clamp(6 d - 1, 0, 1), d its distance on the circle of circumference 1 from
    the hue where it vanishes: the closed form of HSV -> RGB, without its table of six cases.
    """
    red, green, blue = pixels.unbind(1)
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    # Distance of the hue from red in sixths of the circle, 0 to 3: one linear form covers all six cases.
    from_red = (green + blue).sub_(red).add_(highest).sub_(lowest, alpha=2).div_(chroma.clamp(min=1e-8))
    angle = torch.copysign(from_red, green - blue).div_(6).unsqueeze_(1).add_(turn)
    # Red vanishes at 1/2 of the circle, green at 5/6, blue at 1/6; 2 keeps the numbers positive.
    vanishing = torch.tensor([1 / 2, 5 / 6, 1 / 6], device=pixels.device).view(1, 3, 1, 1)
    distance = (angle + (2.5 - vanishing)).frac_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)
    return torch.addcmul((lowest - chroma).unsqueeze_(1), chroma.mul_(6).unsqueeze_(1), distance).clamp_(0, 1)


def blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """3x3 Gaussian blur: three weights along the rows, then along the columns.

    At the border the image is reflected and its outermost pixels are not repeated.
    """
    side = torch.exp(-0.5 / sigma.square())
    side = side / (1 + 2 * side)
    for dim in (2, 3):
        last = pixels.shape[dim] - 1
        blurred = pixels * (1 - 2 * side)
        blurred.narrow(dim, 1, last).addcmul_(pixels.narrow(dim, 0, last), side)
        blurred.narrow(dim, 0, last).addcmul_(pixels.narrow(dim, 1, last), side)
        blurred.select(dim, 0).addcmul_(pixels.select(dim, 1), side.squeeze(dim))
        blurred.select(dim, last).addcmul_(pixels.select(dim, last - 1), side.squeeze(dim))
        pixels = blurred
    return pixels.clamp_(0, 1)


def _gray(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze_(1)
