"""One SMTP session as a server: verbs, order, replies (RFC 5321) and the extensions it offers.

SIZE (RFC 1870), 8BITMIME (6152), SMTPUTF8 (6531), PIPELINING (2920), ENHANCEDSTATUSCODES (2034), DSN (3461),
CHUNKING (3030, without BINARYMIME), STARTTLS (3207), AUTH PLAIN and LOGIN (4954, 4616) and REQUIRETLS (8689),
the last two only under TLS. Octets are read by ``gateway/smtp_wire.py``, arguments by ``smtp_path.py``,
content by ``smtp_data.py``; who may do what is asked of the :class:`~gateway.desk.Desk`.

How it fails: a refusal, a full disk, an exception of the desk end the transaction, never more (``452 4.3.1``,
``451 4.3.0``); content with bare octets, commands that run ahead of replies, too many errors end the session.
A letter that has come whole is taken in by a task of its own, whatever becomes of the session.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from aiosmtpd.smtp import Session, syntax

from gateway.desk import MailParams
from gateway.smtp_data import BARE, BUSY, Content, DotStream
from gateway.smtp_path import Refused, parse_mail, parse_rcpt
from gateway.smtp_wire import STOPPING, UNSYNCHRONISED, Cut, Hangup, LongLine, Wire
from gateway.tally import plain_address
from gateway.tls_peer import tls_info
from tracker.model import Address, Connection, Envelope, Recipient
from tracker.reply import UNFORESEEN, Reply

if TYPE_CHECKING:
    from gateway.smtp_listener import SmtpListener

log = logging.getLogger(__name__)

# A web page can make a browser send its form to a mail port: no verb of HTTP and no header line is answered.
_HTTP = re.compile(rb"(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|PRI)|[A-Z0-9-]+:", re.IGNORECASE)
_HELO = re.compile(r"[\x21-\x7e]{1,255}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_UTF8_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_OCTETS = 480

OK_SENDER = b"250 2.1.0 Sender OK"
OK_RECIPIENT = b"250 2.1.5 Recipient OK"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>"


def _line(code: int, status: str, text: str) -> Reply:
    return Reply.of(code, status, text)


_RESET = _line(250, "2.0.0", "OK")
_BYE = _line(221, "2.0.0", "Bye")
_UNKNOWN = _line(500, "5.5.1", "Command unrecognised")
_HELO_FIRST = _line(503, "5.5.1", "Send EHLO first")
_MAIL_FIRST = _line(503, "5.5.1", "Send MAIL first")
_RCPT_FIRST = _line(503, "5.5.1", "Send RCPT first")
_NO_RECIPIENTS = _line(554, "5.5.1", "No valid recipients")
_NESTED = _line(503, "5.5.1", "A transaction is under way already")
_AUTH_FIRST = _line(530, "5.7.0", "Authentication required")
_TLS_FIRST = _line(530, "5.7.0", "Issue STARTTLS first")
_TLS_FOR_AUTH = _line(538, "5.7.11", "Authentication needs TLS")
_NO_ARGUMENT = _line(501, "5.5.4", "This command takes no argument")
_BAD_BASE64 = _line(501, "5.5.2", "Not base64")
_NOT_UTF8 = _line(500, "5.5.2", "Command line is not UTF-8")
_FAILED = _line(421, "4.3.0", "Temporary failure, please try again later")
_TOO_MANY_ERRORS = _line(421, "4.7.0", "Too many errors")
_TOO_MANY_COMMANDS = _line(421, "4.7.0", "Too many commands, connect again")
_TOO_MANY_LETTERS = _line(421, "4.7.0", "Many letters in one connection, connect again for more")
_TOO_LONG_SESSION = _line(421, "4.4.2", "Session has lasted too long, connect again")
_LONG_LINE = _line(500, "5.5.2", "Command line too long")
_AUTHENTICATED = _line(235, "2.7.0", "Authentication successful")
_BAD_CREDENTIALS = _line(535, "5.7.8", "Authentication credentials invalid")


@lru_cache(maxsize=512)  # the same few replies, again and again
def reply_octets(reply: Reply, utf8: bool = False) -> bytes:
    """A reply without its last CRLF; UTF-8 text only where the client asked for it (RFC 6531 §3.7.4.2)."""
    if not utf8 or reply.text.isascii():
        return reply.wire().encode("ascii")
    prefix = f"{reply.status} " if reply.status else ""
    lines = reply.text.split("\n")
    out = []
    for i, text in enumerate(lines):
        text = _UTF8_UNSAFE.sub("?", text)
        octets = text.encode("utf-8", "replace")[:_LINE_OCTETS].decode("utf-8", "ignore")
        out.append(f"{reply.code}{' ' if i == len(lines) - 1 else '-'}{prefix}{octets}".rstrip())
    return "\r\n".join(out).encode()


class Transaction:
    """What MAIL began: reset as a whole, by success, failure or RSET."""

    __slots__ = ("content", "params", "recipients", "refused", "sender")

    def __init__(self, sender: Address, params: MailParams) -> None:
        self.sender = sender
        self.params = params
        self.recipients: tuple[Recipient, ...] = ()
        self.refused = False  # some recipient was
        self.content: Content | None = None  # since the first BDAT

    def envelope(self) -> Envelope:
        p = self.params
        return Envelope(
            sender=self.sender,
            recipients=self.recipients,
            ret=p.ret,
            envid=p.envid,
            body=p.body,
            smtputf8=p.smtputf8,
            requiretls=p.requiretls,
        )


class SmtpServer(Wire):
    """One connection of an :class:`~gateway.smtp_listener.SmtpListener`."""

    _verbs: ClassVar[dict[bytes, Callable[[SmtpServer, str], Awaitable[None]]]] = {}

    def __init__(self, listener: SmtpListener) -> None:
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

    # The session.

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
                raise Cut(_line(421, "4.7.0", "Too many connections, please try again later"))
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
            self.say(reply_octets(_FAILED))
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
            raise Cut(_TOO_MANY_LETTERS)
        if now > self.ends:
            raise Cut(_TOO_LONG_SESSION)
        deadline = min(now + limits.command_time, self.ends)
        await self.relieve(deadline)
        self.in_content = False
        try:
            line = await self.next_line(limits.auth_line, deadline)
        except LongLine:
            line = None
        self.commands += 1
        if self.commands > limits.commands:
            raise Cut(_TOO_MANY_COMMANDS)
        if self.refusal is not None:
            raise Cut(self.refusal)
        if line is None or (len(line) > limits.command_line and line[:5].upper() != b"AUTH "):
            self._answer(_LONG_LINE)
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
            self._answer(_NOT_UTF8)
            return
        if method is None:
            if _HTTP.fullmatch(verb):
                raise Cut(_line(554, "5.7.0", "This is a mail server"))
            self._answer(_UNKNOWN)
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
                raise Cut(_TOO_MANY_ERRORS)

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
            self._answer(_line(501, "5.5.4", "Syntax: EHLO hostname"))
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
            self._answer(_NO_ARGUMENT)
        elif self.secured or self.tls_context is None:
            self._answer(_line(503, "5.5.1", "TLS is under way") if self.secured else _UNKNOWN)
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

    # Authentication.

    @syntax("AUTH mechanism [initial-response]")
    async def smtp_AUTH(self, arg: str) -> None:
        assert self.session is not None
        mechanism, _, initial = arg.partition(" ")
        if not self.listener.offer_auth:
            self._answer(_line(502, "5.5.1", "Authentication is not offered"))
        elif not self.secured:
            self._answer(_TLS_FOR_AUTH)
        elif not self.session.extended_smtp:
            self._answer(_HELO_FIRST)
        elif self.session.authenticated:
            self._answer(_line(503, "5.5.1", "Already authenticated"))
        elif self.transaction is not None:
            self._answer(_NESTED)
        elif self.input_waits:
            raise Cut(UNSYNCHRONISED)
        elif mechanism.upper() == "PLAIN":
            await self._sign_in(await self._plain(initial))
        elif mechanism.upper() == "LOGIN":
            await self._sign_in(await self._login(initial))
        else:
            self._answer(_line(504, "5.5.4", "Unrecognised authentication mechanism"))

    async def _plain(self, initial: str) -> tuple[str, str]:
        """RFC 4616: ``authzid NUL authcid NUL password``; acting for another is not offered."""
        octets = await self._challenge(b"334 ") if not initial else _base64(initial.encode("utf-8"))
        parts = octets.split(b"\0")
        if len(parts) != 3:
            raise Refused(_line(501, "5.5.2", "Malformed PLAIN message"))
        if parts[0] and parts[0] != parts[1]:
            raise Refused(_BAD_CREDENTIALS)
        return _text(parts[1]), _text(parts[2])

    async def _login(self, initial: str) -> tuple[str, str]:
        user = await self._challenge(b"334 VXNlcm5hbWU6") if not initial else _base64(initial.encode("utf-8"))
        return _text(user), _text(await self._challenge(b"334 UGFzc3dvcmQ6"))

    async def _challenge(self, challenge: bytes) -> bytes:
        self.say(challenge)
        try:
            line = await self.next_line(self.limits.auth_line, self.loop.time() + self.limits.command_time)
        except LongLine:
            raise Refused(_line(500, "5.5.6", "Authentication line too long")) from None
        if self.input_waits:
            raise Cut(UNSYNCHRONISED)
        if line == b"*":
            raise Refused(_line(501, "5.7.0", "Authentication cancelled"))
        return _base64(line)

    async def _sign_in(self, credentials: tuple[str, str]) -> None:
        user, password = credentials
        if not user or not password or _CONTROLS.search(user) or _CONTROLS.search(password):
            answer: Connection | Reply = _BAD_CREDENTIALS
        else:
            answer = await self.desk.sign_in(self.conn, user, password)
        if isinstance(answer, Reply):
            if answer.permanent:
                self.auth_failures += 1
                await asyncio.sleep(self.limits.auth_delay)
            self._answer(answer)
            if self.auth_failures >= self.limits.auth_failures:
                raise Cut(_TOO_MANY_ERRORS)
            return
        if answer.account is not None:  # a relay's credential is nobody's account
            account = answer.account.casefold()
            if self.listener.tally.by_account[account] >= self.limits.connections_per_account:
                raise Cut(_line(421, "4.7.0", "Too many sessions of this account"))
            self.listener.tally.sign_in(account)
            self.account_counted = account
        self.conn = answer
        assert self.session is not None
        self.session.authenticated = True
        self.say(reply_octets(_AUTHENTICATED))

    def sign_out(self) -> None:
        if self.account_counted:
            self.listener.tally.sign_out(self.account_counted)
            self.account_counted = ""

    # The transaction.

    @syntax("MAIL FROM:<address>", extended=" [SP parameters]")
    async def smtp_MAIL(self, arg: str) -> None:
        assert self.session is not None
        if not self.session.host_name:
            self._answer(_HELO_FIRST)
            return
        if self.listener.require_auth and not self.session.authenticated:
            self._answer(_AUTH_FIRST if self.secured or self.tls_context is None else _TLS_FIRST)
            return
        if self.transaction is not None:
            self._answer(_NESTED)
            return
        sender, params = parse_mail(arg, self.offered)
        if self.listener.tally.octets + (params.size or 0) > self.limits.octets_in_flight:
            self._answer(BUSY)
            return
        self.transaction = Transaction(sender, params)
        reply = await self.desk.sender(self.conn, sender, params)
        if reply is None:
            self.say(OK_SENDER)
            return
        if not reply.positive:
            self._set_rset_state()
        self._answer(reply, utf8=params.smtputf8)

    @syntax("RCPT TO:<address>", extended=" [SP parameters]")
    async def smtp_RCPT(self, arg: str) -> None:
        t = self.transaction
        if t is None:
            self._answer(_MAIL_FIRST)
            return
        if t.content is not None:
            self._answer(_line(503, "5.5.1", "Content has begun"))
            return
        rcpt = parse_rcpt(arg, self.offered, smtputf8=t.params.smtputf8, hostname=self.hostname)
        if len(t.recipients) >= self.limits.recipients:
            self._answer(_line(452, "4.5.3", "Too many recipients in one transaction"))
            return
        reply = await self.desk.recipient(self.conn, t.sender, t.recipients, rcpt)
        if reply is None:
            self.say(OK_RECIPIENT)
        elif reply.positive:
            self._answer(reply)
        else:
            t.refused = True
            self.errors -= reply.permanent  # these have a count of their own
            self._answer(reply)
            self.refused_recipients += reply.permanent
            if self.refused_recipients > self.limits.refused_recipients:
                raise Cut(_TOO_MANY_ERRORS)
            return
        t.recipients += (rcpt,)

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        # RFC 2920 §3.1: DATA is the last command of its group. If it is refused while its content is
        # already here, that content must not be read as commands.
        if self.input_waits:
            raise Cut(UNSYNCHRONISED)
        t = self.transaction
        if arg:
            self._answer(_NO_ARGUMENT)
            return
        if t is None:
            self._answer(_MAIL_FIRST)
            return
        if not t.recipients:
            self._answer(_NO_RECIPIENTS if t.refused else _RCPT_FIRST)
            return
        if t.content is not None:
            self._answer(_line(503, "5.5.1", "BDAT has begun, DATA may not follow"))
            return
        t.content = self._new_content()
        if t.content.fault is not None:
            self._fail(t.content.fault)
            return
        self.say(GO_AHEAD)
        self.in_content = True
        await self._read_dots(t.content)
        await self._letter(t, t.content)

    @syntax("BDAT size [LAST]")
    async def smtp_BDAT(self, arg: str) -> None:
        words = arg.upper().split(" ")
        if (
            not words[0].isascii()
            or not words[0].isdecimal()
            or len(words[0]) > 20
            or len(words) > 2
            or words[1:] not in ([], ["LAST"])
        ):
            # What follows may be content of unknown length: it must not be read as commands.
            raise Cut(_line(501, "5.5.4", "Syntax: BDAT size [LAST]"))
        size, last = int(words[0]), len(words) == 2
        self.in_content = True
        t = self.transaction
        if t is None or not t.recipients:
            fault = _MAIL_FIRST if t is None else _NO_RECIPIENTS if t.refused else _RCPT_FIRST
            await self._swallow(size, fault)
            self._answer(fault)
            return
        content = t.content = t.content or self._new_content()
        if content.received + size > self.limits.size:
            content.fail(_line(552, "5.3.4", f"Message larger than {self.limits.size} octets"))
        if content.fault is not None:
            await self._swallow(size, content.fault)
        else:
            await self._read_chunk(content, size, last)
        if content.fault is not None:
            self._fail(content.fault)
        elif last:
            await self._letter(t, content)
        else:
            self.say(b"250 2.0.0 %d octets received" % size)

    def _new_content(self) -> Content:
        return Content(self.limits, self.listener.tally, self.desk.spool)

    async def _read_dots(self, content: Content) -> None:
        """Read up to CRLF.CRLF; what a fault leaves is swallowed, within bounds."""
        dots = DotStream()
        began = self.loop.time()
        self.in_frame = True
        while True:
            block = await self.next_block(self._content_deadline(began, content.received))
            piece, rest = dots.feed(block)
            content.take(piece, rest is not None)
            if content.fault is BARE:
                raise Cut(BARE)
            if rest is not None:
                self.give_back(rest)
                self.in_frame = False
                return
            self._check_swallowed(content.received, content.fault)

    async def _read_chunk(self, content: Content, size: int, last: bool) -> None:
        """Read exactly ``size`` octets into ``content``."""
        began = self.loop.time()
        taken = 0
        self.in_frame = True
        while taken < size:
            block = await self.next_block(self._content_deadline(began, taken))
            if len(block) > size - taken:
                self.give_back(block[size - taken :])
                block = block[: size - taken]
            taken += len(block)
            content.take(block, last and taken == size)
            if content.fault is BARE:
                raise Cut(BARE)
        if last and not size:
            content.take(b"", True)
            if content.fault is BARE:
                raise Cut(BARE)
        self.in_frame = False

    async def _swallow(self, size: int, fault: Reply) -> None:
        """Read ``size`` octets of a chunk that is already refused, to keep the framing."""
        began = self.loop.time()
        self._check_swallowed(size, fault)
        taken = 0
        while taken < size:
            block = await self.next_block(self._content_deadline(began, taken))
            if len(block) > size - taken:
                self.give_back(block[size - taken :])
            taken += len(block)

    def _check_swallowed(self, received: int, fault: Reply | None) -> None:
        if fault is not None and received > 2 * self.limits.size:
            raise Cut(fault)

    def _content_deadline(self, began: float, received: int) -> float:
        """When to give up waiting for the next block: it is late, or the whole is too slow."""
        limits = self.limits
        slowest = began + min(limits.data_time + received / limits.data_rate, limits.letter_time)
        return min(self.loop.time() + limits.data_time, slowest)

    async def _letter(self, t: Transaction, content: Content) -> None:
        """The content has come whole: hand it over and answer. The transaction is over in any case."""
        octets = content.finish()
        if octets is None:
            assert content.fault is not None
            self._fail(content.fault)
            return
        utf8 = t.params.smtputf8
        self.letters += 1
        try:
            task = self.listener.take(self.desk.letter(self.conn, t.envelope(), octets))
            reply = await asyncio.shield(task)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            reply = UNFORESEEN
            await self.handle_exception(error)
        finally:
            self._set_rset_state()
        if reply.positive:
            self.errors = self.commands = 0
        self._answer(reply, utf8=utf8)

    def _fail(self, reply: Reply) -> None:
        """Answer and forget the transaction."""
        self._set_rset_state()
        self._answer(reply)

    # The rest.

    @syntax("RSET")
    async def smtp_RSET(self, arg: str) -> None:
        if arg:
            self._answer(_NO_ARGUMENT)
            return
        self._set_rset_state()
        self._answer(_RESET)

    @syntax("NOOP [ignored]")
    async def smtp_NOOP(self, arg: str) -> None:
        self._answer(_RESET)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str) -> None:
        raise Cut(_BYE, linger=False)

    @syntax("VRFY address")
    async def smtp_VRFY(self, arg: str) -> None:
        if not arg:
            self._answer(_line(501, "5.5.4", "Syntax: VRFY address"))
        else:
            self._answer(_line(252, "2.1.5", "Cannot verify, but will take mail and try to deliver it"))

    async def smtp_EXPN(self, arg: str) -> None:
        self._answer(_line(502, "5.5.1", "EXPN is not offered"))

    @syntax("HELP [verb]")
    async def smtp_HELP(self, arg: str) -> None:
        method = self._verbs.get(arg.upper().encode()) if arg else None
        if method is not None and self._syntax_available(method):
            text = method.__smtp_syntax__ + (method.__smtp_syntax_extended__ or "")  # type: ignore[attr-defined]
            self._answer(_line(214, "2.0.0", f"Syntax: {text}"))
            return
        verbs = sorted(name for name, method in self._verbs.items() if self._syntax_available(method))
        self._answer(_line(214, "2.0.0", "Commands: " + b" ".join(verbs).decode()))


SmtpServer._verbs = {
    name[5:].encode(): getattr(SmtpServer, name) for name in dir(SmtpServer) if name.startswith("smtp_")
}


def _base64(octets: bytes) -> bytes:
    if octets == b"=":  # RFC 4954 §4: an empty initial response
        return b""
    try:
        return b64decode(octets, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(_BAD_BASE64) from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(_line(501, "5.5.2", "Credentials are not UTF-8")) from None
