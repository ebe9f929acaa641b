"""Execute one notebook with papermill, its progress printed line by line, its executed copy kept on success.

    python workflow/run_notebook.py NOTEBOOK EXECUTED_COPY '{"profile": "smoke", ...}'

Parameters are given as YAML (JSON is YAML), so that numbers stay numbers. The executed copy appears only
when every cell has run; a failed one is kept beside it as *.failed.ipynb, for a look at what went wrong.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import papermill
import yaml
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from brcd_core.atomic import replacing


class Labelled:
    """A stream that puts the name of its run before every line, so that parallel runs can be told apart."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label = stream, label

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.strip():
                self._stream.write(f"[{self._label}] {line}\n")

    def flush(self) -> None:
        self._stream.flush()


def main(notebook: Path, executed: Path, parameters: dict[str, object]) -> int:
    """Run a notebook; 0 if every cell ran, 1 if one raised (its error is printed)."""
    os.environ["BRCD_BATCH"] = "1"  # plain lines of progress instead of bars
    label = executed.with_suffix("").as_posix().split("/runs/")[-1].removesuffix("/notebook")
    failed = executed.with_suffix(".failed.ipynb")
    out = Labelled(sys.stdout, label)
    try:
        with replacing(executed) as part, tempfile.TemporaryDirectory(prefix="brcd-") as sockets:
            # Sockets in a folder of their own: kernels that start at the same moment race for ports.
            transport = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
            try:
                papermill.execute_notebook(
                    notebook,
                    part,
                    parameters,
                    kernel_name="python3",
                    cwd=str(notebook.parent),
                    progress_bar=False,
                    stdout_file=out,
                    stderr_file=out,
                    config=transport,
                )
            except PapermillExecutionError:
                os.replace(part, failed)
                raise
    except PapermillExecutionError as error:
        out.write(f"FAILED {error.ename}: {error.evalue}\nthe notebook up to its error: {failed}")
        return 1
    failed.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), yaml.safe_load(sys.argv[3])))
