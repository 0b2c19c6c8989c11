"""What the pages of policy are given: the rules in force, the files on disk, one way to change them.

Files are the truth: whatever is saved here is written into the policy folder and read again from there, as
if somebody had edited it. The gateway stands behind it (``gateway/web_policy.py``); a test gives it a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.chain import Policy
from policies.faults import Fault
from policies.versions import Draft


class FolderChanged(Exception):
    """The files on disk are no longer those that were opened; ``names`` are the ones that differ."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"changed meanwhile: {', '.join(names)}")
        self.names = names


class NotWritten(Exception):
    """The folder cannot be written; the message is for the administrator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """A policy in force with the texts that it was made from, by the names that rules bear."""

    policy: Policy
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderChange:
    """Files to write (None: to remove), and the digests of what stood there when they were opened.

    ``opened`` names every file that the writer has seen; a name that was not there has the digest of
    nothing, ``""``. ``undo`` brings back the state before when reading the folder again fails.
    """

    files: Mapping[str, str | None]
    opened: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What became of a saved change: the digest of the folder now, and whether it waits for approval."""

    version: str
    proposed: bool


class PolicyDesk(Protocol):
    """The policy of a running gateway. Everything here is called in a worker thread."""

    @property
    def editable(self) -> bool:
        """There is a folder of ours; the built-in rules cannot be edited."""
        ...

    @property
    def two_persons(self) -> bool:
        """A change needs the approval of a second administrator."""
        ...

    def in_force(self) -> PolicySet: ...

    def faults(self) -> tuple[Fault, ...]:
        """Why the files on disk are not in force; empty when nothing is wrong with them."""
        ...

    def on_disk(self) -> dict[str, str]:
        """The files of the folder as they stand now, by their path in it; raises OSError."""
        ...

    def draft(self, files: Mapping[str, str], /) -> Draft:
        """A whole folder from memory with what it is to be checked against; not compiled yet."""
        ...

    def save(self, change: FolderChange, /, *, by: str, note: str) -> Saved:
        """Write files and read the folder again.

        Raises :class:`FolderChanged`, :class:`NotWritten`, or ConfigFaults when the folder has faults
        (then it is as it was).
        """
        ...

    def rollback(self, version: str, /, *, by: str, note: str) -> Saved:
        """Write the files of a version back; raises like :meth:`save`, and ValueError with words."""
        ...

    def approve(self, version: str, /, *, by: str) -> None:
        """A second person puts a proposal in force; raises ValueError with words for the person."""
        ...


def text_digest(text: str | None) -> str:
    """The digest by which a file's text is known to have changed or not; of none: empty."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()
