"""DKIM signatures of what came in (RFC 6376), at most some of them, each with a result of RFC 8601 §2.7.1.

Reading a signature (:func:`read`), asking for its key and verifying it (:func:`verified`) are three steps, so
that names are asked for on the loop and octets are hashed off it. What dkimpy would do in one is done
here because it copies the whole letter into lines, has RSA in Python and asks names in between.

Stricter than the RFC asks for, as §8.2 and §8.15 advise: a signature that leaves part of the body (``l=``)
or a second From, Subject, Date, To, Cc or Content-Type unsigned is ``policy``, and so are rsa-sha1 and
keys below 1024 bits (RFC 8301). Nothing raises on any octets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.authentication_dns import Lookups, Unanswered
from gateway.authentication_results import Result
from gateway.dkim_form import (
    MAX_BITS,
    MAX_FIELD,
    MAX_NAMES,
    MIN_BITS,
    CanonicalHeader,
    FormError,
    PublicKey,
    Revoked,
    base64_value,
    domain_value,
    number_value,
    public_key,
    tag_list,
    without_white,
)
from tracker.header import Field

LEEWAY_S = 36_000  # a signer's clock may be wrong by so much

_FORMS = {
    b"simple": (False, False),
    b"relaxed": (True, False),
    b"simple/simple": (False, False),
    b"simple/relaxed": (False, True),
    b"relaxed/simple": (True, False),
    b"relaxed/relaxed": (True, True),
}
_ONCE = (b"from", b"subject", b"date", b"to", b"cc", b"content-type")

BodyHash = Callable[[bool], bytes]  # of the relaxed (True) or simple form


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM-Signature or ARC-Message-Signature, read."""

    field: Field
    algorithm: str
    domain: str
    selector: str
    names: tuple[bytes, ...]
    signature: bytes
    body_hash: bytes
    relaxed: tuple[bool, bool] = (False, False)  # header, body
    identity: str = ""  # the domain of i=, when it is not d= itself
    partial: bool = False  # has an l=
    shown: str = ""  # the first of b=, which tells signatures apart

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


class Unreadable(ValueError):
    """A signature that cannot be verified as it stands; ``result`` says what is made of that."""

    def __init__(self, result: str, reason: str, properties: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason
        self.properties = properties


def read(header: CanonicalHeader, item: Field) -> Signature:
    """Read a DKIM-Signature field; raises :class:`Unreadable`."""
    value = header.value(item)
    if len(value) > MAX_FIELD:
        raise Unreadable("policy", "signature field too long")
    try:
        tags = tag_list(value)
    except FormError as error:
        raise Unreadable("neutral", str(error)) from None
    known: tuple[tuple[str, str], ...] = ()
    try:
        missing = [tag for tag in ("v", "a", "b", "bh", "d", "h", "s") if not tags.get(tag)]
        domain = domain_value(tags.get("d", b""), "d")
        selector = domain_value(tags.get("s", b""), "s")
        known = (("header.d", domain), ("header.s", selector))
        if missing:
            raise FormError(f"{missing[0]}= is missing")
        if tags["v"] != b"1":
            raise FormError("signature of another version")
        return _read(header, item, tags, domain, selector)
    except FormError as error:
        raise Unreadable("neutral", str(error), known) from None


def _read(
    header: CanonicalHeader, item: Field, tags: dict[str, bytes], domain: str, selector: str
) -> Signature:
    known = (("header.d", domain), ("header.s", selector))
    algorithm = without_white(tags["a"]).lower().decode("latin-1")
    if algorithm == "rsa-sha1":
        raise Unreadable("policy", "rsa-sha1 is not accepted", known)
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise FormError("unknown algorithm")
    names = signed_names(tags["h"])
    if b"from" not in names:
        raise Unreadable("permerror", "From is not signed", known)
    forms = _FORMS.get(without_white(tags.get("c", b"simple/simple")).lower())
    if forms is None:
        raise FormError("unknown canonicalisation")
    if "q" in tags and b"dns/txt" not in [q.strip() for q in tags["q"].split(b":")]:
        raise FormError("unknown query method")
    identity = domain
    if "i" in tags:
        identity = domain_value(tags["i"].rpartition(b"@")[2], "i")
        if identity != domain and not identity.endswith("." + domain):
            raise Unreadable("permerror", "i= is not of d=", known)
    if "l" in tags:
        number_value(tags["l"][:12], "l")
    try:
        check_times(tags)
    except FormError as error:
        raise Unreadable("fail", str(error), known) from None
    second = unsigned_second(header, names)
    if second:
        raise Unreadable("policy", f"a second {second} is not signed", known)
    shown = without_white(tags["b"])[:8].decode("latin-1")
    return Signature(
        field=item,
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        names=names,
        signature=base64_value(tags["b"], "b"),
        body_hash=base64_value(tags["bh"], "bh"),
        relaxed=forms,
        identity=identity,
        partial="l" in tags,
        shown=shown,
    )


def signed_names(value: bytes) -> tuple[bytes, ...]:
    """The names of ``h=`` in lower case; an empty one stands for nothing. Raises :class:`FormError`."""
    names = tuple(name.strip(b" \t\r\n").lower() for name in value.split(b":"))
    if len(names) > MAX_NAMES:
        raise FormError("too many names in h=")
    return names


def unsigned_second(header: CanonicalHeader, names: tuple[bytes, ...]) -> str:
    """The name of a field that is signed once and stands there twice; empty if there is none."""
    for name in _ONCE:
        if name in names and len(header.fields(name)) > names.count(name):
            return name.decode()
    return ""


def check_times(tags: dict[str, bytes]) -> None:
    """``t=`` and ``x=`` against the clock (RFC 6376 §3.5); raises :class:`FormError`."""
    now = int(time.time())
    made = number_value(tags["t"], "t") if "t" in tags else None
    if made is not None and made > now + LEEWAY_S:
        raise FormError("signed in the future")
    if "x" in tags:
        end = number_value(tags["x"], "x")
        if end < now - LEEWAY_S or (made is not None and end < made):
            raise FormError("signature expired")


async def key_of(lookups: Lookups, name: str) -> PublicKey:
    """The key under a name; raises :class:`Unreadable`, with ``temperror`` when no name server answers."""
    try:
        records = await lookups.txt(name)
    except Unanswered as error:
        raise Unreadable("temperror", str(error)) from None
    if not records:
        raise Unreadable("permerror", "no key is published")
    why = ""
    for record in records[:3]:
        try:
            key = public_key(record)
        except Revoked as error:
            raise Unreadable("permerror", str(error)) from None
        except FormError as error:
            why = why or str(error)
            continue
        if not MIN_BITS <= key.bits <= MAX_BITS and key.algorithm == "rsa-sha256":
            raise Unreadable("policy", f"key of {key.bits} bits")
        return key
    raise Unreadable("permerror", why)


def verified(one: Signature, key: PublicKey, header: CanonicalHeader, body: BodyHash) -> Result:
    """The result of a signature whose key is known."""
    if key.algorithm != one.algorithm:
        return result_of(one, "permerror", "the key is for another algorithm")
    if "s" in key.flags and one.identity != one.domain:
        return result_of(one, "permerror", "the key is not for subdomains")
    failed = "neutral" if "y" in key.flags else "fail"  # a domain that only tries it out (RFC 6376 §3.6.1)
    if body(one.relaxed[1]) != one.body_hash:
        if one.partial:
            return result_of(one, "policy", "l= leaves part of the body unsigned")
        return result_of(one, failed, "the body was changed")
    if not holds(one, key, header):
        return result_of(one, failed, "the signature does not verify")
    return result_of(one, "pass")


def holds(one: Signature, key: PublicKey, header: CanonicalHeader) -> bool:
    """True when the signature is over these fields."""
    digest = header.signed(one.names, one.relaxed[0])
    digest.update(header.own_line(one.field, one.relaxed[0]))
    return key.verifies(digest.digest(), one.signature)


def result_of(one: Signature, result: str, reason: str = "") -> Result:
    return Result(
        method="dkim",
        result=result,
        reason=reason,
        properties=(
            ("header.d", one.domain),
            ("header.s", one.selector),
            ("header.a", one.algorithm),
            ("header.b", one.shown),
        ),
    )


def chosen(header: CanonicalHeader, author_domain: str, most: int) -> tuple[Sequence[Field], int]:
    """The signatures to be checked, those of the author's domain first, and how many are left out."""
    found = header.fields(b"dkim-signature")
    if len(found) <= most:
        return found, 0
    wanted = b"d=" + author_domain.encode("ascii", "replace")
    near = [
        f
        for f in found[:100]
        if author_domain and wanted in without_white(header.value(f)[:MAX_FIELD]).lower()
    ]
    ordered = [*near, *(f for f in found if f not in near)]
    return ordered[:most], len(found) - most
