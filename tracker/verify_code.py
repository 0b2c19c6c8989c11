"""The short code beside a letter's number: who has both may ask the verify page about the letter.

A code is 50 bits of an HMAC-SHA256 (RFC 2104) over the number, written as ten letters and digits in two
groups (``k7mq2-x4tzn``), without those that look like others; case, hyphens and spaces do not count, ``o`` is
read as 0, ``i`` and ``l`` as 1. It is not made without the secret, which lies in the record (table
``meta``): all nodes have the same one, a backup has it, and codes on old receipts stay good. No letter has
a row for its code.

Fails as the database does when the secret is first made or read; otherwise nothing does.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from tracker.store import Connection, meta, set_meta

if TYPE_CHECKING:
    from tracker.record import Record

_MARK = "verify-secrets"  # in meta: in hexadecimal, one a line, the newest first
_CONTEXT = b"wasl verify v1\0"
_LONGEST = 900  # octets; a line has 998 at most (RFC 5322 §2.1.1)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PLAIN = re.compile(r"[A-Za-z0-9/._-]*").fullmatch
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time
_READ_AS = str.maketrans("oil", "011", "- \t\u200e\u200f\u2066\u2067\u2068\u2069")


class VerifyCodes:
    """Makes and recognises codes: the first secret makes, all recognise."""

    def __init__(self, known: Sequence[bytes]) -> None:
        self._secrets = tuple(known)

    def of(self, number: str) -> str:
        """The code of a letter's number."""
        text = _code(self._secrets[0], number)
        return f"{text[:5]}-{text[5:]}"

    def fits(self, number: str, code: str) -> bool:
        """True when the code belongs to the number; takes as long when it does not."""
        given = code.strip().lower().translate(_READ_AS).encode("utf-8", "replace")
        fits = False
        for one in self._secrets:
            fits |= hmac.compare_digest(_code(one, number).encode(), given)
        return fits


def _code(secret: bytes, number: str) -> str:
    digest = hmac.digest(secret, _CONTEXT + number.casefold().encode("utf-8", "replace"), "sha256")
    value = int.from_bytes(digest[:7], "big") >> 6
    return "".join([_PAIRS[value >> shift & 1023] for shift in (40, 30, 20, 10, 0)])


def verify_link(base: str, number: str, code: str) -> str:
    """Where a letter is checked; ``base`` is the page's address, without a slash at the end.

    "" when it would be too long for a line of a header.
    """
    ask = f"?code={_quoted(code)}" if code else ""
    link = f"{base}/{_quoted(number)}{ask}"
    return link if len(link) <= _LONGEST else ""


def _quoted(text: str) -> str:
    return text if _PLAIN(text) else quote(text, safe="/", errors="replace")


def open_codes(record: Record) -> VerifyCodes:
    """The codes of a record; its secret is made when there is none yet."""
    with record.read() as conn:
        known = meta(conn, _MARK)
    return VerifyCodes([bytes.fromhex(line) for line in (known or record.write(_make)).split()])


def _make(conn: Connection) -> str:
    known = meta(conn, _MARK)
    if known is None:
        known = secrets.token_hex(32)
        set_meta(conn, _MARK, known)
    return known
