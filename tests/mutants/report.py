"""The page about mutants: how many of each file died, and why each survivor changes nothing that a test could see."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import yaml

Reasons = dict[tuple[str, str, str], str]  # of function, line and what it becomes

INTRODUCTION = """# Do the tests notice?

Made by `make test-mutants`. mutmut {version} changed the code in small ways, one at a time (another operator, number or
argument, or none), and ran the tests that reach the changed function. A mutant dies if one of them fails, crashes, or
takes several times as long as usual. Tested: {sample}. **{died:.1%} died.** {explained} of the {survived} survivors
have a reason below; {equivalent} of them are equivalent: no test could tell them from the code.
"""
LIMITS = """
Not mutated: defaults of settings and other lines outside functions, decorated functions (`@property`,
`@torch.no_grad()`), docstrings, f-strings, type annotations, and calls of `len` and `isinstance`. The tests run with
fixed random examples, so a run repeats; but a mutant that only sometimes ends in time may count as died or survived.
"""


class Mutant(NamedTuple):
    """One changed line, what became of it, and where."""

    file: str
    function: str
    line: str  # of those that are alive
    becomes: str
    outcome: str  # killed, timeout, segfault, survived, no tests, not checked, ...

    @property
    def died(self) -> bool:
        """Whether a test noticed."""
        return self.outcome in ("killed", "timeout", "segfault")

    @property
    def key(self) -> tuple[str, str, str]:
        """What its reason is looked up by."""
        return self.function, self.line, self.becomes


def drawn(names: Iterable[str], sample: int | None) -> list[str]:
    """So many of the names, drawn at random, the same ones each time; all without a number."""
    names = sorted(names)
    random.Random(0).shuffle(names)
    return names[:sample]


def mutants(sample: int | None) -> tuple[list[Mutant], int]:
    """The mutants of mutmut's folder here, or a sample of them, and how many there are in all."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    files = {path: SourceFileMutationData(path=path) for path in sorted(walk_mutatable_files())}
    for data in files.values():
        data.load()
    names = [name for data in files.values() for name in data.exit_code_by_key]
    chosen, found = set(drawn(names, sample)), []
    for path, data in files.items():
        for name in (name for name in data.exit_code_by_key if name in chosen):
            function = re.sub(r"(?<=\.)x_|__mutmut_\d+$|^brcd_core\.", "", name.replace("xǁ", "").replace("ǁ", "."))
            one = Mutant(path.as_posix(), function, "", "", status_by_exit_code[data.exit_code_by_key[name]])
            if not one.died:
                diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
                lines, becomes = (" ".join(x[1:].strip() for x in diff if x.startswith(sign)) for sign in "-+")
                one = one._replace(line=lines, becomes=becomes)
            found.append(one)
    return found, len(names)


def reasons(path: Path) -> Reasons:
    """Why survivors change nothing: by function, a list of lines, what each becomes, and the reason."""
    return {
        (function, entry["line"], becomes): entry["why"]
        for function, entries in (yaml.safe_load(path.read_text()) or {}).items()
        for entry in entries
        for becomes in entry["becomes"]
    }


def page(found: list[Mutant], total: int, why: Reasons) -> str:
    """The page, as markdown, of the mutants that were tested of all."""
    from importlib.metadata import version

    survivors = [one for one in found if not one.died]
    explained = [why[one.key] for one in survivors if one.key in why]
    text = INTRODUCTION.format(
        version=version("mutmut"),
        sample=f"all {total:,}" if len(found) == total else f"{len(found):,} of {total:,}, drawn at random",
        died=1 - len(survivors) / len(found),
        survived=len(survivors),
        explained=len(explained),
        equivalent=sum(reason.startswith("equivalent") for reason in explained),
    )
    text += _table(found, why) + LIMITS + "\n## Survivors\n"
    grouped: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for one in survivors:
        old, new = _difference(one.line, one.becomes)
        grouped[one.function, why.get(one.key, f"**not explained** ({one.outcome})"), old].append(new)
    functions: dict[str, list[str]] = defaultdict(list)
    for (function, reason, old), new in grouped.items():
        functions[function].append(f"- {_code(old)} → {', '.join(map(_code, new))}: {reason}")
    for function, lines in functions.items():
        text += f"\n### {function}\n\n" + "\n".join(lines) + "\n"
    return text


def _table(found: list[Mutant], why: Reasons) -> str:
    heading = "| file | mutants | killed | timeout, crash | survived, explained | survived, not explained |"
    lines = ["", heading, "| :-- |" + " --: |" * 5]
    for file in [*dict.fromkeys(one.file for one in found), "all"]:
        own = [one for one in found if file in (one.file, "all")]
        count = Counter("dead" if one.died else "explained" if one.key in why else "open" for one in own)
        killed = sum(one.outcome == "killed" for one in own)
        numbers = (len(own), killed, count["dead"] - killed, count["explained"], count["open"])
        lines.append(f"| {file.removeprefix('brcd_core/')} | " + " | ".join(f"{n:,}" for n in numbers) + " |")
    return "\n".join(lines) + "\n"


def _difference(old: str, new: str) -> tuple[str, str]:
    """The words in which two lines differ, with one word around them."""
    before = _alike(old, new)
    after = _alike(old[before:][::-1], new[before:][::-1])
    start = max(old.rfind(" ", 0, max(before - 1, 0)) + 1, 0)
    end = old.find(" ", len(old) - after + 1)
    end = len(old) if end < 0 else end
    return old[start:end], new[start : len(new) - (len(old) - end)]


def _alike(one: str, other: str) -> int:
    """How many characters at the start of two texts are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _code(text: str) -> str:
    return f"`{text}`" if text else "nothing"
