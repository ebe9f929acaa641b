"""A trained encoder as one ONNX file, checked against torch.

    python -m brcd_core.export HEAD OUT.onnx [IMAGE...]

The graph holds normalisation, backbone, scaling and head. Its input "pixels" is float32 (N, 3, S, S) in [0, 1], its
output "logits" float32 (N, K), with any N: bit k of an image's code is 1 where logit k is at least 0. Pixels are those
of an image's central square, resized bilinearly with antialiasing; the file's properties say which share is central.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from brcd_core import datasets, encoder
from brcd_core.atomic import replacing
from brcd_core.checkpoints import CheckpointError
from brcd_core.codes import pack
from brcd_core.encoder import Encoder, Images, printable
from brcd_core.fetching import FetchError

OPSET = 17
LEAST_EQUAL = 0.999  # share of bits


class ExportError(RuntimeError):
    """The graph does not give the codes of the encoder."""


def export(coder: Encoder, out: Path, images: Images) -> tuple[int, int]:
    """Write an encoder's graph; how many bits of the codes of `images` are those of torch, and of how many.

    ExportError, and no file is written, where fewer than 99.9 % are. They differ where a logit is all but zero: the
    graph does not round features to float16, and its runtime adds in another order.
    """
    exact = replace(coder, precision="float32")
    with replacing(out) as part:
        _write(exact, part)
        equal, bits = compare(exact, part, images)
        if equal < LEAST_EQUAL * bits:
            raise ExportError(f"only {equal:,} of {bits:,} bits are those of torch; {out} was not written")
    return equal, bits


def compare(coder: Encoder, graph: Path, images: Images) -> tuple[int, int]:
    """How many bits of the codes of images an ONNX graph has in common with its encoder, and how many there are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    differing = 0
    for start in range(0, len(images), coder.batch):
        batch = images[start : start + coder.batch]
        (logits,) = session.run(["logits"], {"pixels": coder.pixels(batch).cpu().numpy()})
        differing += int(np.bitwise_count(pack(logits) ^ coder.encode(batch)).sum())
    bits = len(images) * coder.bits
    return bits - differing, bits


def _write(coder: Encoder, path: Path) -> None:
    import onnx

    network = torch.nn.Sequential(coder.backbone, coder.head).eval()
    pixels = torch.zeros(2, 3, coder.size, coder.size, device=coder.device)
    with warnings.catch_warnings():
        # Of the checks of shapes, which are not part of the graph; and of this exporter's age. The one that follows it
        # needs a package more.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (pixels,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "images"}, "logits": {0: "images"}},
        )
    model = onnx.load(path)
    about = {"bits": coder.bits, "size": coder.size, "central": coder.central, "head": coder.checksum}
    onnx.helper.set_model_props(model, {name: str(value) for name, value in (about | coder.about["run"]).items()})
    onnx.save(model, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one head; 0 if it went well, 1 with a message if not."""
    parser = argparse.ArgumentParser(prog="python -m brcd_core.export", description=__doc__.split("\n")[0])
    parser.add_argument("head", type=Path, help="a head's file, .safetensors")
    parser.add_argument("out", type=Path, help="the file to write, .onnx")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="to check with (default: 300 of CIFAR-10)")
    chosen = parser.parse_args(arguments)
    try:
        coder = encoder.load(chosen.head, device="cpu")
        images: Images = chosen.images or datasets.load("sample").tensor(range(300))
        equal, bits = export(coder, chosen.out, images)
    except (CheckpointError, ExportError, FetchError, ModuleNotFoundError, ValueError, OSError) as error:
        print("error:", printable(error, keep="\n"), file=sys.stderr)
        return 1
    print(f"{printable(chosen.out)}: {equal:,} of {bits:,} bits of {len(images):,} images are those of torch")
    print(f"pixels: float32 (N, 3, {coder.size}, {coder.size}) in [0, 1]; logits: float32 (N, {coder.bits})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
