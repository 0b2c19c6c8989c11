"""The nouns of the wire and the desk, as frozen values that are checked at the door.

``Address`` keeps what stood on the wire (RFC 5321 §4.1.2, RFC 6531 §3.3) and a folded key to
compare by. ``NULL_PATH`` is the null reverse-path ``<>``; the string never travels further in.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")
# Unseen, or they turn what stands around them: two addresses that nobody could tell apart. The joiners
# U+200C and U+200D stay, which Persian and Urdu are written with.
_UNSEEN = re.compile(
    r"[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED = re.compile(r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e\u00a1-\U0010ffff]|\\[\x20-\x7e])*"')
_LABEL = r"[A-Za-z0-9\u00a1-\U0010ffff](?:[A-Za-z0-9\-\u00a1-\U0010ffff]*[A-Za-z0-9\u00a1-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[[\x21-\x5a\x5e-\x7e]+\]")

MAX_LOCAL = 64  # RFC 5321 §4.5.3.1.1, octets
MAX_DOMAIN = 255  # RFC 5321 §4.5.3.1.2, octets
MAX_LABEL = 63  # RFC 1035 §2.3.4; of a U-label its A-label counts (RFC 5890 §2.3.2.1)
MAX_PATH = 254  # RFC 5321 §4.5.3.1.3 less the brackets, octets


class AddressError(ValueError):
    """Text that is no mailbox address; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox as it stood on the wire. From text of outside it is made by ``Address.parse`` alone."""

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``local@domain`` (no angle brackets, no source route); raises :class:`AddressError`.

        Nothing is repaired: a control character, an over-long part or an empty label is refused.
        """
        return _parse(text)

    @classmethod
    def recorded(cls, text: str) -> Address:
        """An address that the record holds: it was read before, under the rules of its day."""
        local, _, domain = text.rpartition("@")
        return cls(local, domain)

    @property
    def is_null(self) -> bool:
        return not self.domain

    @property
    def ascii(self) -> bool:
        """True when the address can travel without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def key(self) -> str:
        """The folded form by which addresses are compared: domain and local part without case."""
        return f"{self.local.casefold()}@{self.domain.casefold()}" if self.domain else ""

    @property
    def host(self) -> str:
        """The domain in lower case, by which the directory is asked."""
        return self.domain.lower()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else ""

    @property
    def path(self) -> str:
        """The form between ``MAIL FROM:`` and the parameters: ``<a@b>`` or ``<>``."""
        return f"<{self}>"


NULL_PATH = Address("", "")


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    if _CONTROL.search(text):
        raise AddressError("control character in address")
    if not text.isascii() and _UNSEEN.search(text):
        raise AddressError("invisible or direction character in address")
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise AddressError("an address needs local part and domain")
    if len(local.encode()) > MAX_LOCAL:
        raise AddressError(f"local part longer than {MAX_LOCAL} octets")
    if len(domain.encode()) > MAX_DOMAIN or len(text.encode()) > MAX_PATH:
        raise AddressError("address too long")
    if not (_DOT_STRING.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise AddressError("malformed local part")
    if not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        raise AddressError("malformed domain")
    if domain[0] != "[" and any(_label_size(label) > MAX_LABEL for label in domain.split(".")):
        raise AddressError("domain label too long")
    return Address(local, domain)


def _label_size(label: str) -> int:
    return len(label) if label.isascii() else len("xn--") + len(label.encode("punycode"))


class Door(StrEnum):
    """Where a letter came in."""

    RELAY = "relay"  # an agency's own server, port 25
    SUBMISSION = "submission"  # a signed-in client, port 587 or 465
    SELF = "self"  # Wasl's own receipts and notices


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsInfo:
    """What a TLS handshake settled: ``TLSv1.3``, cipher, the peer's certificate names if verified."""

    version: str
    cipher: str
    peer_names: tuple[str, ...] = ()
    verified: bool = False

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}{' verified' if self.verified else ''}"

    @classmethod
    def parse(cls, text: str) -> TlsInfo:
        """What ``str`` made, without the peer's names."""
        version, _, rest = text.partition(" ")
        cipher, _, word = rest.partition(" ")
        return cls(version=version, cipher=cipher, verified=word == "verified")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The peer of one session and what it has proved about itself."""

    door: Door
    peer: str  # IP address as text
    port: int = 0
    helo: str = ""
    tls: TlsInfo | None = None
    account: str | None = None  # signed-in account, ``user@domain``
    agency: str | None = None  # code of the agency that the account, network or certificate belongs to


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One RCPT TO with its DSN parameters exactly as given (RFC 3461 §4.1, §4.2)."""

    address: Address
    notify: str | None = None  # ``NEVER`` or a comma list of SUCCESS,FAILURE,DELAY; upper case
    orcpt: str | None = None  # ``addr-type;xtext``, case kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The envelope of one mail transaction (RFC 5321 §2.3.1, RFC 3461, RFC 6531, RFC 8689)."""

    sender: Address
    recipients: tuple[Recipient, ...]
    ret: str | None = None  # FULL or HDRS
    envid: str | None = None  # xtext, case kept
    body: str = "7BIT"  # 7BIT, 8BITMIME or BINARYMIME
    smtputf8: bool = False
    requiretls: bool = False


class LetterKind(StrEnum):
    LETTER = "letter"  # an inter-agency letter, numbered
    SHADOW = "shadow"  # recorded and reported, nothing changed on the wire
    PASS = "pass"  # no letter: forgotten once delivered or returned
    RECEIPT = "receipt"  # Wasl's own receipt or notice
    REFUSED = "refused"  # every recipient refused in session; kept as a record of the refusal
    REPORT = "report"  # a DSN, MDN or auto-reply that came back to a MAC address


class DeliveryKind(StrEnum):
    LETTER = "letter"
    SHADOW = "shadow"
    PASS = "pass"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class LetterNumber:
    """A register number such as ``MOF/2026/000123`` (رقم الصادر), ASCII digits only."""

    text: str
    agency: str
    year: int
    seq: int

    @classmethod
    def shape(cls, pattern: str, agency: str, year: int, seq: int) -> LetterNumber:
        """Form a number by a pattern such as ``{agency}/{year}/{seq:06d}``."""
        return cls(pattern.format(agency=agency, year=year, seq=seq), agency, year, seq)

    def __str__(self) -> str:
        return self.text


_B32 = "0123456789abcdefghjkmnpqrstvwxyz"
_B32_VALUE = {c: i for i, c in enumerate(_B32)} | {"o": 0, "i": 1, "l": 1}


_B32_PAIRS = [a + b for a in _B32 for b in _B32]


def id_text(number: int) -> str:
    """The 13-character public form of a record id (Crockford base 32, lower case), e.g. in queue lists."""
    pairs = _B32_PAIRS
    return (
        f"{_B32[number >> 60 & 31]}{pairs[number >> 50 & 1023]}{pairs[number >> 40 & 1023]}"
        f"{pairs[number >> 30 & 1023]}{pairs[number >> 20 & 1023]}{pairs[number >> 10 & 1023]}"
        f"{pairs[number & 1023]}"
    )


def id_value(text: str) -> int:
    """Reverse of :func:`id_text`, without regard to case; raises ValueError on anything else."""
    value = 0
    if len(text) != 13:
        raise ValueError(f"not an id: {text!r}")
    for c in text.lower():
        if c not in _B32_VALUE:
            raise ValueError(f"not an id: {text!r}")
        value = value << 5 | _B32_VALUE[c]
    if value >= 1 << 63:
        raise ValueError(f"not an id: {text!r}")
    return value


@dataclass(slots=True)
class IdSource:
    """Time-ordered 63-bit ids: 41 bits of milliseconds since 2020, 10 bits of node, 12 bits of count.

    Never goes backwards while the process lives; ``floor`` (the highest id already in the store)
    keeps that true across restarts when the clock was set back.
    """

    node: int = 0
    floor: int = 0
    lane: int = 0  # 0 or 1: two processes of a node that make ids at the same time
    _last_ms: int = field(default=0, repr=False)
    _count: int = field(default=0, repr=False)

    EPOCH_MS: ClassVar[int] = 1_577_836_800_000

    def __post_init__(self) -> None:
        self._last_ms = (self.floor >> 22) + 1 if self.floor else 0

    def next(self) -> int:
        ms = time.time_ns() // 1_000_000 - self.EPOCH_MS
        if ms > self._last_ms:
            self._last_ms, self._count = ms, self.lane
        else:
            self._count += 2
            if self._count >= 4096:
                self._last_ms, self._count = self._last_ms + 1, self.lane
        return self._last_ms << 22 | self.node << 12 | self._count


def now_us() -> int:
    """The present, in microseconds of UTC since 1970: the only form in which times are stored."""
    return time.time_ns() // 1000


def when(us: int) -> datetime:
    """A stored time as an aware datetime."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)
