"""Progress of long work: a bar for a person who watches, a plain line every few seconds for a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE_EVERY_SECONDS = 5.0


def track(work: Iterable[Any] | int, description: str, unit: str = "image") -> Any:
    """A tqdm over an iterable; or, of a total number of units, one whose `update(n)` is called.

    A live bar in a terminal or a notebook. With BRCD_BATCH=1 in the environment, or where the standard error
    is no terminal, plain lines there: count, rate and time left every 5 seconds, and once at the end.
    """
    what: dict[str, Any] = {"total": work} if isinstance(work, int) else {"iterable": work}
    what |= {"desc": description, "unit": unit}
    if os.environ.get("BRCD_BATCH") != "1" and (sys.stderr.isatty() or _in_notebook()):
        from tqdm.auto import tqdm as live_tqdm  # warns at import where there are no notebook widgets

        return live_tqdm(**what)
    return tqdm(**what, file=_Lines(), ascii=" #", ncols=100, mininterval=LINE_EVERY_SECONDS, miniters=1)


class _Lines:
    """A file for tqdm that starts a new line where tqdm would overwrite the last one."""

    def write(self, text: str) -> None:
        if line := text.strip():
            # The stream is looked up each time: a notebook's kernel or a test may have replaced it.
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return type(shell).__name__ == "ZMQInteractiveShell"
