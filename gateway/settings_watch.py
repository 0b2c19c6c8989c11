"""The section of the IMAP watch. Which mailboxes are watched stands in the agencies' files (``watch:``).

Fails as every section does: a value out of bounds is a fault with its line.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from gateway.setting_values import Duration
from gateway.settings_section import Section


class WatchSection(Section):
    """Mailboxes that the gateway looks into (`watch:` in an agency's file)."""

    idle: Duration = timedelta(minutes=9)
    """How long one IDLE lasts before it is renewed; servers end it after 30 minutes (RFC 2177)."""
    poll: Duration = timedelta(seconds=30)
    """How often a folder is read where the server has no IDLE, or several folders share a connection."""
    connections: Annotated[int, Field(ge=1, le=50, strict=True)] = 5
    """Connections to one mailbox at most; each watches one folder, the last takes turns at the rest."""
    lease: Duration = timedelta(minutes=1)
    """After so long another node takes over a mailbox whose node is gone."""

    @model_validator(mode="after")
    def _sane(self) -> WatchSection:
        if self.idle > timedelta(minutes=29) or self.idle < timedelta(seconds=1):
            raise ValueError("idle must be between 1s and 29m")
        if self.poll < timedelta(seconds=1):
            raise ValueError("poll must be at least 1s")
        if self.lease < timedelta(seconds=3):
            raise ValueError("lease must be at least 3s")
        return self
