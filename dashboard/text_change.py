"""Two texts side by side as lines: what was taken out, what was put in, and some of what is around.

Plain values for a template. Bounded: of very different texts only the first ``MAX_LINES`` lines are told.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

AROUND = 3
MAX_LINES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedLine:
    """One line; ``mark`` is add, cut, same or gap. Line numbers count from 1, 0 where there is none."""

    mark: str
    old: int = 0
    new: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """One file that differs; ``what`` is added, removed or changed."""

    name: str
    what: str
    lines: tuple[ChangedLine, ...]
    added: int
    removed: int


def changed_lines(old: str, new: str) -> tuple[ChangedLine, ...]:
    """The lines that differ, each with a few around it."""
    out = []
    for line in _lines(old.splitlines(), new.splitlines()):
        out.append(line)
        if len(out) >= MAX_LINES:
            break
    return tuple(out)


def _lines(before: list[str], after: list[str]) -> Iterator[ChangedLine]:
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=len(before) + len(after) > 20_000)
    for number, group in enumerate(matcher.get_grouped_opcodes(AROUND)):
        if number:
            yield ChangedLine(mark="gap", text="…")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                    yield ChangedLine(mark="same", old=i + 1, new=j + 1, text=before[i])
                continue
            for i in range(i1, i2):
                yield ChangedLine(mark="cut", old=i + 1, text=before[i])
            for j in range(j1, j2):
                yield ChangedLine(mark="add", new=j + 1, text=after[j])


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[ChangedFile, ...]:
    """The files that differ, by name."""
    out = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        lines = changed_lines(before or "", after or "")
        out.append(
            ChangedFile(
                name=name,
                what="added" if before is None else "removed" if after is None else "changed",
                lines=lines,
                added=sum(line.mark == "add" for line in lines),
                removed=sum(line.mark == "cut" for line in lines),
            )
        )
    return tuple(out)
