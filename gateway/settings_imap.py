"""The section of the IMAP proxy: what clients reach their mailboxes through, and what they may ask of it.

Where it listens stands with the other listeners (``[[listen]]``, doors ``imap`` and ``imaps``), whose server
an agency's mailboxes are on stands in the agency's file (``imap:``). Fails as every section does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from gateway.setting_values import DomainName, Duration, Octets
from gateway.settings_section import Section


class Imap(Section):
    """Clients that reach their mailboxes through Wasl."""

    connections: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 5000
    """Connections in all."""
    connections_per_address: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 200
    """Connections from one address; a client opens several, and an office may share an address."""
    failures: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 10
    """Failed logins of one account from one address within failure_window before it has to wait."""
    failure_window: Duration = timedelta(minutes=10)
    """The window, and the wait."""
    login_timeout: Duration = timedelta(minutes=1)
    """Time from the connection to a successful login."""
    upstream_timeout: Duration = timedelta(seconds=20)
    """How long the agency's server may take to connect, to shake hands and to answer the login."""
    line: Octets = 65_536
    """Longest line of a command; a longer one ends the session."""
    domain: DomainName | None = None
    """The domain of logins that name none; without it they are refused."""
    clear_login: bool = False
    """Take logins without TLS from clients on this machine; from elsewhere never."""
    observe: bool = True
    """Notice what is done with letters; without it the proxy only passes octets."""
