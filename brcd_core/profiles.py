"""Profiles: all settings of a study in one YAML file, and which runs it consists of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from brcd_core import backbones, hashing
from brcd_core.config import Frozen, repository
from brcd_core.settings import Settings, code_length, one_of


class ParameterError(ValueError):
    """A parameter is unknown or has a wrong value; the message names it and says what is allowed."""


Part = Literal["main", "ablation", "hash_models", "backbones", "released", "sensitivity"]
PARTS: tuple[Part, ...] = get_args(Part)


class Block(Frozen):
    """Runs of a study: every combination of what it lists. `part`: the table or figure that they serve."""

    part: Part = "main"
    teachers: list[str]
    students: list[str]
    hash_models: list[str] = []  # none: the profile's own
    methods: list[str]
    bits: list[int]
    seeds: list[int]

    @field_validator("teachers", "students")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return [one_of("backbone", name, backbones.names()) for name in names]

    @field_validator("bits")
    @classmethod
    def _packable(cls, lengths: list[int]) -> list[int]:
        return [code_length(bits) for bits in lengths]


class ViewCounts(Frozen):
    """Which numbers of cached views are compared, at one code length: for each of them, and with `once` for views
    that are read once, a teacher and a student of each seed, of the networks that the profile's first block begins
    with."""

    counts: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    once: bool = False
    seeds: list[int] = Field(min_length=1)
    method: str
    bits: int


class Profile(Frozen):
    """A study: its settings, its methods (each a name for a change to the settings), and its runs."""

    description: str
    settings: Settings
    methods: dict[str, dict[str, Any]]
    runs: list[Block] = Field(min_length=1)
    view_counts: ViewCounts | None = None

    @model_validator(mode="after")
    def _methods_are_listed(self) -> Profile:
        for block in self.runs:
            for method in block.methods:
                one_of("method", method, self.methods)
            for hash_model in block.hash_models:
                one_of("hash model", hash_model, hashing.models.names())
        for method in self.methods:
            self.resolve(method)
        if asked := self.view_counts:
            for change in view_changes(asked.counts, asked.once).values():
                self.resolve(asked.method, change)
        return self

    def hash_models(self, block: Block) -> list[str]:
        """The hash models of a block."""
        return block.hash_models or [self.settings.hash_model.name]

    def plain_method(self, distillation_name: str) -> str:
        """The first method that uses a distillation method: the one whose chosen weight its variants take too."""
        return next(name for name in self.methods if self.resolve(name).distillation.name == distillation_name)

    def resolve(self, method: str | None = None, change: Mapping[str, Any] | None = None) -> Settings:
        """The profile's settings with those of a method, and then `change`, laid over them."""
        if method is not None:
            one_of("method", method, self.methods)
        merged = self.settings.model_dump(mode="json")
        for layer in (self.methods[method] if method else {}, change or {}):
            merged = laid_over(merged, layer)
        return Settings.model_validate_json(json.dumps(merged))


def laid_over(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`; dictionaries are merged key by key, all else is replaced.

    A choice of another name replaces the old one whole: its settings belong to that name.
    """
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and value.get("name") in (None, old.get("name")):
            value = laid_over(old, value)
        result[key] = value
    return result


def view_changes(counts: Iterable[int], once: bool) -> dict[int | str, dict[str, Any]]:
    """The change to the settings for each number of views, and for views that are read once."""
    found: dict[int | str, dict[str, Any]] = {count: {"views": {"used": count, "once": False}} for count in counts}
    return found | ({"once": {"views": {"used": None, "once": True}}} if once else {})


def profiles_dir() -> Path:
    """The folder of the profiles, one YAML file each."""
    return repository() / "workflow" / "profiles"


def names() -> list[str]:
    """All profiles there are."""
    return sorted(path.stem for path in profiles_dir().glob("*.yaml"))


@cache
def load(name: str) -> Profile:
    """A profile by name. ParameterError for an unknown one, or for a key or value that is wrong.

    A file may say `like: <profile>`: its settings are then laid over those of that profile, and its methods are
    added to that profile's.
    """
    if name not in names():
        raise ParameterError(f"unknown profile {name!r}; there are: {', '.join(names())}")
    path = profiles_dir() / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ParameterError(f"{path.name} holds no settings; copy another profile")
        if "like" in content:
            if content["like"] == name:
                raise ParameterError(f"{path.name}: like: a profile is like another one")
            base = load(content.pop("like"))
            content["settings"] = laid_over(base.settings.model_dump(mode="json"), content.get("settings") or {})
            content["methods"] = base.methods | (content.get("methods") or {})
        # Through JSON, because a list in YAML is to be taken for a tuple where the settings have one.
        return Profile.model_validate_json(json.dumps(content))
    except yaml.YAMLError as error:
        raise ParameterError(f"{path.name} is no YAML: {error}") from None
    except ValidationError as error:
        raise ParameterError(f"{path.name}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """A pydantic error in one line a finding: where, what is wrong, what was given."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        what = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        given = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
        lines.append(f"{where}: {what.removeprefix('Value error, ')}{given}")
    return "; ".join(lines)
