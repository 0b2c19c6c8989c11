"""The dialogue before the login, which Wasl speaks itself: greeting, TLS, who is there, and the way in.

RFC 3501 §6.1-6.2 and RFC 9051 §6.1-6.2; SASL-IR (RFC 4959), PLAIN (RFC 4616), LOGIN and XOAUTH2, ID (RFC
2971), response codes of RFC 5530. No credential is taken before TLS, and nothing read before the handshake is
used after it: octets that came ahead of it end the connection. The server is found by the domain of the
login; who fails too often is not let through to it, so that it does not come to ban the gateway.

Fails: a client that breaks the bounds (time, length, errors) is told BYE; a server that gives no verdict is
``NO [UNAVAILABLE]``, which costs the client no attempt.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
import re
import ssl
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway import imap_capability as capability
from gateway.imap_framing import literal_size
from gateway.imap_upstream import Entered, Login, Refused, Unreachable, enter
from gateway.imap_wire import Lines, TooLong, Wire
from policies.agency import Agency, ImapServer
from policies.directory import Directory
from tracker.model import Address, AddressError

log = logging.getLogger("wasl.imap")

LONGEST = 16_384  # octets of a line; OAuth tokens are long
_WORD = 2048  # octets of a user name or password
_ERRORS = 10  # commands that cannot be obeyed, before BYE
_ATTEMPTS = 5  # failed logins of one connection
_ID_PAIRS, _ID_VALUE = 20, 200
_COMMAND = re.compile(rb"([^\s(){%*\"\\+\x00-\x1f\x7f]{1,128}) +([A-Za-z]{1,20})(?: +(.*))?", re.S)
_STRING = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"|([^\s(){%*"\\\x00-\x1f\x7f]+)')
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OAUTH_USER = re.compile(rb"(?:\A|\x01)user=([^\x01]{1,512})\x01")


class Gone(Exception):
    """The client ended the dialogue, or it was ended for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who logged in, where from, with what."""

    account: str  # the login's address, folded
    mailbox: str  # whose mailbox; the same but for delegates
    agency: str
    peer: str
    client: str  # what the client's ID says that it is


class Keeper(Protocol):
    """What the dialogue asks of the proxy: counts of failures."""

    def may_try(self, account: str, peer: str) -> bool: ...

    def begins(self, account: str, peer: str) -> float:
        """An attempt; it counts as failed until one of the others is told, with what this returned."""

    def spared(self, account: str, peer: str, attempt: float) -> None:
        """There was no verdict on it."""

    def entered(self, account: str, peer: str, attempt: float) -> None:
        """The login was right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What all connections of a listener have in common."""

    directory: Callable[[], Directory]
    keeper: Keeper
    hostname: str
    tls: ssl.SSLContext | None
    clear_login: bool
    domain: str | None
    login_timeout_s: float
    upstream_timeout_s: float


class Dialogue:
    """One client until it is in, or gone."""

    def __init__(self, wire: Wire, lines: Lines, door: Door, *, secured: bool) -> None:
        """``lines`` reads ``wire`` since before it was connected."""
        self._wire, self._lines, self._door, self.secured = wire, lines, door, secured
        self._peer = wire.address()
        self._attempts = 0
        self.client_id: dict[str, str] = {}

    async def run(self) -> tuple[Visitor, Entered, bytes]:
        """Until the login: who it is, the connection to the server, and what the client sent behind.

        Raises :class:`Gone`; the client has then been told why.
        """
        try:
            async with asyncio.timeout(self._door.login_timeout_s):
                return await self._talk()
        except TimeoutError:
            self._say(b"* BYE No login in time")
        except TooLong:
            self._say(b"* BYE Line too long")
        except (EOFError, OSError):
            pass
        raise Gone

    def _say(self, line: bytes) -> None:
        self._wire.write(line + b"\r\n")

    @property
    def _may_log_in(self) -> bool:
        if self.secured:
            return True
        host = self._peer[0]
        return self._door.clear_login and (host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1"))

    def _offered(self) -> bytes:
        starttls = not self.secured and self._door.tls is not None
        return capability.offered(secured=self._may_log_in, starttls=starttls)

    async def _talk(self) -> tuple[Visitor, Entered, bytes]:
        host = self._door.hostname.encode()
        self._say(b"* OK [CAPABILITY " + self._offered() + b"] " + host + b" ready")
        errors = 0
        while errors < _ERRORS:
            line = await self._lines.line()
            match = _COMMAND.fullmatch(line)
            if match is None:
                errors += 1
                self._say(b"* BAD No command")
                continue
            tag, verb, rest = match[1], match[2].upper(), match[3] or b""
            if verb in (b"LOGIN", b"AUTHENTICATE"):
                try:
                    login = await self._credentials(tag, verb, rest)
                except ValueError as error:
                    errors += 1
                    self._say(tag + b" BAD " + str(error).encode("ascii", "replace"))
                    continue
                if login is not None and (entered := await self._enter(tag, login)) is not None:
                    return entered
            elif verb == b"STARTTLS":
                errors += not await self._start_tls(tag)
            elif not self._simple(tag, verb, rest):
                errors += 1
        self._say(b"* BYE Too many errors")
        raise Gone

    def _simple(self, tag: bytes, verb: bytes, rest: bytes) -> bool:
        """The commands of any state; False for one that cannot be obeyed."""
        if verb == b"CAPABILITY":
            self._say(b"* CAPABILITY " + self._offered())
        elif verb == b"ID":
            self.client_id = read_id(rest)
            self._say(b'* ID ("name" "Wasl")')
        elif verb == b"LOGOUT":
            self._say(b"* BYE Goodbye")
            self._say(tag + b" OK LOGOUT completed")
            raise Gone
        elif verb != b"NOOP":
            self._say(tag + b" BAD Not possible before a login")
            return False
        self._say(tag + b" OK " + verb + b" completed")
        return True

    async def _start_tls(self, tag: bytes) -> bool:
        context = self._door.tls
        if self.secured or context is None:
            self._say(tag + b" BAD TLS is not to be had here")
            return False
        if self._lines.ahead:
            log.warning("%s sent more behind STARTTLS before the handshake; cut off", self._peer[0])
            raise Gone
        self._say(tag + b" OK Begin TLS negotiation now")
        try:
            await self._wire.start_tls(context, server_side=True, timeout_s=30)
        except TimeoutError as error:
            raise EOFError from error
        self._lines.forget()
        self.client_id = {}  # RFC 9051 §6.2.1: what was learned in clear is forgotten
        self.secured = True
        return True

    # Credentials.

    async def _credentials(self, tag: bytes, verb: bytes, rest: bytes) -> Login | None:
        """What the client signs in with; None when that was answered. Raises ValueError with the words."""
        if not self._may_log_in:
            self._say(tag + b" NO [PRIVACYREQUIRED] Only with TLS")
            return None
        if verb == b"LOGIN":
            words = await self._words(rest)
            return Login(user=_text(words[0]), password=_text(words[1]))
        mechanism, _, initial = rest.partition(b" ")
        mechanism = mechanism.upper()
        if mechanism not in (b"PLAIN", b"LOGIN", b"XOAUTH2"):
            self._say(tag + b" NO [CANNOT] No such mechanism")
            return None
        if mechanism == b"LOGIN":
            name = self._decoded(initial) if initial else await self._ask(b"VXNlcm5hbWU6")
            return Login(user=_text(name), password=_text(await self._ask(b"UGFzc3dvcmQ6")))
        message = self._decoded(initial) if initial else await self._ask(b"")
        if mechanism == b"XOAUTH2":
            found = _OAUTH_USER.search(message)
            if found is None:
                raise ValueError("No XOAUTH2 message")
            return Login(user=_text(found[1]), token=message)
        parts = message.split(b"\0")
        if len(parts) != 3:
            raise ValueError("No PLAIN message")
        acts_as, user = _text(parts[0]), _text(parts[1])
        return Login(user=user, password=_text(parts[2]), acts_as=acts_as if acts_as != user else "")

    async def _words(self, rest: bytes) -> list[bytes]:
        """User and password of LOGIN: atoms, quoted strings or literals (RFC 7888 ones, too)."""
        words: list[bytes] = []
        while True:
            while len(words) < 2 and (match := _STRING.match(rest)):
                quoted = match[1] is not None
                words.append(re.sub(rb"\\(.)", rb"\1", match[1]) if quoted else match[2])
                rest = rest[match.end() :]
                if len(words) == 1 and rest[:1] == b" ":
                    rest = rest[1:]
            literal = literal_size(rest + b"\r\n")
            if literal is None or not rest.startswith(b"{") or len(words) > 1:
                break
            if literal[0] > _WORD:
                if literal[1]:
                    raise TooLong  # its octets are on their way
                raise ValueError("Literal too long")
            if not literal[1]:
                self._say(b"+ Go on")
            words.append(await self._lines.octets(literal[0]))
            rest = (await self._lines.line()).removeprefix(b" ")
        if len(words) != 2 or rest.strip():
            raise ValueError("LOGIN takes a user name and a password")
        return words

    async def _ask(self, challenge: bytes) -> bytes:
        self._say(b"+ " + challenge)
        return self._decoded(await self._lines.line())

    @staticmethod
    def _decoded(line: bytes) -> bytes:
        if line == b"*":
            raise ValueError("Cancelled")
        try:
            return b"" if line == b"=" else b64decode(line, validate=True)
        except binascii.Error:
            raise ValueError("No base64") from None

    # The way in.

    async def _enter(self, tag: bytes, login: Login) -> tuple[Visitor, Entered, bytes] | None:
        account, mailbox, agency, server = self._who(login)
        peer = self._peer[0]
        if not self._door.keeper.may_try(account, peer):
            log.warning("IMAP login of %s from %s: too many failures", account, peer)
            self._say(tag + b" NO [UNAVAILABLE] Too many failed logins, please try again later")
            return None
        attempt = self._door.keeper.begins(account, peer)
        try:
            if agency is None or server is None or not (login.password or login.token):
                raise Refused(b"[AUTHENTICATIONFAILED] Authentication failed", wrong=True)
            entered = await enter(
                server,
                self._sent(server, login),
                self._peer,
                self.client_id,
                self._challenge,
                self._door.upstream_timeout_s,
            )
        except Refused as refused:
            log.info("IMAP login of %s from %s refused: %s", account, peer, refused)
            if not refused.wrong:
                self._door.keeper.spared(account, peer, attempt)
            self._say(tag + b" NO " + refused.text)
            self._attempts += refused.wrong
            if self._attempts >= _ATTEMPTS:
                self._say(b"* BYE Too many failed logins")
                raise Gone from None
            return None
        except Unreachable as error:
            log.warning("IMAP login of %s: %s", account, error)
            self._door.keeper.spared(account, peer, attempt)
            self._say(tag + b" NO [UNAVAILABLE] The mail server cannot be reached, please try again later")
            return None
        except BaseException:
            self._door.keeper.spared(account, peer, attempt)
            raise
        self._door.keeper.entered(account, peer, attempt)
        for line in entered.untagged:
            self._say(capability.filtered(line))
        self._say(tag + b" OK " + capability.filtered(entered.text))
        visitor = Visitor(
            account=account,
            mailbox=mailbox,
            agency=agency.code,
            peer=peer,
            client=client_name(self.client_id),
        )
        return visitor, entered, self._lines.end()

    def _who(self, login: Login) -> tuple[str, str, Agency | None, ImapServer | None]:
        """The account and mailbox (folded), the agency and the server of the login."""
        try:
            account, host = self._address(login.user)
            mailbox = self._address(login.acts_as)[0] if login.acts_as else account
        except AddressError:
            return re.sub(r"[^\x20-\x7e]", "?", login.user)[:100], "", None, None
        agency = self._door.directory().by_domain(host)
        return account, mailbox, agency, agency.imap_for(host) if agency is not None else None

    def _address(self, user: str) -> tuple[str, str]:
        if "@" not in user and self._door.domain:
            user = f"{user}@{self._door.domain}"
        address = Address.parse(user)
        return address.key, address.host

    def _sent(self, server: ImapServer, login: Login) -> Login:
        """The login as the server knows it."""
        if login.token:
            return login
        if server.user_form == "local":
            user, acts_as = login.user.rpartition("@")[0] or login.user, login.acts_as.rpartition("@")[0]
        else:
            whole = "" if "@" in login.user or not self._door.domain else f"@{self._door.domain}"
            user, acts_as = login.user + whole, login.acts_as
        return Login(user=user, password=login.password, acts_as=acts_as)

    async def _challenge(self, text: bytes) -> bytes:
        """The server's question goes to the client, its answer back."""
        self._say(b"+ " + text)
        return await self._lines.line()


def _text(octets: bytes) -> str:
    """A user name or password; raises ValueError for what no server should be shown."""
    text = octets.decode("utf-8")
    if len(octets) > _WORD or _CONTROLS.search(text):
        raise ValueError("Control character or too long")
    return text


def read_id(rest: bytes) -> dict[str, str]:
    """The pairs of an ID command (RFC 2971 §3.3), bounded; what is unreadable is left out."""
    words = [
        (m[1] if m[1] is not None else b"").decode("ascii", "replace")[:_ID_VALUE]
        for m in re.finditer(rb'"((?:[^"\\\r\n]|\\["\\])*)"|NIL', rest[:8192], re.I)
    ]
    pairs = zip(words[0::2], words[1::2], strict=False)
    # Nothing that would need an escape: cut at its bound, it would end the string elsewhere.
    clean = ((k.lower()[:30], v) for k, v in pairs if v and not set('"\\') & set(k + v))
    return dict(list(clean)[:_ID_PAIRS])


def client_name(pairs: dict[str, str]) -> str:
    """Name and version of a client, for people."""
    shown = " ".join(v for key in ("name", "version", "os") if (v := pairs.get(key, "")))
    return re.sub(r"[^\x20-\x7e]", "?", shown)[:200]
