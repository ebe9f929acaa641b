"""Image files that stand for an array of images: decoded when they are indexed, so that they need no memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = 256  # pixels of a decoded image's side; a clean view keeps 224 of them
DECODING = 1  # Raise it when a change here changes pixels: it is part of every fingerprint.
REFUSED_FORMATS = {"EPS", "PS"}  # Pillow would run Ghostscript for them
LARGEST_FILE = 500_000_000  # bytes; Pillow reads the whole of a WebP or AVIF file, twice
LARGE_FILE, LARGE = 30_000_000, 16_000_000  # bytes, pixels: of larger ones a single image is decoded at a time

_one_large = threading.RLock()  # so that memory does not grow with the cores

One = TypeVar("One")
Other = TypeVar("Other")


class ImageError(ValueError):
    """A file is there and cannot be read as an image; `reason` says why, in a few words."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be read as an image: {reason}")
        self.reason = reason


class ImageFiles:
    """The files root/name as an array: uint8 (N, 256, 256, 3), indexed as numpy indexes its first axis.

    `upright`: photographs are turned as their EXIF orientation says. Indexing raises IndexError; ImageError or
    FileNotFoundError, which name the file, where one was damaged or has vanished.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, root: Path, names: Sequence[str], upright: bool = False) -> None:
        self.root, self.names, self.upright = root, names, upright

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array that these files stand for."""
        return len(self.names), SIDE, SIDE, 3

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, ids: Any) -> np.ndarray:
        """Images (*shape of ids, 256, 256, 3). ids: an integer, a slice, integers of any shape, or N booleans."""
        if isinstance(ids, list):
            ids = np.asarray(ids, dtype=None if ids else np.int64)
        wanted = np.asarray(np.arange(len(self))[ids])
        found, place = np.unique(wanted, return_inverse=True)
        images = np.empty((len(found), SIDE, SIDE, 3), np.uint8)
        paths = [self.root / self.names[index] for index in found]
        for number, image in enumerate(in_threads(lambda path: decode(path, self.upright), paths)):
            images[number] = image
        return images[place.reshape(wanted.shape)]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(f"{len(self)} image files are not decoded all at once; index them")


def decode(path: Path, upright: bool = False) -> np.ndarray:
    """One image file as uint8 (256, 256, 3): its shorter side resized to 256, then the central square.

    The first frame of several; transparency on white; 16-bit grey as its upper 8 bits. Raises
    FileNotFoundError; ImageError: no image, damaged, too many pixels (Pillow's limit) or bytes, or not to be opened.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ImageError(path, f"its {size:,} bytes are more than {LARGEST_FILE:,}")
        with _alone(size > LARGE_FILE), Image.open(path, formats=_formats()) as image:
            width, height = image.size
            if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
                raise ImageError(path, f"{width}x{height} pixels are more than Pillow's limit")
            with _alone(width * height > LARGE):
                return square(image, upright)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there; put it back, or take it off the list") from None
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "not an image that Pillow knows") from None
    except Image.DecompressionBombError:
        raise ImageError(path, "its pixels are more than Pillow's limit") from None
    except OSError as error:
        raise ImageError(path, error.strerror or str(error)) from error
    except Exception as error:  # a damaged file can raise almost anything
        raise ImageError(path, f"{type(error).__name__}: {error}") from error


def square(image: Image.Image, upright: bool = False) -> np.ndarray:
    """An opened image as uint8 (256, 256, 3), as `decode` says; raises what Pillow raises."""
    return np.asarray(_square(_colours(image, upright)))


def in_threads(work: Callable[[One], Other], things: Sequence[One]) -> Iterable[Other]:
    """The results of `work`, in order. Pillow and hashing leave Python's lock, so threads use all cores."""
    if len(things) < 2:
        yield from map(work, things)
        return
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1, len(things))) as pool:
        try:
            yield from pool.map(work, things)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _alone(large: bool) -> Any:
    return _one_large if large else nullcontext()


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.ID if name not in REFUSED_FORMATS]


def _colours(image: Image.Image, upright: bool) -> Image.Image:
    """The image as RGB, turned upright if asked for."""
    image.load()
    turned = None
    if upright:
        with suppress(Exception):  # a damaged EXIF block does not make the image unusable
            turned = ImageOps.exif_transpose(image)
    image = turned or image
    if image.mode.startswith("I"):  # Pillow would cut every value above 255 to white
        values = np.asarray(image)
        image = Image.fromarray((values // 256 if values.max() > 255 else values).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _square(image: Image.Image) -> Image.Image:
    """Resize (shorter side, bilinear) and central crop, as torchvision's; only the square is computed."""
    width, height = image.size
    shorter = min(width, height)
    wide, high = (int(SIDE * side / shorter) for side in (width, height))  # after resizing
    left, top = round((wide - SIDE) / 2), round((high - SIDE) / 2)
    across, down = width / wide, height / high
    box = (left * across, top * down, min((left + SIDE) * across, width), min((top + SIDE) * down, height))
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
