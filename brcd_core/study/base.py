"""What all kinds of run have in common: a profile, a change to its settings, and a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from brcd_core import profiles
from brcd_core.config import Frozen, fingerprint, output_dir
from brcd_core.profiles import Profile
from brcd_core.settings import Settings


class StudyRun(Frozen):
    """A whole profile: its tables and its figures."""

    profile: str
    # Parameters that may be left out (None), and the list of the profile's first block that fills them.
    firsts: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        name = values.get("profile", "")
        if not isinstance(name, str):
            raise ValueError(f"profile is a name, not {name!r}")
        profile = profiles.load(name)
        block = profile.runs[0]
        lists = block.model_dump() | {"hash_models": profile.hash_models(block)}
        filled = {parameter: lists[source][0] for parameter, source in cls.firsts.items()}
        return values | {parameter: first for parameter, first in filled.items() if values.get(parameter) is None}

    @property
    def study(self) -> Profile:
        """The profile."""
        return profiles.load(self.profile)

    @property
    def results(self) -> Path:
        """results/<profile>/."""
        return output_dir() / "results" / self.profile

    @property
    def figures(self) -> Path:
        """figures/<profile>/."""
        return output_dir() / "figures" / self.profile


class ChangedRun(StudyRun):
    """A run of a profile, with settings changed as `change` says, e.g. {"student": {"hidden": 128}}.

    A run with a change has a folder of its own and takes no part in the profile's tables.
    """

    change: dict[str, Any] = {}

    @model_validator(mode="after")
    def _resolves(self) -> Self:
        _ = self.settings
        return self

    @property
    def settings(self) -> Settings:
        """The profile's settings with the change laid over them."""
        return self.study.resolve(None, self.change)

    def made_with(self) -> Any:
        """All settings that the run depends on, JSON-able: where they change, it is to be done again."""
        return self.settings.model_dump(mode="json")

    def place(self, *parts: object) -> Path:
        """Folder of a run: results/<profile>/runs/<part>/<part>/..."""
        top = f"changed-{fingerprint(self.change)[:8]}" if self.change else "runs"
        return self.results.joinpath(top, *map(str, parts))
