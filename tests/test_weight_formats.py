"""Readers of foreign weight files: what they rebuild, and what they refuse."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from brcd_core.backbones.weight_formats import (
    WeightsError,
    read_onnx_clip_int8,
    read_onnx_vit,
    read_pickle,
    read_torch,
    rename_in_order,
)


def random_state() -> dict[str, torch.Tensor]:
    return {"conv.weight": torch.randn(4, 3, 3, 3), "bn.mean": torch.randn(4), "bn.steps": torch.tensor(7)}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_reads_a_torch_file_of_tensors(tmp_path: Path) -> None:
    state = random_state()
    torch.save(OrderedDict(state), tmp_path / "w.pth")
    assert_same(read_torch(tmp_path / "w.pth"), state)


@pytest.mark.parametrize("what", [torch.nn.Linear(2, 2), {"a": "text"}, [torch.ones(2)]])
def test_torch_file_of_anything_else_is_refused(tmp_path: Path, what: object) -> None:
    torch.save(what, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_torch(tmp_path / "w.pth")


def test_web_page_instead_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_torch(tmp_path / "w.pth")


def test_reads_a_plain_pickle_of_tensors(tmp_path: Path) -> None:
    state = random_state()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(OrderedDict(state)))
    assert_same(read_pickle(tmp_path / "w.pkl"), state)


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def test_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    harmful = pickle.dumps({"a": torch.ones(2), "b": Harmful(trace)})
    (tmp_path / "w.pkl").write_bytes(harmful)
    with pytest.raises(WeightsError, match=r"w\.pkl.*system"):
        read_pickle(tmp_path / "w.pkl")
    assert not trace.exists()
    pickle.loads(harmful)
    assert trace.exists()  # so the pickle was a harmful one


def test_storage_inside_a_pickle_is_restricted_too(tmp_path: Path) -> None:
    """A tensor's bytes are themselves a torch file, whose default reader runs code."""
    trace = tmp_path / "trace"
    torch.save(Harmful(trace), tmp_path / "inner")

    class Storage:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[bytes]]:
            return torch.storage._load_from_bytes, ((tmp_path / "inner").read_bytes(),)

    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": Storage()}))
    with pytest.raises(WeightsError, match=r"w\.pkl"):
        read_pickle(tmp_path / "w.pkl")
    assert not trace.exists()


def small_vit() -> VisionTransformer:
    """A vision transformer with DINOv2's parts: layer scale, class token, equal to its position embedding."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=0, init_values=0.1
    )
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_()
        vit.pos_embed.data[:, 0] = vit.cls_token.data[:, 0]  # type: ignore[union-attr]
    return vit.eval()


def exported(state: dict[str, torch.Tensor], identity: bool = True, extra: bool = False) -> onnx.ModelProto:
    """The graph that DINOv2's exporter would leave of a state dict, as far as weights are concerned."""
    nodes, tensors = [], []

    def store(name: str, value: torch.Tensor) -> str:
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value.numpy()), name))
        return name

    number = 1360
    store(f"onnx::Reshape_{number}", state["pos_embed"][:, 1:])
    for key, value in state.items():
        if key == "pos_embed":
            continue
        if value.dim() == 2:
            number += 1
            factor = store(f"onnx::MatMul_{number}", value.T)
            nodes.append(helper.make_node("MatMul", [f"in{number}", factor], [f"product{number}"]))
            terms = [f"model.{key.removesuffix('weight')}bias", f"product{number}"]
            nodes.append(helper.make_node("Add", terms[:: 1 if number % 2 else -1], [f"out{number}"]))
        else:
            store(f"model.{key}", value)
    # Products of activations and sums with constants are in the real graph too.
    nodes.append(helper.make_node("MatMul", ["queries", "keys"], ["similarity"]))
    nodes.append(helper.make_node("Add", ["similarity", "model.norm.bias"], ["shifted"]))
    if identity:
        nodes.append(helper.make_node("Identity", ["model.cls_token"], ["onnx::Concat_1"]))
    if extra:
        store("onnx::Add_9", torch.ones(3))
    return helper.make_model(helper.make_graph(nodes, "vit", [], [], initializer=tensors))


def test_state_of_a_vision_transformer_is_rebuilt_from_its_graph(tmp_path: Path) -> None:
    vit = small_vit()
    onnx.save(exported(vit.state_dict()), str(tmp_path / "vit.onnx"))
    state = read_onnx_vit(tmp_path / "vit.onnx")
    assert_same(state, dict(vit.state_dict()))
    other = VisionTransformer(
        img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=0, init_values=0.1
    ).eval()
    other.load_state_dict(state)
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(other(images), vit(images))


@pytest.mark.parametrize(("form", "says"), [({"identity": False}, "Identity"), ({"extra": True}, "Add_9")])
def test_graph_of_another_form_is_refused(tmp_path: Path, form: dict[str, bool], says: str) -> None:
    onnx.save(exported(small_vit().state_dict(), **form), str(tmp_path / "vit.onnx"))
    with pytest.raises(WeightsError, match=says):
        read_onnx_vit(tmp_path / "vit.onnx")


# ---- CLIP with 8-bit weights


def small_clip() -> VisionTransformer:
    """timm's image tower of CLIP, small."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=0, pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5), act_layer=QuickGELU,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_()
    return vit.eval()


# timm's name of a layer -> Hugging Face's, for those that both have
HUGGING_FACE = {
    "norm_pre": "pre_layrnorm",
    "norm": "post_layernorm",
    **{
        f"blocks.{block}.{ours}": f"encoder.layers.{block}.{theirs}"
        for block in range(2)
        for ours, theirs in {
            "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj",
            "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
        }.items()
    },
}  # fmt: skip


def quantised(vit: VisionTransformer, projections: int = 1, without: str = "") -> tuple[onnx.ModelProto, dict]:
    """The graph that onnxruntime's quantiser would leave of CLIP, and the state that a reader should find in it.

    Row by row: 8-bit whole numbers around a zero point, by each row's own scale.
    """
    state = {key: value.numpy() for key, value in vit.state_dict().items()}
    nodes, tensors, expected = [], [], dict(state)

    def store(name: str, value: np.ndarray) -> str:
        if name != without:
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def quantise(weight: np.ndarray, bias: str | None) -> np.ndarray:
        number = f"onnx::MatMul_{1500 + len(nodes)}"
        rows, integers = [], []
        scales = np.abs(weight).max(axis=1) / 100
        zeros = np.arange(len(weight)).astype(np.int8) % 5 - 2
        for row, scale, zero in zip(weight, scales, zeros):
            integers.append([round(float(value / scale)) + int(zero) for value in row])
            rows.append([(integer - int(zero)) * scale for integer in integers[-1]])
        names = [f"{number}_scale", f"{number}_zero_point", f"{number}_quantized"]
        for name, value in zip(names, [scales, zeros, np.array(integers, dtype=np.int8).T]):
            store(name, value)
        outputs = [f"product{len(nodes)}_output_quantized", f"product{len(nodes)}", "sum"]
        nodes.append(helper.make_node("MatMulInteger", ["x", names[2], "zero", names[1]], outputs[:1]))
        nodes.append(helper.make_node("Mul", [outputs[0], names[0]], outputs[1:2]))
        if bias:
            nodes.append(helper.make_node("Add", [bias, outputs[1]], ["sum"]))
        return np.array(rows, dtype=np.float32)

    store("vision_model.embeddings.class_embedding", state["cls_token"].reshape(-1))
    store("vision_model.embeddings.position_embedding.weight", state["pos_embed"][0])
    store("vision_model.embeddings.patch_embedding.weight", state["patch_embed.proj.weight"])
    for ours, theirs in HUGGING_FACE.items():
        bias = store(f"vision_model.{theirs}.bias", state[f"{ours}.bias"])
        if state[f"{ours}.weight"].ndim == 1:
            store(f"vision_model.{theirs}.weight", state[f"{ours}.weight"])
        else:
            expected[f"{ours}.weight"] = quantise(state[f"{ours}.weight"], bias)
    for block in range(2):
        for kind in ("weight", "bias"):
            expected[f"blocks.{block}.attn.qkv.{kind}"] = expected[f"blocks.{block}.attn.qkv.{kind}"].copy()
        for place, part in enumerate("qkv"):
            rows = slice(8 * place, 8 * place + 8)
            bias = store(
                f"vision_model.encoder.layers.{block}.self_attn.{part}_proj.bias",
                state[f"blocks.{block}.attn.qkv.bias"][rows],
            )
            weight = quantise(state[f"blocks.{block}.attn.qkv.weight"][rows], bias)
            expected[f"blocks.{block}.attn.qkv.weight"][rows] = weight
    for _ in range(projections):
        quantise(np.eye(4, 8, dtype=np.float32), None)
    graph = helper.make_model(helper.make_graph(nodes, "clip", [], [], initializer=tensors))
    return graph, {key: torch.from_numpy(value) for key, value in expected.items()}


def test_clip_is_rebuilt_from_its_8_bit_graph(tmp_path: Path) -> None:
    graph, expected = quantised(small_clip())
    onnx.save(graph, str(tmp_path / "clip.onnx"))
    state = read_onnx_clip_int8(tmp_path / "clip.onnx")
    assert set(state) == set(expected)
    for name, value in expected.items():
        assert state[name].dtype == torch.float32 and state[name].is_contiguous()
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=0, msg=name)
    other = small_clip()
    other.load_state_dict(state)  # timm's own names, all of them
    changed = state["blocks.1.mlp.fc1.weight"] - small_clip().state_dict()["blocks.1.mlp.fc1.weight"]
    assert 0 < float(changed.abs().max()) < 0.05  # rounded to 1/100 of the largest of a row, and not more


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"projections": 0}, r"clip\.onnx.*only the projection"),
        ({"projections": 2}, r"clip\.onnx.*only the projection"),
        ({"without": "vision_model.encoder.layers.0.mlp.fc1.bias"}, r"clip\.onnx.*only the projection"),
        ({"without": "vision_model.embeddings.class_embedding"}, r"clip\.onnx.*embeddings.class_embedding"),
    ],
)
def test_clip_of_another_form_is_refused(tmp_path: Path, form: dict[str, Any], says: str) -> None:
    onnx.save(quantised(small_clip(), **form)[0], str(tmp_path / "clip.onnx"))
    with pytest.raises(WeightsError, match=says):
        read_onnx_clip_int8(tmp_path / "clip.onnx")


def test_rename_in_order() -> None:
    one, two = torch.randn(2, 3), torch.randn(3)
    renamed = rename_in_order({"_a": one, "_b": two}, {"a": torch.empty(2, 3), "b": torch.empty(3)})
    assert list(renamed) == ["a", "b"]
    assert renamed["a"] is one
    assert renamed["b"] is two
    with pytest.raises(WeightsError, match=r"_a \(2, 3\) does not fit b \(3,\)"):
        rename_in_order({"_a": one, "_b": two}, {"b": torch.empty(3), "a": torch.empty(2, 3)})
    with pytest.raises(WeightsError, match="1 tensors cannot take 2 names"):
        rename_in_order({"_a": one}, {"a": one, "b": two})
