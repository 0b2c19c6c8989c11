"""Where each key of a TOML file stands, which the standard library's reader does not tell.

:func:`places` walks the text once, after TOML 1.0, and notes line and column of every table and
key. It judges nothing: ``tomllib`` has accepted the text before, so the walk only has to find
its way past strings, comments, arrays and inline tables. On text that is no TOML the places are
merely incomplete.
"""

from __future__ import annotations

import re

Loc = tuple[int | str, ...]
Place = tuple[int, int]

_TOKEN = re.compile(
    r'''(?P<string>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')'''
    r"""|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<space>[ \t\r]+)"""
    r"""|(?P<mark>[\[\]{}=,.])|(?P<word>[^\s\[\]{}=,.\#"']+)""",
    re.DOTALL,
)


def places(text: str) -> dict[Loc, Place]:
    """Line and column, from 1, of every key, table and array entry."""
    return _Walk(text).found


class _Walk:
    def __init__(self, text: str) -> None:
        self.found: dict[Loc, Place] = {(): (1, 1)}
        self.tokens: list[tuple[str, str, Place]] = []
        self.at = 0
        line, start = 1, 0
        for match in _TOKEN.finditer(text):
            kind, token = match.lastgroup or "", match[0]
            if kind not in ("space", "comment"):
                self.tokens.append((kind, token, (line, match.start() - start + 1)))
            breaks = token.count("\n")
            if breaks:
                line += breaks
                start = match.start() + token.rindex("\n") + 1
        self._file()

    def _peek(self) -> tuple[str, str, Place]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "", (0, 0))

    def _file(self) -> None:
        table: Loc = ()
        counts: dict[Loc, int] = {}
        while self.at < len(self.tokens):
            kind, token, place = self._peek()
            if kind == "newline":
                self.at += 1
            elif token == "[":
                self.at += 1
                several = self._peek()[1] == "["
                self.at += several
                table = self._inside(self._key(), counts)
                if several:
                    self.found.setdefault(table, place)
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                self.found.setdefault(table, place)
                self._skip_line()
            else:
                self._pair(table)
                self._skip_line()

    def _inside(self, key: Loc, counts: dict[Loc, int]) -> Loc:
        """``[a.b]`` below ``[[a]]`` belongs to the last entry of that array."""
        out: Loc = ()
        for part in key[:-1]:
            out = (*out, part)
            if out in counts:
                out = (*out, counts[out])
        return (*out, *key[-1:])

    def _key(self) -> Loc:
        parts: list[str] = []
        while True:
            kind, token, _ = self._peek()
            if kind == "word":
                parts.append(token)
            elif kind == "string":
                parts.append(token.strip("\"'"))
            elif token != ".":
                return tuple(parts)
            self.at += 1

    def _pair(self, table: Loc) -> None:
        place = self._peek()[2]
        key = self._key()
        if not key:
            self.at += 1  # nothing that begins a key: never stand still
            return
        loc = table
        for part in key:
            loc = (*loc, part)
            self.found.setdefault(loc, place)
        if self._peek()[1] == "=":
            self.at += 1
            self._value(loc)

    def _value(self, loc: Loc) -> None:
        """Walk one value without recursion: arrays and inline tables keep their own small stack."""
        stack: list[tuple[str, Loc, int]] = []
        here, fresh = loc, False
        while True:
            kind, token, place = self._peek()
            if kind == "end" or (kind == "newline" and not stack):
                return
            self.at += 1
            if kind == "newline":
                continue
            if token in ("]", "}"):
                if not stack:
                    return
                stack.pop()
                fresh = False
                continue
            if token == ",":
                if not stack:
                    return
                mark, base, count = stack[-1]
                stack[-1] = (mark, base, count + 1)
                fresh = True
                continue
            if stack and fresh:
                mark, base, count = stack[-1]
                if mark == "{":
                    self.at -= 1
                    key = self._key()
                    here = (*base, *key)
                    self.found.setdefault(here, place)
                    if self._peek()[1] == "=":
                        self.at += 1
                    else:
                        self.at += not key
                    fresh = False
                    continue
                here = (*base, count)
                self.found.setdefault(here, place)
            fresh = False
            if token in ("[", "{"):
                stack.append((token, here, 0))
                fresh = True

    def _skip_line(self) -> None:
        while self._peek()[0] not in ("newline", "end"):
            self.at += 1
