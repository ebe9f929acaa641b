"""The parameters of a notebook: read from its first cell, checked, and turned into a run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from brcd_core import backbones, datasets
from brcd_core.profiles import ParameterError, explain
from brcd_core.study.runs import ChangedRun, FeatureRun, SearchRun, StudyRun

Run = TypeVar("Run", bound=StudyRun)


def read(namespace: Mapping[str, Any], kind: type[Run]) -> Run:
    """The run that a notebook's parameters cell describes; call it in the first cell after that one.

    `namespace` is the notebook's globals(). ParameterError for a parameter that does not exist (its
    name and all that do are listed), for one that is missing, and for a value that is not allowed.
    """
    given = {name: namespace[name] for name in _parameter_names(namespace)}
    unknown = sorted(set(given) - set(kind.model_fields))
    if unknown:
        known = ", ".join(kind.model_fields)
        raise ParameterError(f"unknown parameter {', '.join(map(repr, unknown))}; this notebook has: {known}")
    try:
        run = kind.model_validate(given)
    except ValidationError as error:
        raise ParameterError(explain(error)) from None
    if isinstance(run, ChangedRun):
        check_inputs(run)
    return run


def check_inputs(run: ChangedRun) -> None:
    """Splits and backbones can give what the settings ask for. ParameterError if not, before anything is computed."""
    settings = run.settings
    try:
        parts = datasets.split(settings.data.dataset, settings.data.sizes(), settings.data.place())
        _check_parts(settings.data.dataset, parts)
        if isinstance(run, SearchRun) and run.queries > settings.data.query:
            raise ValueError(f"queries: {run.queries} asked for, the query split has {settings.data.query} images")
        for role in ("teacher", "student"):
            if name := getattr(run, role, None):
                backbones.check(name, settings.network(role).feature, settings.views.size)
        if isinstance(run, FeatureRun):
            for role in run.roles:
                backbones.check(run.backbone, settings.network(role).feature, settings.views.size)
    except (ValueError, FileNotFoundError) as error:
        raise ParameterError(str(error)) from None


def _check_parts(dataset: str, parts: Mapping[str, np.ndarray]) -> None:
    """ValueError where a split breaks a rule that codes and labels are matched by."""
    if not np.array_equal(parts["database"][: len(parts["train"])], parts["train"]):
        raise ValueError(f"{dataset}: the database of a split must begin with the training images, in their order")
    apart = np.concatenate([parts[part] for part in ("validation", "query", "database")])
    if len(np.unique(apart)) < len(apart):
        raise ValueError(f"{dataset}: validation, query and database of a split must not share an image")


def _parameter_names(namespace: Mapping[str, Any]) -> list[str]:
    """The names that a notebook's parameters cell assigns, and the cell that papermill puts behind it.

    Found in IPython's history, so that the results of later cells are not taken for parameters when a cell
    is run again. Where no history is kept, every public name that holds plain data is one.
    """
    own: list[str] = []
    injected: list[str] = []
    for source in namespace.get("In", []):
        names = _assigned(source)
        if source.startswith("# Parameters"):
            injected = names
        elif "profile" in names:
            own = names
    if own:
        return list(dict.fromkeys(own + injected))
    plain = (str, int, float, bool, list, dict, tuple, type(None))
    return [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in ("In", "Out") and isinstance(value, plain)
    ]


def _assigned(source: str) -> list[str]:
    """The names that the statements of a cell assign."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with IPython magic
        return []
    targets = [target for line in statements if isinstance(line, ast.Assign) for target in line.targets]
    targets += [line.target for line in statements if isinstance(line, ast.AnnAssign)]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
