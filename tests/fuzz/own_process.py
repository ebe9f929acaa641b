"""Reading a folder in a process of its own: what it found, what it said, and the memory that it took at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

READ_DATASET = """
from brcd_core import datasets
dataset = datasets.load("folder", Path(sys.argv[1]))
answer["names"] = list(dataset.pixels.names)
for number in range(len(dataset)):
    assert dataset.pixels[number].shape == (256, 256, 3)
"""
MAKE_INDEX = """
from brcd_core.search.__main__ import main
answer["code"] = main(["index", sys.argv[1], "--head", sys.argv[2], "--out", sys.argv[3]])
"""
AROUND = """
import json, sys
from pathlib import Path
answer = {}
%s
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps(answer | {"peak": 1024 * int(peak)}))
"""
MB = 1_000_000
A_PIXEL = 20  # bytes that a pixel takes while an image with transparency is decoded, with some to spare


class Answer(NamedTuple):
    """The answer of a program above, what it said on the standard error, and its peak of resident memory in bytes."""

    found: dict[str, Any]
    said: str
    peak: int


def run(program: str, *arguments: Path, cache: Path, seconds: float = 600.0) -> Answer:
    """Run one of the programs above. AssertionError with what it said if it crashes."""
    environment = os.environ | {"BRCD_CACHE": str(cache), "OMP_NUM_THREADS": "1", "BRCD_BATCH": "1"}
    command = [sys.executable, "-W", "ignore", "-c", AROUND % program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=seconds)
    said = done.stderr.decode("utf-8", "backslashreplace")
    assert done.returncode == 0, f"ended with status {done.returncode}: {said[-3000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    return Answer(found, said, found["peak"])


def largest(images: int) -> int:
    """Bytes for that many images of Pillow's limit, decoded at the same time."""
    return images * A_PIXEL * int(Image.MAX_IMAGE_PIXELS or 0)
