"""A look for one delivery in a mailbox: what the relay asks the watch, and what it is told.

Asked before a letter in doubt is sent again (DESIGN §6.1). Values only; :mod:`gateway.watch_role` answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracker.model import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """A delivery in doubt."""

    agency: str  # that received it
    number: str
    message_id: str
    recipient: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """``found`` is None when it could not be told. ``detail`` is for the evidence: mailbox, folder, uid."""

    found: bool | None
    detail: dict[str, Any]
