"""What is handed to a next hop and what came of it, per recipient.

STANDARDS
    RFC 5321 §3.3 and §4.5.3.2 (stages and their time-outs), RFC 3461 (RET, ENVID, NOTIFY, ORCPT),
    RFC 2033 §4.2 (LMTP answers for each recipient), RFC 3463 (the codes of our own results).

Plain values; nothing here fails. A result without a reply is in doubt only if the final dot went out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.content import Piece
from tracker.model import Address, TlsInfo
from tracker.reply import Reply


class CutOff(asyncio.CancelledError):
    """Cancelled when the next hop may have the letter already: its final dot was sent, at least to some."""


class Stage(StrEnum):
    """How far a transaction came; the reply, if there is one, is the answer to this."""

    LOCAL = "local"  # decided here, nothing was sent of this letter
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"  # the final dot was not sent
    FINAL = "final"  # the final dot was sent


# A permanent reply before MAIL speaks of the connection, not of the letter: the letter is tried again.
_OF_THE_LETTER = frozenset({Stage.LOCAL, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.CONTENT, Stage.FINAL})
# Bad sequence, sign in first, encrypt first (RFC 4954 §6, RFC 3207 §4): not the letter is wrong.
_OF_THE_SESSION = frozenset({503, 530, 538})
_WHY = {
    Stage.LOCAL: "4.3.0",
    Stage.CONNECT: "4.4.1",
    Stage.STARTTLS: "4.7.5",
    Stage.AUTH: "4.7.0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds for each stage (RFC 5321 §4.5.3.2); ``block`` is for each 256 KiB of content."""

    connect: float = 30
    greeting: float = 300
    hello: float = 300
    tls: float = 60
    mail: float = 300  # also for each RCPT
    data: float = 120
    block: float = 180
    final: float = 600
    quit: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OutRecipient:
    """One RCPT TO; NOTIFY and ORCPT in their wire form, sent only to a hop that offers DSN."""

    address: Address
    notify: str | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One mail transaction. ``pieces`` are the octets of the sent form, in order, unstuffed.

    ``eightbit`` announces BODY=8BITMIME where it is offered. 8-bit octets are found without it, and content
    that only claims them (clients do) can go anywhere.
    """

    sender: Address
    recipients: tuple[OutRecipient, ...]
    pieces: Sequence[Piece]
    ret: str | None = None
    envid: str | None = None
    smtputf8: bool = False
    requiretls: bool = False  # and REQUIRETLS (RFC 8689) from hop to hop
    require_tls: bool = False  # not over a connection in clear
    eightbit: bool = False
    paired: int = 0  # so many octets at the end are known to have CR and LF as pairs only, and no NUL


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one recipient. ``why`` says in words what happened where no reply was read."""

    reply: Reply | None
    stage: Stage
    in_doubt: bool = False
    why: str = ""
    rcpt: Reply | None = None  # the answer to its RCPT, whatever came later

    @property
    def accepted(self) -> bool:
        """True when the hop took responsibility: a 2xx to the final dot."""
        return self.reply is not None and self.stage is Stage.FINAL and self.reply.positive

    @property
    def permanent(self) -> bool:
        """True when trying again is of no use: a 5xx about the letter, not about the connection."""
        reply = self.reply
        return (
            reply is not None
            and reply.permanent
            and self.stage in _OF_THE_LETTER
            and (reply.code not in _OF_THE_SESSION or self.stage is Stage.LOCAL)
        )

    @property
    def told(self) -> Reply:
        """The reply, or one of ours in its place (RFC 3463 §3.5), for logs, evidence and reports."""
        if self.reply is not None:
            return self.reply
        return Reply.of(451, _WHY.get(self.stage, "4.4.2"), self.why or "no reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The results in the order of the recipients, and the dialogue that led to them."""

    results: tuple[Result, ...]
    peer: str  # host[ip]:port
    tls: TlsInfo | None
    transcript: str  # replies that concern all recipients, one a line
    dsn: bool = False  # the hop offers DSN: it answers for NOTIFY from here on (RFC 3461 §5.2.2)

    def transcript_for(self, index: int) -> str:
        """The dialogue as it concerns one recipient: the replies to others' RCPT are not in it (Bcc)."""
        result = self.results[index]
        lines = [self.transcript] if self.transcript else []
        if result.rcpt is not None:
            lines.append(f"RCPT: {result.rcpt}")
        if result.stage is Stage.FINAL and result.reply is not None:
            lines.append(f".: {result.reply}")
        elif result.reply is None or result.stage is Stage.LOCAL:
            lines.append(f"{result.stage}: {result.told}{' (in doubt)' if result.in_doubt else ''}")
        return "\n".join(lines)


OUTWARD = "outward"
"""In the stored facts of a letter: what policy wants of single recipients' copies, by ``Address.key``."""

UNASKED = "unasked"
"""There: a copy that does not ask for a read receipt, as others between agencies do."""

_XCHARS = re.compile(r"[!-*,-<>-~]*")


def orcpt_of(address: Address) -> str | None:
    """``rfc822;`` and the address in xtext (RFC 3461 §4.2, §5); None for one that is not ASCII."""
    text = str(address)
    if not text.isascii():
        return None
    if _XCHARS.fullmatch(text):
        return "rfc822;" + text
    return "rfc822;" + "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
