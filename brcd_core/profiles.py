"""Profiles: all settings of a study in one YAML file, and which runs it consists of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from brcd_core import backbones, datasets, distillation, hashing
from brcd_core.config import Frozen, repository
from brcd_core.training import Scores, Select, Training
from brcd_core.views.augmentation import Augmentation


class ParameterError(ValueError):
    """A parameter is unknown or has a wrong value; the message names it and says what is allowed."""


class Data(Frozen):
    """The dataset and how many images of each split take part (the first of the committed lists).

    folder: where a dataset lies that cannot be fetched; from the repository, if relative.
    """

    dataset: str
    folder: str | None = None
    train: int = Field(ge=2)
    validation: int = Field(ge=1)
    query: int = Field(ge=1)
    database: int = Field(ge=1)

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        return one_of("dataset", name, datasets.names())

    def place(self) -> Path | None:
        """The folder, from the repository if it is relative; None where none is given."""
        return None if self.folder is None else repository() / Path(self.folder).expanduser()

    def sizes(self) -> dict[str, int]:
        """Images per split."""
        return {name: getattr(self, name) for name in ("train", "validation", "query", "database")}


class Views(Frozen):
    """Augmented views of each training image. count 0: no bank, every step computes fresh views."""

    count: int = Field(ge=0)  # 1 cannot be: contrastive training needs two
    size: int = Field(ge=8)  # pixels of a side, after augmentation
    seed: int = 0
    augmentation: Augmentation = Augmentation()

    @field_validator("count")
    @classmethod
    def _a_pair(cls, count: int) -> int:
        if count == 1:
            raise ValueError("contrastive training needs at least 2 views of an image, or 0 for fresh ones")
        return count


class ReleasedExtraction(Frozen):
    """What the released code does otherwise when it computes features."""

    train_mode: bool = False  # the student's backbone stays in train mode: its BatchNorm statistics drift


class Extraction(Frozen):
    """How features are computed. auto: bfloat16 where the processor gains by it, else float32."""

    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    batch: int = Field(64, ge=1)
    released: ReleasedExtraction = ReleasedExtraction()


Feature = Literal["penultimate", "logits"]


class Network(Frozen):
    """A role's feature (penultimate, or the ImageNet logits), its head and its training."""

    feature: Feature = "penultimate"
    hidden: int = Field(0, ge=0)  # width of the head's hidden layer; 0: a linear head
    training: Training = Training()


class Choice(Frozen):
    """A hash model or a distillation method by name, and its settings."""

    name: str
    settings: dict[str, Any] = {}


class Weights(Frozen):
    """How the weight of each distillation method is chosen on validation, for each student.

    Its published weight is multiplied by every one of `factors`; none: it is left as it is. Code lengths that
    stand in one group share the choice, made at the last of them; a length in no group is a group by itself.
    """

    factors: list[Annotated[float, Field(gt=0)]] = []
    groups: list[Annotated[list[int], Field(min_length=1)]] = []
    seed: int = Field(0, ge=0)  # of the teacher and the students that are compared

    def group(self, bits: int) -> list[int]:
        """The code lengths that share the choice with this one."""
        return next((group for group in self.groups if bits in group), [bits])


class Evaluation(Frozen):
    """k of mAP@k, and the k of precision@k."""

    k: int = Field(1000, ge=1)
    precision_at: list[Annotated[int, Field(ge=1)]] = [1, 10, 100, 1000]


class Settings(Frozen):
    """Everything that determines the numbers of a run, but for its seed, bits and networks."""

    data: Data
    views: Views
    extraction: Extraction = Extraction()
    teacher: Network = Network()
    student: Network = Network()
    hash_model: Choice = Choice(name="cibhash")
    distillation: Choice = Choice(name="none")
    select: Select = "mean"
    weights: Weights = Weights()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _methods_exist(self) -> Settings:
        self.hash_settings()
        self.distillation_settings()
        return self

    def network(self, role: str) -> Network:
        """The settings of a role, teacher or student."""
        return {"teacher": self.teacher, "student": self.student}[role]

    def hash_settings(self) -> Frozen:
        """The hash model's validated settings."""
        return hashing.models.load(self.hash_model.name).Settings(**self.hash_model.settings)

    def distillation_settings(self) -> Frozen:
        """The distillation method's validated settings."""
        return distillation.methods.load(self.distillation.name).Settings(**self.distillation.settings)

    def score(self) -> Callable[[Scores], float]:
        """The rule that picks a student's checkpoint from its validation scores, MEASURE_sshp and MEASURE_ashp."""
        counted = ("sshp", "ashp") if self.select == "mean" else (self.select,)

        def rule(scores: Scores) -> float:
            values = [value for name, value in scores.items() if name.endswith(counted)]
            return sum(values) / len(values)

        return rule

    def weighs(self) -> bool:
        """Whether the weight of the distillation term is chosen on validation: unless a profile names it."""
        has_one = hasattr(self.distillation_settings(), "weight")
        return has_one and bool(self.weights.factors) and "weight" not in self.distillation.settings


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


class Profile(Frozen):
    """A study: its settings, its methods (each a name for a change to the settings), and its runs."""

    description: str
    settings: Settings
    methods: dict[str, dict[str, Any]]
    runs: list[Block] = Field(min_length=1)

    @model_validator(mode="after")
    def _methods_are_listed(self) -> Profile:
        for block in self.runs:
            for method in block.methods:
                one_of("method", method, self.methods)
            for hash_model in block.hash_models:
                one_of("hash model", hash_model, hashing.models.names())
        for method in self.methods:
            self.resolve(method)
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


def one_of(what: str, value: str, allowed: Any) -> str:
    """`value` if it is allowed; ValueError naming it and listing what is, if not."""
    if value not in allowed:
        raise ValueError(f"unknown {what} {value!r}; there are: {', '.join(allowed)}")
    return value


def code_length(bits: int) -> int:
    """`bits` if codes of that length can be packed: a positive multiple of 8. ValueError if not."""
    if bits < 8 or bits % 8:
        raise ValueError(f"a code has a positive multiple of 8 bits, not {bits}")
    return bits


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
    content = yaml.safe_load(path.read_text())
    try:
        if "like" in content:
            base = load(content.pop("like"))
            content["settings"] = laid_over(base.settings.model_dump(mode="json"), content.get("settings", {}))
            content["methods"] = base.methods | content.get("methods", {})
        # Through JSON, because a list in YAML is to be taken for a tuple where the settings have one.
        return Profile.model_validate_json(json.dumps(content))
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
