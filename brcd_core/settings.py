"""Everything that determines the numbers of a run, as frozen and validated settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from brcd_core import datasets, distillation, hashing
from brcd_core.config import Frozen, repository
from brcd_core.training import Scores, Select, Training
from brcd_core.views.augmentation import Augmentation


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
    """Augmented views of each training image. count 0: no bank, every step computes fresh views.

    used: training reads the first so many views of the bank alone (None: all), so that one bank serves several
    numbers of views. Of 1 a pair is the one view and itself: all that is left to contrast are other images.
    once: no view is read twice; epoch e, from 0, reads views 2e and 2e + 1 of every image, as fresh views do.
    """

    count: int = Field(ge=0)
    size: int = Field(ge=8)  # pixels of a side, after augmentation
    seed: int = 0
    used: int | None = Field(None, ge=1)
    once: bool = False
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _of_the_bank(self) -> Views:
        if self.used is not None and self.used > self.count:
            raise ValueError(f"used is {self.used}, but the bank has {self.count} views (count)")
        if self.used is not None and self.once:
            raise ValueError("used and once exclude each other: views that are read once are as many as epochs need")
        return self


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
        if self.extraction.released.train_mode and not self.views.count:
            raise ValueError("extraction.released.train_mode needs cached views (views.count above 0)")
        return self

    @model_validator(mode="after")
    def _enough_views(self) -> Settings:
        needed = 2 * max(self.teacher.training.epochs, self.student.training.epochs)
        if self.views.once and self.views.count < needed:
            raise ValueError(f"views.once needs 2 views an epoch, {needed} in all; views.count is {self.views.count}")
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

    def uses_rotated(self) -> bool:
        """Whether the distillation method needs rotated views."""
        return bool(getattr(distillation.methods.load(self.distillation.name), "ROTATED", False))

    def weighs(self) -> bool:
        """Whether the weight of the distillation term is chosen on validation: unless a profile names it."""
        settings = self.distillation_settings()
        is_open = "weight" in type(settings).model_fields and "weight" not in settings.model_fields_set
        return is_open and bool(self.weights.factors)


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
