"""Faults of configuration: what is wrong, in which file, on which line, and what to do about it.

Every loader of this project (settings, directory, policy) gathers all its faults and raises them
together as one :class:`ConfigFaults`; it raises nothing else for what stands in a file. One fault
reads ``agencies/mof.yaml:9: next_hop.port: must be at most 65535``, so that editors can jump there.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

Loc = tuple[int | str, ...]
Place = tuple[int, int]  # line, column, from 1; (0, 0): the file as a whole


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One fault. ``line`` and ``column`` count from 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    key: str = ""
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {key}{self.message}{hint}"

    @property
    def exact(self) -> str:
        """The same with its column, as compilers tell it and editors jump to."""
        plain = str(self)
        head = f"{self.file}:{self.line}"
        return f"{head}:{self.column}{plain[len(head) :]}" if self.line and self.column else plain

    def to_json(self) -> dict[str, object]:
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "hint": self.hint,
        }


class ConfigFaults(Exception):
    """A configuration was refused whole; ``faults`` holds every reason, sorted by file and line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(f) for f in self.faults))


# pydantic's error types in the words of someone who edits the file.
_WORDS: dict[str, str] = {
    "missing": "is required",
    "extra_forbidden": "unknown key",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "enum": "must be one of {expected}",
    "literal_error": "must be one of {expected}",
    "too_short": "needs at least {min_length} entry",
    "too_long": "has more than {max_length} entries",
    "string_too_long": "is longer than {max_length} characters",
    "byte_size": "is no size such as 50 MB",
    "byte_size_unit": "is no size such as 50 MB",
    "path_type": "must be a path",
}


def faults_of(
    error: ValidationError, model: type[BaseModel], file: str, place: Callable[[Loc], Place], prefix: Loc = ()
) -> list[Fault]:
    """The faults behind a pydantic error; ``place`` finds the line of a location inside the file."""
    out = []
    for item in error.errors(include_url=False, include_input=True):
        loc: Loc = item["loc"]
        kind, ctx = item["type"], item.get("ctx", {})
        if kind == "value_error":
            message = str(ctx.get("error", item["msg"]))
        elif kind in _WORDS:
            message = _WORDS[kind].format_map({k: str(v).replace("'", "") for k, v in ctx.items()})
        else:
            message = item["msg"][:1].lower() + item["msg"][1:]
        hint = ""
        if kind == "extra_forbidden" and isinstance(loc[-1], str):
            hint = suggestion(loc[-1], known_keys(model, loc[:-1]))
        elif kind in ("enum", "literal_error") and isinstance(item.get("input"), str):
            expected = str(ctx.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            close = difflib.get_close_matches(item["input"].lower(), expected, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}?" if close else ""
        line, column = place((*prefix, *loc))
        key = ".".join(str(part) for part in (*prefix, *loc))
        out.append(Fault(file=file, line=line, column=column, key=key, message=message, hint=hint))
    return out


def suggestion(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` or, for a short list, what there is; empty when neither helps."""
    words = sorted(set(known))
    plain = {w.lower().replace("-", "_"): w for w in words}
    # Codes of three letters are all alike.
    cutoff = 0.6 if len(word) > 4 else 0.7
    close = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1, cutoff=cutoff)
    if close:
        return f"did you mean {plain[close[0]]}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 40 else ""


def known_keys(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys that may stand at ``loc`` inside a file of that model."""
    models = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        found: list[type[BaseModel]] = []
        for one in models:
            for name, info in one.model_fields.items():
                if part in (name, info.alias):
                    found += _models_in(info.annotation)
        models = found or models
    return [info.alias or name for one in models for name, info in one.model_fields.items()]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for arg in typing.get_args(annotation) for m in _models_in(arg)]
