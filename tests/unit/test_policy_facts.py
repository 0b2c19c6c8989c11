"""Facts: who hands in, who writes, who receives; what is odd is a fact and never an exception."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.agency import Agency, Forwards, Mode, NextHop
from policies.author import AuthorKind
from policies.directory import Directory
from policies.facts import (
    FACTS_VERSION,
    AttachmentFact,
    Automatic,
    Crypto,
    Facts,
    Pending,
    Place,
    SenderKind,
    Surroundings,
    compute,
    of_envelope,
    unreadable,
)
from tracker.header import scan
from tracker.model import NULL_PATH, Address, Connection, Door, Envelope, Recipient

RETURN = Address.parse("wasl-genuine@wasl.example")


def agency(code: str, **more: object) -> Agency:
    given: dict[str, object] = {
        "code": code,
        "name_ar": code,
        "name_en": code,
        "domains": (f"{code.lower()}.example",),
        "next_hop": NextHop(name=code, host="127.0.0.1"),
        "networks": (ipaddress.ip_network(f"10.{ord(code[-1])}.0.0/16"),),
    }
    return Agency(**(given | more))  # type: ignore[arg-type]


SHARED = (ipaddress.ip_network("10.99.0.0/16"),)
DIRECTORY = Directory(
    [
        agency(
            "MOF", outbound=NextHop(name="MOF:outbound", host="127.0.0.1"), authserv_ids=("mx.mof.example",)
        ),
        agency("MOH"),
        agency("MOI", mode=Mode.SHADOW),
        agency("OLD", mode=Mode.OFF),
        agency("NEW", next_hop=None),
        agency("SHA", networks=SHARED),
        agency("SHB", networks=SHARED, authserv_ids=("mx.shb.example",)),
        agency("ALL", forwards=Forwards.ALL),
        agency("NON", forwards=Forwards.NONE, authserv_ids=("mx.non.example",)),
    ]
)
AROUND = Surroundings(
    directory=DIRECTORY,
    domain="wasl.example",
    is_return=lambda address: address.key == RETURN.key,
    postmaster=Address.parse("it@moh.example"),
)


def relay(code: str, ip: str | None = None) -> Connection:
    return Connection(door=Door.RELAY, peer=ip or f"10.{ord(code[-1])}.0.1")


def signed_in(code: str, account: str) -> Connection:
    return Connection(door=Door.SUBMISSION, peer="203.0.113.9", account=account, agency=code)


def read(
    header: str,
    conn: Connection,
    sender: str = "a@mof.example",
    to: tuple[str, ...] = ("b@moh.example",),
    **more: object,
) -> Facts:
    octets = header.replace("\n", "\r\n").encode() + b"\r\n\r\nbody\r\n"
    envelope = Envelope(
        sender=Address.parse(sender) if sender else NULL_PATH,
        recipients=tuple(Recipient(address=Address.parse(one)) for one in to),
    )
    return compute(scan(octets), len(octets), envelope, conn, AROUND, **more)  # type: ignore[arg-type]


def test_an_ordinary_letter() -> None:
    facts = read(
        "Received: from a\nReceived: from b\nFrom: =?utf-8?b?2YXYrdmF2K8=?= <A@MOF.example>\n"
        "Subject: Re: [MOH/2026/000123] x\nMessage-ID: <1@mof>\nIn-Reply-To: <2@moh>\nReferences: <3@moh>",
        relay("MOF"),
    )
    assert facts.submitter == facts.sender_agency == facts.author_agency == "MOF"
    assert (facts.sender_kind, facts.author_kind) == (SenderKind.OWN, AuthorKind.OWN)
    assert facts.author == "A@MOF.example" and facts.author_name == "محمد"
    assert facts.subject_number == "MOH/2026/000123"
    assert facts.message_id == "<1@mof>" and facts.references == ("<3@moh>", "<2@moh>")
    assert facts.hops == 2 and facts.outbound and not facts.automatic and not facts.vouched
    (to,) = facts.recipients
    assert (to.place, to.agency, to.connected) == (Place.AGENCY, "MOH", True)


@pytest.mark.parametrize(
    ("subject", "number"),
    [
        ("[MOF/2026/000123]", "MOF/2026/000123"),
        ("=?utf-8?b?2KXYtNin2LHYqSDZhNmD2KrYp9io2YPZhSDYsdmC2YUgTU9GLzIwMjYvMDAwMTIz?=", "MOF/2026/000123"),
        ("=?utf-8?b?2LHZgtmF?= MOF/2026/000123.", "MOF/2026/000123"),
        ("=?utf-8?b?2LHZgtmF?= " + "1" * 80, None),
        ("[x]", None),
        ("[]", None),
        ("2026/1", None),
        ("[MOF/2026/" + "1" * 80 + "]", None),
    ],
)
def test_the_number_in_a_subject(subject: str, number: str | None) -> None:
    assert read(f"From: a@mof.example\nSubject: {subject}", relay("MOF")).subject_number == number


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("From: a@mof.example", AuthorKind.OWN),
        ("From: a@moh.example", AuthorKind.AGENCY),
        ("From: a@x.example", AuthorKind.OUTSIDE),
        ("From: a@sub.mof.example", AuthorKind.OUTSIDE),
        ("Subject: x", AuthorKind.MISSING),
        ("From: a@mof.example\nFrom: a@moh.example", AuthorKind.AMBIGUOUS),
        ("From: a@mof.example, b@mof.example", AuthorKind.OWN),
        ("From: a@mof.example\nFrom: b@mof.example", AuthorKind.AMBIGUOUS),
        ("From: a@mof.example, b@moh.example", AuthorKind.AMBIGUOUS),
        ("From: <", AuthorKind.AMBIGUOUS),
        ("From:", AuthorKind.AMBIGUOUS),
        ("From: nobody", AuthorKind.AMBIGUOUS),
        ('From: "a@mof.example" <b@moh.example>', AuthorKind.AGENCY),
        ("From: <@moh.example:a@mof.example>", AuthorKind.OWN),
    ],
)
def test_whose_the_author_is(header: str, kind: AuthorKind) -> None:
    assert read(header, relay("MOF")).author_kind is kind


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        ("a@mof.example", SenderKind.OWN),
        ("a@MOF.EXAMPLE", SenderKind.OWN),
        ("a@moh.example", SenderKind.AGENCY),
        ("a@x.example", SenderKind.OUTSIDE),
        ("", SenderKind.NULL),
        (str(RETURN), SenderKind.RETURN),
        ("WASL-GENUINE@wasl.example", SenderKind.RETURN),
        ("wasl-forged@wasl.example", SenderKind.GATEWAY),
    ],
)
def test_whose_the_sender_is(sender: str, kind: SenderKind) -> None:
    assert read("From: a@mof.example", relay("MOF"), sender).sender_kind is kind


def test_what_recipients_are() -> None:
    to = (
        "b@moh.example", "b@new.example", "b@old.example", "b@x.example", str(RETURN),
        "wasl-forged@wasl.example", "Postmaster@wasl.example",
    )  # fmt: skip
    found = read("From: a@mof.example", relay("MOF"), to=to).recipients
    assert [(r.place, r.agency, r.connected) for r in found] == [
        (Place.AGENCY, "MOH", True),
        (Place.AGENCY, "NEW", False),
        (Place.AGENCY, "OLD", True),
        (Place.OUTSIDE, None, False),
        (Place.RETURN, None, False),
        (Place.GATEWAY, None, False),
        (Place.POSTMASTER, "MOH", True),
    ]
    assert found[-1].redirect == Address.parse("it@moh.example")


def test_on_a_shared_network_sender_and_author_decide_and_must_agree() -> None:
    conn = relay("", "10.99.0.1")
    facts = read("From: a@shb.example", conn, "a@shb.example")
    assert facts.submitters == ("SHA", "SHB") and facts.submitter == "SHB"
    facts = read("From: a@sha.example", conn, "a@shb.example")
    assert facts.submitter == "SHB" and facts.author_kind is AuthorKind.AGENCY
    assert read("From: a@shb.example", conn, "").submitter == "SHB"
    assert read("From: a@mof.example", conn, "").submitter == "SHA"
    stranger = read("From: a@sha.example", relay("", "203.0.113.1"), "a@sha.example")
    assert stranger.submitter is None and stranger.submitters == ()
    assert stranger.sender_kind is SenderKind.AGENCY


def test_a_network_proves_nothing_on_submission() -> None:
    conn = Connection(door=Door.SUBMISSION, peer="10.70.0.1")
    assert read("From: a@mof.example", conn).submitter is None


PASSED = "{id}; spf=pass smtp.mailfrom=u@x.example;\n dkim=pass (ok; dmarc=pass) header.d=x.example"
MINE = "mx.mof.example; "


@pytest.mark.parametrize(
    ("conn", "author", "results", "vouched"),
    [
        (relay("MOF"), "u@x.example", PASSED.format(id="mx.mof.example"), True),
        (relay("MOF"), "u@x.example", PASSED.format(id="MX.mof.example 1"), True),
        (relay("MOF"), "u@x.example", PASSED.format(id="mx.x.example"), False),
        (relay("MOF"), "u@y.example", PASSED.format(id="mx.mof.example"), False),
        (relay("MOF"), "u@x.example", MINE + "dkim=fail header.d=x.example", False),
        (relay("MOF"), "u@x.example", MINE + "x=(dmarc=pass header.from=x.example)", False),
        (relay("MOF"), "u@x.example", MINE + "dmarc=pass header.from=x.example", True),
        (relay("MOF"), "u@moh.example", MINE + "dmarc=pass header.from=x.example", False),
        (relay("MOH"), "u@x.example", PASSED.format(id="mx.mof.example"), False),
        (relay("ALL"), "u@x.example", "none", True),
        (relay("NON"), "u@x.example", PASSED.format(id="mx.non.example"), False),
    ],
)
def test_when_a_server_vouches(conn: Connection, author: str, results: str, vouched: bool) -> None:
    header = f"From: {author}\nAuthentication-Results: {results}"
    assert read(header, conn, "u@x.example").vouched is vouched


@pytest.mark.parametrize(
    ("header", "sender", "automatic"),
    [
        ("Subject: x", "a@mof.example", set()),
        ("Subject: x", "", {Automatic.NULL_SENDER}),
        ("Auto-Submitted: auto-replied (vacation)", "a@mof.example", {Automatic.AUTO_REPLIED}),
        ("Auto-Submitted: Auto-Generated", "a@mof.example", {Automatic.AUTO_GENERATED}),
        ("Auto-Submitted: no", "a@mof.example", set()),
        ("List-Id: <x>", "a@mof.example", {Automatic.LIST}),
        ("Precedence: bulk", "a@mof.example", {Automatic.BULK}),
        (
            "Content-Type: multipart/report; report-type=delivery-status",
            "",
            {Automatic.NULL_SENDER, Automatic.REPORT},
        ),
    ],
)
def test_what_no_person_wrote(header: str, sender: str, automatic: set[Automatic]) -> None:
    assert read(f"From: a@mof.example\n{header}", relay("MOF"), sender).automatic == automatic


@pytest.mark.parametrize(
    ("content_type", "crypto"),
    [
        ("text/plain", Crypto.NONE),
        ("application/pkcs7-mime; smime-type=enveloped-data", Crypto.SMIME),
        ("application/pkcs7-mime; smime-type=signed-data", Crypto.SIGNED),
        ("multipart/signed; protocol=x", Crypto.SIGNED),
        ("Multipart/Encrypted; protocol=x", Crypto.PGP),
        ("nonsense", Crypto.NONE),
    ],
)
def test_what_policy_cannot_see_into(content_type: str, crypto: Crypto) -> None:
    assert read(f"From: a@mof.example\nContent-Type: {content_type}", relay("MOF")).crypto is crypto


def test_before_the_header_it_is_said_what_is_pending() -> None:
    to = [Recipient(address=Address.parse("b@moh.example"))]
    sender = Address.parse("u@x.example")

    def pending(conn: Connection, who: Address = sender) -> frozenset[Pending]:
        return of_envelope(conn, who, to, AROUND).pending

    assert pending(relay("MOH")) == {Pending.HEADER}
    assert pending(relay("MOF")) == {Pending.HEADER, Pending.VOUCHED}
    shared = relay("", "10.99.0.1")
    assert pending(shared) == {Pending.HEADER, Pending.SUBMITTER, Pending.VOUCHED}
    assert pending(shared, Address.parse("a@sha.example")) == {Pending.HEADER}
    assert not read("From: a@mof.example", shared).pending


def test_the_account_that_signed_in() -> None:
    facts = read("From: A@mof.example", signed_in("MOF", "a@MOF.example"))
    assert facts.author_is_account and facts.account == "a@MOF.example"
    assert not read("From: b@mof.example", signed_in("MOF", "a@mof.example")).author_is_account


def test_facts_survive_json() -> None:
    facts = read(
        "From: a@mof.example\nList-Id: x\nContent-Type: multipart/signed\nFrom: b@mof.example",
        signed_in("MOF", "a@mof.example"),
        to=("b@moh.example", "Postmaster@wasl.example", str(RETURN), "c@x.example"),
        attachments=[
            AttachmentFact(
                name="ا.pdf", declared="application/pdf", detected="text/html", size=3, sha256="00"
            )
        ],
        looped=True,
    )
    first = replace(facts.recipients[0].recipient, notify="NEVER", orcpt="rfc822;x")
    rest = facts.recipients[1:]
    facts = replace(facts, recipients=(replace(facts.recipients[0], recipient=first), *rest))
    data = json.loads(json.dumps(facts.to_json()))
    assert data["v"] == FACTS_VERSION
    assert Facts.from_json(data) == facts
    for broken in (
        {},
        data | {"v": 99},
        data | {"door": "window"},
        {k: v for k, v in data.items() if k != "recipients"},
    ):
        with pytest.raises(ValueError):
            Facts.from_json(broken)


FIELDS = """
    From Subject Authentication-Results Content-Type References Message-ID Received Precedence Auto-Submitted
"""
ODD = [b"<", b"<@", b"=?utf-8?b?/w==?=", b"mx.mof.example; dkim=pass header.d="]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(FIELDS.split()), st.binary(max_size=60) | st.sampled_from(ODD)), max_size=8
    )
)
def test_no_header_makes_it_raise(fields: list[tuple[str, bytes]]) -> None:
    octets = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields) + b"\r\nbody"
    envelope = Envelope(sender=NULL_PATH, recipients=(Recipient(address=Address.parse("b@moh.example")),))
    facts = compute(scan(octets), len(octets), envelope, relay("MOF"), AROUND)
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_an_unreadable_header_is_a_fact() -> None:
    assert not unreadable(read("From: a@mof.example", relay("MOF")))
    octets = b"From: a@mof.example\r\n" + b"X: y\r\n" * 6000 + b"\r\nx"
    envelope = Envelope(sender=NULL_PATH, recipients=())
    assert unreadable(compute(scan(octets), len(octets), envelope, relay("MOF"), AROUND))


def test_facts_of_a_plain_letter_are_cheap() -> None:
    octets = (
        b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0300\r\n"
        b"From: =?utf-8?b?2YXYrdmF2K8=?= <a@mof.example>\r\n"
        b"To: b@moh.example\r\nSubject: =?utf-8?b?2YXYrdmF2K8=?=\r\nMessage-ID: <1@mof>\r\nDate: x\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + b"line\r\n" * 1700
    )
    envelope = Envelope(
        sender=Address.parse("a@mof.example"), recipients=(Recipient(address=Address.parse("b@moh.example")),)
    )
    headers = scan(octets)
    best = min(
        _time(lambda: compute(headers, len(octets), envelope, relay("MOF"), AROUND)) for _ in range(20)
    )
    assert best < 1e-3  # 60 µs on a quiet machine


def _time(work: object) -> float:
    started = time.thread_time()
    for _ in range(50):
        work()  # type: ignore[operator]
    return (time.thread_time() - started) / 50
