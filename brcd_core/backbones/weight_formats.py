"""Pretrained weights as people publish them, read into plain state dicts. Nothing in a file is executed."""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


class WeightsError(ValueError):
    """A weight file does not hold what it should; the message names the file and what is wrong."""


def read_torch(path: Path) -> State:
    """A state dict saved by torch.save. WeightsError if it holds anything else than tensors by name."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise almost anything
        raise WeightsError(f"{path} is not a file of tensors: {error}") from error
    return _tensors(path, loaded)


def read_pickle(path: Path) -> State:
    """A plain pickle of a state dict; only tensors are unpickled.

    WeightsError if the pickle asks for any other class or function, which could run code.
    """
    try:
        with open(path, "rb") as file:
            loaded = _TensorUnpickler(file).load()
    except Exception as error:
        raise WeightsError(f"{path} is not a pickle of tensors alone: {error}") from error
    return _tensors(path, loaded)


def read_onnx_vit(path: Path, prefix: str = "model.") -> State:
    """The state dict of a vision transformer, from the initialisers of its ONNX graph.

    The exporter kept the names of most tensors (behind `prefix`), but not these:
    - linear weights are transposed and nameless: each is found by the named bias added to its product;
    - the patches' position embedding is the one nameless tensor left over;
    - the class token's position embedding equals the class token itself in DINOv2, and the exporter stores
      equal tensors once: an Identity of the class token stands where the position embedding was.

    WeightsError if the graph does not have this form.
    """
    import onnx  # only a conversion needs it
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    nameless = {name for name in tensors if not name.startswith(prefix)}
    factors = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}

    for node in graph.node:
        if node.op_type != "Add":
            continue
        biases = [name for name in node.input if name in tensors and name.endswith(".bias")]
        weights = [factors[name] for name in node.input if factors.get(name) in nameless]
        if biases and weights:
            key = biases[0].removeprefix(prefix).removesuffix("bias") + "weight"
            named[key] = tensors[weights[0]].T.contiguous()
            nameless.remove(weights[0])

    if len(nameless) != 1:
        raise WeightsError(f"{path}: only the positions should be left nameless, found: {sorted(nameless)}")
    positions = tensors[nameless.pop()]
    token = f"{prefix}cls_token"
    if not any(node.op_type == "Identity" and node.input[0] == token for node in graph.node):
        raise WeightsError(f"{path}: no Identity of {token}, so the class token's position is not known")
    if positions.dim() != 3 or math.isqrt(positions.shape[1]) ** 2 != positions.shape[1]:
        raise WeightsError(f"{path}: positions {tuple(positions.shape)} are not those of a square of patches")
    named["pos_embed"] = torch.cat([named["cls_token"], positions], dim=1)
    return named


def read_onnx_clip_int8(path: Path) -> State:
    """The state dict, under timm's names, of CLIP's image tower with linear weights rounded to 8 bits.

    onnxruntime's quantiser left every linear weight as int8 (inputs, outputs) with a scale and a zero point an
    output: here it becomes (integer - zero point) * scale, float32. All else is float32 in the graph, under the
    names of Hugging Face's CLIP. As in `read_onnx_vit`, a weight is found by the bias added to its product;
    the one without a bias, the projection to the space that images share with text, is left out.

    WeightsError if the graph does not have this form.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    products = {
        node.output[0].removesuffix("_output_quantized"): node.input[1].removesuffix("_quantized")
        for node in graph.node
        if node.op_type == "MatMulInteger"
    }
    named = {name: value for name, value in tensors.items() if name.startswith("vision_model.")}
    left = set(products.values())
    for node in graph.node:
        if node.op_type != "Add":
            continue
        biases = [name for name in node.input if name in named and name.endswith(".bias")]
        weights = [products[name] for name in node.input if name in products]
        if biases and weights:
            integers, scale, zero = (tensors[f"{weights[0]}_{part}"] for part in ("quantized", "scale", "zero_point"))
            weight = (integers.float() - zero.float()) * scale
            named[biases[0].removesuffix("bias") + "weight"] = weight.T.contiguous()
            left.remove(weights[0])
    if len(left) != 1:
        raise WeightsError(f"{path}: only the projection should be left without a bias, found: {sorted(left)}")
    try:
        return _timm_clip(named)
    except KeyError as error:
        raise WeightsError(f"{path}: there is no tensor {error} for an image tower of CLIP") from error


def rename_in_order(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> State:
    """`state` under the names of `target`, first to first, second to second, and so on.

    For two implementations that define their layers in one order. WeightsError unless all shapes agree.
    """
    if len(state) != len(target):
        raise WeightsError(f"{len(state)} tensors cannot take {len(target)} names")
    for (old, value), (new, wanted) in zip(state.items(), target.items(), strict=True):
        if value.shape != wanted.shape:
            raise WeightsError(f"{old} {tuple(value.shape)} does not fit {new} {tuple(wanted.shape)}")
    return dict(zip(target, state.values(), strict=True))


def _timm_clip(state: State) -> State:
    """The image tower of Hugging Face's CLIP under timm's names: queries, keys and values in one layer."""
    state = {name.removeprefix("vision_model."): value for name, value in state.items()}
    renamed: State = {
        "cls_token": state.pop("embeddings.class_embedding").view(1, 1, -1),
        "pos_embed": state.pop("embeddings.position_embedding.weight")[None],
        "patch_embed.proj.weight": state.pop("embeddings.patch_embedding.weight"),
    }
    for name in [name for name in state if ".self_attn.q_proj." in name]:
        parts = [state.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        renamed[name.replace("self_attn.q_proj", "attn.qkv")] = torch.cat(parts)
    renamed |= state
    for theirs, ours in {
        "encoder.layers.": "blocks.",
        "self_attn.out_proj": "attn.proj",
        "pre_layrnorm": "norm_pre",  # so spelt
        "post_layernorm": "norm",
        "layer_norm": "norm",
    }.items():
        renamed = {name.replace(theirs, ours): value for name, value in renamed.items()}
    return renamed


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and dictionaries, and refuses every other name that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch.storage", "_load_from_bytes"): _load_storage,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return allowed[module, name]


def _load_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensors(path: Path, loaded: Any) -> State:
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} does not hold a dictionary of tensors")
    return {str(name): value.detach() for name, value in loaded.items()}
