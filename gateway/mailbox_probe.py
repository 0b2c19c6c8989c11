"""Asking an agency's IMAP server whether clients can reach their mailboxes on it through Wasl.

For ``wasl check``: the way that the proxy takes (:mod:`gateway.imap_upstream`) up to the login, and through
it where the agency gave a service account for a watched mailbox on the same server. What the proxy tells
clients before their login (RFC 9051 §7.2.2) must hold behind it too. Blocking, some seconds at most; every
failure is an answer in words, never an exception.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.hop_probe import TIMEOUT_S, Probe
from gateway.imap_capability import BEFORE_LOGIN, listed
from gateway.imap_upstream import Login, Refused, Unreachable, enter, offers
from gateway.imap_watch_client import shown, tls_words
from gateway.imap_wire import TooLong
from policies.agency import ImapServer
from policies.watch import Watch

_BASE = frozenset({b"IMAP4REV1", b"IMAP4REV2"})
# What a client may do without asking again after its login, and what goes wrong when the server cannot.
_PROMISED = frozenset(BEFORE_LOGIN.upper().split()) - _BASE - {b"SASL-IR"}


def probe_mailboxes(server: ImapServer, account: Watch | None = None) -> Probe:
    """Talk to the server as the proxy does; with ``account`` sign in."""
    try:
        return asyncio.run(_probe(server, account))
    except TimeoutError:
        return Probe(error="it does not answer")
    except TooLong:
        return Probe(error="it sends a line without end")
    except EOFError:
        return Probe(error="it hangs up")
    except (OSError, ValueError) as error:
        return Probe(error=tls_words(error))


async def _probe(server: ImapServer, account: Watch | None) -> Probe:
    offered = await offers(server, TIMEOUT_S)
    names = frozenset(word.decode("ascii", "replace") for word in offered)
    if not offered & _BASE:
        return Probe(error="it is no IMAP server: it offers neither IMAP4rev1 nor IMAP4rev2", offers=names)
    password = b"AUTH=PLAIN" in offered or b"LOGINDISABLED" not in offered
    if not password and b"AUTH=XOAUTH2" not in offered:
        return Probe(error="it takes neither a password (LOGINDISABLED) nor XOAUTH2", offers=names)
    notes = [*_who(server, offered)]
    if not password:
        notes.append("it takes XOAUTH2 only: clients with a password are refused")
    if account is None or not password:
        return Probe(notes=tuple(notes), offers=names)
    try:
        behind = await _inside(server, account)
    except Refused as refused:
        return Probe(
            error=f"it refuses {account.username}, the account of `watch:`: {shown(refused.text)}",
            notes=tuple(notes),
            offers=names,
        )
    except Unreachable as error:
        return Probe(error=f"no login: {error}", notes=tuple(notes), offers=names)
    missing = sorted(word.decode() for word in _PROMISED - behind) if behind else []
    if missing:
        lacks = ", ".join(missing)
        notes.append(f"it lacks {lacks}: clients that do not ask again after the login may stumble over it")
    return Probe(notes=tuple(notes), offers=names)


def _who(server: ImapServer, offered: frozenset[bytes]) -> list[str]:
    """What is to be said of how it learns the address of a client."""
    way = server.client_address
    able = {"id": b"ID" in offered, "xclient": b"XCLIENT" in offered}
    ban = "it sees all clients at the gateway's address, and failures of one may lock out all"
    if way in able and not able[way]:
        return [f"client_address is {way}, but it offers no {way.upper()}: {ban}"]
    if way == "auto" and not any(able.values()):
        return [f"it offers neither XCLIENT nor ID: {ban}"]
    return []


async def _inside(server: ImapServer, account: Watch) -> frozenset[bytes]:
    """Sign in and out; what the server offers behind the login, empty when it does not say by itself."""

    async def none(challenge: bytes) -> bytes:
        return b"*"

    login = Login(user=account.username, password=account.password)
    # No address of a client is passed on: there is none.
    entered = await enter(replace(server, client_address="none"), login, ("", 0), {}, none, TIMEOUT_S)
    entered.wire.write(b"x LOGOUT\r\n")
    entered.wire.close()
    said = (*entered.untagged, entered.text)
    return next((found for line in said if (found := listed(line)) is not None), frozenset())
