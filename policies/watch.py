"""A mailbox that Wasl looks into with a service account, and what its folders and keywords mean.

What the registry of an agency does with a letter in its own mailbox, by moving it to a folder or by
setting a keyword, is told here in Wasl's words (DESIGN §3, 4; EVIDENCE, "IMAP watch"). Frozen values;
``policies/agency_entry.py`` has the shape in which the agency's file describes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tracker.model import Address
from tracker.states import Event


class Meaning(StrEnum):
    """What it says of a letter that it lies in a folder or bears a keyword."""

    ARRIVAL = "arrival"  # that it is in the mailbox, and nothing more
    REGISTERED = "registered"
    IN_PROGRESS = "in-progress"
    PROCESSED = "processed"
    RETURNED = "returned"

    @property
    def event(self) -> Event | None:
        """The event of the record; None for what is only an arrival."""
        return None if self is Meaning.ARRIVAL else Event(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watched mailbox."""

    mailbox: Address
    also: tuple[Address, ...] = ()  # other addresses whose mail it takes
    registry: bool = False  # what is done in it is the act of the agency's registry
    host: str
    port: int
    tls: str  # a TlsMode
    verify: bool = True
    ca: Path | None = None
    username: str
    password: str = field(repr=False)
    folders: tuple[tuple[str, Meaning], ...]  # names as people write them, "/" between the levels
    keywords: tuple[tuple[str, Meaning], ...] = ()
    line: int = field(default=0, compare=False)  # of its entry in the agency's file

    @property
    def key(self) -> str:
        """Under which the record keeps it."""
        return self.mailbox.key
