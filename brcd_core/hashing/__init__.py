"""Hash models: how a head turns features into codes, and one short file per unsupervised objective.

A hash model is a module of this package with two names: `Settings` (what can be chosen) and
`loss(view_i, view_j, settings) -> scalar`. Adding one is adding a file; its name is the file's name.
"""

from __future__ import annotations

from brcd_core.hashing.heads import Hashed, HashHead, hashed
from brcd_core.plugins import Plugins

models = Plugins(__name__, kind="hash model", needs=("Settings", "loss"), other_modules=("heads",))

__all__ = ["HashHead", "Hashed", "hashed", "models"]
