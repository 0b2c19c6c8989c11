"""One Postfix-style line per recipient, so that a mail administrator's habits and tools work.

``wasl/relay[123]: 0sa94nafm0c00: to=<a@b>, relay=mx.b[10.0.0.1]:25, delay=0.12, dsn=2.0.0,
status=sent (250 2.0.0 Ok)``. Pass-through mail is pseudonymous (DESIGN §11): addresses are
replaced by a keyed digest that is the same for the life of the process. Text from peers is made
printable, so that nobody writes log lines for us.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re

from gateway.log import MAIL_LOG

_log = logging.getLogger(MAIL_LOG)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_KEY = os.urandom(16)


def printable(text: str, limit: int = 400) -> str:
    """One printable line of at most ``limit`` characters."""
    return _UNSAFE.sub("?", text)[:limit]


def pseudonym(address: str) -> str:
    """What stands for an address of pass-through mail."""
    if not address:
        return ""
    return "x" + hashlib.blake2b(address.casefold().encode(), key=_KEY, digest_size=6).hexdigest()


def _shown(address: str, private: bool) -> str:
    return pseudonym(address) if private else printable(address)


def incoming(
    wire_id: str, peer: str, sender: str, size: int, recipients: int, number: str | None, private: bool
) -> None:
    """A letter was accepted."""
    _log.info(
        "wasl/smtpd[%d]: %s: client=[%s], from=<%s>, size=%d, nrcpt=%d%s (queue active)",
        os.getpid(),
        wire_id,
        peer,
        _shown(sender, private),
        size,
        recipients,
        f", number={number}" if number else "",
    )


def refused(peer: str, sender: str, recipient: str, reply: str, helo: str) -> None:
    """A sender, recipient or letter was refused at the door."""
    _log.info(
        "wasl/smtpd[%d]: NOQUEUE: reject: from [%s]: %s; from=<%s> to=<%s> helo=<%s>",
        os.getpid(),
        peer,
        printable(reply),
        printable(sender),
        printable(recipient),
        printable(helo, 80),
    )


def outgoing(
    *,
    wire_id: str,
    recipient: str,
    peer: str,
    delay_s: float,
    dsn: str,
    status: str,
    text: str,
    private: bool,
    number: str | None = None,
) -> None:
    """How an attempt went for one recipient; ``status`` is sent, deferred, bounced or in-doubt."""
    _log.info(
        "wasl/relay[%d]: %s: to=<%s>, relay=%s, delay=%.2f, dsn=%s, status=%s (%s)%s",
        os.getpid(),
        wire_id,
        _shown(recipient, private),
        printable(peer or "none", 200),
        delay_s,
        dsn,
        status,
        printable(text),
        f", number={number}" if number else "",
    )
