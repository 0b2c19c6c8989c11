"""YAML documents as plain values that remember where each of them stood.

Only the composer of ruamel.yaml (YAML 1.2) is used: from its nodes this file makes dict, list, str,
int, float, bool and None and nothing else. No tag can make an object, duplicate keys are faults,
size, depth and alias expansion are bounded, so a file from anyone can be read. It raises
:class:`policies.faults.ConfigFaults` and nothing else for what stands in a file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from policies.faults import ConfigFaults, Fault, Loc, Place

MAX_OCTETS = 4_000_000  # a file
MAX_NODES = 200_000  # after aliases are expanded; 5,000 rules of 30 values are 150,000
MAX_DEPTH = 24

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")


@dataclass(slots=True)
class Document:
    """One YAML document: ``data`` and the place of every key and value in it."""

    file: str
    data: Any
    places: dict[Loc, Place] = field(default_factory=dict)
    text: str = field(default="", repr=False)  # of the whole file
    scalars: dict[Loc, int] = field(default_factory=dict, repr=False)  # where texts begin in it

    def place(self, loc: Loc) -> Place:
        """Line and column of a location, or of the nearest thing around it that stands in the file."""
        while loc and loc not in self.places:
            loc = loc[:-1]
        return self.places.get(loc, (1, 1))

    def inside(self, loc: Loc, offset: int) -> Place:
        """Line and column in the file of the character at ``offset`` of a text that stands at ``loc``.

        Text in quotes, in a block or over several lines does not stand in the file as it is read: both
        are followed side by side, blanks against blanks, escapes and indentation passed over.
        """
        value: Any = self.data
        for part in loc:
            value = value[part]
        at = self.scalars.get(loc, -1)
        if at < 0 or not isinstance(value, str):
            return self.place(loc)
        if self.text[at : at + 1] in ("|", ">"):
            at = self.text.find("\n", at) + 1  # the indicators of a block are none of its text
        mark, after = at, 0
        for char in value[: offset + 1]:
            after = 1
            if not char.isspace():
                found = self.text.find(char, at)
                if found < 0:
                    break
                mark, at, after = found, found + 1, 0
        after = after or int(offset >= len(value))
        line = self.text.count("\n", 0, mark) + 1
        return line, mark + after - self.text.rfind("\n", 0, mark)

    def fault(self, loc: Loc, message: str, hint: str = "") -> Fault:
        line, column = self.place(loc)
        key = ".".join(str(part) for part in loc)
        return Fault(file=self.file, line=line, column=column, key=key, message=message, hint=hint)


def read_documents(path: Path, name: str) -> tuple[list[Document], bytes]:
    """Every document of a YAML file and the file's octets; ``name`` is what faults call the file."""
    try:
        if path.stat().st_size > MAX_OCTETS:
            raise ConfigFaults([Fault(file=name, message=f"is larger than {MAX_OCTETS} octets")])
        octets = path.read_bytes()
    except OSError as e:
        raise ConfigFaults([Fault(file=name, message=f"cannot be read: {e.strerror or e}")]) from None
    return parse_documents(octets, name), octets


def parse_documents(octets: bytes, name: str) -> list[Document]:
    """Every document in ``octets``; raises ConfigFaults."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = octets.count(b"\n", 0, e.start) + 1
        raise ConfigFaults([Fault(file=name, line=line, column=1, message="is not UTF-8")]) from None
    yaml = YAML(typ="safe", pure=True)
    try:
        nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        what = (e.problem or e.context or "cannot be read as YAML").splitlines()[0]
        raise ConfigFaults(
            [Fault(file=name, line=line, column=column, message=f"is not YAML: {what}", hint=_advice(what))]
        ) from None
    except RecursionError:
        raise ConfigFaults([Fault(file=name, message="is nested too deeply")]) from None
    except (
        YAMLError,
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as e:
        # The scanner trips over some broken input with plain Python errors; to the reader it is the same.
        what = str(e).strip().splitlines()[:1]
        raise ConfigFaults(
            [Fault(file=name, message=f"is not YAML: {''.join(what) or 'unreadable'}")]
        ) from None
    out: list[Document] = []
    faults: list[Fault] = []
    budget = [MAX_NODES]
    for node in nodes:
        document = Document(name, None, text=text)
        try:
            document.data = _value(node, (), document, faults, budget)
        except _TooMuch as e:
            raise ConfigFaults([Fault(file=name, line=e.line, message=str(e))]) from None
        out.append(document)
    if faults:
        raise ConfigFaults(faults)
    return out


class _TooMuch(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _advice(problem: str) -> str:
    if "\\t" in problem or "tab" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "put text that holds a colon in quotes"
    return ""


def _value(node: Node | None, loc: Loc, doc: Document, faults: list[Fault], budget: list[int]) -> Any:
    if node is None:
        return None
    place = (node.start_mark.line + 1, node.start_mark.column + 1)
    doc.places.setdefault(loc, place)
    budget[0] -= 1
    if budget[0] < 0:
        raise _TooMuch("expands to too many values", place[0])
    if len(loc) > MAX_DEPTH:
        raise _TooMuch("is nested too deeply", place[0])
    tag = str(node.tag or "")
    if isinstance(node, MappingNode):
        if tag != f"{_TAG}map":
            faults.append(doc.fault(loc, f"the tag {_short(tag)} is not allowed"))
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, ScalarNode):
                faults.append(Fault(file=doc.file, line=line, column=column, message="a key must be a word"))
                continue
            key = str(key_node.value)
            if key in out:
                earlier = doc.place((*loc, key))[0]
                text = ".".join(map(str, (*loc, key)))
                hint = f"first on line {earlier}"
                fault = Fault(
                    file=doc.file, line=line, column=column, key=text, message="stands twice", hint=hint
                )
                faults.append(fault)
                continue
            doc.places[(*loc, key)] = (line, column)
            out[key] = _value(value_node, (*loc, key), doc, faults, budget)
        return out
    if isinstance(node, SequenceNode):
        if tag != f"{_TAG}seq":
            faults.append(doc.fault(loc, f"the tag {_short(tag)} is not allowed"))
        return [_value(item, (*loc, i), doc, faults, budget) for i, item in enumerate(node.value)]
    doc.scalars[loc] = node.start_mark.index
    return _scalar(str(node.value), tag, loc, doc, faults)


def _scalar(text: str, tag: str, loc: Loc, doc: Document, faults: list[Fault]) -> Any:
    kind = tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        # Other shapes that YAML takes for a number (0x1f, 1_000, 0o17) stay text: no surprises.
        return int(text) if _INT.fullmatch(text) else text
    if kind == "float":
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) else text
    if kind not in ("str", "timestamp", "value", "merge"):
        faults.append(doc.fault(loc, f"the tag {_short(tag)} is not allowed"))
    return text


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag or "!"
