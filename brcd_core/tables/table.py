"""A table for readers: its numbers as csv, and the same as markdown, LaTeX and plain text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from brcd_core.atomic import write_text

NOTHING = "–"  # a cell for which there is no run
ALIKE = "†"  # beside a method that cannot be told from the one it is compared with
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "μ": r"$\mu$", "−": "$-$", "†": r"$\dagger$",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the study.

    name: of its files. caption: what to see in it. note: the protocol. values: the numbers in full precision,
    one row each. cells: text; its index holds the row headers, its columns one or two levels of headings.
    bold: (rows, columns) as cells, true where a cell is to be marked.
    """

    name: str
    caption: str
    note: str
    values: pd.DataFrame
    cells: pd.DataFrame
    bold: pd.DataFrame

    def csv(self) -> str:
        """The numbers, one row each; an empty field where there is none."""
        return self.values.to_csv(index=False, lineterminator="\n")

    def markdown(self) -> str:
        """Caption, table and note in GitHub's markdown."""
        headings = [*self._row_headings(), *(" ".join(heading) for heading in self._headings())]
        marks = [":--"] * len(self._row_headings()) + ["--:"] * len(self.cells.columns)
        lines = [headings, marks, *self._lines(_markdown, "**{}**".format)]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{_markdown(self.caption)}\n\n{table}\n\n{_markdown(self.note)}\n"

    def latex(self) -> str:
        """A table environment; the document needs \\usepackage{booktabs}."""
        left, right = len(self._row_headings()), len(self.cells.columns)
        body = [" & ".join(line) + r" \\" for line in self._lines(_latex, r"\textbf{{{}}}".format)]
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(self.caption)} {_latex(self.note)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{{'l' * left}{'r' * right}}}",
            r"\toprule",
            *self._latex_headings(),
            r"\midrule",
            *self._with_rules(body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def plain(self, width: int = 110) -> str:
        """Aligned text for a terminal; a star marks what the other forms print in bold."""
        levels = list(zip(*self._headings(), strict=True))
        heads = [[*([""] * len(self._row_headings())), *_without_repeats(level)] for level in levels]
        heads[-1][: len(self._row_headings())] = self._row_headings()
        body = list(self._lines(lambda text: text.replace(" ± ", "±"), "{}*".format))
        # A space takes the place of the star, so that the numbers stay below each other.
        left = len(self._row_headings())
        for line in body:
            line[left:] = [text if text.endswith("*") else f"{text} " for text in line[left:]]
        widths = [max(map(len, column)) for column in zip(*heads, *body, strict=True)]
        lines = [_aligned(line, widths, left) for line in [*heads, ["-" * w for w in widths], *body]]
        star = " A star: bold in the other forms." if self.bold.to_numpy().any() else ""
        above, below = textwrap.wrap(self.caption + star, width), textwrap.wrap(self.note, width)
        return "\n".join([*above, "", *lines, "", *below]) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.csv, NAME.md and NAME.tex, each atomically. The same table gives the same bytes."""
        texts = {"csv": self.csv(), "md": self.markdown(), "tex": self.latex()}
        paths = [folder / f"{self.name}.{ending}" for ending in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            write_text(path, text)
        return paths

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return self.markdown()

    def _row_headings(self) -> list[str]:
        return [str(name) for name in self.cells.index.names]

    def _headings(self) -> list[tuple[str, ...]]:
        return [heading if isinstance(heading, tuple) else (str(heading),) for heading in self.cells.columns]

    def _lines(self, escape: Callable[[str], str], embolden: Callable[[str], str]) -> Iterator[list[str]]:
        for position, key in enumerate(self.cells.index):
            heads = [escape(str(part)) for part in (key if isinstance(key, tuple) else (key,))]
            texts = [escape(text) for text in self.cells.iloc[position]]
            marks = self.bold.iloc[position]
            yield heads + [embolden(text) if mark else text for text, mark in zip(texts, marks, strict=True)]

    def _latex_headings(self) -> list[str]:
        """The heading lines; an upper heading spans its columns, with a rule below."""
        left, headings = [_latex(name) for name in self._row_headings()], self._headings()
        last = " & ".join([*left, *(_latex(heading[-1]) for heading in headings)]) + r" \\"
        if len(headings[0]) == 1:
            return [last]
        spans, rules, column = [], [], len(left) + 1
        for text, width in _groups([heading[0] for heading in headings]):
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(text)}}}")
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            column += width
        return [" & ".join([""] * len(left) + spans) + r" \\", " ".join(rules), last]

    def _with_rules(self, body: list[str]) -> list[str]:
        """A small space wherever all but the last row header change."""
        keys = [key[:-1] if isinstance(key, tuple) else () for key in self.cells.index]
        lines = []
        for position, line in enumerate(body):
            if position and keys[position] != keys[position - 1]:
                lines.append(r"\addlinespace")
            lines.append(line)
        return lines


def make(
    name: str,
    caption: str,
    note: str,
    values: pd.DataFrame,
    index: Sequence[Any],
    names: list[str],
    columns: Mapping[Any, Sequence[str]],
    bold: Mapping[Any, Sequence[bool]] | None = None,
) -> Table:
    """A table from its columns of text: heading (or a pair of headings) -> one text a row."""
    headings = list(columns)
    several = len(names) > 1
    rows = pd.MultiIndex.from_tuples(index, names=names) if several else pd.Index(index, name=names[0])
    paired = isinstance(headings[0], tuple)
    tops = pd.MultiIndex.from_tuples(headings) if paired else pd.Index(headings)
    marks = {heading: (bold or {}).get(heading, [False] * len(index)) for heading in headings}
    by_row = list(zip(*columns.values(), strict=True)), list(zip(*marks.values(), strict=True))
    cells, flags = (pd.DataFrame(part, index=rows, columns=tops) for part in by_row)
    return Table(name, caption, note, values, cells, flags)


def headers(columns: Mapping[str, Sequence[Any]], always: Collection[str] = ()) -> tuple[list[Any], list[str]]:
    """Row headers and their names, for `make`: those that differ between the rows, and those named in `always`."""
    kept = [name for name, texts in columns.items() if name in always or len(set(texts)) > 1]
    index = [tuple(map(str, texts)) for texts in zip(*(columns[name] for name in kept), strict=True)]
    return (index if len(kept) > 1 else [key[0] for key in index]), [name.replace("_", " ") for name in kept]


def _markdown(text: str) -> str:
    """Escaped where markdown would take a character for layout."""
    return re.sub(r"([|*`<>\\]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _latex(text: str) -> str:
    """Escaped for LaTeX; what is not ASCII becomes a command."""
    return "".join(LATEX.get(character, character) for character in text)


def _groups(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Runs of equal texts and their lengths."""
    groups: list[tuple[str, int]] = []
    for text in texts:
        if groups and groups[-1][0] == text:
            groups[-1] = (text, groups[-1][1] + 1)
        else:
            groups.append((text, 1))
    return groups


def _without_repeats(texts: Sequence[str]) -> list[str]:
    """An upper heading stands over the last column of its group; lower headings are all different."""
    return [text if position + 1 == len(texts) or texts[position + 1] != text else ""
            for position, text in enumerate(texts)]  # fmt: skip


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> str:
    parts = [text.ljust(width) if i < left else text.rjust(width) for i, (text, width) in
             enumerate(zip(line, widths, strict=True))]  # fmt: skip
    return "  ".join(parts).rstrip()
