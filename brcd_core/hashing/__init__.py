"""Hash models: how a head turns features into codes, and one short file per unsupervised objective.

A hash model is a module of this package with `Settings` (what can be chosen) and one of

- `loss(view_i, view_j, settings) -> scalar`: the head is trained with it, on two views of each image;
- `fit(features, bits, seed, settings) -> weight (K, D), bias (K,)`: in closed form, a linear head on the raw
  features (N, D), the same for equal arguments. The shallow references.

Adding one is adding a file; its name is the file's name.
"""

from __future__ import annotations

from brcd_core.hashing.heads import Hashed, HashHead, hashed
from brcd_core.plugins import Plugins

models = Plugins(
    __name__,
    kind="hash model",
    needs=("Settings",),
    one_of=("loss", "fit"),
    other_modules=("heads", "similarity"),
)

__all__ = ["HashHead", "Hashed", "hashed", "models"]
