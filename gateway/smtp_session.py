"""The life of one SMTP session as a server: greeting, commands, TLS, errors, the end (RFC 5321 §3.1, §4.3).

Here are the verbs that need no transaction: HELO, EHLO, STARTTLS (RFC 3207), RSET, NOOP, QUIT, VRFY, EXPN
and HELP. AUTH is in ``smtp_auth.py``, the transaction in ``smtp_server.py``; a method ``smtp_VERB`` answers
a verb, as in aiosmtpd.

How it fails: what was not foreseen is ``451 4.3.0`` and ends the transaction; within content, where the
framing would be lost, it ends the session. After a handshake that failed nothing is said or heard any more.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from aiosmtpd.smtp import Session, syntax

from gateway.desk import Desk, WireLimits
from gateway.smtp_path import Offered, Refused
from gateway.smtp_replies import (
    BYE,
    FAILED,
    LONG_LINE,
    NO_ARGUMENT,
    NOT_UTF8,
    RESET,
    TOO_LONG_SESSION,
    TOO_MANY_COMMANDS,
    TOO_MANY_ERRORS,
    TOO_MANY_LETTERS,
    UNKNOWN,
    reply_octets,
)
from gateway.smtp_transaction import Transaction
from gateway.smtp_wire import STOPPING, UNSYNCHRONISED, Cut, Hangup, LongLine, Wire
from gateway.tally import Tally, plain_address
from gateway.tls_peer import tls_info
from tracker.model import Connection, Door
from tracker.reply import UNFORESEEN, Reply

log = logging.getLogger(__name__)

# A web page can make a browser send its form to a mail port: no verb of HTTP and no header line is answered.
_HTTP = re.compile(rb"(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|PRI)|[A-Z0-9-]+:", re.IGNORECASE)
_HELO = re.compile(r"[\x21-\x7e]{1,255}")

Verb = Callable[[Any, str], Awaitable[None]]


class DoorOfSession(Protocol):
    """What a session needs of its door (:class:`gateway.smtp_listener.SmtpListener`)."""

    loop: asyncio.AbstractEventLoop
    desk: Desk
    door: Door
    limits: WireLimits
    tls: ssl.SSLContext | None
    implicit: bool
    require_auth: bool
    offer_auth: bool
    hostname: str
    tally: Tally
    greeting: bytes

    def offer(self, *, extended: bool, secured: bool) -> Offered:
        """What a session in that state is offered."""

    def ehlo(self, offered: Offered) -> bytes:
        """The answer to EHLO for that offer."""

    def enter(self, session: Any, peer: str) -> bool:
        """Count a new session; False when it is one too many."""

    def ended(self, session: Any) -> None:
        """The session's task is over."""

    def gone(self, session: Any) -> None:
        """Task and socket are both at their end."""

    def take(self, letter: Coroutine[Any, Any, Reply]) -> asyncio.Task[Reply]:
        """Run the commit of one letter in a task that is kept until it is done."""


class SmtpSession(Wire):
    """One connection, without its letters."""

    _verbs: ClassVar[dict[bytes, Verb]] = {}

    def __init_subclass__(cls) -> None:
        # Once per class: aiosmtpd looks them up for every connection.
        cls._verbs = {name[5:].encode(): getattr(cls, name) for name in dir(cls) if name.startswith("smtp_")}

    def __init__(self, listener: DoorOfSession) -> None:
        super().__init__(listener.limits, listener.loop)
        self.listener = listener
        self.desk = listener.desk
        self.hostname = listener.hostname
        self.tls_context = listener.tls  # aiosmtpd's HELP asks for this name
        self.conn = Connection(door=listener.door, peer="")
        self.offered = listener.offer(extended=False, secured=False)
        self.transaction: Transaction | None = None
        self.refusal: Reply | None = None  # of the desk, after STARTTLS: due at the next command
        self.errors = 0
        self.refused_recipients = 0
        self.commands = 0
        self.auth_failures = 0
        self.letters = 0
        self.ends = self.loop.time() + listener.limits.session_time
        self.stopping = False
        self.in_content = False  # content is coming in, or its letter is being taken
        self.in_frame = False  # content is coming in
        self.counted_as = ""  # address that the tally holds for us
        self.account_counted = ""
        self._refusing = False  # this connection is one too many

    # The session's task.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        host, port = name[:2] if isinstance(name, tuple) else ("", 0)
        peer = plain_address(host)
        self.conn = Connection(door=self.listener.door, peer=peer, port=port)
        if self.listener.implicit:  # counted before its handshake
            self._secured_by(transport)
        else:
            self._refusing = not self.listener.enter(self, peer)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._handler_coroutine is None or self._handler_coroutine.done():
            self.listener.gone(self)

    async def _handle_client(self) -> None:
        try:
            if self._refusing:
                raise Cut(Reply.of(421, "4.7.0", "Too many connections, please try again later"))
            await self._greet()
            while True:
                await self._next_command()
        except Hangup:
            pass
        except Cut as cut:
            self.say(reply_octets(cut.reply))
            if cut.linger:
                await self.linger()
        except Exception:
            log.exception("session with %s", self.conn.peer)
            self.say(reply_octets(FAILED))
        finally:
            self._set_rset_state()
            self.hang_up()
            self.listener.ended(self)

    async def _greet(self) -> None:
        self._new_session()
        answer = await self.desk.connected(self.conn)
        if isinstance(answer, Reply):
            raise Cut(answer)
        self.conn = answer
        self.say(self.listener.greeting)

    def _new_session(self) -> None:
        self._set_rset_state()
        self.session = Session(self.loop)
        self.session.peer = self.conn.peer
        self.offered = self.listener.offer(extended=False, secured=False)

    async def _next_command(self) -> None:
        limits = self.limits
        now = self.loop.time()
        if self.stopping:
            raise Cut(STOPPING, linger=False)
        if self.letters >= limits.letters:
            raise Cut(TOO_MANY_LETTERS)
        if now > self.ends:
            raise Cut(TOO_LONG_SESSION)
        deadline = min(now + limits.command_time, self.ends)
        await self.relieve(deadline)
        self.in_content = False
        try:
            line = await self.next_line(limits.auth_line, deadline)
        except LongLine:
            line = None
        self.commands += 1
        if self.commands > limits.commands:
            raise Cut(TOO_MANY_COMMANDS)
        if self.refusal is not None:
            raise Cut(self.refusal)
        if line is None or (len(line) > limits.command_line and line[:5].upper() != b"AUTH "):
            self._answer(LONG_LINE)
            return
        try:
            await self._obey(line)
        except (Hangup, Cut, asyncio.CancelledError):
            raise
        except Refused as refused:
            self._answer(refused.reply)
        except Exception as error:
            if self.in_frame:  # where the content ends is not known any more
                log.exception("content from %s", self.conn.peer)
                raise Cut(UNFORESEEN) from error
            self._set_rset_state()
            await self.push(await self.handle_exception(error))

    async def _obey(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        method = self._verbs.get(verb.upper())
        try:
            arg = rest.decode("ascii") if rest.isascii() else rest.decode("utf-8")
        except UnicodeDecodeError:
            self._answer(NOT_UTF8)
            return
        if method is None:
            if _HTTP.fullmatch(verb):
                raise Cut(Reply.of(554, "5.7.0", "This is a mail server"))
            self._answer(UNKNOWN)
            return
        await method(self, arg.strip(" "))

    async def handle_exception(self, error: Exception) -> str:
        """Whatever was not foreseen: the trace to the log, ``451 4.3.0`` to the peer, the session goes on."""
        log.error("%s, session with %s", type(error).__name__, self.conn.peer, exc_info=error)
        return UNFORESEEN.wire()

    def _answer(self, reply: Reply, *, utf8: bool | None = None) -> None:
        """Send a reply of ours or of the desk's; a 5xx counts as an error of the peer's."""
        if utf8 is None:
            utf8 = self.transaction is not None and self.transaction.params.smtputf8
        if reply.code in (421, 521):  # RFC 5321 §3.8, RFC 7504: who says so hangs up
            raise Cut(reply)
        self.say(reply_octets(reply, utf8))
        if reply.permanent:
            self.errors += 1
            if self.errors > self.limits.errors:
                raise Cut(TOO_MANY_ERRORS)

    def _set_rset_state(self) -> None:
        """aiosmtpd's name for forgetting the transaction."""
        if self.transaction is not None:
            if self.transaction.content is not None:
                self.transaction.content.drop()
            self.transaction = None

    def stop(self) -> None:
        """End with 421: now if nothing is under way, else after the command that is."""
        self.stopping = True
        if not self.in_content:
            self.cut(Cut(STOPPING, linger=False))

    # Greeting and TLS.

    @syntax("HELO hostname")
    async def smtp_HELO(self, arg: str) -> None:
        if self._hello(arg, extended=False):
            self.say(b"250 " + self.hostname.encode())

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, arg: str) -> None:
        if self._hello(arg, extended=True):
            self.say(self.listener.ehlo(self.offered))

    def _hello(self, arg: str, *, extended: bool) -> bool:
        if _HELO.fullmatch(arg) is None:
            self._answer(Reply.of(501, "5.5.4", "Syntax: EHLO hostname"))
            return False
        self._set_rset_state()
        assert self.session is not None
        self.session.host_name = arg
        self.session.extended_smtp = extended
        self.conn = replace(self.conn, helo=arg)
        self.offered = self.listener.offer(extended=extended, secured=self.secured)
        return True

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str) -> None:
        if arg:
            self._answer(NO_ARGUMENT)
        elif self.secured or self.tls_context is None:
            self._answer(Reply.of(503, "5.5.1", "TLS is under way") if self.secured else UNKNOWN)
        else:
            # RFC 3207 §4.2: nothing that came in clear is used afterwards. Who sends on without waiting
            # is either broken or not alone on the line.
            if self.input_waits:
                raise Cut(UNSYNCHRONISED)
            self.say(b"220 2.0.0 Ready to start TLS")
            self.flush()
            await self._handshake()
            self.sign_out()
            self.conn = replace(self.conn, helo="", account=None, agency=None)
            self._new_session()
            answer = await self.desk.connected(self.conn)
            if isinstance(answer, Reply):
                self.refusal = answer
            else:
                self.conn = answer

    def sign_out(self) -> None:
        """The account, if one was counted, has a session less."""
        if self.account_counted:
            self.listener.tally.sign_out(self.account_counted)
            self.account_counted = ""

    async def _handshake(self) -> None:
        """Put TLS between transport and session; raises Hangup when that fails."""
        transport = self.transport
        assert self.tls_context is not None
        if transport is None or self.input_waits:
            raise Hangup
        try:
            # Up to its first await this takes the socket away from us, so no clear octet can come between.
            layer = await self.loop.start_tls(
                transport,
                self,
                self.tls_context,
                server_side=True,
                ssl_handshake_timeout=self.limits.handshake_time,
            )
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError) as error:
            log.info("TLS handshake with %s: %s", self.conn.peer, error)
            transport.abort()
            self.lost = True
            if isinstance(error, asyncio.CancelledError):
                raise
            raise Hangup from error
        if layer is None or self.lost:
            raise Hangup
        self.transport = layer
        self._secured_by(layer)

    def _secured_by(self, layer: asyncio.BaseTransport) -> None:
        ssl_object: ssl.SSLObject = layer.get_extra_info("ssl_object")
        self.conn = replace(self.conn, tls=tls_info(ssl_object))
        self.secured = True

    # The rest.

    @syntax("RSET")
    async def smtp_RSET(self, arg: str) -> None:
        if arg:
            self._answer(NO_ARGUMENT)
            return
        self._set_rset_state()
        self._answer(RESET)

    @syntax("NOOP [ignored]")
    async def smtp_NOOP(self, arg: str) -> None:
        self._answer(RESET)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str) -> None:
        raise Cut(BYE, linger=False)

    @syntax("VRFY address")
    async def smtp_VRFY(self, arg: str) -> None:
        if not arg:
            self._answer(Reply.of(501, "5.5.4", "Syntax: VRFY address"))
        else:
            self._answer(Reply.of(252, "2.1.5", "Cannot verify, but will take mail and try to deliver it"))

    async def smtp_EXPN(self, arg: str) -> None:
        self._answer(Reply.of(502, "5.5.1", "EXPN is not offered"))

    @syntax("HELP [verb]")
    async def smtp_HELP(self, arg: str) -> None:
        method = self._verbs.get(arg.upper().encode()) if arg else None
        if method is not None and self._syntax_available(method):
            text = method.__smtp_syntax__ + (method.__smtp_syntax_extended__ or "")  # type: ignore[attr-defined]
            self._answer(Reply.of(214, "2.0.0", f"Syntax: {text}"))
            return
        verbs = sorted(name for name, method in self._verbs.items() if self._syntax_available(method))
        self._answer(Reply.of(214, "2.0.0", "Commands: " + b" ".join(verbs).decode()))
