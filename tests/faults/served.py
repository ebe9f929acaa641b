"""A copy of the repository whose smoke study fetches its images and weights from a slow server of the test."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from brcd_core.backbones.tiny import TinyStudent, TinyTeacher
from brcd_core.config import repository
from brcd_core.datasets import sample

PARTS, PAUSE = 20, 0.1  # of a file that is served, and the seconds between two of them
NETWORKS = {"tiny_teacher": TinyTeacher, "tiny_student": TinyStudent}
ADDED = {  # what is added to a module of the copy
    "datasets/__init__.py": """
from brcd_core.datasets import served_images
DATASETS["sample"] = Entry(served_images.load, DATASETS["sample"].split)
""",
    "backbones/entries.py": """
from dataclasses import replace
for _name in ("tiny_teacher", "tiny_student"):
    BACKBONES[_name] = replace(BACKBONES[_name], pretrained=True)
""",
    "backbones/weight_sources.py": """
import os
from brcd_core.fetching import sha256_of
for _name in ("tiny_teacher", "tiny_student"):
    _file = Path(os.environ["BRCD_SERVED"]) / f"{_name}.pt"
    SOURCES[_name] = (WeightFile(Url(f"{os.environ['BRCD_SERVER']}/{_file.name}", sha256_of(_file)), read_torch),)
""",
    "backbones/known_answers.py": """
def check_known_answer(name: str) -> str:
    return "random weights by design, nothing to check"
""",
}


def copy_repository(copy: Path, added: dict[str, str] | None = None) -> Path:
    """What `make study` needs, in a folder of its own: so it has its own locks and its own memory of what was run."""
    whole = repository()
    for name in ("brcd_core", "workflow", "notebooks"):
        shutil.copytree(whole / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy2(whole / name, copy / name)
    (copy / ".venv").mkdir()
    for path in (whole / ".venv").iterdir():
        if not path.name.startswith("."):
            (copy / ".venv" / path.name).symlink_to(path)
    (copy / ".venv" / ".ready").touch()
    for module, lines in (added or {}).items():
        with (copy / "brcd_core" / module).open("a") as file:
            file.write(lines)
    return copy


def served_copy(copy: Path) -> Path:
    """A copy that fetches from a server what the repository has."""
    copy_repository(copy, ADDED)
    shutil.copy2(Path(__file__).with_name("served_images.py"), copy / "brcd_core" / "datasets")
    return copy


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """Serve images and weights slowly, so that there is time to be killed in; the environment that a copy needs."""
    folder.mkdir(parents=True)
    shutil.copy2(sample.FOLDER / "cifar10_sample.png", folder)
    for name, network in NETWORKS.items():
        torch.save(network().state_dict(), folder / f"{name}.pt")

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (folder / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            step = -(-len(content) // PARTS)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(PAUSE)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked was killed
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield {"BRCD_SERVER": f"http://127.0.0.1:{http.server_address[1]}", "BRCD_SERVED": str(folder)}
        http.shutdown()


def environment(copy: Path, output: Path, **more: str) -> dict[str, str]:
    """The environment of a study in a copy, with results and cache below `output`."""
    own = {"BRCD_OUTPUT": str(output), "BRCD_CACHE": str(output / "cache"), "PYTHONPATH": str(copy)}
    return os.environ | own | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} | more
