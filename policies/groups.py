"""Groups of agencies and mailboxes that rules name, as ``groups.yaml`` has them.

A group has agencies (by code), mailboxes (addresses or ``@domain``) and other groups. It stands for
all of them, however deep; a group that holds itself is a fault. In keys of agencies (``submitter``,
``recipient_agency``) a group stands for its agencies, in keys of mailboxes (``author_mailbox``) for
its mailboxes and for every mailbox of its agencies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from policies.agency_entry import Text, mailbox
from policies.directory import Directory
from policies.document import Document
from policies.entry import ONE, Description, Entry
from policies.faults import Fault, suggestion

_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")
_CODE = re.compile(r"[A-Z][A-Z0-9-]{0,15}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be lower-case words joined by hyphens, such as ministries")
    return text


def _code(text: str) -> str:
    if not _CODE.fullmatch(text):
        raise ValueError("must be an agency's code such as MOF")
    return text


def _member(text: str) -> str:
    """An address or ``@domain``, folded to be compared."""
    return mailbox(f"x{text}").key[1:] if text.startswith("@") else mailbox(text).key


class GroupEntry(Entry):
    """One group."""

    description: Description | None = None
    """What it is for."""
    agencies: Annotated[list[Annotated[str, AfterValidator(_code)]], ONE, Field(max_length=5000)] = Field(
        default_factory=list
    )
    """Codes of agencies."""
    mailboxes: Annotated[list[Annotated[str, AfterValidator(_member)]], ONE, Field(max_length=20_000)] = (
        Field(default_factory=list)
    )
    """Addresses, or @domain for all of a domain."""
    groups: Annotated[list[Text], ONE, Field(max_length=500)] = Field(default_factory=list)
    """Other groups that belong to it."""


class GroupsEntry(Entry):
    """`groups.yaml`."""

    groups: Annotated[dict[Annotated[Text, AfterValidator(_name)], GroupEntry], Field(max_length=2000)]
    """Groups by name."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group with everything that is in its groups. ``mailboxes``: folded addresses and ``@domain``."""

    name: str
    agencies: frozenset[str] = frozenset()
    mailboxes: frozenset[str] = frozenset()
    ar: str = ""
    en: str = ""

    def holds(self, key: str, agency: str | None) -> bool:
        """Whether the mailbox with this folded address, of this agency, belongs to the group."""
        return (
            key in self.mailboxes or f"@{key.rpartition('@')[2]}" in self.mailboxes or agency in self.agencies
        )


Groups = Mapping[str, Group]


def build_groups(
    entry: GroupsEntry, document: Document, directory: Directory | None, faults: list[Fault]
) -> Groups:
    """The groups of a checked file; names that do not exist and circles go to ``faults``."""
    names = list(entry.groups)
    codes = [a.code for a in directory] if directory is not None else None
    inner: dict[str, list[str]] = {}
    for name, group in entry.groups.items():
        inner[name] = []
        for i, other in enumerate(group.groups):
            if other in entry.groups:
                inner[name].append(other)
            else:
                what, hint = f"there is no group {other}", suggestion(other, names)
                faults.append(document.fault(("groups", name, "groups", i), what, hint))
        for i, code in enumerate(group.agencies):
            if codes is not None and code not in codes:
                what, hint = f"there is no agency {code}", suggestion(code, codes)
                faults.append(document.fault(("groups", name, "agencies", i), what, hint))
    out: dict[str, Group] = {}
    for name, group in entry.groups.items():
        every = _below(name, inner)
        if any(name in inner[other] for other in every):
            faults.append(document.fault(("groups", name), f"{name} holds itself"))
            continue
        members = [entry.groups[other] for other in sorted(every)]
        out[name] = Group(
            name,
            frozenset(code for g in members for code in g.agencies),
            frozenset(box for g in members for box in g.mailboxes),
            group.description.ar if group.description is not None else "",
            group.description.en if group.description is not None else "",
        )
    return out


def _below(name: str, inner: Mapping[str, list[str]]) -> set[str]:
    """The group and every group in it; ends on circles."""
    seen, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += inner[one]
    return seen
