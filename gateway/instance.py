"""The Wasl-Instance field: how a gateway recognises a letter that it has already handed on.

The value is ``NAME; id=LETTER; mac=MAC`` with the gateway's host name, the letter's id in its public
form (:func:`tracker.model.id_text`) and HMAC-SHA256 cut to 80 bits, in hexadecimal, under the
gateway's secret. It is looked at before fields of our names are stripped; a field of another gateway
proves nothing here and is left alone, so that two gateways that point at each other both see the loop
(RFC 5321 §6.3). It is not covered by our DKIM signature, because the next gateway adds its own.

How it fails: what is not ours, or forged, is simply not recognised.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tracker.model import id_text, id_value

_CONTEXT = b"wasl instance v1\0"
_VALUE = re.compile(
    rb"\s*([a-z0-9.\-]{1,255})\s*;\s*id=([0-9a-z]{13})\s*;\s*mac=([0-9a-f]{20})\s*", re.IGNORECASE
)
MIN_SECRET = 16  # octets


class Instance:
    """One gateway's mark: ``name`` is its host name, the first secret makes, all recognise."""

    __slots__ = ("_secrets", "name")

    def __init__(self, secrets: Sequence[bytes] | bytes, name: str) -> None:
        self._secrets = (secrets,) if isinstance(secrets, bytes) else tuple(secrets)
        if not self._secrets or any(len(secret) < MIN_SECRET for secret in self._secrets):
            raise ValueError(f"a secret of Wasl-Instance needs at least {MIN_SECRET} octets")
        self.name = name.lower()

    def value(self, letter_id: int) -> str:
        """The field's value for a letter that goes out."""
        text = id_text(letter_id)
        return f"{self.name}; id={text}; mac={self._mac(self._secrets[0], text)}"

    def seen(self, values: Iterable[bytes]) -> tuple[int, ...]:
        """The ids of the letters that this gateway marked, each once, from the values of all the fields.

        A letter that passes again is marked again, and keeps the marks that it has.
        """
        found: dict[int, None] = {}
        for value in values:
            match = _VALUE.fullmatch(value)
            if match is None or match[1].lower().decode("ascii") != self.name:
                continue
            text, mac = match[2].decode("ascii").lower(), match[3].decode("ascii").lower()
            genuine = False
            for secret in self._secrets:
                genuine |= hmac.compare_digest(self._mac(secret, text), mac)
            if genuine:
                with suppress(ValueError):
                    found[id_value(text)] = None
        return tuple(found)

    def _mac(self, secret: bytes, text: str) -> str:
        return hmac.digest(secret, _CONTEXT + f"{self.name}\0{text}".encode(), "sha256")[:10].hex()
