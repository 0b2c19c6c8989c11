"""Conditions in CEL, the Common Expression Language, beside the match keys of a rule (``when:``).

An expression is compiled once and checked before it meets a letter: names and functions, fields of
attachments, patterns, length, nesting, the number of loops, and whether it yields true or false on
letters of example. So what runs is bounded: it has no recursion, its loops run over what the facts hold
and no list grows. :class:`ExpressionFault` tells what is wrong and where in the text; while a
letter is decided :class:`ExpressionError` tells why no answer came out (an index too high, a division
by zero). The engine is written in Rust and imported when the first expression is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from policies.case import ANSWERED_FIELDS, ATTACHMENT_FIELDS, FUNCTIONS, VARIABLES, Case
from policies.faults import suggestion

MAX_NESTING = 16  # brackets within brackets
MAX_LOOPS = 6  # macros in one expression
MAX_LOOP_NESTING = 2  # loops within loops
MAX_PATTERN = 200  # characters of a regular expression
MAX_REPEAT = 50  # in {n,m}

_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
    |(?P<text>[rRbB]{0,2}(?:\"\"\"(?s:.*?)\"\"\"|'''(?s:.*?)'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_TYPES = frozenset({"int", "uint", "double", "string", "bool", "bytes", "list", "map", "type", "null_type"})
_WORDS = frozenset({"true", "false", "null", "in"})
# Of the language itself; what makes text or lists that grow is left out.
_STANDARD = frozenset({
    "size", "contains", "startsWith", "endsWith", "matches", "has", "type", "dyn",
    "int", "uint", "double", "string", "timestamp", "duration",
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
    "getHours", "getMinutes",
})  # fmt: skip


class ExpressionFault(ValueError):
    """An expression that is refused; ``offset`` counts characters of its text, from 0."""

    def __init__(self, message: str, offset: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.offset = max(0, offset)
        self.hint = hint


class ExpressionError(Exception):
    """An expression gave no answer on one letter; the text says why."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class Expression:
    """A compiled condition."""

    __slots__ = ("_program", "fields", "names", "source")

    def __init__(self, source: str) -> None:
        """Compile and check; raises :class:`ExpressionFault`."""
        import cel  # a Rust extension: only policies with expressions load it

        tokens = list(_tokens(source))
        _check_nesting(tokens)
        try:
            program = cel.compile(source)
        except (ValueError, RuntimeError) as e:
            raise _parse_fault(source, str(e)) from None
        names = program.references()
        _check_names(tokens, names["variables"], names["functions"])
        self.source = source
        self.fields = _fields(tokens)  # header fields that it asks for, lower case
        self.names = tuple(
            n for n in (*names["variables"], *names["functions"]) if n in VARIABLES or n in FUNCTIONS
        )
        self._program = program
        for case in Case.examples():
            try:
                value = self._program.execute(case.context(self.names))
            except (TypeError, KeyError, RuntimeError) as e:
                if isinstance(e, RuntimeError) and str(e).startswith("Function "):
                    continue  # the value of a letter is not what the function takes
                raise ExpressionFault(f"cannot be answered: {_reason(e)}") from None
            except (IndexError, ValueError, ArithmeticError):
                continue  # hangs on the letter
            if not isinstance(value, bool):
                raise ExpressionFault(f"must be true or false, and is {type(value).__name__}")

    def test(self, case: Case) -> bool:
        """The answer for one letter and recipient; raises :class:`ExpressionError`."""
        try:
            value = self._program.execute(case.context(self.names))
        except (TypeError, KeyError, RuntimeError, IndexError, ValueError, ArithmeticError) as e:
            raise ExpressionError(_reason(e)) from None
        if not isinstance(value, bool):
            raise ExpressionError(f"is {type(value).__name__}, not true or false")
        return value


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error.args[0] if error.args else 'such key'}"
    first = (str(error).splitlines() or [""])[0]
    return first.partition(". C")[0][:200] or type(error).__name__


def _tokens(source: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup or "sign"
        if kind != "blank":
            yield _Token(kind, match[0], match.start())


def _parse_fault(source: str, message: str) -> ExpressionFault:
    match = _PLACE.search(message)
    if match is None:
        return ExpressionFault(f"is no CEL: {message.splitlines()[0][:200]}")
    lines = source.split("\n")
    line = min(int(match[1]), len(lines))
    offset = sum(len(text) + 1 for text in lines[: line - 1]) + int(match[2]) - 1
    what = match[3]
    if "<EOF>" in what:
        return ExpressionFault("is no CEL: it breaks off", min(offset, len(source)), "something is missing")
    what = re.sub(r" expecting .*", "", what.removeprefix("Syntax error: "))
    hint = ""
    if "token recognition error" in what and source[offset : offset + 1] in "'\"":
        hint = "the quote is not closed"
    elif source[offset : offset + 1] in ("=", "&", "|"):
        hint = "compare with ==, join with && and ||"
    return ExpressionFault(f"is no CEL: {what}", min(offset, len(source)), hint)


def _check_nesting(tokens: list[_Token]) -> None:
    depth = 0
    for token in tokens:
        if token.kind == "sign" and token.text in "([{":
            depth += 1
            if depth > MAX_NESTING:
                raise ExpressionFault(f"is nested deeper than {MAX_NESTING} brackets", token.at)
        elif token.kind == "sign" and token.text in ")]}":
            depth -= 1
    loops = [i for i, t in enumerate(tokens) if _is_macro(tokens, i)]
    if len(loops) > MAX_LOOPS:
        what = f"has more than {MAX_LOOPS} loops (all, exists, filter, map)"
        raise ExpressionFault(what, tokens[loops[MAX_LOOPS]].at)
    if sum(tokens[i].text == "map" for i in loops) > 1:
        second = [i for i in loops if tokens[i].text == "map"][1]
        raise ExpressionFault("has more than one map()", tokens[second].at)
    inside = 0
    closes: list[int] = []
    depth = 0
    for i, token in enumerate(tokens):
        if token.kind == "sign" and token.text in "([{":
            depth += 1
            if i - 1 in loops:
                closes.append(depth)
                inside += 1
                if inside > MAX_LOOP_NESTING:
                    what = f"has more than {MAX_LOOP_NESTING} loops within each other"
                    raise ExpressionFault(what, tokens[i - 1].at)
        elif token.kind == "sign" and token.text in ")]}":
            if closes and closes[-1] == depth:
                closes.pop()
                inside -= 1
            depth -= 1


def _is_macro(tokens: list[_Token], i: int) -> bool:
    return (
        tokens[i].text in _MACROS
        and i > 0
        and tokens[i - 1].text == "."
        and i + 1 < len(tokens)
        and tokens[i + 1].text == "("
    )


def _check_names(tokens: list[_Token], variables: list[str], functions: list[str]) -> None:
    bound: dict[str, str] = {}  # loop variable -> what it runs over, as far as it can be told
    for i in range(len(tokens) - 2):
        if _is_macro(tokens, i) and tokens[i + 2].kind == "name":
            variable = tokens[i + 2]
            if variable.text in VARIABLES:
                what = f"{variable.text} is a fact; the loop needs a name of its own"
                raise ExpressionFault(what, variable.at)
            over = tokens[i - 2].text if i >= 2 else ""
            # The same name in two loops over different things is looked at in neither.
            bound[variable.text] = over if bound.get(variable.text, over) == over else ""
    for name in variables:
        if name not in VARIABLES and name not in bound and name not in _TYPES:
            at = _first(tokens, name)
            raise ExpressionFault(f"there is no {name}", at, suggestion(name, (*VARIABLES, *FUNCTIONS)))
    for name in functions:
        # Operators come as _+_, !_ and @in.
        if not name[0].isalpha() or name in FUNCTIONS or name in _STANDARD:
            continue
        hint = suggestion(name, (*FUNCTIONS, *_STANDARD, *_MACROS))
        raise ExpressionFault(f"there is no function {name}", _first(tokens, name), hint)
    known: dict[str, tuple[str, ...]] = {"answered": ANSWERED_FIELDS}
    known |= {name: ATTACHMENT_FIELDS for name, over in bound.items() if over == "attachments"}
    for i, token in enumerate(tokens[:-2]):
        if (
            token.text in known
            and token.kind == "name"
            and (i == 0 or tokens[i - 1].text != ".")
            and tokens[i + 1].text == "."
            and tokens[i + 2].kind == "name"
            and tokens[i + 2].text not in known[token.text]
        ):
            field = tokens[i + 2]
            hint = suggestion(field.text, known[token.text])
            raise ExpressionFault(f"{token.text} has no {field.text}", field.at, hint)
    _check_calls(tokens)


def _check_calls(tokens: list[_Token]) -> None:
    """Patterns and field names stand in the expression itself, so that they can be checked here."""
    for i, token in enumerate(tokens[:-2]):
        if token.kind != "name" or tokens[i + 1].text != "(":
            continue
        value = tokens[i + 2]
        if token.text in ("header", "headers", "has_header") and value.kind != "text":
            raise ExpressionFault("the field's name must stand in quotes", value.at, 'header("X-Spam")')
        if token.text == "matches":
            if value.kind != "text" or (i + 3 < len(tokens) and tokens[i + 3].text != ")"):
                raise ExpressionFault("the pattern must stand in quotes", value.at)
            _check_pattern(value)


def _check_pattern(token: _Token) -> None:
    import cel

    pattern = token.text
    if len(pattern) > MAX_PATTERN:
        raise ExpressionFault(f"the pattern is longer than {MAX_PATTERN} characters", token.at)
    counts = [max(int(m[1]), int(m[2] or 0)) for m in _REPEAT.finditer(pattern)]
    if len(counts) > 3 or any(count > MAX_REPEAT for count in counts):
        what = f"the pattern counts further than {MAX_REPEAT}, or more than three times"
        raise ExpressionFault(what, token.at)
    try:
        cel.evaluate(f"''.matches({pattern})")
    except (RuntimeError, ValueError, TypeError) as e:
        what = next((x for x in str(e).splitlines() if x.startswith("error:")), "error: unreadable")
        raise ExpressionFault(f"the pattern is wrong: {what[7:].partition('. Check')[0]}", token.at) from None


def _fields(tokens: list[_Token]) -> frozenset[str]:
    out = set()
    for i, token in enumerate(tokens[:-2]):
        if token.text in ("header", "headers", "has_header") and tokens[i + 1].text == "(":
            out.add(tokens[i + 2].text.strip("rRbB").strip("\"'").lower())
    return frozenset(out)


def _first(tokens: list[_Token], name: str) -> int:
    for i, token in enumerate(tokens):
        if token.kind == "name" and token.text == name and (i == 0 or tokens[i - 1].text != "."):
            return token.at
    return next((t.at for t in tokens if t.text == name), 0)


Compile = Callable[[str], Expression]


def compile_once() -> Compile:
    """Compiles each text once, however many rules share it."""
    known: dict[str, Any] = {}

    def compiled(source: str) -> Expression:
        if source not in known:
            known[source] = Expression(source)
        made: Expression = known[source]
        return made

    return compiled
