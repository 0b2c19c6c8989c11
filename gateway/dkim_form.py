"""What DKIM and ARC have in common when a letter is read: tag lists, canonical forms, public keys.

STANDARDS
    RFC 6376 §3.2 (tag lists), §3.4 (canonicalisation), §3.6.1 (key records), RFC 8463 (Ed25519),
    RFC 8301 (no rsa-sha1, at least 1024 bits to verify).

Everything here is a plain function of octets, linear in their number, and holds for hostile ones: what
cannot be read raises :class:`FormError`, nothing else. The header is canonicalised once per letter
(:class:`CanonicalHeader`), however many signatures there are. Bodies are hashed natively: relaxed by
:func:`gateway.sign.body_hash`, simple by :func:`simple_body_hash`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway.tag import Buffer
from tracker.header import Field, Headers

MAX_FIELD = 16_384  # octets of one signature field
MAX_RECORD = 8_192  # octets of one key record
MIN_BITS, MAX_BITS = 1024, 4096  # of an RSA key (RFC 8301 §3.2)
MAX_NAMES = 1_000  # names in one h=

_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_WSP = re.compile(rb"[ \t\r\n]+")
_RUN = re.compile(rb"[ \t]+")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_PADDING = padding.PKCS1v15()
_PREHASHED = utils.Prehashed(hashes.SHA256())
_STEP = 1 << 18


class FormError(ValueError):
    """Octets that are no tag list, key or signature; the message says why, in ASCII."""


def tag_list(value: bytes) -> dict[str, bytes]:
    """``name=value; …`` (RFC 6376 §3.2), values without white space around them.

    Raises :class:`FormError` on a name that stands twice and on what is no tag.
    """
    out: dict[str, bytes] = {}
    parts = value.split(b";")
    if not parts[-1].strip():
        parts.pop()
    if len(parts) > 64:
        raise FormError("too many tags")
    for part in parts:
        name, equals, rest = part.partition(b"=")
        name = name.strip(b" \t\r\n")
        if not equals or _TAG_NAME.fullmatch(name) is None:
            raise FormError("malformed tag list")
        key = name.decode("ascii")
        if key in out:
            raise FormError(f"the tag {key}= stands twice")
        out[key] = rest.strip(b" \t\r\n")
    return out


def without_white(value: bytes) -> bytes:
    """A value in which folding is allowed, without any white space."""
    return _WSP.sub(b"", value)


def base64_value(value: bytes, tag: str) -> bytes:
    """The octets of a base64 tag; raises :class:`FormError`."""
    try:
        return base64.b64decode(without_white(value), validate=True)
    except (binascii.Error, ValueError):
        raise FormError(f"{tag}= is no base64") from None


def number_value(value: bytes, tag: str) -> int:
    """A decimal number of at most 12 digits; raises :class:`FormError`."""
    if not (value.isdigit() and value.isascii() and len(value) <= 12):
        raise FormError(f"{tag}= is no number")
    return int(value)


def domain_value(value: bytes, tag: str) -> str:
    """A domain or selector in A-labels, lower case (RFC 6376 §3.5); raises :class:`FormError`."""
    name = ascii_domain(without_white(value).decode("utf-8", "replace"))
    if name is None:
        raise FormError(f"{tag}= is no domain")
    return name


def ascii_domain(text: str) -> str | None:
    """A domain in A-labels and lower case without a final dot; None for what is no domain name."""
    text = text.lower().removesuffix(".")
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii").lower() if len(text) < 254 else ""
        except UnicodeError:
            return None
    return text if _DOMAIN.fullmatch(text) else None


def without_signature(value: bytes) -> bytes:
    """A signature field with the value of its ``b=`` taken out (RFC 6376 §3.7)."""
    parts = value.split(b";")
    for at, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if equals and name.strip(b" \t\r\n") == b"b":
            parts[at] = name + equals
            break
    return b";".join(parts)


def relaxed_line(name: bytes, value: bytes) -> bytes:
    """One field in relaxed form without its line end (RFC 6376 §3.4.2). ``name`` is in lower case."""
    unfolded = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return name + b":" + _RUN.sub(b" ", unfolded).strip(b" ")


class CanonicalHeader:
    """The fields of a header by name, in canonical form on demand."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._by_name: dict[bytes, list[Field]] = {}
        for item in headers.fields:
            self._by_name.setdefault(item.name, []).append(item)
        self._relaxed: dict[Field, bytes] = {}

    def fields(self, name: bytes) -> Sequence[Field]:
        """The fields of a name (lower case), from the top."""
        return self._by_name.get(name, ())

    def raw(self, item: Field) -> bytes:
        """A field as it stands, with its line end."""
        base = self._headers.start
        return self._headers.head[item.start - base : item.end - base]

    def value(self, item: Field) -> bytes:
        """What stands behind the colon, folded, with its line end."""
        raw = self.raw(item)
        return raw[raw.index(b":") + 1 :]

    def relaxed(self, item: Field) -> bytes:
        """A field in relaxed form, without its line end."""
        known = self._relaxed.get(item)
        if known is None:
            known = self._relaxed[item] = relaxed_line(item.name, self.value(item))
        return known

    def signed(self, names: Sequence[bytes], relaxed: bool) -> hashlib._Hash:
        """SHA-256 over the fields that ``h=`` names, from the bottom up (RFC 6376 §5.4.2)."""
        digest = hashlib.sha256()
        left: dict[bytes, int] = {}
        for name in names:
            found = self._by_name.get(name, ())
            at = left.get(name, len(found)) - 1
            left[name] = at
            if at < 0:
                left[name] = 0
                continue
            if relaxed:
                digest.update(self.relaxed(found[at]))
                digest.update(b"\r\n")
            else:
                raw = self.raw(found[at])
                digest.update(raw if raw.endswith(b"\n") else raw + b"\r\n")
        return digest

    def own_line(self, item: Field, relaxed: bool) -> bytes:
        """A signature field as it goes into its own hash: without ``b=`` and without a line end."""
        raw = self.raw(item)
        colon = raw.index(b":") + 1
        if relaxed:
            return relaxed_line(item.name, without_signature(raw[colon:]))
        return raw[:colon] + without_signature(raw[colon:].removesuffix(b"\n").removesuffix(b"\r"))


def simple_body_hash(octets: Buffer, start: int) -> bytes:
    """SHA-256 of ``octets[start:]`` in simple body canonicalisation (RFC 6376 §3.4.3)."""
    digest = hashlib.sha256()
    stop = len(octets)
    while stop - 2 >= start and bytes(octets[stop - 2 : stop]) == b"\r\n":
        tail = bytes(octets[max(start, stop - 4096) : stop])
        kept = len(tail)
        while kept >= 2 and tail[kept - 2 : kept] == b"\r\n":
            kept -= 2
        stop -= len(tail) - kept
    with memoryview(octets) as view:
        for at in range(start, stop, _STEP):
            with view[at : min(stop, at + _STEP)] as piece:
                digest.update(piece)
    digest.update(b"\r\n")
    return digest.digest()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key record. ``flags`` are those of ``t=``."""

    public: RSAPublicKey | Ed25519PublicKey
    flags: frozenset[str] = frozenset()

    @property
    def bits(self) -> int:
        return self.public.key_size if isinstance(self.public, RSAPublicKey) else 256

    @property
    def algorithm(self) -> str:
        return "rsa-sha256" if isinstance(self.public, RSAPublicKey) else "ed25519-sha256"

    def verifies(self, digest: bytes, signature: bytes) -> bool:
        """True when the signature is over that SHA-256 digest."""
        try:
            if isinstance(self.public, RSAPublicKey):
                self.public.verify(signature, digest, _PADDING, _PREHASHED)
            else:
                self.public.verify(signature, digest)
        except (InvalidSignature, ValueError):
            return False
        return True


class Revoked(FormError):
    """A key record with an empty ``p=`` (RFC 6376 §3.6.1)."""


def public_key(record: bytes) -> PublicKey:
    """The key of a TXT record; raises :class:`FormError`, :class:`Revoked`."""
    if len(record) > MAX_RECORD:
        raise FormError("key record too long")
    tags = tag_list(record)
    if tags.get("v", b"DKIM1") != b"DKIM1":
        raise FormError("key record of another version")
    if "p" not in tags:
        raise FormError("key record without p=")
    material = base64_value(tags["p"], "p")
    if not material:
        raise Revoked("key revoked")
    if "h" in tags and b"sha256" not in [x.strip().lower() for x in tags["h"].split(b":")]:
        raise FormError("key not for sha256")
    if not {b"*", b"email"} & {x.strip().lower() for x in tags.get("s", b"*").split(b":")}:
        raise FormError("key not for mail")
    flags = frozenset(
        x.strip().decode("latin-1").lower() for x in tags.get("t", b"").split(b":") if x.strip()
    )
    kind = tags.get("k", b"rsa").lower()
    if kind == b"ed25519":
        if len(material) != 32:
            raise FormError("no Ed25519 key")
        return PublicKey(Ed25519PublicKey.from_public_bytes(material), flags)
    if kind != b"rsa":
        raise FormError("unknown kind of key")
    return PublicKey(_rsa(material), flags)


def _rsa(der: bytes) -> RSAPublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm, TypeError):
        numbers = _bare_rsa(der)
        try:
            key = numbers.public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise FormError("no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise FormError("no RSA key")
    return key


def _bare_rsa(der: bytes) -> RSAPublicNumbers:
    """The bare ``RSAPublicKey`` of PKCS #1 without the wrapping of X.509, as some publish it."""
    at = 0

    def element(kind: int) -> bytes:
        nonlocal at
        if der[at : at + 1] != bytes([kind]) or at + 1 >= len(der):
            raise FormError("no RSA key")
        length = der[at + 1]
        at += 2
        if length & 0x80:
            width = length & 0x7F
            if not 0 < width <= 3 or at + width > len(der):
                raise FormError("no RSA key")
            length = int.from_bytes(der[at : at + width])
            at += width
        if kind == 0x30:
            return b""
        if at + length > len(der):
            raise FormError("no RSA key")
        at += length
        return der[at - length : at]

    element(0x30)
    modulus, exponent = int.from_bytes(element(2)), int.from_bytes(element(2))
    return RSAPublicNumbers(exponent, modulus)
