"""The committed images of CIFAR-10 in every form that this Pillow writes."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from brcd_core import datasets

Form = tuple[str, Image.Image, dict[str, Any]]  # file name, what to save, and how
ORIENTATION = 0x0112  # the EXIF tag
LOSSY = {"quality": 60}


def whole_files(rng: np.random.Generator, every: int = 1) -> dict[str, bytes]:
    """File name -> an undamaged image, in `every` so-manieth form. One that this Pillow cannot write is left out."""
    files = {}
    for name, image, options in islice(forms([photo(rng) for _ in range(4)]), 0, None, every):
        stream = io.BytesIO()
        try:
            image.save(stream, **options)
        except (KeyError, OSError):  # no encoder for it
            continue
        files[name] = stream.getvalue()
    return files | {"plain.icns": _icon(photo(rng))}


def photo(rng: np.random.Generator) -> Image.Image:
    """Six of the committed images, two rows of three: 96x64."""
    six = datasets.load("sample").pixels[rng.choice(300, 6, replace=False)]
    return Image.fromarray(np.vstack([np.hstack(list(six[:3])), np.hstack(list(six[3:]))]))


def forms(photos: list[Image.Image]) -> Iterator[Form]:
    """Every form: file formats, modes, animations, orientations."""
    first, *others = photos
    grey = first.convert("L")
    clear = first.convert("RGBA")
    clear.putalpha(grey)
    palette = first.quantize(16)
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    for ending in ("bmp", "dib", "dds", "ico", "im", "jp2", "pcx", "ppm", "qoi", "sgi", "tga", "avif", "webp"):
        yield f"plain.{ending}", first, {"format": _format(ending)}
    for kind in ("gif", "png", "webp", "avif", "tiff"):
        more = {"save_all": True, "append_images": others, "duration": 40} | ({} if kind == "tiff" else {"loop": 0})
        yield f"animated.{kind}", first, {"format": _format(kind), **more}
    yield "two_pictures.mpo", first, {"format": "MPO", "save_all": True, "append_images": others}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        kind = ("jpg", "png", "webp", "tiff")[orientation % 4]
        yield f"turned_{orientation}.{kind}", first, {"format": _format(kind), "exif": exif}
    yield "baseline.jpg", first, {"format": "JPEG", **LOSSY}
    yield "progressive.jpg", first, {"format": "JPEG", "progressive": True, "optimize": True, **LOSSY}
    yield "restarts.jpg", first, {"format": "JPEG", "restart_marker_blocks": 4, **LOSSY}
    yield "grey.jpg", grey, {"format": "JPEG"}
    yield "cmyk.jpg", first.convert("CMYK"), {"format": "JPEG"}
    yield "lossless.webp", clear, {"format": "WEBP", "lossless": True}
    yield "alpha.webp", clear, {"format": "WEBP"}
    yield "alpha.avif", clear, {"format": "AVIF"}
    for mode, image in {"1": first.convert("1"), "L": grey, "LA": clear.convert("LA"), "P": palette, "RGB": first,
                        "RGBA": clear, "I16": deep}.items():  # fmt: skip
        yield f"mode_{mode}.png", image, {"format": "PNG"}
        yield f"mode_{mode}.tiff", image, {"format": "TIFF"}
    yield "palette_clear.png", palette, {"format": "PNG", "transparency": bytes(range(0, 160, 10))}
    yield "one_clear_colour.gif", palette, {"format": "GIF", "transparency": 3}
    yield "cmyk.tiff", first.convert("CMYK"), {"format": "TIFF"}
    yield "ycbcr.tiff", first.convert("YCbCr"), {"format": "TIFF"}
    yield "lab.tiff", first.convert("LAB"), {"format": "TIFF"}
    yield "float.tiff", grey.convert("F"), {"format": "TIFF"}
    yield "int32.tiff", grey.convert("I"), {"format": "TIFF"}
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        yield f"{packing}.tiff", first, {"format": "TIFF", "compression": packing}
    yield "fax.tiff", first.convert("1"), {"format": "TIFF", "compression": "group4"}
    yield "bits.xbm", first.convert("1"), {"format": "XBM"}
    yield "bits.msp", first.convert("1"), {"format": "MSP"}
    yield "floats.spider", grey.convert("F"), {"format": "SPIDER"}
    yield "palette.bmp", palette, {"format": "BMP"}
    yield "rle.tga", first, {"format": "TGA", "compression": "tga_rle"}
    yield "rle.sgi", grey, {"format": "SGI"}


def _icon(image: Image.Image) -> bytes:
    """An icon of macOS of one size; Pillow would write all ten, a megabyte."""
    stream = io.BytesIO()
    image.resize((128, 128)).save(stream, format="PNG")
    parts = b"ic07" + struct.pack(">I", 8 + stream.tell()) + stream.getvalue()
    return b"icns" + struct.pack(">I", 8 + len(parts)) + parts


def _format(ending: str) -> str:
    return Image.registered_extensions()[f".{ending}"]
