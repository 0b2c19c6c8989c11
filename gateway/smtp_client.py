"""One connection to a next hop, by SMTP or LMTP, and the mail transactions on it.

STANDARDS
    RFC 5321; RFC 2033 (LMTP); RFC 3207 and 8314 (STARTTLS, implicit TLS); RFC 4954 and 4616 (AUTH PLAIN;
    LOGIN as servers know it).

This file opens, protects and ends the connection; ``gateway/transaction.py`` has MAIL to the final dot.

HOW IT FAILS
    :meth:`Session.open` raises :class:`HopError`. :meth:`Session.send` gives a result for every
    recipient, whatever the server does, and raises nothing but CancelledError, after which the
    session is gone and the outcome unknown. :attr:`Session.usable` tells whether another may follow.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from gateway.content import Content
from gateway.outgoing import CutOff, Outcome, Outgoing, OutRecipient, Result, Stage, Timeouts
from gateway.reply_stream import ReplyStream, StreamEnded
from gateway.transaction import KEPT, UNSAFE, Transaction, shown
from policies.directory import NextHop
from tracker.model import TlsInfo
from tracker.reply import Reply

__all__ = [
    "HopError", "OutRecipient", "Outcome", "Outgoing", "Result", "Session", "Stage", "Timeouts", "TlsLevel",
    "tls_levels",
]  # fmt: skip

_MAX_COMMAND = 500  # octets of AUTH with its initial response (RFC 4954 §4)


class HopError(Exception):
    """No session with the hop: how far it came, the reply if one was read, and why."""

    def __init__(
        self, stage: Stage, why: str, reply: Reply | None = None, *, tls_failed: bool = False
    ) -> None:
        super().__init__(why)
        self.stage = stage
        self.reply = reply
        self.why = why
        self.tls_failed = tls_failed  # the handshake: another level may do


class TlsLevel(StrEnum):
    """How a connection is protected; opportunistic hops are tried from the best down."""

    VERIFIED = "verified"
    ENCRYPTED = "encrypted"
    PLAIN = "plain"


def tls_levels(hop: NextHop) -> tuple[TlsLevel, ...]:
    """The levels that the directory allows for a hop, best first."""
    if hop.tls == "none" or hop.host.startswith("/"):
        return (TlsLevel.PLAIN,)
    strict = TlsLevel.VERIFIED if hop.verify else TlsLevel.ENCRYPTED
    if hop.tls != "opportunistic":
        return (strict,)
    return tuple(dict.fromkeys((strict, TlsLevel.ENCRYPTED, TlsLevel.PLAIN)))


class Session:
    """A connection that has said EHLO or LHLO and is ready for MAIL. Made by :meth:`open`."""

    __slots__ = (
        "_dirty", "_hop", "_stream", "_times", "extensions", "greeting", "idle_since", "lost_early", "peer",
        "tls", "used",
    )  # fmt: skip

    def __init__(self, stream: ReplyStream, hop: NextHop, times: Timeouts) -> None:
        self._stream = stream
        self._hop = hop
        self._times = times
        self._dirty = False  # a transaction may be open: RSET goes first
        self.extensions: dict[str, str] = {}  # keyword in upper case -> parameters
        self.greeting: list[str] = []
        self.peer = f"{hop.host}:{hop.port}"
        self.tls: TlsInfo | None = None
        self.used = 0  # transactions
        self.idle_since = 0.0
        self.lost_early = False  # the connection was gone before the final dot of the last transaction

    @property
    def usable(self) -> bool:
        """True while another transaction may follow."""
        return self._stream.alive

    # opening

    @classmethod
    async def open(
        cls,
        hop: NextHop,
        *,
        hostname: str,
        times: Timeouts,
        level: TlsLevel,
        plain_auth_on_loopback: bool = False,
    ) -> Session:
        """Connect, greet, protect, sign in. ``hostname`` is ours. Raises :class:`HopError`."""
        loop = asyncio.get_running_loop()
        stream = ReplyStream(loop)
        session = cls(stream, hop, times)
        try:
            await session._connect(loop, level)
            await session._greet(hostname)
            if level is not TlsLevel.PLAIN and hop.tls != "implicit":
                await session._starttls(loop, hostname, level)
            if hop.username is not None:
                await session._sign_in(plain_auth_on_loopback)
        except HopError:
            stream.abort("not opened")
            raise
        except BaseException:
            stream.abort("given up")
            raise
        return session

    async def _connect(self, loop: asyncio.AbstractEventLoop, level: TlsLevel) -> None:
        hop, stream = self._hop, self._stream
        context = _load_context(hop, level) if hop.tls == "implicit" else None
        stream.expect(1)
        try:
            async with asyncio.timeout(self._times.connect + (self._times.tls if context else 0)):
                if hop.host.startswith("/"):
                    await loop.create_unix_connection(lambda: stream, hop.host)
                else:
                    host = hop.host.strip("[]")
                    await loop.create_connection(
                        lambda: stream,
                        host,
                        hop.port,
                        ssl=context,
                        server_hostname=host if context else None,
                        ssl_handshake_timeout=self._times.tls if context else None,
                    )
        except ssl.SSLError as error:
            raise HopError(Stage.STARTTLS, f"TLS: {_words(error)}", tls_failed=True) from error
        except TimeoutError as error:
            raise HopError(Stage.CONNECT, "connecting timed out") from error
        except (OSError, UnicodeError) as error:
            raise HopError(Stage.CONNECT, _words(error)) from error
        assert stream.transport is not None
        address = stream.transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = f"{hop.host}[{address[0]}]:{address[1]}"
        else:
            self.peer = hop.host
        if context is not None:
            self._note_tls(level)

    async def _greet(self, hostname: str) -> None:
        reply = await self._one(Stage.GREETING, self._times.greeting)
        self.greeting.append(f"greeting: {shown(reply)}")
        if reply.code != 220:
            raise HopError(Stage.GREETING, f"greeted with {reply.code}", reply)
        await self._hello(hostname)

    async def _hello(self, hostname: str) -> None:
        verb = "LHLO" if self._hop.protocol == "lmtp" else "EHLO"
        reply = await self._command(f"{verb} {hostname}", Stage.HELLO, self._times.hello)
        if reply.permanent and verb == "EHLO":  # RFC 5321 §4.1.4: a server of before 1993
            verb = "HELO"
            reply = await self._command(f"HELO {hostname}", Stage.HELLO, self._times.hello)
        if reply.code != 250:
            raise HopError(Stage.HELLO, f"{verb} refused", reply)
        self.greeting.append(f"{verb}: {reply.code} {reply.text.partition(chr(10))[0][:KEPT]}")
        self.extensions = {} if verb == "HELO" else _extensions(reply)

    async def _starttls(self, loop: asyncio.AbstractEventLoop, hostname: str, level: TlsLevel) -> None:
        hop, stream = self._hop, self._stream
        needed = hop.tls == "required"
        if "STARTTLS" not in self.extensions:
            if needed:
                raise HopError(Stage.STARTTLS, "STARTTLS is not offered and the directory requires TLS")
            return
        reply = await self._command("STARTTLS", Stage.STARTTLS, self._times.hello)
        self.greeting.append(f"STARTTLS: {shown(reply)}")
        if reply.code != 220:
            raise HopError(Stage.STARTTLS, "STARTTLS refused", reply, tls_failed=True)
        stream.forget_unread()
        assert stream.transport is not None
        context = _load_context(hop, level)
        try:
            transport = await loop.start_tls(
                stream.transport,
                stream,
                context,
                server_hostname=hop.host.strip("[]"),
                ssl_handshake_timeout=self._times.tls,
            )
        except (OSError, UnicodeError, TimeoutError) as error:  # ssl.SSLError is an OSError
            raise HopError(Stage.STARTTLS, f"TLS: {_words(error)}", tls_failed=True) from error
        if transport is None or stream.why is not None:
            raise HopError(Stage.STARTTLS, f"TLS: {stream.why}", tls_failed=True)
        stream.transport = transport
        self._note_tls(level)
        await self._hello(hostname)  # RFC 3207 §4.2: what was offered before counts no more

    def _note_tls(self, level: TlsLevel) -> None:
        assert self._stream.transport is not None
        inner = self._stream.transport.get_extra_info("ssl_object")
        cipher = inner.cipher()
        certificate = inner.getpeercert() if level is TlsLevel.VERIFIED else None
        names = certificate.get("subjectAltName", ()) if certificate else ()
        self.tls = TlsInfo(
            version=inner.version() or "",
            cipher=cipher[0] if cipher else "",
            peer_names=tuple(str(value) for _, value in names)[:20],
            verified=level is TlsLevel.VERIFIED,
        )

    async def _sign_in(self, plain_auth_on_loopback: bool) -> None:
        hop = self._hop
        if self.tls is None and not (plain_auth_on_loopback and _is_loopback(hop.host)):
            raise HopError(Stage.AUTH, "no TLS, so the password is not shown")
        user, password = (hop.username or "").encode(), (hop.password or "").encode()
        if b"\0" in user or b"\0" in password:  # RFC 4616 §2
            raise HopError(Stage.AUTH, "user name or password holds a NUL")
        offered = self.extensions.get("AUTH", "").upper().split()
        if "PLAIN" in offered:
            secret = _b64(b"\0" + user + b"\0" + password)
            steps = [f"AUTH PLAIN {secret}"] if len(secret) <= _MAX_COMMAND else ["AUTH PLAIN", secret]
        elif "LOGIN" in offered:
            steps = ["AUTH LOGIN", _b64(user), _b64(password)]
        else:
            raise HopError(Stage.AUTH, "neither AUTH PLAIN nor LOGIN is offered")
        for i, step in enumerate(steps):
            reply = await self._command(step, Stage.AUTH, self._times.hello)
            if i < len(steps) - 1 and reply.code != 334:
                break
        said = str(reply)[:KEPT]
        for secret in (hop.password or "", *steps[1:], *steps[0].split()[2:]):
            if secret and secret in said:  # a server that repeats what it heard
                said = f"{reply.code} …"
                reply = Reply(reply.code, "", reply.status)
        self.greeting.append(f"{' '.join(steps[0].split()[:2])}: {said}")
        if reply.code != 235:
            raise HopError(Stage.AUTH, "sign-in refused", reply)

    async def _command(self, line: str, stage: Stage, timeout_s: float) -> Reply:
        if UNSAFE.search(line):
            raise HopError(stage, "a control character in a command")
        try:
            self._stream.ask(line.encode() + b"\r\n", 1)
        except StreamEnded as ended:
            raise HopError(stage, str(ended)) from ended
        return await self._one(stage, timeout_s)

    async def _one(self, stage: Stage, timeout_s: float) -> Reply:
        try:
            return await self._stream.read(timeout_s)
        except StreamEnded as ended:
            raise HopError(stage, str(ended), self._stream.unasked) from ended

    # transactions

    async def send(self, mail: Outgoing, content: Content) -> Outcome:
        """Hand over one letter. Raises only CancelledError, of the kind CutOff once the dot was sent."""
        self.used += 1
        work = Transaction(self._stream, self._hop.protocol == "lmtp", self.extensions, self.tls, self._times)
        try:
            await work.run(mail, content, reset=self._dirty)
        except BaseException as error:
            self._stream.abort("given up")
            if work.ended and isinstance(error, asyncio.CancelledError):
                raise CutOff from error
            raise
        self._dirty = work.left_open
        self.lost_early = work.lost_early
        lines = work.log if self.used > 1 else self.greeting + work.log
        return Outcome(
            results=work.results(),
            peer=self.peer,
            tls=self.tls,
            transcript="\n".join(lines),
            dsn="DSN" in self.extensions,
        )

    # ending

    async def quit(self) -> None:
        """Say QUIT and close; never raises but when cancelled."""
        try:
            with contextlib.suppress(StreamEnded):
                self._stream.ask(b"QUIT\r\n", 1)
                await self._stream.read(self._times.quit)
        finally:
            self._stream.close()

    def abort(self) -> None:
        """Close at once."""
        self._stream.abort("given up")


def _load_context(hop: NextHop, level: TlsLevel) -> ssl.SSLContext:
    try:
        return _context(level is TlsLevel.VERIFIED, hop.ca if level is TlsLevel.VERIFIED else None)
    except (OSError, ssl.SSLError) as error:
        raise HopError(Stage.STARTTLS, f"certificates of the authority: {_words(error)}") from error


@lru_cache(maxsize=256)
def _context(verified: bool, ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _extensions(reply: Reply) -> dict[str, str]:
    """EHLO keywords with their parameters (RFC 5321 §4.1.1.1); ``AUTH=`` is how old servers wrote it."""
    found: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, rest = line.replace("AUTH=", "AUTH ", 1).strip().partition(" ")
        if keyword:
            known = found.get(keyword.upper())
            found[keyword.upper()] = f"{known} {rest}" if known else rest
    return found


def _is_loopback(host: str) -> bool:
    if host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UNSAFE.sub("?", text)[:200]
