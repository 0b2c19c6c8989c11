"""Outward addresses that nobody can guess: the reverse-path and Disposition-Notification-To of a copy.

PURPOSE
    A DSN or MDN that comes back to such an address names its delivery exactly (DESIGN §9). One
    address stands for one delivery, or for one letter at one next hop when there are many recipients.

FORM
    ``wasl-`` + base32 (RFC 4648 §6, lower case, no padding) of
    ``kind(1) id(8) [hop(5)] mac(11)``: 37 or 45 octets of local part, below the 64 of RFC 5321
    §4.5.3.1.1, free of ``+`` and ``=``, which some servers rewrite, and the same in either case.
    The MAC is HMAC-SHA256 cut to 88 bits (RFC 2104 §5) over everything before it.

HOW IT FAILS
    :meth:`ReversePath.parse` gives None for whatever was not made here, and does not say why.
    A secret is rotated by putting the new one in front: the first makes, all recognise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tracker.model import Address

PREFIX = "wasl-"
MIN_SECRET = 16  # octets

_MAC = 11
_HOP = 5
_CONTEXT = b"wasl reverse-path v1\0"


class TokenKind(Enum):
    """What the id of a token counts."""

    DELIVERY = 1  # one recipient's copy
    LETTER_HOP = 2  # all copies of a letter at one next hop: Final-Recipient tells which


@dataclass(frozen=True, slots=True)
class Token:
    """What a genuine address says: an id and, for :attr:`TokenKind.LETTER_HOP`, a mark of the hop."""

    kind: TokenKind
    id: int
    hop_mark: bytes = b""

    def is_hop(self, name: str) -> bool:
        """True when the address was made for the next hop of that name."""
        return self.kind is TokenKind.LETTER_HOP and self.hop_mark == _mark(name)


class ReversePath:
    """Makes and recognises the addresses of one gateway domain.

    ``secrets`` is not empty, each of at least 16 octets; raises ValueError otherwise.
    """

    __slots__ = ("_host", "_secrets", "domain")

    def __init__(self, secrets: Sequence[bytes] | bytes, domain: str) -> None:
        self._secrets = (secrets,) if isinstance(secrets, bytes) else tuple(secrets)
        if not self._secrets or any(len(secret) < MIN_SECRET for secret in self._secrets):
            raise ValueError(f"a secret of the return addresses needs at least {MIN_SECRET} octets")
        self.domain = domain
        self._host = domain.lower()

    def address_for(self, delivery_id: int) -> Address:
        """The address of one delivery; raises OverflowError for an id outside 64 bits."""
        return self._make(TokenKind.DELIVERY.value.to_bytes(1, "big") + delivery_id.to_bytes(8, "big"))

    def for_letter_hop(self, letter_id: int, hop: str) -> Address:
        """The one address for all recipients of a letter at the next hop of that name."""
        head = TokenKind.LETTER_HOP.value.to_bytes(1, "big") + letter_id.to_bytes(8, "big")
        return self._make(head + _mark(hop))

    def parse(self, address: Address) -> Token | None:
        """What a genuine address of ours says, else None; the case of its letters does not matter."""
        if address.host != self._host or not self.is_shaped(address):
            return None
        try:
            octets = base64.b32decode(address.local[len(PREFIX) :].upper())
        except (binascii.Error, ValueError):
            return None
        said, mac = octets[:-_MAC], octets[-_MAC:]
        genuine = False
        for secret in self._secrets:  # no early end: the time does not tell which secret it was
            genuine |= hmac.compare_digest(_mac(secret, said), mac)
        if not genuine:
            return None
        number = int.from_bytes(said[1:9], "big")
        if said[0] == TokenKind.DELIVERY.value and len(said) == 9:
            return Token(TokenKind.DELIVERY, number)
        if said[0] == TokenKind.LETTER_HOP.value and len(said) == 9 + _HOP:
            return Token(TokenKind.LETTER_HOP, number, said[9:])
        return None

    def is_shaped(self, address: Address) -> bool:
        """True when the address has the form of ours in our domain, genuine or not."""
        local = address.local
        return (
            len(local) in (len(PREFIX) + 32, len(PREFIX) + 40)
            and local.isascii()  # U+212A becomes "k" in lower case
            and local[: len(PREFIX)].lower() == PREFIX
            and address.host == self._host
        )

    def _make(self, said: bytes) -> Address:
        token = base64.b32encode(said + _mac(self._secrets[0], said)).decode("ascii").lower()
        return Address(PREFIX + token, self.domain)


def _mac(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + said, "sha256")[:_MAC]


def _mark(hop: str) -> bytes:
    return hashlib.sha256(hop.encode()).digest()[:_HOP]
