"""One mail transaction on an open connection: MAIL, RCPT, DATA, the octets, the final dot.

STANDARDS
    RFC 5321 §3.3; RFC 2033 §4.2 (LMTP: one answer per accepted recipient); RFC 2920 (PIPELINING:
    MAIL, every RCPT and DATA in one write); RFC 1870 (SIZE); RFC 6152 (8BITMIME); RFC 6531
    (SMTPUTF8); RFC 8689 (REQUIRETLS); RFC 3461 §4 (RET, ENVID, NOTIFY, ORCPT, where DSN is offered).

Content goes as it is or not at all: what the hop cannot carry is answered here with 5.3.4, 5.6.0,
5.6.3, 5.6.7 or 5.7.30, and nothing of the letter is sent.

HOW IT FAILS
    Every recipient has a result, whatever the server does. ``in_doubt`` is set exactly for those
    whose letter was ended with the final dot and for whom no reply was read. ``left_open`` says that
    RSET must come before the next transaction, ``lost_early`` that the connection went before the dot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.content import Content
from gateway.outgoing import Outgoing, OutRecipient, Result, Stage, Timeouts
from gateway.reply_stream import ReplyStream, StreamEnded
from tracker.model import TlsInfo
from tracker.reply import Reply

UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
KEPT = 500  # characters of one reply in a transcript

_XTEXT = re.compile(r"[!-*,-<>-~]*(?:\+[0-9A-F]{2}[!-*,-<>-~]*)*")
_ENVID_MAX, _ORCPT_MAX = 100, 500  # RFC 3461 §4.4, §4.2
_ORCPT = re.compile(r"[A-Za-z0-9\-]+;[!-~\u00a1-\U0010ffff]+")
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE)


class Transaction:
    """The course and the results of one transaction; :meth:`run` once, then read the rest."""

    __slots__ = (
        "_astray", "_extensions", "_lmtp", "_rcpt", "_results", "_stage", "_stream", "_taken", "_times",
        "_tls", "left_open", "log", "lost_early",
    )  # fmt: skip

    def __init__(
        self,
        stream: ReplyStream,
        lmtp: bool,
        extensions: Mapping[str, str],
        tls: TlsInfo | None,
        times: Timeouts,
    ) -> None:
        self._stream = stream
        self._lmtp = lmtp
        self._extensions = extensions
        self._tls = tls
        self._times = times
        self._results: list[Result | None] = []
        self._rcpt: list[Reply | None] = []
        self._taken: list[int] = []  # recipients whose RCPT was accepted and that have no result yet
        self._astray = False  # MAIL was refused and a recipient taken
        self._stage = Stage.MAIL
        self.log: list[str] = []
        self.left_open = False
        self.lost_early = False

    def results(self) -> tuple[Result, ...]:
        """One result for each recipient, in order."""
        return tuple(result for result in self._results if result is not None)

    @property
    def ended(self) -> bool:
        """The final dot was sent, or is about to be."""
        return self._stage is Stage.FINAL

    async def run(self, mail: Outgoing, content: Content, *, reset: bool) -> None:
        """Do it; ``reset`` sends RSET first. Raises nothing but CancelledError."""
        count = len(mail.recipients)
        self._results = [None] * count
        self._rcpt = [None] * count
        self.left_open = reset
        refused = cannot_carry(mail, content, self._extensions, self._tls)
        if refused is not None:
            self._settle(refused, Stage.LOCAL)
            return
        commands = _commands(mail, content, self._extensions)
        stream = self._stream
        try:
            if "PIPELINING" in self._extensions:
                go = await self._in_one_write(commands, reset)
            else:
                go = await self._step_by_step(commands, reset)
            if go is not None and go.code == 354 and self._taken:
                await self._content(content)
        except StreamEnded as ended:
            said = stream.unasked or stream.closing
            final = self._stage is Stage.FINAL
            self._settle(None if final else said, self._stage, why=str(ended))
            self.lost_early = not final and not stream.timed_out and (said is None or said.code == 421)

    async def _in_one_write(self, commands: list[bytes], reset: bool) -> Reply | None:
        stream, times = self._stream, self._times
        count = len(commands) + reset
        stream.ask(b"\r\n".join([b"RSET", *commands, b""] if reset else [*commands, b""]), count)
        self.left_open = True
        await stream.gather(count, times.mail * (1 + len(commands) / 100) + times.data)
        if reset:
            self._reset(stream.take())
        self._on_mail(stream.take())
        for index in range(len(self._results)):
            self._stage = Stage.RCPT
            self._on_rcpt(index, stream.take())
        self._stage = Stage.DATA
        go = stream.take()
        self._on_data(go)
        if go.code == 354 and not self._taken:
            await self._lone_dot()
        return go

    async def _step_by_step(self, commands: list[bytes], reset: bool) -> Reply | None:
        stream, times = self._stream, self._times
        if reset:
            stream.ask(b"RSET\r\n", 1)
            self._reset(await stream.read(times.mail))
        stream.ask(commands[0] + b"\r\n", 1)
        mail = self._on_mail(await stream.read(times.mail))
        if not mail.positive:
            self.left_open = False
            return None
        self.left_open = True
        for index in range(len(self._results)):
            self._stage = Stage.RCPT
            stream.ask(commands[1 + index] + b"\r\n", 1)
            self._on_rcpt(index, await stream.read(times.mail))
        if not self._taken:
            return None
        self._stage = Stage.DATA
        stream.ask(b"DATA\r\n", 1)
        go = await stream.read(times.data)
        self._on_data(go)
        return go

    def _reset(self, reply: Reply) -> None:
        if not reply.positive:
            self._stream.abort(f"RSET refused: {reply}"[:300])
            raise StreamEnded(f"RSET refused: {reply}"[:300])

    def _on_mail(self, reply: Reply) -> Reply:
        self.log.append(f"MAIL: {shown(reply)}")
        if not reply.positive:
            self._settle(reply, Stage.MAIL)
            self.lost_early = reply.code == 421
        return reply

    def _on_rcpt(self, index: int, reply: Reply) -> None:
        self._rcpt[index] = reply
        if self._results[index] is not None:  # MAIL was refused
            self._astray |= reply.positive
        elif reply.positive:
            self._taken.append(index)
        else:
            self._results[index] = Result(reply, Stage.RCPT, rcpt=reply)
        if reply.code == 421:
            raise StreamEnded(f"the server closed: {reply}"[:300])

    def _on_data(self, reply: Reply) -> None:
        self.log.append(f"DATA: {shown(reply)}")
        if reply.code == 354:
            return
        if 200 <= reply.code < 400:
            self._stream.abort(f"DATA answered with {reply.code}")
            raise StreamEnded(f"DATA answered with {reply.code}")
        self._settle(reply, Stage.DATA)
        if reply.code == 421:
            self.lost_early = True

    async def _lone_dot(self) -> None:
        """354 although nobody takes the letter: end it, so that the connection can be used again."""
        if self._lmtp or self._astray:
            # RFC 2033 §4.2 forbids this 354, so nobody knows how many replies would follow; and a
            # server that took a recipient after it refused MAIL might deliver the empty letter.
            self._stream.abort("354 without a recipient")
            return
        self._stream.ask(b".\r\n", 1)  # RFC 2920 §3.1
        reply = await self._stream.read(self._times.data)
        self.log.append(f"lone dot: {shown(reply)}")

    async def _content(self, content: Content) -> None:
        stream, times = self._stream, self._times
        self._stage = Stage.CONTENT
        held: bytes | None = None
        for octets in content.stuffed():
            if held is not None:
                stream.ask(held, 0)
                await stream.drain(times.block)
            held = octets
        assert held is not None  # stuffed() gives the final dot at least
        waiting = list(self._taken) if self._lmtp else [-1]
        stream.ask(held, len(waiting))  # raises if the server has hung up or spoken before its time
        self._stage = Stage.FINAL
        await stream.gather(len(waiting), times.final)
        for index in waiting:
            reply = stream.take()
            if 300 <= reply.code < 400:
                stream.abort(f"the final dot answered with {reply.code}")
                raise StreamEnded(f"the final dot answered with {reply.code}")
            if index < 0:
                self._settle(reply, Stage.FINAL)
            else:
                self._results[index] = Result(reply, Stage.FINAL, rcpt=self._rcpt[index])
        self.left_open = False

    def _settle(self, reply: Reply | None, stage: Stage, *, why: str = "") -> None:
        """The same result for everyone who has none yet."""
        doubt = stage is Stage.FINAL and reply is None
        for index, known in enumerate(self._results):
            if known is None:
                self._results[index] = Result(reply, stage, doubt, why, self._rcpt[index])


def cannot_carry(
    mail: Outgoing, content: Content, extensions: Mapping[str, str], tls: TlsInfo | None
) -> Reply | None:
    """Why a hop with these extensions is not given the letter, or None."""
    fault = content.fault or _unsafe_envelope(mail)
    if fault is not None:
        return Reply.of(554, "5.6.0", f"Not sent: {fault} in the letter or its envelope")
    if mail.requiretls and (tls is None or not tls.verified or "REQUIRETLS" not in extensions):
        return Reply.of(550, "5.7.30", "REQUIRETLS is asked for and the next hop does not offer it")
    if mail.require_tls and tls is None:
        return Reply.of(550, "5.7.10", "Policy asks for encryption and the next hop does not offer it")
    limit = extensions.get("SIZE", "").partition(" ")[0]
    if limit.isascii() and limit.isdecimal() and len(limit) < 19 and 0 < int(limit) < content.size:
        text = f"The next hop takes {int(limit)} octets, the letter has {content.size}"
        return Reply.of(552, "5.3.4", text)
    if content.eightbit and "8BITMIME" not in extensions:
        return Reply.of(554, "5.6.3", "8-bit content and the next hop offers no 8BITMIME")
    if needs_utf8(mail, content) and "SMTPUTF8" not in extensions:
        return Reply.of(550, "5.6.7", "SMTPUTF8 is needed and the next hop does not offer it")
    return None


def needs_utf8(mail: Outgoing, content: Content) -> bool:
    """True when the letter cannot go without SMTPUTF8 (RFC 6531 §3.5); clients ask for it needlessly.

    8-bit content counts as needing it when it was asked for: part headers may be UTF-8 (RFC 6532 §3).
    """
    if not all(to.address.ascii for to in mail.recipients) or not mail.sender.ascii:
        return True
    return mail.smtputf8 and content.eightbit


def _unsafe_envelope(mail: Outgoing) -> str | None:
    """What in the envelope must not be written into a command line."""
    for address in (mail.sender, *(to.address for to in mail.recipients)):
        if UNSAFE.search(address.local) or UNSAFE.search(address.domain):
            return "a control character"
    return None


def _dsn_of_mail(mail: Outgoing) -> str:
    """RET and ENVID; what is malformed is left out, because a letter is worth more than its parameters."""
    out = ""
    if mail.ret and mail.ret.upper() in ("FULL", "HDRS"):
        out += f" RET={mail.ret}"
    if mail.envid and len(mail.envid) <= _ENVID_MAX and _XTEXT.fullmatch(mail.envid):
        out += f" ENVID={mail.envid}"
    return out


def _dsn_of_rcpt(to: OutRecipient, utf8: bool) -> str:
    """NOTIFY and ORCPT, likewise; one in UTF-8 only beside SMTPUTF8 (RFC 6533 §3)."""
    out = ""
    if to.notify and _NOTIFY.fullmatch(to.notify):
        out += f" NOTIFY={to.notify}"
    orcpt = to.orcpt
    if orcpt and len(orcpt) <= _ORCPT_MAX and (utf8 or orcpt.isascii()) and _ORCPT.fullmatch(orcpt):
        out += f" ORCPT={orcpt}"
    return out


def _commands(mail: Outgoing, content: Content, extensions: Mapping[str, str]) -> list[bytes]:
    """MAIL, every RCPT, DATA, without CRLF."""
    line = f"MAIL FROM:<{mail.sender}>"
    if "SIZE" in extensions:
        line += f" SIZE={content.size}"
    if (content.eightbit or mail.eightbit) and "8BITMIME" in extensions:
        line += " BODY=8BITMIME"
    utf8 = needs_utf8(mail, content)
    if utf8:
        line += " SMTPUTF8"
    if mail.requiretls:
        line += " REQUIRETLS"
    dsn = "DSN" in extensions
    if dsn:
        line += _dsn_of_mail(mail)
    lines = [line]
    for to in mail.recipients:
        line = f"RCPT TO:<{to.address}>"
        if dsn:
            line += _dsn_of_rcpt(to, utf8)
        lines.append(line)
    lines.append("DATA")
    return [line.encode() for line in lines]


def shown(reply: Reply) -> str:
    """A reply as one bounded line of a transcript."""
    return str(reply)[:KEPT]
