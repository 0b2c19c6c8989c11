"""DKIM of what comes in, against dkimpy's signatures and verdicts; nothing hostile raises."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import Callable
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import authentication_dkim as checks
from gateway.authentication_results import Result
from gateway.dkim_form import (
    CanonicalHeader,
    FormError,
    Revoked,
    ascii_domain,
    public_key,
    simple_body_hash,
    tag_list,
    without_signature,
)
from gateway.sign import SigningKey, body_hash, signatures
from tests.unit.zone import SILENT, Zone
from tracker.header import scan

RSA = generate_private_key(65537, 2048)
EDWARDS = Ed25519PrivateKey.generate()
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
NAME = "s1._domainkey.mof.example"


def record(key: RSAPrivateKey | Ed25519PrivateKey = RSA, more: str = "") -> str:
    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; {more}p={base64.b64encode(raw).decode()}"
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; {more}p={base64.b64encode(der).decode()}"


LETTER = (
    b"Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0300\r\n"
    b"From: Author <author@mof.example>\r\nTo: diwan@moh.example\r\n"
    b"Subject: =?utf-8?b?2YPYqtin2Kg=?=\r\n and  more\t \r\nDate: Sun, 22 Nov 2026 10:00:00 +0300\r\n"
    b"Message-ID: <1@mof.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    b"One  line \t of text \r\n\r\n.\r\nand another\t\r\n\r\n\r\n"
)


def signed(
    letter: bytes = LETTER,
    canon: str = "relaxed/relaxed",
    key: bytes = PEM,
    domain: str = "mof.example",
    **more: Any,
) -> bytes:
    field: bytes = dkim.sign(
        letter, b"s1", domain.encode(), key, canonicalize=tuple(canon.encode().split(b"/")), **more
    )
    return field + letter


def results(
    octets: bytes, zone: Zone | None = None, author: str = "mof.example", most: int = 5
) -> list[Result]:
    """What the checks say of each signature."""
    headers = scan(octets)
    header = CanonicalHeader(headers)
    zone = zone or Zone({(NAME, "TXT"): record()})
    fields, _ = checks.chosen(header, author, most)
    found = []
    make: dict[bool, Callable[[Any, int], bytes]] = {True: body_hash, False: simple_body_hash}

    def hashed(relaxed: bool) -> bytes:
        return make[relaxed](octets, headers.body_start)

    for item in fields:
        try:
            one = checks.read(header, item)
            key = asyncio.run(checks.key_of(zone.lookups(), one.key_name))
        except checks.Unreadable as error:
            found.append(Result(method="dkim", result=error.result, reason=error.reason))
            continue
        found.append(checks.verified(one, key, header, hashed))
    return found


def result(octets: bytes, zone: Zone | None = None) -> str:
    (found,) = results(octets, zone)
    return found.result


def theirs(octets: bytes, name: str = NAME, text: str = "") -> bool:
    """dkimpy's verdict."""
    return bool(dkim.verify(octets, dnsfunc=lambda asked, timeout=5: (text or record()).encode()))


@pytest.mark.parametrize("canon", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"x",
        b"x\r\n",
        b" \t\r\n x \t y  \r\n\r\n \r\n\r\n",
        b"a" * 300_000 + b"\r\n",
    ],
)
def test_what_dkimpy_signs_verifies(canon: str, body: bytes) -> None:
    head, _, _ = LETTER.partition(b"\r\n\r\n")
    octets = signed(head + b"\r\n\r\n" + body, canon)
    assert result(octets) == "pass"
    assert results(octets)[0].properties[:3] == (
        ("header.d", "mof.example"),
        ("header.s", "s1"),
        ("header.a", "rsa-sha256"),
    )


def test_what_we_sign_verifies() -> None:
    keys = [
        SigningKey.of(RSA, domain="mof.example", selector="s1"),
        SigningKey.of(EDWARDS, domain="mof.example", selector="s2"),
    ]
    start = LETTER.index(b"\r\n\r\n") + 4
    octets = signatures(LETTER, body_hash(LETTER, start), keys, at_us=1_790_000_000_000_000) + LETTER
    zone = Zone({(NAME, "TXT"): record(), ("s2._domainkey.mof.example", "TXT"): record(EDWARDS)})
    assert [r.result for r in results(octets, zone)] == ["pass", "pass"]


def test_ed25519_of_dkimpy() -> None:
    seed = EDWARDS.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    octets = signed(key=base64.b64encode(seed), signature_algorithm=b"ed25519-sha256")
    assert result(octets, Zone({(NAME, "TXT"): record(EDWARDS)})) == "pass"
    assert result(octets) == "permerror"  # an RSA key


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"One  line", b"Two  line"),
        (b"author@", b"other@"),
        (b"Subject: ", b"Subject: x"),
        (b"and another\t\r\n", b"and another\t\r\nmore\r\n"),
        (b"t=", b"t=1"),
    ],
)
def test_what_was_changed_fails(old: bytes, new: bytes) -> None:
    octets = signed()
    changed = octets.replace(old, new, 1)
    assert changed != octets
    assert result(changed) == "fail"
    assert not theirs(changed)


@pytest.mark.parametrize(
    "name", [b"From: x@mof.example", b"Subject: x", b"To: x@y.example", b"Content-Type: text/html"]
)
def test_a_second_field_that_is_not_signed(name: bytes) -> None:
    """It would be shown by some programs and not by others (RFC 6376 §8.15)."""
    octets = signed(include_headers=[b"from", b"to", b"subject", b"date", b"content-type"])
    (found,) = results(name + b"\r\n" + octets)
    assert found.result == "policy"
    assert "second" in found.reason


def test_a_part_of_the_body_is_not_enough() -> None:
    octets = signed(length=True)
    assert result(octets) == "pass"  # l= covers all of it
    assert theirs(octets + b"and a footer\r\n")
    (found,) = results(octets + b"and a footer\r\n")
    assert (found.result, found.reason) == ("policy", "l= leaves part of the body unsigned")


def test_times() -> None:
    octets = signed()
    assert result(re.sub(rb"t=\d+", b"t=99999999999", octets, count=1)) == "fail"
    assert result(octets.replace(b"v=1;", b"v=1; x=1000000000;", 1)) == "fail"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (None, "permerror"),
        (SILENT, "temperror"),
        ("", "permerror"),
        ("v=DKIM1; p=", "permerror"),
        ("v=DKIM2; p=AAAA", "permerror"),
        ("v=DKIM1; p=not base64!", "permerror"),
        ("v=DKIM1; p=AAAA", "permerror"),
        ("v=DKIM1; k=dsa; p=AAAA", "permerror"),
        ("v=DKIM1; k=ed25519; p=AAAA", "permerror"),
        (record(more="h=sha1; "), "permerror"),
        (record(more="s=tlsrpt; "), "permerror"),
        (record(more="s=email; h=sha1:sha256; "), "pass"),
        (record(generate_private_key(65537, 2048)), "fail"),
        (record(generate_private_key(65537, 2048), more="t=y; "), "neutral"),
        (record(more="t=y:s; "), "pass"),
        (("v=spf1 -all", record()), "pass"),
    ],
)
def test_what_the_key_record_says(text: Any, verdict: str) -> None:
    zone = Zone({} if text is None else {(NAME, "TXT"): text})
    assert result(signed(), zone) == verdict


def test_a_key_without_its_wrapping_and_keys_that_are_too_small() -> None:
    """Some publish the bare RSAPublicKey; 512 and 768 bits can be broken (RFC 8301)."""
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    bare = Zone({(NAME, "TXT"): f"p={base64.b64encode(der).decode()}"})
    assert result(signed(), bare) == "pass"
    # The library makes none so small any more; the record is enough, nothing is verified with it.
    small = Zone({(NAME, "TXT"): f"p={base64.b64encode(_pkcs1((1 << 511) | 1, 65537)).decode()}"})
    assert result(signed(), small) in ("policy", "permerror")


def _pkcs1(modulus: int, exponent: int) -> bytes:
    def number(value: int) -> bytes:
        octets = value.to_bytes(value.bit_length() // 8 + 1)
        return b"\x02" + (bytes([len(octets)])) + octets

    inner = number(modulus) + number(exponent)
    return b"\x30" + bytes([len(inner)]) + inner


def test_identities_and_subdomains() -> None:
    octets = signed(identity=b"@sub.mof.example")
    assert result(octets) == "pass"
    assert result(octets, Zone({(NAME, "TXT"): record(more="t=s; ")})) == "permerror"
    assert result(octets.replace(b"i=@sub.mof.example", b"i=@mof.example.org")) == "permerror"


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (b"rsa-sha256", b"rsa-sha1", "policy"),
        (b"rsa-sha256", b"rsa-md5", "neutral"),
        (b"v=1;", b"v=2;", "neutral"),
        (b"v=1;", b"", "neutral"),
        (b"v=1;", b"v=1; v=1;", "neutral"),
        (b"v=1;", b"v=1; l=abc;", "neutral"),
        (b"v=1;", b"v=1; q=dns/other;", "neutral"),
        (b"c=relaxed/relaxed", b"c=other", "neutral"),
        (b"d=mof.example;", b"d=..;", "neutral"),
        (b"d=mof.example;", b"d=\xff\xfe;", "neutral"),
        (b"from", b"fromage", "permerror"),
        (b"v=1;", b"v=1; x=" + b"9" * 40 + b";", "fail"),
        (b"v=1;", b"v=1; n=" + b"a" * 20_000 + b";", "policy"),
        (b"v=1;", b"v=1;" + b";".join(b"t%d=1" % i for i in range(99)) + b";", "neutral"),
    ],
)
def test_malformed_signatures(old: bytes, new: bytes, verdict: str) -> None:
    octets = signed()
    field, letter = octets[: -len(LETTER)], LETTER
    broken = field.replace(old, new)
    assert result(broken + letter) == verdict


def test_the_authors_signatures_come_first_and_only_some_are_checked() -> None:
    octets = LETTER
    for i in range(8):
        octets = signed(LETTER, domain=f"d{i}.example")[: -len(LETTER)] + octets
    octets = octets.replace(LETTER, signed(LETTER), 1)
    zone = Zone({(NAME, "TXT"): record()})
    found = results(octets, zone, most=3)
    assert dict(found[0].properties)["header.d"] == "mof.example"
    assert found[0].result == "pass"
    assert len(zone.asked) == 3
    assert checks.chosen(CanonicalHeader(scan(octets)), "mof.example", 3)[1] == 6


FIELD = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            b"v=1;|a=rsa-sha256;|a=ed25519-sha256;|b=AAAA;|bh=AAAA;|d=mof.example;|h=from:to;|h=:::;|s=s1;|t=1;|x=2;"
            b"|l=3;|i=@mof.example;|c=simple/relaxed;|q=dns/txt;|=;|;;|b==;|\r\n |\xff;|b=\x00;".split(b"|")
        ),
        max_size=14,
    ).map(b" ".join),
)


@given(field=FIELD, text=st.one_of(st.binary(max_size=200), st.just(record().encode())))
@settings(max_examples=200)
def test_no_signature_and_no_key_makes_it_raise(field: bytes, text: bytes) -> None:
    octets = b"DKIM-Signature: " + field + b"\r\n" + LETTER
    for found in results(octets, Zone({(NAME, "TXT"): text})):
        assert found.result in {"neutral", "fail", "policy", "permerror", "temperror"}
        assert str(found).isascii()


@given(st.binary(max_size=300))
def test_no_record_and_no_list_raises_anything_else(octets: bytes) -> None:
    for read in (tag_list, public_key):
        with contextlib.suppress(FormError):
            read(octets)
    assert len(without_signature(octets)) <= len(octets)
    ascii_domain(octets.decode("utf-8", "replace"))


def test_revoked_is_said() -> None:
    with pytest.raises(Revoked):
        public_key(b"v=DKIM1; p=")


@given(
    body=st.lists(
        st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"  \r\n", b"\r\n\r\n", b"x" * 4096]), max_size=30
    ),
)
@settings(max_examples=150)
def test_the_simple_form_of_bodies_is_dkimpys(body: list[bytes]) -> None:
    from dkim.canonicalization import Simple

    octets = b"".join(body)
    want = hashlib.sha256(Simple.canonicalize_body(octets)).digest()  # type: ignore[no-untyped-call]
    assert simple_body_hash(b"head\r\n\r\n" + octets, 8) == want
