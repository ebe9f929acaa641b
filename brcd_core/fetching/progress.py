"""How far a download is: a bar in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_EVERY_SECONDS = 5.0
SLOW_AFTER_SECONDS = 30.0  # from then on, a slower host gives way to the next source, if there is one
SLOW_BYTES_PER_SECOND = 100_000.0


def size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.1f} MB"


class Progress:
    """Shows bytes done of `total`; `total` 0 means unknown."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._started = time.monotonic()
        self._next_line = LINE_EVERY_SECONDS
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total or None, desc=label, unit="B", unit_scale=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def is_slow(self, done: int) -> bool:
        return self.seconds() > SLOW_AFTER_SECONDS and done < SLOW_BYTES_PER_SECOND * self.seconds()

    def show(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif self.seconds() >= self._next_line:
            self._next_line = self.seconds() + LINE_EVERY_SECONDS
            of = f" of {size(self._total)}" if self._total else ""
            print(f"{self._label}: {size(done)}{of}", file=sys.stderr)
