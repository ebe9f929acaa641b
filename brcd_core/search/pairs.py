"""Whether the codes of one head can be searched by those of another: SSHP, or ASHP with its own teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from brcd_core import checkpoints
from brcd_core.encoder import Encoder, bits_of, role_of


class PairError(ValueError):
    """Two heads do not belong together; the message says why."""


class Origin(NamedTuple):
    """Which head codes come from: the SHA-256 of its weights, its code length, and what its file says of its run."""

    checksum: str
    bits: int
    about: dict[str, Any]

    def words(self) -> str:
        """The head in words."""
        run = self.about["run"]
        who = f"student {run['student']}, {run['method']}" if self.role == "student" else f"teacher {run['teacher']}"
        return f"{who}, {run['hash_model']}, {self.bits} bits, seed {run['seed']}, profile {run['profile']}"

    @property
    def role(self) -> str:
        """Teacher or student."""
        return role_of(self.about)


def origin_of(encoder: Encoder) -> Origin:
    """Which head an encoder uses."""
    return Origin(encoder.checksum, encoder.bits, encoder.about)


def read_origin(path: Path) -> Origin:
    """Which head a file holds, without its backbone. CheckpointError if it is damaged, or says not what it is of."""
    head, about = checkpoints.load_head(path)
    origin = Origin(checkpoints.checksum(head), bits_of(head), about)
    try:
        check_origin(origin)
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoints.CheckpointError(f"{path} does not say what it is of ({error!r}); train it again") from error
    return origin


def check_origin(origin: Origin) -> None:
    """KeyError or TypeError where a head says not what it is of; ValueError where its codes cannot be searched."""
    origin.words()
    origin.about["settings"]["data"]
    if origin.bits % 8:
        raise ValueError(f"a code has a multiple of 8 bits, not {origin.bits}")


def check_pair(query: Origin, database: Origin) -> None:
    """PairError unless both are one head, or the database's is the teacher that the query's has learnt from.

    A head that was taken away names its teacher's checksum. Other heads have to have the teacher's run and settings.
    """
    if (query.checksum, query.bits) == (database.checksum, database.bits):
        return
    if reason := _unlike(query, database):
        raise PairError(
            f"codes of the {database.words()} cannot be searched by those of the {query.words()}: {reason}. "
            "Use one head for both, or a student and the teacher that it has learnt from."
        )


def _unlike(query: Origin, database: Origin) -> str:
    """Why two heads do not belong together. Empty if they do."""
    if query.bits != database.bits:
        return "they differ in length"
    if (query.role, database.role) != ("student", "teacher"):
        return "they are not a student and its teacher"
    if "learnt_from" in query.about:
        return "" if query.about["learnt_from"] == database.checksum else "the student has learnt from another teacher"
    runs = [origin.about["run"] for origin in (query, database)]
    settings = [origin.about["settings"] for origin in (query, database)]
    names = [name for name in ("profile", "teacher", "hash_model", "seed") if runs[0].get(name) != runs[1].get(name)]
    names += [
        name
        for name in ("data", "views", "teacher", "hash_model")
        if name not in names and settings[0].get(name) != settings[1].get(name)
    ]
    return f"the student's teacher has another {', '.join(names)}" if names else ""
