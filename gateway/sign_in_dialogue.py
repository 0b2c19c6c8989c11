"""Asking an agency's own server whether a password is right: one SMTP AUTH or IMAP sign-in, then goodbye.

SMTP AUTH (RFC 4954) with PLAIN (4616) or LOGIN after STARTTLS (3207) or inside TLS (8314); IMAP (3501) with
AUTHENTICATE PLAIN, or LOGIN with both words as literals, so that nothing in them needs quoting. A dialogue of
our own and not a mail library: it must bound what a hostile server sends and start afresh after STARTTLS.

How it fails: :class:`SignInUnavailable` whenever the server did not say yes or no (not reached, no TLS where
it is required, no usable mechanism, an answer that is no verdict, too slow). It never says so with a password
in the text.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from functools import lru_cache
from pathlib import Path

from policies.agency import SignIn, TlsMode
from tracker.reply import Reply, ReplyError

_LINE = 8192  # octets of one line of the server's
_LINES = 200  # lines of one answer
# RFC 5530: a NO that says nothing about the password.
_NO_VERDICT = re.compile(
    rb"\S+ NO \[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG|CONTACTADMIN|PRIVACYREQUIRED)\b", re.I
)


class SignInUnavailable(Exception):
    """The server gave no verdict; the message says why, without any credential."""


async def password_is_right(server: SignIn, user: str, password: str, timeout_s: float) -> bool:
    """Sign in once and say whether it worked; raises :class:`SignInUnavailable`."""
    try:
        async with asyncio.timeout(timeout_s):
            talk = await _Talk.open(server)
            try:
                if server.kind == "imap":
                    return await _imap(talk, server, user.encode(), password.encode())
                return await _smtp(talk, server, user.encode(), password.encode())
            finally:
                talk.close()
    except TimeoutError:
        raise SignInUnavailable(f"{server.host}:{server.port}: no answer in {timeout_s:g} s") from None
    except (OSError, EOFError, ReplyError, ValueError) as error:
        raise SignInUnavailable(f"{server.host}:{server.port}: {error}") from None


@lru_cache(maxsize=256)
def _context(verify: bool, ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _OverTls(asyncio.StreamReaderProtocol):
    """A stream that begins within TLS; the original learns that only from a plain connection's start."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # TLS has no half-close here


class _Talk:
    """Lines to and from the server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: SignIn, *, secure: bool
    ) -> None:
        self._reader, self._writer, self._server, self.secure = reader, writer, server, secure
        self._clear: asyncio.StreamWriter | None = None

    @classmethod
    async def open(cls, server: SignIn) -> _Talk:
        implicit = server.tls == TlsMode.IMPLICIT
        reader, writer = await asyncio.open_connection(
            server.host,
            server.port,
            limit=_LINE,
            ssl=_context(server.verify, server.ca) if implicit else None,
            server_hostname=server.host if implicit else None,
        )
        return cls(reader, writer, server, secure=implicit)

    async def line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the server closed the connection")
        return line.rstrip(b"\r\n")

    def send(self, line: bytes) -> None:
        self._writer.write(line + b"\r\n")

    async def start_tls(self) -> None:
        """TLS with a reader of its own: what the server (or another) sent ahead in clear is left behind."""
        reader = asyncio.StreamReader(limit=_LINE)
        protocol = _OverTls(reader)
        loop = asyncio.get_running_loop()
        context = _context(self._server.verify, self._server.ca)
        transport = await loop.start_tls(
            self._writer.transport, protocol, context, server_hostname=self._server.host
        )
        if transport is None:
            raise EOFError("the server closed the connection")
        reader.set_transport(transport)
        self._clear = self._writer  # a StreamWriter that is collected closes its transport
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.secure = True

    async def secure_if(self, offered: bool, command: bytes, agreed: bytes) -> bool:
        """Start TLS as the directory says; True when it was started. ``agreed`` is how a yes begins."""
        wanted = self._server.tls in (TlsMode.REQUIRED, TlsMode.OPPORTUNISTIC)
        if self.secure or not wanted or not offered:
            if not self.secure and self._server.tls == TlsMode.REQUIRED:
                raise ValueError("the server does not offer TLS")
            return False
        self.send(command)
        answer = await self.line()
        if not answer.upper().startswith(agreed):
            raise ValueError(f"the server refuses TLS: {answer[:100]!r}")
        await self.start_tls()
        return True

    def close(self) -> None:
        self._writer.close()


async def _smtp(talk: _Talk, server: SignIn, user: bytes, password: bytes) -> bool:
    greeting = await _reply(talk)
    if greeting.code != 220:
        raise ValueError(f"greeting {greeting}")
    offered = await _ehlo(talk)
    if await talk.secure_if("STARTTLS" in offered, b"STARTTLS", b"220"):
        offered = await _ehlo(talk)
    mechanisms = offered.get("AUTH", "").upper().split()
    if "PLAIN" in mechanisms:
        talk.send(b"AUTH PLAIN " + b64encode(b"\0" + user + b"\0" + password))
        answers = []
    elif "LOGIN" in mechanisms:
        talk.send(b"AUTH LOGIN")
        answers = [user, password]
    else:
        raise ValueError("the server offers neither AUTH PLAIN nor AUTH LOGIN")
    reply = await _reply(talk, challenges=True)
    for answer in answers:
        if reply.code != 334:
            break
        talk.send(b64encode(answer))
        reply = await _reply(talk, challenges=True)
    if reply.code == 235:
        talk.send(b"QUIT")
        return True
    # RFC 4954 §6; 5.7.8 and 5.7.13 (RFC 5248) are what some servers give with another code.
    if reply.code == 535 or (reply.permanent and str(reply.status) in ("5.7.8", "5.7.13")):
        talk.send(b"QUIT")
        return False
    raise ValueError(f"answer to AUTH {reply.code} {reply.status or ''}")


async def _ehlo(talk: _Talk) -> dict[str, str]:
    talk.send(b"EHLO localhost")
    reply = await _reply(talk)
    if reply.code != 250:
        raise ValueError(f"answer to EHLO {reply}")
    words = (line.partition(" ") for line in reply.text.split("\n")[1:])
    return {keyword.upper(): rest for keyword, _, rest in words}


async def _reply(talk: _Talk, *, challenges: bool = False) -> Reply:
    lines: list[str] = []
    while len(lines) < _LINES:
        line = (await talk.line()).decode("utf-8", "replace")
        lines.append(line)
        if line[3:4] != "-":
            if line[:3] == "334" and challenges:
                return Reply(334)
            return Reply.parse(lines)
    raise ValueError("an endless reply")


async def _imap(talk: _Talk, server: SignIn, user: bytes, password: bytes) -> bool:
    greeting = await talk.line()
    if not greeting.upper().startswith(b"* OK"):
        raise ValueError(f"greeting {greeting[:100]!r}")
    offered = await _capabilities(talk, b"w1")
    if await talk.secure_if(b"STARTTLS" in offered, b"w2 STARTTLS", b"W2 OK"):
        offered = await _capabilities(talk, b"w3")
    if b"AUTH=PLAIN" in offered:
        message = b64encode(b"\0" + user + b"\0" + password)
        if b"SASL-IR" in offered:
            answer = await _command(talk, b"w4", b"AUTHENTICATE PLAIN " + message, [])
        else:
            answer = await _command(talk, b"w4", b"AUTHENTICATE PLAIN", [message])
    elif b"LOGINDISABLED" not in offered:
        answer = await _command(
            talk, b"w4", b"LOGIN {%d}" % len(user), [b"%s {%d}" % (user, len(password)), password]
        )
    else:
        raise ValueError("the server offers neither AUTHENTICATE PLAIN nor LOGIN")
    if answer.upper().startswith(b"W4 OK"):
        talk.send(b"w5 LOGOUT")
        return True
    if answer.upper().startswith(b"W4 NO") and _NO_VERDICT.match(answer) is None:
        return False
    raise ValueError(f"answer to the sign-in {answer[:100]!r}")


async def _capabilities(talk: _Talk, tag: bytes) -> set[bytes]:
    """What the server says to CAPABILITY, upper case."""
    found: set[bytes] = set()
    talk.send(tag + b" CAPABILITY")
    for _ in range(_LINES):
        line = (await talk.line()).upper()
        if line.startswith(b"* CAPABILITY "):
            found |= set(line.split()[2:])
        elif line.startswith(tag.upper() + b" "):
            return found
    raise ValueError("an endless answer")


async def _command(talk: _Talk, tag: bytes, command: bytes, continuations: list[bytes]) -> bytes:
    """Send a command, each continuation when the server asks for it; returns the tagged answer."""
    talk.send(tag + b" " + command)
    for _ in range(_LINES):
        line = await talk.line()
        if line.startswith(b"+"):
            if not continuations:
                raise ValueError("the server asks for more than there is")
            talk.send(continuations.pop(0))
        elif line.upper().startswith(tag.upper() + b" "):
            return line
    raise ValueError("an endless answer")
