"""Receipts, read back by the standard library and by our own readers."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import re
import runpy
from email.message import EmailMessage
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tracker import dsn, mdn, mime, verify
from tracker.model import NULL_PATH, Address
from tracker.notice import GatewayIdentity, Kind, LetterFacts, Notice, NoticeError, RecipientFacts
from tracker.receipt_html import html
from tracker.receipt_text import TABLE_ROWS, hijri, verify_url
from tracker.receipt_words import CAUSES, KINDS, LABELS, STATES, lead
from tracker.receipts import compose, needs, subject
from tracker.reply import EnhancedStatus
from tracker.states import Event

AT = 1_795_339_458_000_000  # 2026-11-22 12:24:18 +0300
GATEWAY = GatewayIdentity(
    domain="wasl.gov.example",
    hostname="mx1.wasl.gov.example",
    zone=ZoneInfo("Asia/Amman"),
    verify_base="https://wasl.gov.example/verify",
)
LETTER = LetterFacts(
    author=Address.parse("s.haddad@mof.gov.example"),
    author_name="سامي حداد",
    accepted_us=AT,
    number="MOF/2026/000123",
    subject="كتاب بشأن الموازنة",
    agency="MOF",
    agency_ar="وزارة المالية",
    agency_en="Ministry of Finance",
    message_id="<1@mof.gov.example>",
    references=("<0@moh.gov.example>",),
    sha256=bytes(range(32)),
    envid="QQ+2B314159",
)
MAIL = dataclasses.replace(LETTER, number=None, agency="", agency_ar="", agency_en="", sha256=b"")
HEADER = b"From: s.haddad@mof.gov.example\r\nMessage-ID: <1@mof.gov.example>\r\nSubject: x\r\n"


def recipient(event: Event, address: str = "diwan@moh.gov.example", **more: Any) -> RecipientFacts:
    facts: dict[str, Any] = {
        "address": Address.parse(address),
        "event": event,
        "at_us": AT + 60_000_000,
        "agency": "MOH",
        "agency_ar": "وزارة الصحة",
        "agency_en": "Ministry of Health",
    }
    return RecipientFacts(**{**facts, **more})


def notice(kind: Kind, *recipients: RecipientFacts, **more: Any) -> Notice:
    facts: dict[str, Any] = {"gateway": GATEWAY, "letter": LETTER, "at_us": AT + 61_000_000}
    people = recipients or (recipient(Event(kind.value)),)
    return Notice(kind=kind, recipients=people, **{**facts, "original_headers": HEADER, **more})


FAILED = recipient(
    Event.FAILED,
    orcpt="rfc822;diwan+2B1@moh.gov.example",
    status=EnhancedStatus(5, 1, 1),
    reply="550 5.1.1 <diwan@moh.gov.example>: no such user",
    remote_mta="mail.moh.gov.example",
    attempts=2,
    last_attempt_us=AT + 50_000_000,
    log_id="0abc",
)


def check_wire(octets: bytes) -> None:
    """What every message must hold to, whatever was put in."""
    assert octets.endswith(b"\r\n")
    assert b"\0" not in octets
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", octets), "a bare CR or LF"
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    header = octets.partition(b"\r\n\r\n")[0]
    for line in header.split(b"\r\n"):
        assert re.match(rb"[A-Za-z-]+:|[ ]\S", line), line


def read(octets: bytes) -> EmailMessage:
    check_wire(octets)
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    for part in message.walk():
        assert not part.defects, part.get_content_type()
    return message


def names(message: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in message.iter_parts()]


def texts(message: EmailMessage) -> tuple[str, str]:
    first = next(message.iter_parts())
    assert isinstance(first, EmailMessage)
    a, b = first.iter_parts()
    return a.get_content(), unescape(b.get_content())


ALL = [kind for kind in Kind if kind is not Kind.DIGEST]
REPORTS = [Kind.REFUSED, Kind.HELD, Kind.RELAYED, Kind.DELIVERED, Kind.LATE, Kind.FAILED, Kind.CANCELLED]


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_is_a_whole_message_in_the_thread_of_its_letter(kind: Kind) -> None:
    message = read(compose(notice(kind, evidence=b'{"a":1}', proof=b"proof\n")))
    sender = message["From"].addresses[0]
    assert (sender.display_name, sender.addr_spec) == ("وصل (Wasl)", "wasl@wasl.gov.example")
    assert message["To"].addresses[0].addr_spec == "s.haddad@mof.gov.example"
    assert message["To"].addresses[0].display_name == "سامي حداد"
    assert str(message["Subject"]) == f"{KINDS[kind].title.ar}: [MOF/2026/000123] كتاب بشأن الموازنة"
    assert message["In-Reply-To"] == "<1@mof.gov.example>"
    assert message["References"] == "<0@moh.gov.example> <1@mof.gov.example>"
    assert message["Auto-Submitted"] in ("auto-generated", "auto-replied")
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["Wasl-Letter"] == "MOF/2026/000123"
    assert message["Wasl-Receipt"] == kind.value
    assert message["Date"] == "Sun, 22 Nov 2026 12:25:19 +0300"
    assert message["MIME-Version"] == "1.0"
    assert re.fullmatch(r"<[a-z2-7]{32}@wasl\.gov\.example>", message["Message-ID"])
    wanted = "multipart/report" if kind in REPORTS else "multipart/mixed"
    assert message.get_content_type() == wanted
    expected = ["multipart/alternative"]
    if kind in REPORTS:
        assert message.get_param("report-type") == "delivery-status"
        expected += ["message/delivery-status", "text/rfc822-headers"]
    assert names(message) == [*expected, "application/json", "text/plain"]
    files = {p.get_filename(): p.get_payload(decode=True) for p in message.iter_attachments()}
    assert files["evidence.json"] == b'{"a":1}'
    assert files["proof.txt"] == b"proof\n"


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_speaks_arabic_first_then_english(kind: Kind) -> None:
    text, page = texts(read(compose(notice(kind))))
    words = KINDS[kind]
    for body in (text, page):
        assert 0 <= body.index(words.title.ar) < body.index(words.title.en)
        assert "MOF/2026/000123" in body
        assert "diwan@moh.gov.example" in body
        assert words.proves.ar in body and words.proves.en in body
        assert "{" not in body
    assert 'dir="rtl" lang="ar"' in page and 'dir="ltr" lang="en"' in page


def test_the_same_notice_gives_the_same_octets_and_another_one_another_id() -> None:
    one = compose(notice(Kind.FAILED, FAILED))
    assert one == compose(notice(Kind.FAILED, FAILED))
    other = compose(notice(Kind.FAILED, dataclasses.replace(FAILED, at_us=AT)))
    assert read(one)["Message-ID"] != read(other)["Message-ID"]


def test_the_machine_part_of_a_failure() -> None:
    octets = compose(notice(Kind.FAILED, FAILED))
    part = list(read(octets).iter_parts())[1]
    common, first = part.get_payload()
    assert dict(common.items()) == {
        "Original-Envelope-Id": "QQ+314159",
        "Reporting-MTA": "dns; mx1.wasl.gov.example",
        "Arrival-Date": "Sun, 22 Nov 2026 12:24:18 +0300",
    }
    assert dict(first.items()) == {
        "Original-Recipient": "rfc822; diwan+1@moh.gov.example",
        "Final-Recipient": "rfc822; diwan@moh.gov.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mail.moh.gov.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 <diwan@moh.gov.example>: no such user",
        "Last-Attempt-Date": "Sun, 22 Nov 2026 12:25:08 +0300",
        "Final-Log-ID": "0abc",
    }


def test_our_own_reader_of_reports_understands_what_we_write() -> None:
    late = recipient(
        Event.LATE, "b@moj.gov.example", status=EnhancedStatus(4, 4, 1), retry_until_us=AT + 432_000_000_000
    )
    digest = notice(
        Kind.DIGEST,
        FAILED,
        late,
        recipient(Event.RELAYED, "c@x.example"),
        recipient(Event.READ, "d@x.example"),
    )
    reports = dsn.read(compose(digest))
    assert reports is not None
    assert [(r.final_recipient, r.action, r.status) for r in reports] == [
        ("diwan@moh.gov.example", "failed", "5.1.1"),
        ("b@moj.gov.example", "delayed", "4.4.1"),
        ("c@x.example", "relayed", "2.0.0"),
    ]
    assert reports[0].original_recipient == "diwan+1@moh.gov.example"
    assert reports[0].original_envelope_id == "QQ+314159"
    assert reports[0].reporting_mta is not None and "mx1.wasl.gov.example" in reports[0].reporting_mta


@pytest.mark.parametrize(
    ("event", "given", "shown_as"),
    [
        (Event.FAILED, None, "5.0.0"),
        (Event.REFUSED, None, "5.7.1"),
        (Event.FAILED, "4.4.7", "4.4.7"),  # expired: RFC 3463 §3.5
        (Event.FAILED, "2.1.5", "5.0.0"),
        (Event.LATE, "5.1.1", "4.1.1"),
        (Event.LATE, "2.0.0", "4.0.0"),
        (Event.DELIVERED, "5.1.1", "2.0.0"),
        (Event.DELIVERED, "2.1.5", "2.1.5"),
    ],
)
def test_the_status_has_the_class_of_its_action(event: Event, given: str | None, shown_as: str) -> None:
    status = EnhancedStatus.parse(given) if given else None
    assert str(recipient(event, status=status).shown_status) == shown_as


def test_a_read_receipt_passes_the_disposition_on() -> None:
    said = "manual-action/MDN-sent-manually; displayed"
    octets = compose(notice(Kind.READ, recipient(Event.READ, disposition=said, orcpt="rfc822;x@y.example")))
    message = read(octets)
    assert message.get_param("report-type") == "disposition-notification"
    body = list(message.iter_parts())[1].get_payload()[0]
    assert dict(body.items()) == {
        "Reporting-UA": "mx1.wasl.gov.example; Wasl",
        "Original-Recipient": "rfc822; x@y.example",
        "Final-Recipient": "rfc822; diwan@moh.gov.example",
        "Original-Message-ID": "<1@mof.gov.example>",
        "Disposition": said,
    }
    (found,) = mdn.read(octets)
    assert found.original_message_id == "<1@mof.gov.example>"


@pytest.mark.parametrize("said", ["", "displayed", "manual-action/MDN-sent-manually; displayed\r\nX: y"])
def test_without_a_disposition_a_read_receipt_is_a_plain_notice(said: str) -> None:
    assert read(compose(notice(Kind.READ, recipient(Event.READ, disposition=said)))).get_content_type() == (
        "multipart/mixed"
    )


def test_addresses_outside_ascii_get_the_global_forms_and_stay_seven_bit() -> None:
    facts = recipient(
        Event.FAILED, "ديوان@صحة.example", orcpt=r"utf-8;\x{62F}\x{64A}@\x{635}.example", reply="550 لا يوجد"
    )
    header = HEADER + "To: ديوان@صحة.example\r\n".encode()
    octets = compose(notice(Kind.FAILED, facts, original_headers=header))
    assert octets.isascii() and not needs(octets).smtputf8
    message = email.message_from_bytes(octets)
    kinds = [part.get_content_type() for part in message.get_payload()]
    assert kinds[1:] == ["message/global-delivery-status", "message/global-headers"]
    reports = dsn.read(octets)
    assert reports is not None
    assert reports[0].final_recipient == "ديوان@صحة.example"
    assert reports[0].original_recipient == "دي@ص.example"


@pytest.mark.parametrize("local", ["a\u200cb", "a\u3000b", "ك" * 32, '"a b"', '"\\"<x>"'])
def test_the_oddest_address_that_the_wire_allows_is_answered(local: str) -> None:
    odd = Address.parse(f"{local}@x.example")
    facts = recipient(Event.FAILED, str(odd))
    octets = compose(notice(Kind.FAILED, facts, letter=dataclasses.replace(LETTER, author=odd)))
    check_wire(octets)
    reports = dsn.read(octets)
    assert reports is not None and len(reports) == 1


def test_an_author_outside_ascii_needs_smtputf8() -> None:
    letter = dataclasses.replace(LETTER, author=Address.parse("سامي@مالية.example"))
    octets = compose(notice(Kind.SUBMITTED, letter=letter))
    check_wire(octets)
    assert needs(octets).smtputf8 and needs(octets).eightbit
    assert "<سامي@مالية.example>".encode() in octets


def test_a_full_return_encloses_the_letter_unchanged() -> None:
    for original in (HEADER + b"\r\nbody, no last newline", HEADER + b"\r\nbody\r\n\r\n"):
        octets = compose(notice(Kind.FAILED, FAILED, original=original))
        check_wire(octets)
        structure = mime.walk(octets)
        enclosed = [part for part in structure.parts if part.content_type == "message/rfc822"]
        assert [mime.decoded(octets, part) for part in enclosed] == [original]
    eight = HEADER + b"Content-Transfer-Encoding: 8bit\r\n\r\n\xd9\x83\xd8\xaa\xd8\xa7\xd8\xa8\r\n"
    octets = compose(notice(Kind.FAILED, FAILED, original=eight))
    check_wire(octets)
    assert eight in octets
    assert needs(octets) == needs(b"a: b\r\n\r\n\xff")
    assert needs(octets).eightbit and not needs(octets).smtputf8


@pytest.mark.parametrize("bad", [b"a\rb\r\n", b"a\nb\r\n", b"a\0b\r\n", b"x" * 1200 + b"\r\n"])
def test_what_must_not_travel_comes_back_as_its_header_only(bad: bytes) -> None:
    octets = compose(notice(Kind.FAILED, FAILED, original=HEADER + b"\r\n" + bad, original_headers=b""))
    assert names(read(octets))[2] == "text/rfc822-headers"
    octets = compose(notice(Kind.FAILED, FAILED, original_headers=HEADER + b"X-A: " + bad))
    check_wire(octets)
    part = email.message_from_bytes(octets).get_payload()[2]
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) + b"\r\n" == HEADER + b"X-A: " + bad


def test_only_a_failure_returns_the_whole_letter() -> None:
    octets = compose(notice(Kind.LATE, original=HEADER + b"\r\nsecret\r\n", original_headers=b""))
    assert names(read(octets))[2] == "text/rfc822-headers"
    assert b"secret" not in octets


def test_a_boundary_stands_in_no_part() -> None:
    octets = compose(notice(Kind.FAILED, FAILED))
    boundary = read(octets).get_boundary()
    assert boundary is not None
    original = HEADER + b"\r\n--" + boundary.encode() + b"--\r\n"
    enclosing = read(compose(notice(Kind.FAILED, FAILED, original=original)))
    assert len(list(enclosing.iter_parts())) == 3


def test_mail_that_is_no_letter_gets_an_ordinary_report_without_a_number() -> None:
    facts = recipient(
        Event.FAILED, "bob@example.org", agency="", agency_ar="", agency_en="", reply="552 full"
    )
    message = read(compose(notice(Kind.FAILED, facts, letter=MAIL)))
    assert message["Wasl-Letter"] is None
    assert str(message["Subject"]) == "إشعار تعذّر التسليم (Delivery failure): كتاب بشأن الموازنة"
    text, page = texts(message)
    for body in (text, page):
        assert "رسالتكم" in body and "Your message" in body
        assert "كتابكم" not in body and "MOF/" not in body and "letter" not in body.lower()
        assert "https:" not in body


@pytest.mark.parametrize("kind", list(Kind))
def test_no_sentence_is_left_with_a_hole_where_the_number_was(kind: Kind) -> None:
    for language in ("ar", "en"):
        for official in (True, False):
            text = lead(kind, None, letter=official, language=language)
            assert "{" not in text and "  " not in text and " ." not in text and "رقم " not in text


def test_a_subject_keeps_one_tag() -> None:
    tagged = dataclasses.replace(LETTER, subject="Re: [MOF/2026/000123] x")
    assert subject(notice(Kind.DELIVERED, letter=tagged)) == "إشعار تسليم: Re: [MOF/2026/000123] x"
    empty = dataclasses.replace(LETTER, subject="")
    assert subject(notice(Kind.DELIVERED, letter=empty)) == "إشعار تسليم: [MOF/2026/000123]"


def test_references_are_bounded_and_broken_ones_left_out() -> None:
    many = tuple(f"<{i}@x.example>" for i in range(500))
    broken = ("<a b@c>", "no", "<x@y>\r\nBcc: z@z", "<é@x>")
    letter = dataclasses.replace(LETTER, references=many + broken)
    found = read(compose(notice(Kind.DELIVERED, letter=letter)))["References"].split()
    assert len(found) == 13
    assert found[0] == "<0@x.example>" and found[-2:] == ["<499@x.example>", "<1@mof.gov.example>"]
    for message_id in (None, "", "<a b>", "x@y", "<a@b>\r\nX: y", "<" + "a" * 999 + "@b>"):
        letter = dataclasses.replace(LETTER, message_id=message_id)
        message = read(compose(notice(Kind.DELIVERED, letter=letter)))
        assert message["In-Reply-To"] is None and message["References"] is None


def test_a_digest_tells_each_recipient_in_one_table() -> None:
    events = [Event.DELIVERED, Event.READ, Event.FAILED, Event.RELAYED, Event.PROCESSED, Event.REGISTERED]
    people = [recipient(e, f"u{i}@a{i}.example") for i, e in enumerate(events * 2)]
    octets = compose(notice(Kind.DIGEST, *people))
    text, page = texts(read(octets))
    for i in range(12):
        assert text.count(f"<u{i}@a{i}.example>") == 1
        assert page.count(f"u{i}@a{i}.example<") == 1
    assert "2  سُلّم / delivered to the mailbox" in text
    reports = dsn.read(octets)
    assert reports is not None and len(reports) == 6


def test_in_a_digest_only_what_a_server_said_is_set_as_code() -> None:
    taken = recipient(Event.REGISTERED, "a@moh.gov.example", incoming_number="512/2026")
    _, page = texts(read(compose(notice(Kind.DIGEST, taken, FAILED, *[recipient(Event.READ)] * 4))))
    assert '<bdi dir="auto">رقم الوارد / Incoming number: 512/2026</bdi>' in page
    assert f'monospace;font-size:13px">{FAILED.reply[:12]}' in page


def test_a_digest_of_thousands_stays_a_message_of_sane_size() -> None:
    people = [recipient(Event.DELIVERED, f"user{i:05d}@agency.gov.example") for i in range(3000)]
    octets = compose(notice(Kind.DIGEST, *people))
    check_wire(octets)
    assert len(octets) < 1_200_000
    text, _ = texts(read(octets))
    assert text.count("@agency.gov.example") == TABLE_ROWS
    assert str(3000 - TABLE_ROWS) in text
    reports = dsn.read(octets)
    assert reports is not None and len(reports) > 999


def test_an_ordinary_receipt_is_small() -> None:
    assert len(compose(notice(Kind.FAILED, FAILED))) < 24_000


def test_who_registered_a_letter_is_named_or_said_to_be_unknown() -> None:
    named = recipient(Event.REGISTERED, person="ليلى عمر", incoming_number="MOH/2026/55")
    text, _ = texts(read(compose(notice(Kind.REGISTERED, named))))
    assert "ليلى عمر" in text and "MOH/2026/55" in text
    text, _ = texts(read(compose(notice(Kind.REGISTERED))))
    assert LABELS["nobody"].ar in text and LABELS["nobody"].en in text


def test_the_cause_is_told_in_words() -> None:
    text, page = texts(read(compose(notice(Kind.FAILED, FAILED))))
    for body in (text, page):
        assert CAUSES["1.1"].ar in body and CAUSES["1.1"].en in body
    refused = recipient(Event.REFUSED, reason_ar="مرفق محظور", reason_en="Forbidden attachment")
    text, _ = texts(read(compose(notice(Kind.REFUSED, refused))))
    assert "السبب: \u2068مرفق محظور\u2069" in text and "Cause: Forbidden attachment" in text


def test_the_hijri_day_stands_beside_the_gregorian_and_is_left_out_where_unknown() -> None:
    zone = ZoneInfo("Asia/Amman")
    assert hijri(AT, zone) == "1448-06-12"
    assert hijri(-10_000_000_000_000_000, zone) == ""
    text, _ = texts(read(compose(notice(Kind.DELIVERED))))
    assert "2026-11-22 12:25:18 +0300 (1448-06-12 AH)" in text


def test_the_verify_address_is_the_only_link_and_is_escaped() -> None:
    letter = dataclasses.replace(LETTER, verify_code='a"b c')
    made = notice(Kind.DELIVERED, letter=letter)
    assert verify_url(made) == "https://wasl.gov.example/verify/MOF/2026/000123?code=a%22b%20c"
    page = html(made)
    assert page.count("href=") == 2 and page.count("<a ") == 2
    for word in ("<img", "<script", "<style", "<link", "background", "@import", "url("):
        assert word not in page


def test_a_notice_must_make_sense() -> None:
    with pytest.raises(NoticeError):
        Notice(kind=Kind.FAILED, gateway=GATEWAY, letter=LETTER, recipients=(), at_us=AT)
    with pytest.raises(NoticeError):
        notice(Kind.DELIVERED, FAILED)
    with pytest.raises(NoticeError):
        notice(Kind.FAILED, FAILED, letter=dataclasses.replace(LETTER, author=NULL_PATH))


def test_every_kind_and_event_has_its_words_in_both_languages() -> None:
    assert set(KINDS) == set(Kind)
    for kind, words in KINDS.items():
        pairs = [words.title, words.lead, words.proves, words.plain_lead, words.plain_proves]
        for pair in filter(None, pairs):
            assert pair.en.isascii() and not re.search(r"[A-Za-z]", pair.ar.replace("{number}", "")), kind
            assert pair.ar.count("{number}") == pair.en.count("{number}")
    for kind in ALL:
        assert Event(kind.value) in STATES
    for pair in (*STATES.values(), *CAUSES.values(), *LABELS.values()):
        assert pair.ar and pair.en


def test_the_samples_in_the_documentation_are_what_the_code_writes() -> None:
    folder = Path(__file__).resolve().parents[2] / "docs" / "samples"
    made = runpy.run_path(str(folder / "make_samples.py"), run_name="samples")["samples"]()
    for name, octets in made.items():
        assert (folder / name).read_bytes() == octets, f"python docs/samples/make_samples.py writes {name}"
    keys = verify.read_keys(made["ledger-key.txt"].decode())
    for name in sorted(made):
        if name not in ("letter.eml", "ledger-key.txt", "bounce.eml"):
            files = [("letter.eml", made["letter.eml"]), (name, made[name])]
            assert verify.verify(files, keys).status == 0, name
            other = [("letter.eml", made["letter.eml"].replace(b"2KrY", b"2KrZ")), files[1]]
            assert verify.verify(other, keys).status != 0, f"{name} proves another letter"


def test_the_documentation_explains_every_receipt_by_its_name() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")
    for words in KINDS.values():
        assert f"| {words.title.ar}, {words.title.en} |" in text
