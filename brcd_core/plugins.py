"""One file per method: the modules of a package, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Plugins:
    """The methods that a package holds, one module each.

    `needs` are the names that each module must define, `one_of` those of which it must define at least
    one; `other_modules` are modules of the package that are not methods.
    """

    package: str
    kind: str
    needs: tuple[str, ...]
    other_modules: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Names of all methods, sorted."""
        paths = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(paths) if m.name not in self.other_modules)

    @cache  # asked for with every settings that are validated; a name that is not there is looked for again  # noqa: B019
    def load(self, name: str) -> Any:
        """The module of one method. ValueError for an unknown name or a module that lacks a needed name."""
        if name not in self.names():
            raise ValueError(f"unknown {self.kind} {name!r}; there are: {', '.join(self.names())}")
        module = importlib.import_module(f"{self.package}.{name}")
        missing = [need for need in self.needs if not hasattr(module, need)]
        if self.one_of and not any(hasattr(module, name) for name in self.one_of):
            missing.append(" or ".join(self.one_of))
        if missing:
            raise ValueError(f"{self.kind} {name!r}: {module.__file__} does not define {', '.join(missing)}")
        return module
