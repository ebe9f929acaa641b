"""ONNX files of encoders: their logits are torch's, for any number of images, and a wrong graph is not kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_heads
import torch

from brcd_core import encoder, export
from brcd_core.codes import pack
from brcd_core.export import ExportError, main
from brcd_core.hashing import HashHead


@pytest.mark.parametrize(("role", "bits", "hidden"), [("student", 16, 8), ("teacher", 72, 0)])
def test_the_graph_gives_the_logits_and_the_codes_of_torch(tmp_path: Path, role: str, bits: int, hidden: int) -> None:
    path = tiny_heads.save_head(tmp_path / "head.safetensors", role, bits, hidden=hidden)
    coder, images, out = encoder.load(path), tiny_heads.sample(), tmp_path / "out.onnx"
    equal, total = export.export(coder, out, images)
    assert total == 300 * bits and total * 0.999 <= equal <= total
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    differing = 0
    for part in (images[:1], images[1:4], images[4:]):
        pixels = coder.pixels(part)
        (logits,) = session.run(None, {"pixels": pixels.numpy()})
        assert logits.dtype == np.float32 and logits.shape == (len(part), bits)
        expected = coder.head(coder.backbone(pixels))
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)
        differing += np.bitwise_count(pack(logits) ^ coder.encode(part)).sum()
    assert total - equal == differing
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["bits"] == str(bits) and about["size"] == "32" and about["head"] == coder.checksum
    assert about[role] == f"tiny_{role}"


def test_a_wrong_graph_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coder = encoder.load(tiny_heads.save_head(tmp_path / "head.safetensors"))
    real, out = export._write, tmp_path / "out.onnx"
    out.write_bytes(b"before")
    wrong = HashHead(48, 16, 8, seed=9).eval()
    monkeypatch.setattr(export, "_write", lambda right, path: real(replace(right, head=wrong), path))
    with pytest.raises(ExportError, match=r"only .* of 4,800 bits are those of torch; .*out\.onnx was not written"):
        export.export(coder, out, tiny_heads.sample())
    assert out.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.safetensors", "out.onnx"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = tiny_heads.save_head(tmp_path / "head.safetensors")
    assert main([str(head), str(tmp_path / "out.onnx")]) == 0
    said = capsys.readouterr().out
    assert "of 4,800 bits of 300 images are those of torch" in said
    assert "pixels: float32 (N, 3, 32, 32) in [0, 1]; logits: float32 (N, 16)" in said
    assert main([str(head), str(tmp_path / "b.onnx"), str(tmp_path / "no.png")]) == 1
    assert "no.png is not there" in capsys.readouterr().err and not (tmp_path / "b.onnx").exists()
    assert main([str(tmp_path / "no.safetensors"), str(tmp_path / "b.onnx")]) == 1
    assert "error: no checkpoint at" in capsys.readouterr().err
    assert main([str(tmp_path / "\x1b[2J.safetensors"), str(tmp_path / "b.onnx")]) == 1
    assert "\N{REPLACEMENT CHARACTER}[2J.safetensors" in capsys.readouterr().err
