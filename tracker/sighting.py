"""What a watcher sees: a place, a message there that claims to be a letter, and one that is.

The words between the watch (:mod:`gateway.imap_watch`) and the record (:mod:`tracker.observing`). Nothing
here raises.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tracker.noting import Note
from tracker.states import Event

HINTS = ("\\Seen", "\\Answered", "$MDNSent")  # RFC 9051 §2.3.2, RFC 3503
_HINT_BY_KEY = {flag.lower(): flag for flag in HINTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder of a watched mailbox, with what it says of a letter to lie there."""

    agency: str
    mailbox: str  # Address.key, under which the record keeps it
    also: tuple[str, ...] = ()
    registry: bool = False
    server: str = ""
    folder: str = "INBOX"
    event: Event | None = None  # None: an arrival and nothing more
    keywords: tuple[tuple[str, Event], ...] = ()

    def kept(self, flags: Iterable[str]) -> str:
        """Of the flags of a message those that mean something, as they are kept."""
        known = _HINT_BY_KEY | {word.lower(): word for word, _ in self.keywords}
        found = {known[f.lower()] for f in flags if f.lower() in known}
        return sys.intern(" ".join(sorted(found)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A message that claims to be a letter."""

    uid: int
    number: str
    message_id: str
    flags: frozenset[str]
    arrived: str = ""  # INTERNALDATE as the server gives it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A message that is a letter of ours, and what it gives to note."""

    uid: int
    delivery_id: int
    flags: str
    notes: tuple[Note, ...]
