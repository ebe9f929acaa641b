"""Readers of foreign weight files: what they rebuild, and what they refuse."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from timm.models.vision_transformer import VisionTransformer

from brcd_core.backbones.weight_formats import WeightsError, read_onnx_vit, read_pickle, read_torch, rename_in_order


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
