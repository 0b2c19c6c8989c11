"""Capabilities: what Wasl offers before the login, and what it takes out of the server's list after it.

RFC 3501 §7.2.1, RFC 9051 §7.2.2. Hidden is what would close the view or end the proxy's part: COMPRESS (RFC
4978), UNAUTHENTICATE (RFC 8437: another account on the same connection), URLAUTH (RFC 4467: a message handed
over outside the session), JMAPACCESS (RFC 9698) and referrals (RFC 2221, RFC 2193), which lead past Wasl,
UIDONLY (RFC 9586: no message numbers), and what belongs to the connection to the server alone (STARTTLS,
LOGINDISABLED). Everything else passes, known or not. Fails: never.
"""

from __future__ import annotations

import re

# ENABLE and IDLE are for clients that do not ask again after the login; hardly a server lacks them.
BEFORE_LOGIN = b"IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE"
MECHANISMS = b"AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2"

# Commands that are answered here: they would take the session out of the proxy's sight or hands.
REFUSED = frozenset(
    {
        b"COMPRESS",
        b"STARTTLS",
        b"LOGIN",
        b"AUTHENTICATE",
        b"UNAUTHENTICATE",
        b"URLFETCH",
        b"GETJMAPACCESS",
    }
)

_HIDDEN = re.compile(
    rb" (?:COMPRESS=[^\s\]]*|STARTTLS|LOGINDISABLED|UNAUTHENTICATE|UIDONLY|URLAUTH(?:=[^\s\]]*)?"
    rb"|JMAPACCESS|LOGIN-REFERRALS|MAILBOX-REFERRALS)"
    rb"(?=[\s\]]|$)",
    re.I,
)


def offered(*, secured: bool, starttls: bool) -> bytes:
    """The capabilities of a session that nobody has logged in to."""
    words = BEFORE_LOGIN
    if starttls:
        words += b" STARTTLS"
    return words + b" " + (MECHANISMS if secured else b"LOGINDISABLED")


def filtered(line: bytes) -> bytes:
    """A line that holds the server's capabilities, without those that the client shall not use."""
    return _HIDDEN.sub(b"", line)


def listed(line: bytes) -> frozenset[bytes] | None:
    """The capabilities in a CAPABILITY response or response code, in capitals; None: it tells none."""
    match = _LISTED.search(line)
    return frozenset(match[1].upper().split()) if match else None


_LISTED = re.compile(rb"(?:\A\* |\[)CAPABILITY ([^\]\r\n]*)", re.I)
