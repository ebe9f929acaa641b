"""What a backbone costs: parameters, multiply-adds, megabytes, and its speed on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from brcd_core.backbones import Backbone, weights

SECONDS = 1.0  # for each of the two speeds; slow machines take longer
MOST_LATENCIES = 50
FEWEST_LATENCIES = 10


def measure(
    backbone: Backbone, head: Sequence[int] = (), device: torch.device | str = "cpu", batch: int = 64
) -> dict[str, Any]:
    """Size and speed of a backbone, in float32, on images of the size that it was loaded for.

    It moves to `device` and is laid out channels last, as where view banks are built: up to five times as fast.

    `head` holds the widths of the layers on top, (64,) or (1000, 64): they are counted and timed too.
    - parameters: of the network as it runs (folded BatchNorms and an unused classifier are not there)
    - multiply_adds: of one image, in convolutions, linear layers and attention
    - megabytes: the backbone's weights file in the cache; for the tiny encoders, their tensors
    - latency_ms: median of 10 to 50 single images
    - images_per_second: in batches of `batch`, fewer where such a batch would take more than a second
    - batch, threads (of the processor), size (pixels), device

    Takes 1 to 6 seconds. ValueError for a batch or a width below 1.
    """
    if batch < 1 or min(head, default=1) < 1:
        raise ValueError(f"a batch and widths of layers are at least 1, got batch {batch} and head {tuple(head)}")
    device = torch.device(device)
    widths = [backbone.dim, *head]
    layers: list[nn.Module] = [backbone]
    for inputs, outputs in pairwise(widths):
        layers += [nn.ReLU()] * (len(layers) > 1) + [nn.Linear(inputs, outputs)]
    network = nn.Sequential(*layers).to(device).to(memory_format=torch.channels_last).eval()
    pixels = torch.rand(batch, 3, backbone.size, backbone.size, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)

    latency = statistics.median(_seconds(network, pixels[:1], FEWEST_LATENCIES, MOST_LATENCIES))
    batch = min(batch, max(1, int(SECONDS / latency)))
    per_batch = statistics.median(_seconds(network, pixels[:batch], 1, MOST_LATENCIES))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(network, pixels[:1]),
        "megabytes": round(_bytes(backbone) / 1e6, 3),
        "latency_ms": latency * 1000,
        "images_per_second": batch / per_batch,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "size": backbone.size,
        "device": str(device),
    }


def multiply_adds(network: nn.Module, pixels: Tensor) -> int:
    """Multiplications with an addition in convolutions, matrix products and attention; other steps count nothing.

    As the field counts: half of what torch's counter calls floating-point operations.
    """
    # The counter knows plain matrix products only; torch's faster attention kernels would go uncounted.
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(pixels)
    finally:
        mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


@torch.inference_mode()
def _seconds(network: Callable[[Tensor], Tensor], pixels: Tensor, fewest: int, most: int) -> list[float]:
    """Seconds of single calls after one or more to warm up: `fewest`, and more while SECONDS last."""
    for _ in range(min(fewest, 3)):
        network(pixels)
    found: list[float] = []
    while len(found) < fewest or (len(found) < most and sum(found) < SECONDS):
        _finish(pixels.device)
        started = time.perf_counter()
        network(pixels)
        _finish(pixels.device)
        found.append(time.perf_counter() - started)
    return found


def _finish(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bytes(backbone: Backbone) -> int:
    file = weights.cached_path(backbone.name)
    if file.exists():
        return file.stat().st_size
    return sum(value.numel() * value.element_size() for value in backbone.network.state_dict().values())
