"""The rules of a policy as they stand in its files: each with its place, its text and its plain values.

The pages show a rule to people from the file's own words, whatever keys the engine knows; whether it is
right is the loader's business (``policies.load``). A file that is no YAML gives no rules and raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from policies.document import Document, parse_documents
from policies.faults import ConfigFaults

NOT_EFFECTS = frozenset({"id", "priority", "description", "match", "unless", "when", "mode"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLine:
    """One rule of a file. ``line`` counts from 1."""

    id: str
    priority: int
    ar: str
    en: str
    match: Mapping[str, Any]
    unless: Mapping[str, Any]
    when: str  # the CEL expression
    effects: Mapping[str, Any]
    shadow: bool
    file: str
    line: int
    source: str  # the rule's own lines of YAML

    def described(self, language: str) -> str:
        return (self.ar if language == "ar" else self.en) or self.en or self.ar

    @property
    def action(self) -> str:
        """The action, or that of a limit for what is above it."""
        limit = self.effects.get("limit")
        limited = (limit.get("then") or "hold") if isinstance(limit, dict) else ""
        return str(self.effects.get("action") or limited)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """The rules in the order in which they are asked."""

    rules: tuple[RuleLine, ...]

    def rule(self, rule_id: str) -> RuleLine | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def of_file(self, name: str) -> tuple[RuleLine, ...]:
        return tuple(rule for rule in self.rules if rule.file == name)


def read_book(files: Mapping[str, str]) -> RuleBook:
    """The rules of these files (name to text)."""
    found = [rule for name, text in files.items() for rule in _rules(name, text)]
    return RuleBook(rules=tuple(sorted(found, key=lambda rule: (rule.priority, rule.id))))


@lru_cache(maxsize=64)
def _rules(name: str, text: str) -> tuple[RuleLine, ...]:
    """The rules of one text, kept: a folder's files change one at a time, and reading YAML takes a while."""
    return tuple(_read(name, text))


def _read(name: str, text: str) -> Iterator[RuleLine]:
    try:
        documents = parse_documents(text.encode(), name)
    except ConfigFaults:
        return
    lines = text.splitlines()
    for document in documents:
        data = document.data
        entries = data.get("rules") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            continue
        starts = [document.place(("rules", index))[0] for index in range(len(entries))]
        ends = [*starts[1:], len(lines) + 1]
        for index, entry in enumerate(entries):
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                source = _source(lines[starts[index] - 1 : ends[index] - 1])
                yield _line(entry, document, index, source)


def _source(lines: list[str]) -> str:
    """The lines without what follows the rule: blank lines, and comments that head the next one."""
    kept = list(lines)
    while kept and (not kept[-1].strip() or kept[-1].lstrip().startswith("#") or kept[-1].strip() == "---"):
        kept.pop()
    indent = min((len(line) - len(line.lstrip()) for line in kept if line.strip()), default=0)
    return "\n".join(line[indent:] for line in kept)


def _line(entry: dict[str, Any], document: Document, index: int, source: str) -> RuleLine:
    told = entry.get("description")
    described = told if isinstance(told, dict) else {}
    match, unless = entry.get("match"), entry.get("unless")
    priority = entry.get("priority")
    return RuleLine(
        id=entry["id"],
        priority=priority if isinstance(priority, int) else 0,
        ar=str(described.get("ar") or ""),
        en=str(described.get("en") or ""),
        match=match if isinstance(match, dict) else {},
        unless=unless if isinstance(unless, dict) else {},
        when=str(entry.get("when") or ""),
        effects={key: value for key, value in entry.items() if key not in NOT_EFFECTS},
        shadow=entry.get("mode") == "shadow",
        file=document.file,
        line=document.place(("rules", index, "id"))[0],
        source=source,
    )
