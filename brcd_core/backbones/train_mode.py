"""The released code's "frozen" backbones: weights that do not move, in networks left in train mode.

The paper's released code never calls eval() while a head is trained. So BatchNorms normalise the training views by
the statistics of their batch, dropout and stochastic depth drop at random, and running statistics drift towards
those of the training views (by each BatchNorm's momentum, 0.1 a batch); evaluation then uses the drifted ones.
With features that are computed once, two steps say the same:

    backbone = backbones.load("resnet18", folded=False)
    drift(backbone, batches)             # what evaluation then uses: the ordinary backbone, drifted
    encoder = TrainMode(backbone, seed)  # what training sees

Exact: what one batch does. `drift` leaves the running statistics that a training run leaves after these batches in
this order, and `TrainMode` gives the features that the released network gives for this batch and these drops.
Approximate: which images share a batch (a bank's neighbours instead of a shuffled batch, so they should be in random
order), how many batches drift (after n the old statistics weigh 0.9^n: 3e-5 after 100), and that a cached view keeps
its batch and its drops in all epochs. Networks without BatchNorm, dropout and stochastic depth, as the vision
transformers here, are untouched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from brcd_core.backbones import Backbone, weights


@torch.no_grad()
def drift(backbone: Backbone, batches: Iterable[Tensor], seed: int = 0) -> None:
    """Let the running statistics of all BatchNorms drift over batches of pixels (B, 3, S, S) in [0, 1].

    The backbone is changed, stays in eval mode, and its `checksum` becomes that of the drifted network if it has
    BatchNorms. `seed` is that of dropout and stochastic depth.
    ValueError if BatchNorms are folded.
    """
    norms = _norms(backbone)
    with _train_mode(backbone), _seeded(backbone.mean.device, seed):
        for pixels in batches:
            backbone(pixels)
    if norms:
        backbone.checksum = weights.checksum(backbone.network.state_dict())


class TrainMode(nn.Module):
    """Encodes a batch as the released code does in training: batch statistics, dropout, stochastic depth.

    Running statistics and the backbone itself are left as they are. What is dropped depends on `seed` and on the
    pixels of the whole batch: the same batch gives the same features, whatever came before it. Pixels that differ in
    their last bit, as on another kind of processor, give other drops.
    ValueError if BatchNorms are folded.
    """

    def __init__(self, backbone: Backbone, seed: int = 0) -> None:
        super().__init__()
        _norms(backbone)
        self.backbone, self.seed = backbone, seed

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, dim) float32 of pixels (B, 3, S, S) in [0, 1]."""
        content = pixels.float().cpu().contiguous().numpy().tobytes()
        digest = hashlib.sha256(self.seed.to_bytes(8, "little") + content).digest()
        norms = _norms(self.backbone)
        tracking = [norm.track_running_stats for norm in norms]
        with _train_mode(self.backbone), _seeded(pixels.device, int.from_bytes(digest[:7], "little")):
            try:
                for norm in norms:
                    norm.track_running_stats = False
                features: Tensor = self.backbone(pixels)
            finally:
                for norm, tracked in zip(norms, tracking, strict=True):
                    norm.track_running_stats = tracked
        return features


@contextmanager
def _train_mode(backbone: Backbone) -> Iterator[None]:
    """The network alone in train mode, which Backbone.train refuses to everyone else."""
    backbone.network.train()
    try:
        yield
    finally:
        backbone.network.eval()


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """The default random streams of the processor and of a GPU from a seed on, and afterwards as they were."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _norms(backbone: Backbone) -> list[_BatchNorm]:
    if backbone.folded:
        raise ValueError(
            f"{backbone.name} was loaded with its BatchNorms folded into convolutions, so they cannot use the "
            f"statistics of a batch: load it with backbones.load({backbone.name!r}, folded=False)"
        )
    return [module for module in backbone.network.modules() if isinstance(module, _BatchNorm)]
