"""DKIM: our signatures against two verifiers that are not ours, and every change that must break them."""

from __future__ import annotations

import hashlib
import mmap
import re
import subprocess
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import keys, sign

AT_US = 1_700_000_000_000_000
HEAD = (
    b"From: Registry <registry@mof.gov.jo>\r\n"
    b"To: diwan@moh.gov.jo,\r\n\tsecond@moh.gov.jo\r\n"
    b"Subject:  =?utf-8?B?2YPYqtin2Kg=?= \r\n  and  more\t text\r\n"
    b"Date: Sun, 01 Nov 2026 10:00:00 +0300\r\n"
    b"Message-ID: <one@mof.gov.jo>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n charset=utf-8\r\n"
    b"Wasl-Letter: MOF/2026/000123\r\n"
    b"X-Other: 1\r\n"
    b"\r\n"
)
BODY = "بسم الله\r\nline  with \t runs \r\n\r\nand an end\t\r\n\r\n \r\n".encode()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[keys.KeyFile, keys.KeyFile]:
    return keys.make_keys(tmp_path_factory.mktemp("keys"), "mof.gov.jo", "wasl2026")


def signed(pair: tuple[keys.KeyFile, keys.KeyFile], head: bytes = HEAD, body: bytes = BODY) -> bytes:
    both = [file.key for file in pair]
    return sign.signatures(head, sign.body_hash(head + body, len(head)), both, at_us=AT_US) + head + body


def dns(pair: tuple[keys.KeyFile, keys.KeyFile]):  # type: ignore[no-untyped-def]
    zone = {keys.record_name(f.key).encode(): keys.record_value(f.key).encode() for f in pair}
    return lambda name, timeout=5: zone.get(name if isinstance(name, bytes) else name.encode())


def verified(pair: tuple[keys.KeyFile, keys.KeyFile], message: bytes) -> tuple[bool, bool]:
    return verifies(pair, message, 0), verifies(pair, message, 1)


def verifies(pair: tuple[keys.KeyFile, keys.KeyFile], message: bytes, index: int) -> bool:
    try:
        return bool(dkim.DKIM(message, minkey=2048).verify(index, dnsfunc=dns(pair)))
    except dkim.ValidationError as error:  # dkimpy's way of saying that the body hash is another
        assert "body hash mismatch" in str(error)
        return False


def test_both_signatures_verify(pair) -> None:  # type: ignore[no-untyped-def]
    message = signed(pair)
    assert verified(pair, message) == (True, True)
    assert message.count(b"DKIM-Signature:") == 2
    for line in message[: message.index(b"From: ")].split(b"\r\n"):
        assert len(line) <= 78


def test_never_a_length_tag_and_our_own_time(pair) -> None:  # type: ignore[no-untyped-def]
    first = signed(pair).split(b"\r\nFrom:")[0]
    assert b" l=" not in first
    assert first.count(b"t=1700000000;") == 2
    assert b"a=rsa-sha256" in first and b"a=ed25519-sha256" in first


@pytest.mark.parametrize("name", [n.decode() for n in sign.SIGNED])
def test_one_more_field_of_a_signed_name_breaks_both(pair, name: str) -> None:  # type: ignore[no-untyped-def]
    message = signed(pair)
    at = message.index(b"From: ")
    # Above and below: a verifier counts from the bottom.
    above = message[:at] + name.encode() + b": x\r\n" + message[at:]
    assert verified(pair, above) == (False, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject:  =?utf-8?B?2YPYqtin2Kg=?=", b"Subject: other"),
        (b"MOF/2026/000123", b"MOF/2026/000124"),
        (b"charset=utf-8", b"charset=cp1256"),
        (b"and an end", b"and an End"),
        (b"runs \r\n\r\nand", b"runs\r\nand"),
        (b"with \t runs", b"withruns"),
        (b"t=1700000000", b"t=1700000001"),
    ],
)
def test_a_change_breaks_both(pair, old: bytes, new: bytes) -> None:  # type: ignore[no-untyped-def]
    message = signed(pair)
    assert old in message
    assert verified(pair, message.replace(old, new)) == (False, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"with \t runs \r\n", b"with runs\r\n"),
        (b"end\t\r\n\r\n \r\n", b"end\r\n"),
        (b"X-Other: 1\r\n", b""),
        (b"To: diwan@moh.gov.jo,\r\n\tsecond", b"TO:diwan@moh.gov.jo, second"),
    ],
)
def test_what_servers_do_to_spaces_breaks_nothing(pair, old: bytes, new: bytes) -> None:  # type: ignore[no-untyped-def]
    message = signed(pair)
    assert old in message
    assert verified(pair, message.replace(old, new)) == (True, True)


@pytest.mark.parametrize(
    "head",
    [
        b"From: a@mof.gov.jo\r\n\r\n",
        b"from:a@mof.gov.jo\r\nSUBJECT:\t\r\n x\r\n\r\n",
        b"Subject: one\r\nFrom: a@mof.gov.jo\r\nSubject: two\r\nTo: x\r\nTo: y\r\n\r\n",
        b"From: a@mof.gov.jo\r\nSubject:\r\n\r\n",
        "From: a@mof.gov.jo\r\nSubject: \u0643\u062a\u0627\u0628 \u0631\u0633\u0645\u064a\r\n\r\n".encode(),
        b"From: a@mof.gov.jo\r\nSubject: \xe3\xca\xc7\xc8  raw\r\n\r\n",
        b"From: a@mof.gov.jo\r\nReferences: <1@x>\r\n\t<2@x>\r\n <3@x>\r\n\r\n",
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b"x", b"x\r\n", b" \r\n\t\r\n", b"a\r\n\r\n\r\n", b"\xd9\x83\r\n"]
)
def test_odd_headers_and_bodies(pair, head: bytes, body: bytes) -> None:  # type: ignore[no-untyped-def]
    message = signed(pair, head, body)
    if body and not body.endswith(b"\r\n"):
        message += b"\r\n"  # as DATA makes it
    assert verified(pair, message) == (True, True)


def test_a_header_without_from_is_not_signed(pair) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(sign.NoFromError):
        sign.signatures(b"Subject: x\r\n\r\nFrom: body@mof.gov.jo\r\n", bytes(32), [pair[0].key], at_us=AT_US)
    assert sign.signatures(HEAD, bytes(32), [], at_us=AT_US) == b""


_BITS = st.sampled_from([b" ", b"\t", b"\r\n", b"  ", b"a", b".", b"=20", b"\xd9\x83", b"word", b"\r\n\r\n"])


@settings(max_examples=200, deadline=None)
@given(bits=st.lists(_BITS, max_size=60), chunk=st.integers(1, 12), start=st.integers(0, 5))
def test_body_hash_equals_dkimpy_in_pieces_of_any_size(bits: list[bytes], chunk: int, start: int) -> None:
    body = b"".join(bits)
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"  # as DATA sends it
    want = hashlib.sha256(Relaxed.canonicalize_body(whole) if whole else b"").digest()
    before, sign._CHUNK = sign._CHUNK, chunk
    try:
        assert sign.body_hash(b"h" * start + body, start) == want
        assert sign.body_hash(b"h" * start + whole, start) == want
    finally:
        sign._CHUNK = before


def test_body_hash_of_a_large_memory_map(tmp_path: Path) -> None:
    body = b"Some words and\tmore  of them\t \r\n" * 30_000
    body += b"\r\n" * 10_000 + b" " * 600_000 + b"x" + b"\r\n" * 200_000
    plain = b"Some words and more of them\r\n" * 30_000 + b"\r\n" * 10_000 + b" x\r\n"
    path = tmp_path / "body"
    path.write_bytes(b"head" + body)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        got = sign.body_hash(octets, 4)
    assert got == hashlib.sha256(plain).digest()


def test_opendkim_verifies_the_rsa_signature(pair, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    zone = tmp_path / "keys.txt"
    zone.write_text(f"{keys.record_name(pair[0].key).rstrip('.')} {keys.record_value(pair[0].key)}\n")
    conf = tmp_path / "opendkim.conf"
    conf.write_text(f"Mode v\nTestPublicKeys {zone}\nSyslog no\n")
    rsa_only = sign.signatures(HEAD, sign.body_hash(HEAD + BODY, len(HEAD)), [pair[0].key], at_us=AT_US)
    letters = {
        "good": rsa_only + HEAD + BODY,
        "both": signed(pair),
        "bad": (rsa_only + HEAD + BODY).replace(b"an end", b"no end"),
        "second": rsa_only + HEAD.replace(b"X-Other", b"Subject") + BODY,
    }
    said = {}
    for name, octets in letters.items():
        path = tmp_path / f"{name}.eml"
        path.write_bytes(octets)
        run = subprocess.run(
            ["/usr/sbin/opendkim", "-x", str(conf), "-vv", "-t", str(path)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        said[name] = run.stdout + run.stderr
    print(said)
    for name in ("good", "both"):
        assert re.search(r"verification \(s=wasl2026-rsa.* succeeded", said[name]), said[name]
    for name in ("bad", "second"):
        assert not re.search(r"verification \(s=wasl2026-rsa.* succeeded", said[name]), said[name]


def test_key_files_are_private_and_never_overwritten(tmp_path: Path) -> None:
    first = keys.make_keys(tmp_path, "MoF.gov.jo", "s1")
    assert [f.path.relative_to(tmp_path).as_posix() for f in first] == [
        "mof.gov.jo/s1-rsa.pem",
        "mof.gov.jo/s1-ed.pem",
    ]
    for file in first:
        assert file.path.stat().st_mode & 0o777 == 0o600
        assert not keys.too_open(file.path)
        again = sign.SigningKey.load(file.path, domain="mof.gov.jo", selector=file.key.selector)
        assert again.algorithm == file.key.algorithm
        assert keys.record_value(again) == keys.record_value(file.key)
    before = first[0].path.read_bytes()
    with pytest.raises(FileExistsError):
        keys.make_keys(tmp_path, "mof.gov.jo", "s1")
    assert first[0].path.read_bytes() == before


def test_dns_records_are_zone_file_lines(pair) -> None:  # type: ignore[no-untyped-def]
    rsa_record, ed_record = (file.dns_record for file in pair)
    assert ed_record.startswith('wasl2026-ed._domainkey.mof.gov.jo. 3600 IN TXT "v=DKIM1; k=ed25519; p=')
    strings = re.findall(r'"([^"]*)"', rsa_record)
    assert len(strings) == 2 and max(map(len, strings)) <= 255
    assert "".join(strings) == keys.record_value(pair[0].key)
    from dns import rdata, zone

    parsed = zone.from_text(
        f"$ORIGIN gov.jo.\n@ 60 IN SOA a b 1 1 1 1 1\n@ 60 IN NS a\n{rsa_record}\n{ed_record}\n"
    )
    text = parsed.get_rdataset("wasl2026-rsa._domainkey.mof", "TXT")
    assert text is not None
    assert b"".join(text[0].strings).decode() == keys.record_value(pair[0].key)
    assert isinstance(text[0], rdata.Rdata)


def test_an_arabic_domain_is_signed_in_ascii(tmp_path: Path) -> None:
    made = keys.make_keys(tmp_path, "مالية.الاردن", "s1")
    assert made[0].key.domain.startswith("xn--") and made[0].key.domain.isascii()


def test_keys_that_cannot_sign_are_refused(tmp_path: Path) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(sign.SigningKeyError, match="1024"):
        sign.SigningKey.of(short, domain="mof.gov.jo", selector="s")
    for domain, selector in (("mof.gov.jo; l=0", "s"), ("mof.gov.jo", "s\r\nx"), ("", "s"), ("a..b", "s")):
        with pytest.raises(sign.SigningKeyError):
            keys.make_keys(tmp_path, domain, selector)
    junk = tmp_path / "junk.pem"
    junk.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(sign.SigningKeyError, match=r"junk\.pem"):
        sign.SigningKey.load(junk, domain="mof.gov.jo", selector="s")
