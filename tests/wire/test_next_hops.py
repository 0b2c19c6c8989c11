"""The client and what it sends, with Postfix and Dovecot as the next hops and OpenDKIM as the judge."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway import keys, sign
from gateway.hop_pool import Pool
from gateway.smtp_client import Outcome, Outgoing, OutRecipient, Stage
from gateway.tag import Tags, edit_for
from policies.directory import NextHop
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.postfix import Postfix, postfix
from tracker.header import scan
from tracker.model import Address, now_us

pytestmark = pytest.mark.servers
SENDER = Address.parse("a@mof.example")


@pytest.fixture(scope="module")
def hop_server(authority: Authority) -> Iterator[tuple[Postfix, Dovecot]]:
    """A Postfix with TLS and submission that delivers to a Dovecot."""
    with (
        dovecot() as mailboxes,
        postfix(
            hostname="mail.moh.example",
            domains=["moh.example"],
            deliver_to=mailboxes,
            tls=authority.issue("localhost", "127.0.0.1"),
            settings={"message_size_limit": "26000000"},
        ) as server,
    ):
        yield server, mailboxes


def to(*names: str, **more: Any) -> tuple[OutRecipient, ...]:
    return tuple(OutRecipient(address=Address.parse(name), **more) for name in names)


def deliver(hop: NextHop, *letters: Outgoing) -> list[Outcome]:
    async def main() -> list[Outcome]:
        pool = Pool(hop, hostname="wasl.example")
        outcomes = [await pool.send(letter) for letter in letters]
        await pool.close()
        return outcomes

    return uvloop.run(main())


def letter(octets: bytes, *names: str, **more: Any) -> Outgoing:
    return Outgoing(sender=SENDER, recipients=to(*names), pieces=[octets], **more)


def body_of(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


BODIES = {
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\nend\r\n",
    "long": b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n",
    "eight": "كتاب رسمي\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    "spaces": b" \t \r\n\r\n\r\ntrailing \t\r\n\r\n\r\n",
    "none": b"",
    "no final newline": b"word",
    "large": b"0123456789abcdef " * 50 + b"\r\n" + b"line after line\r\n" * 200_000,
}


def test_bodies_arrive_as_they_are(hop_server: tuple[Postfix, Dovecot]) -> None:
    server, mailboxes = hop_server
    hop = NextHop(name="MOH", host="127.0.0.1", port=server.port, tls="none")
    letters = [
        letter(b"From: a@mof.example\r\nSubject: x\r\n\r\n" + body, f"body{i}@moh.example", eightbit=True)
        for i, body in enumerate(BODIES.values())
    ]
    for outcome in deliver(hop, *letters):
        assert outcome.results[0].accepted, outcome
        assert outcome.dsn and outcome.results[0].told.status is not None
    for i, (name, body) in enumerate(BODIES.items()):
        (octets,) = mailboxes.maildir(f"body{i}@moh.example").wait()
        want = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
        assert body_of(octets) == want.replace(b"\r\n", b"\n"), name


def test_lmtp_tells_each_recipient_apart() -> None:
    with dovecot(mailboxes={"one@moh.example": "secret", "two@moh.example": "secret"}) as mailboxes:
        hop = NextHop(name="MOH", host="127.0.0.1", port=mailboxes.lmtp_port, protocol="lmtp")
        octets = b"From: a@mof.example\r\nSubject: x\r\n\r\n.dot\r\n"
        names = ("one@moh.example", "nobody@moh.example", "two@moh.example")
        (first, second) = deliver(hop, letter(octets, *names), letter(octets, names[1]))
        assert [r.accepted for r in first.results] == [True, False, True]
        assert first.results[1].stage is Stage.RCPT and first.results[1].permanent
        assert "one@" in str(first.results[0].told)  # Dovecot names the mailbox in its answer
        assert "one@" not in first.transcript_for(2)
        assert second.results[0].permanent
        for name in (names[0], names[2]):
            (found,) = mailboxes.maildir(name).wait()
            assert body_of(found) == b".dot\n"


def test_postfix_with_verified_tls_password_and_dsn(
    hop_server: tuple[Postfix, Dovecot], authority: Authority
) -> None:
    server, mailboxes = hop_server
    hop = NextHop(
        name="MOH:outbound",
        host="localhost",
        port=server.submission_port,
        tls="required",
        ca=authority.file,
        username="wasl@moh.example",
        password="secret",
    )
    mail = Outgoing(
        sender=SENDER,
        recipients=to("dsn@moh.example", notify="SUCCESS,FAILURE", orcpt="rfc822;Dsn@moh.example"),
        pieces=[b"From: a@mof.example\r\nSubject: x\r\n\r\nbody\r\n"],
        ret="HDRS",
        envid="QQ+2B1",
    )
    (outcome,) = deliver(hop, mail)
    assert outcome.results[0].accepted, outcome
    assert outcome.tls is not None and outcome.tls.verified
    assert "AUTH PLAIN: 235" in outcome.transcript and "secret" not in outcome.transcript
    (octets,) = mailboxes.maildir("dsn@moh.example").wait()
    assert b"ESMTPSA" in octets
    wrong = NextHop(**{f: getattr(hop, f) for f in hop.__dataclass_fields__} | {"password": "wrong"})
    (outcome,) = deliver(wrong, mail)
    assert outcome.results[0].stage is Stage.AUTH and not outcome.results[0].permanent


def test_postfix_refuses_what_is_not_its_own_and_what_is_too_large(
    hop_server: tuple[Postfix, Dovecot], authority: Authority
) -> None:
    server, _ = hop_server
    hop = NextHop(name="MOH", host="localhost", port=server.submission_port, ca=authority.file)
    octets = b"Subject: x\r\n\r\nbody\r\n"
    refused, large = deliver(
        hop, letter(octets, "x@elsewhere.example"), letter(octets + b"x" * 30_000_000, "x@moh.example")
    )
    assert refused.results[0].stage is Stage.RCPT and refused.results[0].permanent
    assert large.results[0].stage is Stage.LOCAL and str(large.results[0].told.status) == "5.3.4"


def test_many_letters_over_few_connections(hop_server: tuple[Postfix, Dovecot]) -> None:
    server, mailboxes = hop_server
    hop = NextHop(name="MOH", host="127.0.0.1", port=server.port, tls="none", max_connections=4)

    async def main() -> list[Outcome]:
        pool = Pool(hop, hostname="wasl.example", max_messages=20)
        letters = [letter(b"Subject: %d\r\n\r\nx\r\n" % i, "many@moh.example") for i in range(100)]
        outcomes = await asyncio.gather(*map(pool.send, letters))
        await pool.close()
        return outcomes

    outcomes = uvloop.run(main())
    assert all(outcome.results[0].accepted for outcome in outcomes)
    found = mailboxes.maildir("many@moh.example").wait(100)
    subjects = [re.search(rb"^Subject: (\d+)", octets, re.MULTILINE)[1] for octets in found]  # type: ignore[index]
    assert sorted(map(int, subjects)) == list(range(100))


@contextmanager
def _milter(folder: Path, *signing: sign.SigningKey) -> Iterator[Callable[[bytes], str]]:
    """OpenDKIM's own verdict on a message file."""
    zone, conf = folder / "zone", folder / "opendkim.conf"
    zone.write_text(
        "".join(f"{keys.record_name(key).rstrip('.')} {keys.record_value(key)}\n" for key in signing)
    )
    conf.write_text(f"Mode v\nTestPublicKeys {zone}\nSyslog no\n")

    def verdict(octets: bytes) -> str:
        path = folder / "message"
        path.write_bytes(octets)
        run = subprocess.run(
            ["/usr/sbin/opendkim", "-x", str(conf), "-vv", "-t", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return run.stdout + run.stderr

    yield verdict


LETTERS = {
    "plain": (
        b"From: a@mof.example\r\nTo: b@moh.example\r\nSubject: x\r\nMessage-ID: <1@mof.example>\r\n"
        b"Bcc: hidden@moh.example\r\n\r\n",
        b"line \t with   runs \r\n\r\n\r\n",
    ),
    "arabic": (
        "From: مدير <a@mof.example>\r\nSubject: كتاب\r\n\r\n".encode(),
        "نص\r\n".encode() * 1000,
    ),
    "cp1256": (
        b"From: a@mof.example\r\nSubject: \xdf\xca\xc7\xc8\r\n"
        b"Content-Type: text/plain; charset=cp1256\r\n\r\n",
        b"\xe4\xd5\r\n",
    ),
    "no newline": (b"From: a@mof.example\r\n\r\n", b"the end"),
    "dots and long lines": (
        b"From: a@mof.example\r\nSubject:" + b" word" * 100 + b"\r\n\r\n",
        b".\r\n" + b"y" * 998 + b"\r\n..\r\n",
    ),
    "signed already": (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=old.example; s=x; h=from; bh=; b=\r\n"
        b"From: a@mof.example\r\n\r\n",
        b"x\r\n",
    ),
}


def test_what_arrives_is_still_signed_and_can_be_turned_back(
    hop_server: tuple[Postfix, Dovecot], tmp_path: Path
) -> None:
    server, mailboxes = hop_server
    hop = NextHop(name="MOH", host="127.0.0.1", port=server.port, tls="none")
    pair = keys.make_keys(tmp_path / "keys", "mof.example", "s1")
    tags = Tags(
        authserv_id="wasl.example",
        number="MOF/2026/000123",
        subject_tag="[MOF/2026/000123]",
        urgency="عاجل جداً",
        notify_to=Address.parse("wasl-x@wasl.example"),
        message_id="<made@wasl.example>",
        date="Sun, 01 Nov 2026 10:00:00 +0300",
    )
    letters, edits = [], []
    for i, (head, body) in enumerate(LETTERS.values()):
        octets = head + body
        headers = scan(octets)
        edit = edit_for(octets, headers, tags)
        digest = sign.body_hash(octets, edit.body_at)
        # Asked about a file, OpenDKIM judges the first signature that it meets: half the letters begin with
        # Ed25519, half with RSA.
        both = [pair[i % 2].key, pair[1 - i % 2].key]
        edit = edit.under(sign.signatures(edit.sent_head(headers), digest, both, at_us=now_us()))
        edits.append((octets, edit))
        letters.append(
            Outgoing(
                sender=SENDER,
                recipients=to(f"signed{i}@moh.example"),
                pieces=edit.pieces(octets),
            )
        )
    assert all(outcome.results[0].accepted for outcome in deliver(hop, *letters))
    with _milter(tmp_path, *(made.key for made in pair)) as verdict:
        for i, name in enumerate(LETTERS):
            (found,) = mailboxes.maildir(f"signed{i}@moh.example").wait()
            arrived = found.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            said = verdict(arrived)
            selector = pair[i % 2].key.selector
            assert re.search(rf"verification \(s={selector}.* succeeded", said), (name, said)
            octets, edit = edits[i]
            sent = arrived[arrived.index(edit.prefix) :]
            restored = edit.restore(sent)
            assert restored == octets or restored == octets + b"\r\n", name
            assert b"hidden@" not in arrived
