"""The desk behind the wire: what the SMTP listener asks about each session, and the limits it keeps.

The listener knows octets, verbs and limits; who may send what to whom is the desk's to say. A method
answers ``None`` for "go on" or the :class:`~tracker.reply.Reply` that the client is to read. A positive
reply of ``sender`` or ``recipient`` replaces the usual text; a negative one refuses.

An exception out of any method is answered ``451 4.3.0``, an ``OSError`` out of ``spool`` ``452 4.3.1``;
either ends the transaction and leaves the connection usable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tracker.archive import Octets, Spool
from tracker.model import Address, Connection, Envelope, Recipient
from tracker.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class MailParams:
    """The parameters of one MAIL FROM, validated (RFC 1870, 6152, 6531, 3461, 8689)."""

    size: int | None = None  # octets, as declared
    body: str = "7BIT"  # 7BIT or 8BITMIME
    smtputf8: bool = False
    requiretls: bool = False
    ret: str | None = None  # FULL or HDRS
    envid: str | None = None  # xtext, case kept


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Caps of one listener. Times in seconds, sizes in octets; RFC 5321 §4.5.3 gives the least allowed."""

    size: int = 50 * 1024 * 1024  # of one message
    command_line: int = 2048  # without CRLF
    auth_line: int = 12288  # RFC 4954 §4.5
    recipients: int = 1000  # accepted in one transaction
    errors: int = 20  # 5xx answers since the last letter, refused recipients apart
    refused_recipients: int = 1000  # in one session
    commands: int = 20_000  # in one session since the last letter that was taken
    letters: int = 1000  # in one session; then 421
    auth_failures: int = 3  # in one session
    auth_delay: float = 1.0  # before a failed AUTH is answered
    command_time: float = 300.0  # for a whole command line to arrive, and for a reply to be read
    data_time: float = 180.0  # between two blocks of content
    data_rate: int = 512  # octets a second that content must keep on average, after data_time
    letter_time: float = 1800.0  # for the whole content of one letter
    handshake_time: float = 30.0  # TLS
    session_time: float = 4 * 3600.0  # after it, 421 before the next command
    linger_time: float = 5.0  # the peer may finish what it was sending before we close
    connections: int = 1000
    connections_per_address: int = 100  # an IPv6 /64 counts as one address
    connections_per_account: int = 20
    octets_in_flight: int = 1024 * 1024 * 1024  # content of letters that are not answered yet


class Desk(Protocol):
    """The intake. ``conn`` always holds all that is known of the peer at that moment."""

    async def connected(self, conn: Connection) -> Connection | Reply:
        """Asked at the connection's start and again after STARTTLS, when ``conn.tls`` may name the peer's
        certificate. The connection that it returns (an agency filled in, say) is the one that counts."""

    async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
        """Asked on AUTH, only ever under TLS. Success is a connection with ``account`` (and agency) set."""

    async def sender(self, conn: Connection, sender: Address, params: MailParams) -> Reply | None:
        """Asked on MAIL FROM; ``sender`` is ``NULL_PATH`` for ``<>``."""

    async def recipient(
        self, conn: Connection, sender: Address, so_far: tuple[Recipient, ...], rcpt: Recipient
    ) -> Reply | None:
        """Asked on RCPT TO, with those already accepted in this transaction."""

    def spool(self) -> Spool:
        """A place for the content that is about to come; raises OSError when there is none."""

    async def letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        """Take the letter: a positive reply is a promise. Runs in a task of its own that neither the
        client's hanging up nor the listener's stop cancels. ``octets`` are the desk's from here on."""
