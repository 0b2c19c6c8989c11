"""One SMTP session as a server: verbs, order, replies (RFC 5321) and the extensions it offers.

SIZE (RFC 1870), 8BITMIME (6152), SMTPUTF8 (6531), PIPELINING (2920), ENHANCEDSTATUSCODES (2034), DSN (3461),
CHUNKING (3030, without BINARYMIME), STARTTLS (3207), AUTH PLAIN and LOGIN (4954, 4616) and REQUIRETLS (8689),
the last two only under TLS. Octets are read by ``smtp_wire.py``, the session is kept by ``smtp_session.py``
and ``smtp_auth.py``, arguments are read by ``smtp_path.py``, content by ``smtp_data.py``; here is the
transaction. Who may do what is asked of the :class:`~gateway.desk.Desk`.

How it fails: a refusal, a full disk, an exception of the desk end the transaction, never more (``452 4.3.1``,
``451 4.3.0``); content with bare octets, commands that run ahead of replies, too many errors end the session.
A letter that has come whole is taken in by a task of its own, whatever becomes of the session.
"""

from __future__ import annotations

import asyncio

from aiosmtpd.smtp import syntax

from gateway.smtp_auth import SmtpAuth
from gateway.smtp_data import BARE, BUSY, Content, DotStream
from gateway.smtp_path import parse_mail, parse_rcpt
from gateway.smtp_replies import (
    AUTH_FIRST,
    GO_AHEAD,
    HELO_FIRST,
    MAIL_FIRST,
    NESTED,
    NO_ARGUMENT,
    NO_RECIPIENTS,
    OK_RECIPIENT,
    OK_SENDER,
    RCPT_FIRST,
    TLS_FIRST,
    TOO_MANY_ERRORS,
)
from gateway.smtp_transaction import Transaction
from gateway.smtp_wire import UNSYNCHRONISED, Cut
from tracker.reply import UNFORESEEN, Reply


class SmtpServer(SmtpAuth):
    """One connection of an :class:`~gateway.smtp_listener.SmtpListener`."""

    @syntax("MAIL FROM:<address>", extended=" [SP parameters]")
    async def smtp_MAIL(self, arg: str) -> None:
        assert self.session is not None
        if not self.session.host_name:
            self._answer(HELO_FIRST)
            return
        if self.listener.require_auth and not self.session.authenticated:
            self._answer(AUTH_FIRST if self.secured or self.tls_context is None else TLS_FIRST)
            return
        if self.transaction is not None:
            self._answer(NESTED)
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
            self._answer(MAIL_FIRST)
            return
        if t.content is not None:
            self._answer(Reply.of(503, "5.5.1", "Content has begun"))
            return
        rcpt = parse_rcpt(arg, self.offered, smtputf8=t.params.smtputf8, hostname=self.hostname)
        if len(t.recipients) >= self.limits.recipients:
            self._answer(Reply.of(452, "4.5.3", "Too many recipients in one transaction"))
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
                raise Cut(TOO_MANY_ERRORS)
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
            self._answer(NO_ARGUMENT)
            return
        if t is None:
            self._answer(MAIL_FIRST)
            return
        if not t.recipients:
            self._answer(NO_RECIPIENTS if t.refused else RCPT_FIRST)
            return
        if t.content is not None:
            self._answer(Reply.of(503, "5.5.1", "BDAT has begun, DATA may not follow"))
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
            raise Cut(Reply.of(501, "5.5.4", "Syntax: BDAT size [LAST]"))
        size, last = int(words[0]), len(words) == 2
        self.in_content = True
        t = self.transaction
        if t is None or not t.recipients:
            fault = MAIL_FIRST if t is None else NO_RECIPIENTS if t.refused else RCPT_FIRST
            await self._swallow(size, fault)
            self._answer(fault)
            return
        content = t.content = t.content or self._new_content()
        if content.received + size > self.limits.size:
            content.fail(Reply.of(552, "5.3.4", f"Message larger than {self.limits.size} octets"))
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
