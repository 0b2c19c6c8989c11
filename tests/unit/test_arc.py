"""ARC: sets of ours hold for dkimpy and for us, chains of dkimpy hold for us, and what is broken fails."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import arc_chain
from gateway.arc_seal import seal_fields
from gateway.dkim_form import CanonicalHeader, simple_body_hash
from gateway.sign import NoFromError, SigningKey, body_hash, signatures
from gateway.tag import Tags, edit_for
from tests.unit.zone import SILENT, Zone
from tracker.header import scan

KEYS = {
    domain: SigningKey.of(generate_private_key(65537, 2048), domain=domain, selector="s")
    for domain in ("list.example", "wasl.example", "mof.example")
}
LETTER = (
    b"Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0300\r\nFrom: author@mof.example\r\n"
    b"To: diwan@moh.example\r\nSubject: [MOF/2026/000001] words\r\n  folded \t\r\n"
    b"Message-ID: <1@mof.example>\r\n\r\nText of  the letter \r\n\r\n"
)
NOW = 1_790_000_000_000_000


def published() -> dict[tuple[str, str], Any]:
    out: dict[tuple[str, str], Any] = {}
    for domain, key in KEYS.items():
        der = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        out[f"s._domainkey.{domain}", "TXT"] = f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
    return out


def head_of(octets: bytes) -> bytes:
    return octets[: octets.index(b"\r\n\r\n") + 4]


def sealed(
    octets: bytes, domain: str = "wasl.example", chain: str = "none", results: str = "dkim=pass"
) -> bytes:
    head = head_of(octets)
    made = seal_fields(
        head,
        body_hash(octets, len(head)),
        KEYS[domain],
        authserv_id=domain,
        results=results,
        chain=chain,
        at_us=NOW,
    )
    return made + octets


def ours(octets: bytes, zone: Zone | None = None) -> arc_chain.Chain:
    headers = scan(octets)
    header = CanonicalHeader(headers)
    found = arc_chain.read(header)
    if isinstance(found, arc_chain.Chain):
        return found
    keys = asyncio.run(arc_chain.keys_of((zone or Zone(published())).lookups(), found.key_names))

    def hashed(relaxed: bool) -> bytes:
        return (body_hash if relaxed else simple_body_hash)(octets, headers.body_start)

    return arc_chain.verified(found, keys, header, hashed)


def theirs(octets: bytes) -> str:
    records = published()

    def dns(name: bytes, timeout: int = 5) -> bytes:
        return str(records.get((name.decode().rstrip("."), "TXT"), "")).encode()

    result, _, _ = dkim.arc_verify(octets, dnsfunc=dns)
    return (result or b"").decode()


def test_a_set_of_ours() -> None:
    octets = sealed(LETTER)
    assert octets.startswith(b"ARC-Seal: i=1; a=rsa-sha256; cv=none;\r\n\td=wasl.example; s=s;")
    assert b"ARC-Authentication-Results: i=1; wasl.example; dkim=pass\r\n" in octets
    assert all(len(line) <= 78 for line in octets[: -len(LETTER)].split(b"\r\n"))
    assert theirs(octets) == "pass"
    assert ours(octets) == arc_chain.Chain("pass", "", 1)


def test_a_chain_of_three_with_changes_between() -> None:
    """Each may alter the letter before it seals: only the newest signature is over what came."""
    octets = sealed(LETTER, "list.example")
    octets = sealed(octets.replace(b"Subject: ", b"Subject: [list] ", 1), chain="pass")
    signed = signatures(
        head_of(octets), body_hash(octets, len(head_of(octets))), [KEYS["mof.example"]], at_us=NOW
    )
    octets = sealed(
        signed + octets, "mof.example", chain="pass", results='arc=pass; dkim=fail reason="a; b=c"'
    )
    assert theirs(octets) == "pass"
    assert ours(octets) == arc_chain.Chain("pass", "", 3)
    assert b"i=3" in octets and octets.count(b"ARC-Seal:") == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Text of", b"Text off"),
        (b"Subject: ", b"Subject: x"),
        (b"i=1; wasl.example; dkim=pass", b"i=1; wasl.example; dkim=fail"),
        (b"cv=none", b"cv=pass"),
        (b"cv=none", b"cv=fail"),
        (b"cv=none;", b""),
        (b"cv=none;", b"cv=none; h=from;"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=2"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=51"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=0"),
        (b"ARC-Seal: i=1;", b"ARC-Seal: "),
        (b"ARC-Seal:", b"X-Seal:"),
        (b"ARC-Message-Signature:", b"X-Signature:"),
        (b"ARC-Authentication-Results:", b"X-Results:"),
        (b"From: ", b"From: x@y.example\r\nFrom: "),
        (b"d=wasl.example", b"d=nobody.example"),
        (b"c=relaxed/relaxed", b"c=relaxed/odd"),
        (b"\th=from:", b"\th=arc-seal:from:"),
        (b"bh=", b"bh=!"),
    ],
)
def test_what_was_changed_fails(old: bytes, new: bytes) -> None:
    octets = sealed(LETTER)
    changed = octets.replace(old, new, 1)
    assert changed != octets
    assert ours(changed).result == "fail"


def test_a_set_that_stands_twice_or_is_missing() -> None:
    octets = sealed(sealed(LETTER, "list.example"), chain="pass")
    assert ours(octets).result == "pass"
    field = octets[: octets.index(b"ARC-Message")]
    assert ours(field + octets).reason == "two of arc-seal with i=2"
    alone = octets.replace(b"i=1", b"i=3")
    assert ours(alone).result == "fail"


def test_none_and_silence() -> None:
    assert ours(LETTER).result == "none"
    silent = Zone(published() | {("s._domainkey.wasl.example", "TXT"): SILENT})
    assert ours(sealed(LETTER), silent).result == "temperror"
    assert ours(sealed(LETTER), Zone()).result == "fail"


def test_a_failed_chain_is_closed_once() -> None:
    """The seal covers its own set only (RFC 8617 §5.1.2), and nobody adds to it (§5.1)."""
    broken = sealed(LETTER, "list.example").replace(b"Text", b"Test", 1)
    closed = sealed(broken, chain="fail")
    assert closed.startswith(b"ARC-Seal: i=2; a=rsa-sha256; cv=fail;")
    assert ours(closed).reason == "seal 2 says that the chain has failed"
    assert sealed(closed, "mof.example", chain="fail") == closed


def test_when_no_set_may_be_added() -> None:
    one = sealed(LETTER)
    assert sealed(one, chain="none") == one  # there is a chain after all
    assert sealed(LETTER, chain="pass") == LETTER
    full = LETTER
    for name in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
        full = name + b": i=50; x=y\r\n" + full
    assert sealed(full, chain="fail") == full
    with pytest.raises(NoFromError):
        sealed(LETTER.replace(b"From:", b"Fram:"))


def test_sets_in_our_name_stay_when_they_were_verified() -> None:
    octets = sealed(sealed(LETTER), "list.example", chain="pass")
    tags = Tags(authserv_id="wasl.example", arc_domains=frozenset({"wasl.example"}))
    headers = scan(octets)
    assert b"wasl.example" not in edit_for(octets, headers, tags).apply(octets).split(b"\r\n\r\n")[0]
    kept = Tags(authserv_id="wasl.example", arc_domains=frozenset({"wasl.example"}), keep_arc=True)
    assert ours(edit_for(octets, headers, kept).apply(octets)).result == "pass"


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]),
        st.lists(
            st.sampled_from(
                b"i=1;|i=2;|i=50;|i=99999;|i=;|a=rsa-sha256;|cv=none;|cv=pass;|cv=x;|d=a.example;|s=s;|b=AAAA;"
                b"|bh=AAAA;|h=from;|t=1;|;;|\xff|=|\r\n ".split(b"|")
            ),
            max_size=10,
        ).map(b" ".join),
    ),
    max_size=9,
)


@given(fields=FIELDS, chain=st.sampled_from(["none", "pass", "fail"]))
@settings(max_examples=150)
def test_no_chain_makes_it_raise(fields: list[tuple[bytes, bytes]], chain: str) -> None:
    octets = b"".join(name + b": " + value + b"\r\n" for name, value in fields) + LETTER
    assert ours(octets).result in ("none", "fail", "temperror")
    after = sealed(octets, chain=chain)
    assert after.endswith(octets)
