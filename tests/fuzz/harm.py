"""Harm done to a file: bytes flipped, cut, put in or zeroed; sizes in its header changed; and files that are bombs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

Harm = Callable[[bytes, np.random.Generator], bytes]


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """One to 64 bits, anywhere."""
    return _flipped(data, rng, len(data))


def flip_header(data: bytes, rng: np.random.Generator) -> bytes:
    """One to 64 bits of the first 64 bytes."""
    return _flipped(data, rng, min(len(data), 64))


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of it."""
    return data[: rng.integers(len(data))]


def zero(data: bytes, rng: np.random.Generator) -> bytes:
    """A part of it zeroed, or set to 255."""
    start, end = sorted(rng.integers(len(data) + 1, size=2))
    return data[:start] + bytes([rng.choice([0, 255])]) * (end - start) + data[end:]


def put_in(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes between two of its own."""
    at = rng.integers(len(data))
    return data[:at] + rng.bytes(rng.integers(1, 200)) + data[at:]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """A part of it, twice."""
    start, end = sorted(rng.integers(len(data) + 1, size=2))
    return data[:end] + data[start:]


def large_number(data: bytes, rng: np.random.Generator) -> bytes:
    """A number of two or four bytes, near the beginning, made large: often a width or a height."""
    at, size = int(rng.integers(min(len(data), 64))), int(rng.choice([2, 4]))
    value = int(rng.choice([0, 1, 255, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1]))
    return data[:at] + (value % 256**size).to_bytes(size, rng.choice(["big", "little"])) + data[at + size :]


def mended_header(data: bytes, rng: np.random.Generator) -> bytes:
    """`large_number`; in a PNG the header's checksum is made right again, so that the reader believes it."""
    changed = large_number(data, rng)
    if not data.startswith(b"\x89PNG"):
        return changed
    header = data[:16] + changed[16:29]
    return header + struct.pack(">I", zlib.crc32(header[12:29])) + data[33:]


HARMS: tuple[Harm, ...] = (flip_bits, flip_header, cut, zero, put_in, repeat, large_number, mended_header)


def png(width: int, height: int, colour: int = 2, bits: int = 8, *, full: bool = False) -> bytes:
    """A PNG of zeros; unless `full`, its data are too few. colour: 0 grey, 2 RGB, 3 palette, 6 RGBA."""
    row = bytes(1 + -(-width * bits * {0: 1, 2: 3, 3: 1, 6: 4}[colour] // 8)) if full else bytes(99)
    packing = zlib.compressobj(1)
    data = b"".join(packing.compress(row) for _ in range(height if full else 1)) + packing.flush()
    palette = _chunk(b"PLTE", bytes(range(6))) if colour == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + palette + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that stand for more than Pillow's limit of 89 million pixels, or claim to."""
    yield "wide.png", png(60_000, 60_000)
    yield "twice_the_limit.png", png(12_000, 12_000)
    yield "full.png", png(20_000, 9_000, 0, 1, full=True)
    yield "line.png", png(2**31 - 1, 1)
    yield "text.png", _with_text(png(8, 8), 100_000_000)
    yield "profile.png", _with_profile(png(8, 8), 100_000_000)
    yield "screen.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + _GIF_FRAME + b";"
    side = 30_000
    yield "bitmap.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, side, side, 1, 8, 1, 6, 0, 0, 0, 0)
    yield "packed.ico", struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, 500_000, 22) + png(side, side)
    yield "grey.pgm", b"P5 60000 60000 255\n" + bytes(99)
    yield "photo.jpg", b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65500, 65500) + _JPEG_SCAN


_GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 128) + bytes(6) + b"\x02\x02\x4c\x01\x00"
_JPEG_SCAN = bytes.fromhex("03012200021101031101 ffda000c03010002110311003f00")


def _with_text(data: bytes, size: int) -> bytes:
    """A PNG that says something in `size` spaces, packed into a few bytes."""
    return data[:33] + _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * size)) + data[33:]


def _with_profile(data: bytes, size: int) -> bytes:
    return data[:33] + _chunk(b"iCCP", b"colours\0\0" + zlib.compress(bytes(size))) + data[33:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _flipped(data: bytes, rng: np.random.Generator, end: int) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(end, size=2 ** rng.integers(7)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)
