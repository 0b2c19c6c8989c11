"""An agency as the gateway knows it: what is its own, where its letters go, how it proves itself.

Frozen values that the rest of the house uses; ``policies/agency_entry.py`` has the shape in which
files describe them. Passwords of relay credentials are kept as scrypt hashes (RFC 7914) only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from policies.watch import Watch
from tracker.model import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Mode(StrEnum):
    ACTIVE = "active"
    SHADOW = "shadow"  # record and report, change nothing on the wire
    OFF = "off"  # as if it were not in the directory, save that its mail may pass


class Forwards(StrEnum):
    """When the agency's own server vouches for a letter whose sender is not of the agency (DESIGN §11)."""

    AUTHENTICATED = "authenticated"  # when its Authentication-Results say so, see ``authserv_ids``
    ALL = "all"
    NONE = "none"


class TlsMode(StrEnum):
    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS when offered
    REQUIRED = "required"  # STARTTLS or nothing
    IMPLICIT = "implicit"  # TLS from the first octet


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """A server that letters are handed to. ``name`` is the agency's code, or ``CODE:outbound``."""

    name: str
    host: str
    port: int = 25
    protocol: str = "smtp"  # smtp or lmtp
    tls: str = "opportunistic"  # a TlsMode
    verify: bool = True  # check the certificate against ``ca`` or the system's authorities
    ca: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    final: bool = False  # its 250 is the mailbox (E3)
    max_connections: int = 20
    line: int = field(default=0, compare=False)  # of its entry in the agency's file

    @property
    def is_final(self) -> bool:
        """True when a 250 of this hop is the mailbox (DESIGN §11): LMTP, or declared so."""
        return self.final or self.protocol == "lmtp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A user name with which an agency's server signs in on the relay port."""

    username: str
    password_hash: str = field(repr=False)

    def check(self, password: str) -> bool:
        """True for the right password; about 20 ms of CPU, so call it off the event loop."""
        return check_password(password, self.password_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The agency's own server, which is asked whether a client's password is right."""

    kind: str  # smtp or imap
    host: str
    port: int
    tls: str
    verify: bool = True
    ca: Path | None = None
    user_form: str = "address"  # what is sent as user name: the address or its local part
    line: int = field(default=0, compare=False)  # of its entry in the agency's file

    def user_name(self, account: Address) -> str:
        return account.local if self.user_form == "local" else str(account)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapServer:
    """The agency's own IMAP server, which clients reach through Wasl."""

    host: str
    port: int
    tls: str  # a TlsMode, never opportunistic
    verify: bool = True
    ca: Path | None = None
    user_form: str = "address"  # what is sent as user name: the address or its local part
    domains: tuple[str, ...] = ()  # whose mailboxes it holds; none: all of the agency's
    client_address: str = "auto"  # how it learns the client's address: auto, id, xclient, none
    line: int = field(default=0, compare=False)  # of its entry in the agency's file


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimKey:
    """One signing key; RSA or Ed25519 is told by the key file itself."""

    selector: str
    domain: str
    key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Agency:
    """One agency of the directory."""

    code: str
    name_ar: str
    name_en: str
    domains: tuple[str, ...]
    registry: Address | None = None
    registry_routing: bool = False  # letters from other agencies go to ``registry``
    mode: Mode = Mode.ACTIVE
    next_hop: NextHop | None = None
    outbound: NextHop | None = None
    networks: tuple[Network, ...] = ()
    certificates: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    sign_in: SignIn | None = None
    imap: tuple[ImapServer, ...] = ()  # where its people's mailboxes are
    dkim: tuple[DkimKey, ...] = ()
    receipts: tuple[tuple[str, bool], ...] = ()  # event -> due or not, where it differs from the settings
    ask_read: str | None = None  # letters to its people ask for a read receipt: always, author, never
    authserv_ids: tuple[str, ...] = ()  # whose Authentication-Results are believed
    forwards: Forwards = Forwards.AUTHENTICATED
    watches: tuple[Watch, ...] = ()  # its mailboxes that are looked into
    incoming: str = "own"  # who gives incoming numbers: assigned by the gateway, or the registry's own
    registrars: tuple[Address, ...] = ()  # who may act by mail on letters to it, beside ``registry``
    answers: str = "closes"  # what its answers do to the letters that they answer: closes, advances, nothing
    file: str = ""
    line: int = 0
    files: tuple[tuple[str, Path], ...] = field(default=(), compare=False)  # key and path of what it names

    @property
    def active(self) -> bool:
        return self.mode is Mode.ACTIVE

    def entitled(self, address: Address) -> bool:
        """True when that mailbox may act on letters to the agency by mail."""
        listed = (*self.registrars, *((self.registry,) if self.registry is not None else ()))
        return any(one.key == address.key for one in listed)

    def receipt(self, event: str, default: bool) -> bool:
        """Whether a receipt of that event is due to this agency's authors by default."""
        return dict(self.receipts).get(event, default)

    def imap_for(self, domain: str) -> ImapServer | None:
        """The server that holds the mailboxes of a domain of this agency; one that names it goes first."""
        named = [server for server in self.imap if domain in server.domains]
        return next(iter(named or [server for server in self.imap if not server.domains]), None)

    def dkim_for(self, domain: str) -> tuple[DkimKey, ...]:
        """The keys that sign for a domain of this agency."""
        return tuple(key for key in self.dkim if key.domain == domain)


_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MB, about 20 ms


def hash_password(password: str) -> str:
    """``scrypt$n$r$p$salt$hash`` for a relay credential (RFC 7914)."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
    numbers = "$".join(str(_SCRYPT[k]) for k in ("n", "r", "p"))
    return f"scrypt${numbers}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_password(password: str, hashed: str) -> bool:
    """Compare in constant time; a hash that cannot be read is never right."""
    match = _HASH.fullmatch(hashed)
    if match is None:
        return False
    n, r, p = (int(match[i]) for i in (1, 2, 3))
    try:
        salt, digest = base64.b64decode(match[4]), base64.b64decode(match[5])
        made = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, dklen=len(digest))
    except ValueError:
        return False
    return hmac.compare_digest(made, digest)


def hash_costs(hashed: str) -> tuple[int, int, int] | None:
    """n, r and p of a password hash; None for text that is none."""
    match = _HASH.fullmatch(hashed)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


_HASH = re.compile(
    r"scrypt\$(\d{1,6})\$(\d{1,2})\$(\d{1,2})\$([A-Za-z0-9+/]{22,44}={0,2})\$([A-Za-z0-9+/]{22,88}={0,2})"
)
