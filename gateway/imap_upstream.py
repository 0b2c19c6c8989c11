"""The way into a mailbox: connect to the agency's server, tell it who the client is, hand the login through.

RFC 3501 §6.2 and RFC 9051 §6.2 (STARTTLS, AUTHENTICATE, LOGIN), RFC 4959 (SASL-IR), RFC 4616 (PLAIN), RFC
2971 (ID: Dovecot takes the client's address by ``x-originating-ip`` from hosts that it trusts), RFC 5530
(response codes). A password goes as AUTHENTICATE PLAIN, else as LOGIN with literals, so that nothing needs
quoting; an OAuth token goes as it came. TLS is as the directory says, and nothing read before it counts
after it.

Fails: :class:`Refused` when the server said no to the login, :class:`Unreachable` when it gave no verdict;
neither holds a credential.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from gateway import imap_capability as capability
from gateway.imap_wire import Lines, TooLong, Wire
from policies.agency import ImapServer, TlsMode

_LINE = 65_536
_ANSWERS = 200  # untagged lines of one answer
# RFC 5530: a NO that says nothing about the password.
_NO_VERDICT = re.compile(rb"\[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG|CONTACTADMIN|PRIVACYREQUIRED)\]", re.I)
# Codes that a client may be told; a referral, for one, would lead it past Wasl.
_TOLD = re.compile(
    rb"\[(?:AUTHENTICATIONFAILED|AUTHORIZATIONFAILED|EXPIRED|CONTACTADMIN|UNAVAILABLE|INUSE|LIMIT|SERVERBUG"
    rb"|ALERT)\] *",
    re.I,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a client signs in with; ``token`` is a whole XOAUTH2 message, else there is a password."""

    user: str
    password: str = field(default="", repr=False)
    acts_as: str = ""  # whose mailbox, where it is another's (RFC 4616: authorization identity)
    token: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """A logged-in connection: the answer for the client and what came behind it."""

    wire: Wire
    untagged: tuple[bytes, ...]
    text: bytes  # of the tagged OK, with its code
    ahead: bytes


class Refused(Exception):
    """The server said no: ``text`` may be shown, ``wrong`` tells whether the credentials are to blame."""

    def __init__(self, text: bytes, *, wrong: bool) -> None:
        super().__init__(text.decode("ascii", "replace"))
        self.text, self.wrong = text, wrong


class Unreachable(Exception):
    """No verdict; the message is for the log."""


@lru_cache(maxsize=256)
def _context(verify: bool, ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def enter(
    server: ImapServer,
    login: Login,
    peer: tuple[str, int],
    client_id: Mapping[str, str],
    challenge: Callable[[bytes], Awaitable[bytes]],
    timeout_s: float,
) -> Entered:
    """Log in at ``server``; raises :class:`Refused`, :class:`Unreachable`.

    ``challenge`` shows the client a question of the server's (OAuth errors) and gets its answer.
    """
    wire = Wire()
    try:
        async with asyncio.timeout(timeout_s):
            talk = await _Talk.open(server, wire, timeout_s)
            await talk.say_who(peer, client_id)
            return await talk.login(login, challenge)
    except TimeoutError:
        wire_end(wire)
        raise Unreachable(f"{server.host}:{server.port}: no answer in {timeout_s:g} s") from None
    except TooLong:
        wire_end(wire)
        raise Unreachable(f"{server.host}:{server.port}: an endless line") from None
    except (OSError, EOFError, ValueError) as error:
        wire_end(wire)
        raise Unreachable(f"{server.host}:{server.port}: {error}") from None
    except BaseException:
        wire_end(wire)
        raise


async def offers(server: ImapServer, timeout_s: float) -> frozenset[bytes]:
    """What a server says it can before a login, with TLS as :func:`enter` would have it.

    Raises OSError, EOFError, ValueError, TimeoutError and TooLong, for whoever wants to tell them apart.
    """
    wire = Wire()
    try:
        async with asyncio.timeout(timeout_s):
            return (await _Talk.open(server, wire, timeout_s)).offered
    finally:
        wire_end(wire)


def wire_end(wire: Wire) -> None:
    """Close a wire that may never have been connected."""
    if wire.made:
        wire.abort()


class _Talk:
    """The dialogue with the server until the login."""

    def __init__(self, server: ImapServer, wire: Wire) -> None:
        self._server, self._wire = server, wire
        self._lines = Lines(wire, _LINE)
        self._offered: frozenset[bytes] = frozenset()
        self._number = 0

    @classmethod
    async def open(cls, server: ImapServer, wire: Wire, timeout_s: float) -> _Talk:
        talk = cls(server, wire)
        context = _context(server.verify, server.ca)
        implicit = server.tls == TlsMode.IMPLICIT
        await asyncio.get_running_loop().create_connection(
            lambda: wire,
            server.host,
            server.port,
            ssl=context if implicit else None,
            server_hostname=server.host if implicit else None,
        )
        greeting = await talk._lines.line()
        if not greeting.upper().startswith(b"* OK"):
            raise ValueError(f"greeting {greeting[:100]!r}")
        await talk._learn(greeting)
        if server.tls == TlsMode.REQUIRED:
            if b"STARTTLS" not in talk._offered:
                raise ValueError("the server does not offer TLS")
            status, text, _ = await talk._command(b"STARTTLS")
            if status != b"OK":
                raise ValueError(f"the server refuses TLS: {text[:100]!r}")
            if talk._lines.ahead:
                raise ValueError("the server spoke on in clear behind its agreement to TLS")
            await wire.start_tls(context, server_side=False, name=server.host, timeout_s=timeout_s)
            talk._lines.forget()
            await talk._learn(b"")
        return talk

    @property
    def offered(self) -> frozenset[bytes]:
        return self._offered

    async def _learn(self, line: bytes) -> None:
        """Read the capabilities from a line, or ask for them."""
        found = capability.listed(line)
        if found is None:
            _, text, untagged = await self._command(b"CAPABILITY")
            found = next((c for said in (*untagged, text) if (c := capability.listed(said))), frozenset())
        self._offered = found

    async def say_who(self, peer: tuple[str, int], client_id: Mapping[str, str]) -> None:
        """Tell the server whom it deals with; a server that does not believe it says so or says nothing."""
        host, port = peer
        way = self._server.client_address
        if way in ("auto", "xclient") and b"XCLIENT" in self._offered:
            address = f"IPV6:{host}" if ":" in host else host
            await self._command(f"XCLIENT ADDR={address} PORT={port}".encode())
            return
        if way in ("auto", "id") and b"ID" in self._offered:
            words = {"x-originating-ip": host, "x-originating-port": str(port)}
            words |= {k: v for k, v in client_id.items() if not k.startswith("x-")}
            words.setdefault("name", "Wasl")
            pairs = " ".join(f'"{k}" "{v}"' for k, v in words.items())
            await self._command(f"ID ({pairs})".encode("ascii", "replace"))

    async def login(self, login: Login, challenge: Callable[[bytes], Awaitable[bytes]]) -> Entered:
        if login.token:
            if b"AUTH=XOAUTH2" not in self._offered:
                raise Refused(b"[CANNOT] The server does not take XOAUTH2", wrong=False)
            answer = await self._authenticate(b"XOAUTH2", login.token, challenge)
        else:
            answer = await self._password(login)
        status, text, untagged = answer
        if status != b"OK":
            if status == b"NO" and _NO_VERDICT.search(text) is None:
                raise Refused(_shown(text), wrong=True)
            raise Refused(_shown(text), wrong=False)
        return Entered(wire=self._wire, untagged=tuple(untagged), text=text, ahead=self._lines.end())

    async def _password(self, login: Login) -> tuple[bytes, bytes, list[bytes]]:
        user, password = login.user.encode(), login.password.encode()
        if b"AUTH=PLAIN" in self._offered:
            message = login.acts_as.encode() + b"\0" + user + b"\0" + password
            return await self._authenticate(b"PLAIN", message, None)
        if b"LOGINDISABLED" in self._offered or login.acts_as:
            raise ValueError("the server offers neither AUTHENTICATE PLAIN nor LOGIN")
        return await self._command(b"LOGIN {%d}" % len(user), [b"%s {%d}" % (user, len(password)), password])

    async def _authenticate(
        self, mechanism: bytes, message: bytes, challenge: Callable[[bytes], Awaitable[bytes]] | None
    ) -> tuple[bytes, bytes, list[bytes]]:
        coded = b64encode(message)
        if b"SASL-IR" in self._offered:
            return await self._command(b"AUTHENTICATE %s %s" % (mechanism, coded), [], challenge)
        return await self._command(b"AUTHENTICATE " + mechanism, [coded], challenge)

    async def _command(
        self,
        command: bytes,
        continuations: list[bytes] | None = None,
        challenge: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> tuple[bytes, bytes, list[bytes]]:
        """Send a command; status, text and untagged lines of its answer."""
        self._number += 1
        tag = b"w%d" % self._number
        self._wire.write(tag + b" " + command + b"\r\n")
        untagged: list[bytes] = []
        left = list(continuations or [])
        while len(untagged) < _ANSWERS:
            line = await self._lines.line()
            if line.startswith(b"+"):
                if left:
                    self._wire.write(left.pop(0) + b"\r\n")
                elif challenge is not None:
                    self._wire.write(await challenge(line[1:].strip()) + b"\r\n")
                    untagged.append(b"")
                else:
                    raise ValueError("the server asks for more than there is")
            elif line.startswith(b"* "):
                untagged.append(line)
            else:
                said, _, rest = line.partition(b" ")
                status, _, text = rest.partition(b" ")
                if said != tag or status.upper() not in (b"OK", b"NO", b"BAD"):
                    raise ValueError(f"a line that answers nothing: {line[:60]!r}")
                return status.upper(), text, [one for one in untagged if one]
        raise ValueError("an endless answer")


def _shown(text: bytes) -> bytes:
    """What the client may be told of a refusal: known codes, printable ASCII, no more than a line."""
    code = _TOLD.match(text)
    words = re.sub(rb"\A\[[^\]]*\] *", b"", text)
    words = re.sub(rb"[^\x20-\x7e]", b"?", words)[:200] or b"Login refused"
    return (code[0].upper() if code else b"[AUTHENTICATIONFAILED] ") + words
