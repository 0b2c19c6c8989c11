"""Reading policy files: YAML to compiled rules, every fault at once with file, line and column.

A policy folder has rule files, and beside them ``groups.yaml``, ``calendar.yaml``, ``marks.yaml`` and
``followup.yaml``; for each of those that it lacks the built-in one stands. The rules of
``default/safety.yaml`` are always in force, and while no rule of the folder asks what cannot be decided
(``undecidable``), so is that of ``default/undecidable.yaml``. Files in ``examples/`` are no rules.
:class:`PolicyFile` keeps the last good policy when the files are broken (promise 7).
Raises :class:`policies.faults.ConfigFaults` and nothing else.
"""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policies.calendar import CalendarEntry, build_calendar
from policies.case import Surface
from policies.chain import Policy
from policies.compile_rule import compile_rule
from policies.directory import Directory
from policies.document import MAX_OCTETS, Document, parse_documents
from policies.entry import Entry
from policies.expression import compile_once
from policies.faults import ConfigFaults, Fault, Loc, faults_of, suggestion
from policies.followup import FollowUp, FollowUpEntry, build_followup
from policies.groups import GroupsEntry, build_groups
from policies.marks import MarksEntry, build_marks
from policies.reach import unreachable
from policies.rule import Rule
from policies.rule_entry import RuleEntry
from policies.sound_part import sound_part

DEFAULT = Path(__file__).parent / "default"
SAFETY = DEFAULT / "safety.yaml"
UNDECIDABLE = DEFAULT / "undecidable.yaml"
LETTERS = DEFAULT / "letters.yaml"
GROUPS, CALENDAR, MARKS, FOLLOWUP = "groups.yaml", "calendar.yaml", "marks.yaml", "followup.yaml"
SPECIAL = (GROUPS, CALENDAR, MARKS, FOLLOWUP)  # at the top of a folder: no rules
DEFAULT_SET = tuple(DEFAULT / name for name in ("letters.yaml", "protection.yaml", "desk.yaml", *SPECIAL))
BUILT_IN = "default/"  # before the names of files that do not lie in the folder
EXAMPLES = "examples"  # a folder beside the rules: letters with the verdicts expected of them
FIRST_PRIORITY = 100  # what is below belongs to the safety rules
MAX_RULES = 5000
MAX_EXPRESSIONS = 2000

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ``settings`` stands for in ``size_over``, ``recipients_over`` and ``hops_over``."""

    size: int = 50_000_000
    recipients: int = 1000
    hops: int = 50


class RulesEntry(Entry):
    """A file of rules."""

    rules: list[RuleEntry]
    """The rules; in which order they stand in the files does not matter."""


def load_policy(
    folder: Path | str | None = None, limits: Limits | None = None, directory: Directory | None = None
) -> Policy:
    """The safety rules with those of a folder (default: the built-in set), compiled.

    With a directory the agencies and next hops that rules name are checked against it.
    """
    if folder is None:
        return load_policy_texts({}, limits, directory)
    root = Path(folder)
    base = root if root.is_dir() else root.parent
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    for path, name in policy_files(root):
        try:
            if path.stat().st_size > MAX_OCTETS:
                raise ConfigFaults([Fault(file=name, message=f"is larger than {MAX_OCTETS} octets")])
            files[path.relative_to(base).as_posix()] = path.read_bytes().removeprefix(BOM_UTF8)
        except OSError as e:
            faults.append(Fault(file=name, message=f"cannot be read: {e.strerror or e}"))
        except ConfigFaults as e:
            faults += e.faults
    label = f"{root.name}/" if root.is_dir() else ""
    return _load(files, limits or Limits(), directory, label, faults)


def load_policy_texts(
    files: Mapping[str, str],
    limits: Limits | None = None,
    directory: Directory | None = None,
    label: str = "",
) -> Policy:
    """The same from memory: paths inside the folder with their texts; without any rules the built-in set.

    Texts under ``default/`` replace the built-in files of that name, so that a version that was kept is
    what it was. ``label`` stands before the names in faults.
    """
    return _load(
        {n: t.encode("utf-8", "replace") for n, t in files.items()}, limits or Limits(), directory, label
    )


def _built_in() -> dict[str, bytes]:
    """What decides beside a policy folder, by name (``default/safety.yaml``)."""
    return {f"{BUILT_IN}{path.name}": path.read_bytes() for path in (SAFETY, UNDECIDABLE, *DEFAULT_SET)}


def _load(
    files: Mapping[str, bytes],
    limits: Limits,
    directory: Directory | None,
    label: str,
    faults: list[Fault] | None = None,
) -> Policy:
    faults = faults if faults is not None else []
    given = {name: octets for name, octets in files.items() if PurePosixPath(name).parts[:1] != (EXAMPLES,)}
    shelf = _built_in() | {name: octets for name, octets in given.items() if name.startswith(BUILT_IN)}
    own = {name: octets for name, octets in given.items() if not name.startswith(BUILT_IN)}
    whole = not own  # the built-in set
    if whole:
        own = {name: shelf.get(f"{BUILT_IN}{name}", b"") for name in (p.name for p in DEFAULT_SET)}
        label = BUILT_IN
    reading = _Reading(limits, directory, faults)
    surface = reading.surface(own, shelf, label)
    followup = reading.followup(own, shelf, label, surface)
    rules: dict[str, Rule] = {}
    used = {f"{BUILT_IN}{SAFETY.name}": shelf[f"{BUILT_IN}{SAFETY.name}"]}
    reading.rules(used, "", rules, surface, safety=True)
    reading.rules({n: o for n, o in own.items() if n not in SPECIAL}, label, rules, surface)
    if not any(c.key == "undecidable" for rule in rules.values() for c in rule.conditions):
        name = f"{BUILT_IN}{UNDECIDABLE.name}"
        used[name] = shelf[name]
        reading.rules({name: shelf[name]}, "", rules, surface, safety=True)
    ordered = tuple(sorted(rules.values(), key=lambda r: (r.priority, r.id)))
    if len(ordered) > MAX_RULES:
        faults.append(Fault(file=ordered[-1].file, message=f"there are more than {MAX_RULES} rules"))
    if sum(rule.when is not None for rule in ordered) > MAX_EXPRESSIONS:
        faults.append(Fault(file=ordered[-1].file, message=f"over {MAX_EXPRESSIONS} rules have a when:"))
    faults += unreachable(ordered)
    if faults:
        raise ConfigFaults(faults)
    used |= {f"{BUILT_IN}{name}": shelf[f"{BUILT_IN}{name}"] for name in SPECIAL if name not in own}
    used |= {(f"{BUILT_IN}{name}" if whole else name): octets for name, octets in own.items()}
    digest = hashlib.sha256(repr(limits).encode())
    for name in sorted(used):
        digest.update(f"{name}\0{len(used[name])}\0".encode() + used[name])
    return Policy(
        ordered,
        digest.hexdigest()[:16],
        surface,
        frozenset(reading.fields),
        {name: octets.decode("utf-8-sig") for name, octets in used.items()},
        followup,
    )


class _Reading:
    """One reading of a policy; faults of all files gather in ``faults``."""

    def __init__(self, limits: Limits, directory: Directory | None, faults: list[Fault]) -> None:
        self.limits = limits
        self.directory = directory
        self.faults = faults
        self.fields: set[str] = set()
        self._ids: dict[str, tuple[str, int]] = {}  # where each stands
        self._compiled = compile_once()

    def surface(self, own: Mapping[str, bytes], shelf: Mapping[str, bytes], label: str) -> Surface:
        """Marks, groups and calendar; the built-in ones where the folder's are broken."""

        def found(name: str, model: type[M]) -> tuple[M, Document, list[Fault]]:
            return self._found(name, model, own, shelf, label)

        marks = build_marks(*found(MARKS, MarksEntry))
        entry, document, faults = found(GROUPS, GroupsEntry)
        groups = build_groups(entry, document, self.directory, faults)
        return Surface(marks, groups, build_calendar(*found(CALENDAR, CalendarEntry)))

    def followup(
        self, own: Mapping[str, bytes], shelf: Mapping[str, bytes], label: str, surface: Surface
    ) -> FollowUp:
        """How letters are followed up; the built-in way where the folder's file is broken."""
        entry, document, faults = self._found(FOLLOWUP, FollowUpEntry, own, shelf, label)
        builtin = document.file.startswith(BUILT_IN) and FOLLOWUP not in own
        # The built-in file speaks of the built-in marks: a folder with other words of its own loses nothing.
        said = [] if builtin else faults
        return build_followup(entry, document, surface.marks, self.directory, said)

    def _found(
        self, name: str, model: type[M], own: Mapping[str, bytes], shelf: Mapping[str, bytes], label: str
    ) -> tuple[M, Document, list[Fault]]:
        """A file of the folder, or the built-in one where there is none or a broken one; where faults go."""
        if name in own:
            read = self._whole(own[name], f"{label}{name}", model)
            if read is not None:
                return *read, self.faults
        # Built-in files name no agencies: nothing in them can be missing from the directory.
        stock = _Reading(self.limits, None, [])
        read = stock._whole(shelf[f"{BUILT_IN}{name}"], f"{BUILT_IN}{name}", model)
        if read is None:
            raise ConfigFaults(stock.faults)
        return *read, stock.faults

    def rules(
        self,
        files: Mapping[str, bytes],
        label: str,
        rules: dict[str, Rule],
        surface: Surface,
        *,
        safety: bool = False,
    ) -> None:
        """The rules of these files, added to ``rules``."""
        for name in sorted(files):
            for document in self._documents(files[name], f"{label}{name}"):
                for data, loc in _entries(document, self.faults):
                    rule = self._rule(data, loc, document, surface, safety)
                    called, at = data.get("id"), (document.file, document.place((*loc, "id"))[0])
                    if isinstance(called, str) and (other := self._ids.setdefault(called, at)) is not at:
                        what = f"the id {called} is already that of {other[0]}:{other[1]}"
                        self.faults.append(document.fault((*loc, "id"), what))
                    if rule is not None:
                        rules.setdefault(rule.id, rule)

    def _rule(
        self, data: dict[str, Any], loc: Loc, document: Document, surface: Surface, safety: bool
    ) -> Rule | None:
        try:
            entry = RuleEntry.model_validate(data)
        except ValidationError as e:
            self.faults += faults_of(e, RuleEntry, document.file, document.place, loc)
            rest = sound_part(data, e)
            if rest is not None:
                self._compiled_rule(rest, data, loc, document, surface, safety)
            return None
        return self._compiled_rule(entry, data, loc, document, surface, safety)

    def _compiled_rule(
        self,
        entry: RuleEntry,
        data: dict[str, Any],
        loc: Loc,
        document: Document,
        surface: Surface,
        safety: bool,
    ) -> Rule:
        if not safety and entry.priority < FIRST_PRIORITY:
            what = f"must be at least {FIRST_PRIORITY}; below are the safety rules"
            self.faults.append(document.fault((*loc, "priority"), what))
        bounds = {
            "size_over": self.limits.size,
            "recipients_over": self.limits.recipients,
            "hops_over": self.limits.hops,
        }
        rule, fields = compile_rule(
            entry, data, loc, document, surface, bounds, self.directory, self._compiled, safety, self.faults
        )
        self.fields |= fields
        return rule

    def _documents(self, octets: bytes, name: str) -> list[Document]:
        try:
            # The built-in files are read again with each folder: they stay as they are.
            return _stock(octets, name) if name.startswith(BUILT_IN) else parse_documents(octets, name)
        except ConfigFaults as e:
            self.faults += e.faults
            return []

    def _whole(self, octets: bytes, name: str, model: type[M]) -> tuple[M, Document] | None:
        """A file that is one document of that shape."""
        documents = [d for d in self._documents(octets, name) if d.data is not None]
        if not documents:
            if not any(fault.file == name for fault in self.faults):
                self.faults.append(Fault(file=name, message="is empty", hint="leave the file out"))
            return None
        if len(documents) > 1:
            self.faults.append(documents[1].fault((), "must be one document"))
        document = documents[0]
        try:
            return model.model_validate(document.data), document
        except ValidationError as e:
            self.faults += faults_of(e, model, name, document.place)
            return None


_stock = lru_cache(maxsize=32)(parse_documents)


def policy_files(root: Path) -> list[tuple[Path, str]]:
    """The files of a policy folder with the names that faults call them by, sorted."""
    try:
        if root.is_file():
            return [(root, root.name)]
        if not root.is_dir():
            hint = "make it with `wasl init`, or leave out policy.path for the built-in rules"
            raise ConfigFaults([Fault(file=str(root), message="there is no such folder", hint=hint)])
        found = sorted(p for p in root.rglob("*") if p.suffix in (".yaml", ".yml"))
        kept = [p for p in found if _read(p.relative_to(root)) and p.is_file()]
    except OSError as e:
        raise ConfigFaults([Fault(file=str(root), message=f"cannot be read: {e.strerror or e}")]) from None
    if not any(p.relative_to(root).as_posix() not in SPECIAL for p in kept):
        hint = "leave out policy.path for the built-in rules"
        raise ConfigFaults([Fault(file=str(root), message="holds no rule file (*.yaml)", hint=hint)])
    return [(p, f"{root.name}/{p.relative_to(root).as_posix()}") for p in kept]


def _read(path: Path) -> bool:
    """Whether a file of a policy folder is one of its parts."""
    return not path.name.startswith((".", "_")) and path.parts[0] != EXAMPLES


class PolicyFile:
    """The policy in force. :meth:`reload` replaces it only by one without faults."""

    def __init__(self, folder: Path | str | None = None, limits: Limits | None = None) -> None:
        """Reads the policy; raises :class:`ConfigFaults` when there is no good one to begin with."""
        self.folder = Path(folder) if folder is not None else None
        self.limits = limits or Limits()
        self.current = load_policy(self.folder, self.limits)
        self.faults: tuple[Fault, ...] = ()

    def reload(self, directory: Directory | None = None) -> tuple[Fault, ...]:
        """Read again. Empty: the new policy is in force. Else the faults; the old one stays."""
        try:
            self.current = load_policy(self.folder, self.limits, directory)
            self.faults = ()
        except ConfigFaults as e:
            self.faults = e.faults
        return self.faults


def _entries(document: Document, faults: list[Fault]) -> list[tuple[dict[str, Any], Loc]]:
    data = document.data
    if data is None:
        return []
    if not isinstance(data, dict) or "rules" not in data:
        faults.append(document.fault((), "must hold rules:, a list"))
        return []
    for key in data:
        if key != "rules":
            faults.append(document.fault((key,), "unknown key", suggestion(key, ("rules",))))
    if not isinstance(data["rules"], list):
        faults.append(document.fault(("rules",), "must be a list of rules"))
        return []
    out: list[tuple[dict[str, Any], Loc]] = []
    for i, entry in enumerate(data["rules"]):
        if isinstance(entry, dict):
            out.append((entry, ("rules", i)))
        else:
            faults.append(document.fault(("rules", i), "must be a rule: id, priority, match, action"))
    return out
