"""The client side of one IMAP connection: aioimaplib's protocol, made fit for a hostile server.

PURPOSE
    aioimaplib recurses over what it reads, limits nothing, quotes nothing and leaves whoever waits alone
    when the connection is lost. :class:`WatchClient` keeps its commands, tags and states and replaces its
    reading: whole responses are cut out of the stream in a loop, with bounds on lines, literals and the
    answer to a command in all. It knows no command that changes a mailbox.

STANDARDS
    RFC 3501 and 9051 (IMAP), RFC 2177 (IDLE), RFC 7162 (CONDSTORE, QRESYNC), RFC 4959 (SASL-IR),
    RFC 8314 (implicit TLS); STARTTLS takes nothing that was said before the handshake (RFC 9051 §6.2.1).

HOW IT FAILS
    :class:`Lost` (connection gone, time over), :class:`Unwilling` (NO or BAD), :class:`Hostile` (a limit,
    garbage, a PREAUTH greeting). After Lost and Hostile the connection is closed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from aioimaplib import aioimaplib

from gateway.imap_watch_words import Answer, Garbage, Unspeakable, answer, encode_name, quoted
from policies.watch import Watch

logging.getLogger("aioimaplib.aioimaplib").setLevel(logging.WARNING)  # it logs what it reads at DEBUG

_LITERAL = re.compile(rb"\{(\d{1,12})\}$")
_CAN = frozenset(
    {
        "CAPABILITY",
        "STARTTLS",
        "LOGIN",
        "AUTHENTICATE",
        "ENABLE",
        "LIST",
        "EXAMINE",
        "FETCH",
        "SEARCH",
        "LOGOUT",
    }
)

MAX_LINE = 1_000_000
MAX_LITERAL = 65_536
MAX_ANSWER = 8_000_000  # octets in answer to one command
CONNECT_S = 20.0
COMMAND_S = 60.0


class WatchError(Exception):
    """A mailbox cannot be watched now; the message says why, for people."""


class Lost(WatchError):
    """The connection is gone, or the server keeps silent."""


class Unwilling(WatchError):
    """The server says NO or BAD to a command."""


class Denied(Unwilling):
    """It does not let us in: trying again at once would only lock the account."""


class Hostile(WatchError):
    """What the server sends is no IMAP, or more than anyone should read."""


class WatchClient(aioimaplib.IMAP4ClientProtocol):
    """One connection. :func:`connect` makes it; nothing here writes to a mailbox."""

    loop: asyncio.AbstractEventLoop
    transport: Any
    pending_sync_command: Any

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.capabilities: set[str] = set()
        self.stirred = asyncio.Event()  # the server said something about the selected folder by itself
        self.exists = 0
        self.delimiter = "/"
        self._ready: asyncio.Event = asyncio.Event()  # greeting, or a continuation, or the end
        self._greeting = b""
        self._buffer = bytearray()
        self._looked = 0  # octets of the buffer that hold no line end
        self._pieces: list[bytes] = []
        self._need = -1  # octets of a literal that are still to come; -1: none
        self._size = 0  # of the response being read
        self._taken = 0  # of the answer to the present command
        self._deaf = False  # between the OK to STARTTLS and the end of the handshake
        self._command: Any = None
        self._take: Callable[[Answer], None] | None = None
        self._fault: WatchError | None = None
        self._starting = False  # STARTTLS was asked for

    # What comes in.

    def data_received(self, d: bytes) -> None:
        if self._fault is not None:
            return
        if self._deaf:
            self._break(Hostile("it went on in clear after STARTTLS"))
            return
        self._buffer += d
        try:
            while self._fault is None and not self._deaf and self._step():
                pass
        except WatchError as error:
            self._break(error)
        except (Garbage, aioimaplib.AioImapException, ValueError) as error:
            self._break(Hostile(f"it sends what is no IMAP: {error}"))
        if self._deaf and self._buffer:
            self._break(Hostile("it said more than the OK to STARTTLS"))

    def _step(self) -> bool:
        """Take one line or literal from the buffer; False when more must come first."""
        buffer = self._buffer
        if self._need >= 0:
            if len(buffer) < self._need:
                return False
            self._pieces.append(bytes(buffer[: self._need]))
            del buffer[: self._need]
            self._need = -1
            return True
        end = buffer.find(b"\n", self._looked)
        if end < 0:
            if len(buffer) > MAX_LINE:
                raise Hostile("a line without end")
            self._looked = len(buffer)
            return False
        if end > MAX_LINE:
            raise Hostile("a line without end")
        line = bytes(buffer[:end]).rstrip(b"\r")
        del buffer[: end + 1]
        self._looked = 0
        self._size += len(line) + 2
        self._pieces.append(line)
        literal = _LITERAL.search(line)
        if literal is not None:
            size = int(literal[1])
            self._size += size
            if size > MAX_LITERAL:
                raise Hostile(f"a literal of {size} octets")
            self._need = size
        if self._size > MAX_LINE + MAX_LITERAL or len(self._pieces) > 1000:
            raise Hostile("a response without end")
        if literal is None:
            pieces, self._pieces, size, self._size = self._pieces, [], self._size, 0
            self._whole(pieces, size)
        return True

    def _whole(self, pieces: list[bytes], size: int) -> None:
        """One response with its literals."""
        line = pieces[0]
        if self.state == aioimaplib.CONNECTED:
            self._greeting = line[:300]
            if not line.upper().startswith(b"* OK"):
                raise Hostile(f"it greets with {shown(line)}")
            self.state = aioimaplib.NONAUTH
            self._ready.set()
            return
        self._taken += size
        if self._taken > MAX_ANSWER:
            raise Hostile("an answer without end")
        if line.startswith(b"* "):
            self._untagged(answer(pieces))
        elif line.startswith(b"+"):
            self._ready.set()
        elif line:
            self._response_done(line)
            self._command = None
            self._ready.set()

    def _untagged(self, said: Answer) -> None:
        doing = self._command.name if self._command is not None else ""
        if said.kind == "BYE":
            self._break(Lost(f"it closes the connection: {shown(said.pieces[0])}"))
        elif said.kind == "EXISTS" and said.number is not None:
            self.exists = said.number
            self.stirred.set()
        elif said.kind == "VANISHED":
            if not said.pieces[0].startswith(b"(EARLIER)"):  # else it is what we asked for
                self.stirred.set()
        elif said.kind == "EXPUNGE" or (said.kind == "FETCH" and doing == "IDLE"):
            self.stirred.set()
        if self._take is not None:
            self._take(said)

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(Lost(f"the connection is lost{': ' + str(exc) if exc else ''}"))

    def _break(self, error: WatchError) -> None:
        """End it: everyone who waits is told."""
        if self._fault is None or not isinstance(error, Lost):
            self._fault = error
        self._buffer.clear()
        self._pieces.clear()
        for command in (self.pending_sync_command, *self.pending_async_commands.values()):
            if command is not None and not command._event.is_set():
                command._exception = self._fault
                command._timer.cancel()
                command._event.set()
        self._ready.set()
        self.stirred.set()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    # What goes out.

    async def run(
        self,
        name: str,
        *args: str,
        uid: bool = False,
        take: Callable[[Answer], None] | None = None,
        seconds: float = COMMAND_S,
    ) -> bytes:
        """Run one command, handing each untagged response to ``take``; returns the words of its OK.

        Raises :class:`Unwilling` for NO and BAD, :class:`Lost` and :class:`Hostile`.
        """
        if name not in _CAN:
            raise Unspeakable(f"{name} is no command of a watch")
        self._check()
        command = aioimaplib.Command(
            name, self.new_tag(), *args, prefix="UID" if uid else "", loop=self.loop, timeout=seconds
        )
        self._begin(command, take)
        try:
            response = await self.execute(
                command, scrub=args[-1] if args and name in ("LOGIN", "AUTHENTICATE") else ""
            )
        except aioimaplib.CommandTimeout:
            self._break(Lost(f"no answer to {name} in {seconds:.0f} s"))
            raise self._error() from None
        except (aioimaplib.AioImapException, OSError) as error:
            self._break(Lost(str(error)))
            raise self._error() from None
        finally:
            self._take = None
        words = bytes(response.lines[-1]) if response.lines else b""
        if response.result != "OK":
            raise Unwilling(f"it answers {response.result[:10]} to {name}: {shown(words)}")
        return words

    def _begin(self, command: Any, take: Callable[[Answer], None] | None) -> None:
        self._command, self._take, self._taken = command, take, 0
        self._ready.clear()

    def _check(self) -> None:
        if self._fault is not None:
            raise self._error()

    def _error(self) -> WatchError:
        return self._fault or Lost("the connection is lost")

    async def rest(self, seconds: float) -> None:
        """IDLE (RFC 2177): wait until the server tells of the selected folder, at most so long."""
        self._check()
        command = aioimaplib.Command("IDLE", self.new_tag(), loop=self.loop)
        self._begin(command, None)
        self.pending_sync_command = command
        try:
            self.send(str(command))
            async with asyncio.timeout(COMMAND_S):
                await self._ready.wait()
            self._check()
            if not command._event.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.stirred.wait()
                self._check()
                self.send("DONE")
            async with asyncio.timeout(COMMAND_S):
                await command.wait()
        except TimeoutError:
            self._break(Lost(f"no answer to IDLE in {COMMAND_S:.0f} s"))
            raise self._error() from None
        if command.response.result != "OK":
            raise Unwilling(f"it answers {command.response.result[:10]} to IDLE")

    async def greeted(self) -> None:
        await self._ready.wait()
        self._check()

    async def capability(self) -> None:
        """Ask what the server can."""
        found: set[str] = set()

        def take(said: Answer) -> None:
            if said.kind == "CAPABILITY":
                found.update(said.pieces[0].decode("ascii", "replace").upper().split()[:200])

        await self.run("CAPABILITY", take=take)
        self.capabilities = found

    async def starttls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on under TLS; what was known before is forgotten."""
        self._starting = True
        await self.run("STARTTLS")
        self._starting = False
        self.capabilities = set()
        try:
            upgraded = await self.loop.start_tls(
                self.transport, self, context, server_hostname=host, ssl_handshake_timeout=CONNECT_S
            )
        except (OSError, ValueError) as error:
            self._break(Lost(tls_words(error)))
            raise self._error() from None
        if upgraded is None:
            raise self._error()
        self.transport = upgraded
        self._deaf = False

    def _response_done(self, line: bytes) -> None:
        super()._response_done(line)
        if self._starting and b" OK" in line[:40].upper():
            self._deaf = True

    async def sign_in(self, user: str, password: str) -> None:
        """LOGIN, or AUTHENTICATE PLAIN where the words are not ASCII; raises :class:`Denied`."""
        try:
            if user.isascii() and password.isascii() and "LOGINDISABLED" not in self.capabilities:
                await self.run("LOGIN", quoted(user), quoted(password))
            elif "AUTH=PLAIN" in self.capabilities:
                words = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
                await self._plain(words)
            else:
                raise Denied("it takes no password (LOGINDISABLED)")
        except Denied:
            raise
        except Unwilling as error:
            raise Denied(str(error)) from None
        self.state = aioimaplib.AUTH
        await self.capability()

    async def _plain(self, words: str) -> None:
        if "SASL-IR" in self.capabilities:
            await self.run("AUTHENTICATE", "PLAIN", words)
            return
        asking = asyncio.ensure_future(self.run("AUTHENTICATE", "PLAIN"))
        await asyncio.sleep(0)
        await self._ready.wait()
        if not asking.done() and self._command is not None:
            self.send(words, scrub=words)
        await asking

    async def examine(self, folder: str) -> dict[str, bytes]:
        """Open a folder read-only; its response codes by name. ``/`` parts the levels."""
        found: dict[str, bytes] = {}

        def take(said: Answer) -> None:
            if said.kind == "OK" and (code := said.code()) is not None and len(found) < 50:
                found[code[0]] = code[1]

        condstore = "CONDSTORE" in self.capabilities or "QRESYNC" in self.capabilities
        name = quoted(encode_name(folder.strip("/").replace("/", self.delimiter)))
        self.exists = 0
        words = await self.run("EXAMINE", f"{name} (CONDSTORE)" if condstore else name, take=take)
        self.state = aioimaplib.SELECTED
        if b"[READ-WRITE]" in words[:20].upper():
            raise Hostile("it opens for writing what was to be read only")
        self.stirred.clear()
        return found

    def close(self) -> None:
        """Say LOGOUT and be gone, without waiting for an answer."""
        if self._fault is None and self.transport is not None:
            if self._command is not None and self._command.name == "IDLE":
                self.send("DONE")
            self.send(f"{self.new_tag()} LOGOUT")
            self._fault = Lost("closed")
            self.transport.close()
        self._break(Lost("closed"))


async def connect(watch: Watch, context: ssl.SSLContext) -> WatchClient:
    """A signed-in connection; raises :class:`WatchError`."""
    loop = asyncio.get_running_loop()
    client = WatchClient(loop)
    implicit = watch.tls == "implicit"
    try:
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(
                lambda: client,
                watch.host,
                watch.port,
                ssl=context if implicit else None,
                server_hostname=watch.host if implicit else None,
            )
            await client.greeted()
    except TimeoutError:
        client._break(Lost("it does not answer"))
        raise client._error() from None
    except (OSError, UnicodeError) as error:
        raise Lost(tls_words(error)) from None
    try:
        sock = client.transport.get_extra_info("socket")
        if sock is not None:  # a peer that vanished without a word is found out in minutes
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
        await client.capability()
        offered = "STARTTLS" in client.capabilities
        if watch.tls == "required" and not offered:
            raise Denied("tls: required, but it offers no STARTTLS")
        if watch.tls == "required" or (watch.tls == "opportunistic" and offered):
            await client.starttls(context, watch.host)
            await client.capability()
        await client.sign_in(watch.username, watch.password)
        await _settle(client)
    except BaseException:
        client._break(Lost("closed"))
        raise
    return client


async def _settle(client: WatchClient) -> None:
    """Ask for VANISHED where the server can, and for the sign between the levels of folders."""
    if {"QRESYNC", "ENABLE"} <= client.capabilities:
        try:
            await client.run("ENABLE", "QRESYNC")
        except Unwilling:
            client.capabilities.discard("QRESYNC")

    def take(said: Answer) -> None:
        if said.kind == "LIST":
            found = said.values()
            sign = found[1] if len(found) > 1 else None
            if isinstance(sign, bytes) and len(sign) == 1 and sign.isascii():
                client.delimiter = sign.decode()

    with contextlib.suppress(Unwilling):
        await client.run("LIST", '""', '""', take=take)


async def folders(client: WatchClient, most: int = 500) -> list[str]:
    """The names of the folders there are, as people write them."""
    from gateway.imap_watch_words import decode_name

    found: list[str] = []

    def take(said: Answer) -> None:
        if said.kind == "LIST" and len(found) < most:
            parts = said.values()
            if len(parts) > 2 and isinstance(parts[2], bytes):
                found.append(decode_name(parts[2]).replace(client.delimiter, "/"))

    await client.run("LIST", '""', '"*"', take=take)
    return found


def shown(words: bytes) -> str:
    """What a server said, fit for a log line."""
    text = words[:200].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text).strip()


def tls_words(error: BaseException) -> str:
    """A failed connection or handshake in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"its name is not known: {error.strerror}"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own words name an address that was said already
    return str(error) or type(error).__name__
