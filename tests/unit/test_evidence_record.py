"""Evidence records: their members, their signature, and what happens to text that others wrote."""

from __future__ import annotations

import base64
import dataclasses
import json
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tracker.evidence_record import (
    NEGATIVE,
    Evidence,
    EvidenceRecordError,
    event_uri,
    evidence_file,
    evidence_record,
    read,
)
from tracker.ledger import EvidenceRow, LedgerKey, opening
from tracker.model import Address
from tracker.notice import GatewayIdentity, LetterFacts, RecipientFacts
from tracker.reply import EnhancedStatus
from tracker.states import Event, Grade
from tracker.verify import canonical

KEY = LedgerKey.make("wasl.gov.example/ledger")
GATEWAY = GatewayIdentity(
    domain="wasl.gov.example", hostname="mx.wasl.gov.example", zone=ZoneInfo("Asia/Amman")
)
LETTER = LetterFacts(
    author=Address.parse("sami@mof.gov.example"),
    author_name="سامي",
    accepted_us=1_795_339_458_000_000,
    number="MOF/2026/000123",
    subject="سرّ",
    agency="MOF",
    agency_ar="وزارة المالية",
    agency_en="Ministry of Finance",
    message_id="<1@mof.gov.example>",
    sha256=bytes(range(32)),
)
RECIPIENT = RecipientFacts(
    address=Address.parse("diwan@moh.gov.example"),
    event=Event.DELIVERED,
    at_us=1_795_339_521_000_000,
    agency="MOH",
    agency_ar="وزارة الصحة",
    agency_en="Ministry of Health",
    reply="250 2.0.0 saved",
    remote_mta="mail.moh.gov.example",
)


def evidence(event: Event = Event.DELIVERED, **changes: object) -> Evidence:
    recipient = dataclasses.replace(RECIPIENT, event=event)
    made = Evidence(
        id=7,
        gateway=GATEWAY,
        letter=LETTER,
        recipients=(recipient,),
        event=event,
        at_us=RECIPIENT.at_us,
        grade=Grade.DELIVERED,
        ledger_index=41,
    )
    return dataclasses.replace(made, **changes)


def test_the_members_of_a_record() -> None:
    record = json.loads(evidence_record(evidence(), KEY))
    signature = record.pop("signature")
    assert signature["key"] == f"wasl.gov.example/ledger+{KEY.vkey.keyid.hex()}"
    assert record == {
        "version": "1",
        "EvidenceIdentifier": "0000000000007@wasl.gov.example",
        "ERDSEventId": "http://uri.etsi.org/19522/Event/ContentConsignment",
        "Event": "delivered",
        "EventTime": "2026-11-22T09:25:21.000000Z",
        "EvidenceIssuerDetails": {
            "Name": "Wasl",
            "NameAr": "وصل",
            "Domain": "wasl.gov.example",
            "Ledger": "wasl.gov.example/ledger",
        },
        "SenderDetails": {
            "Address": "sami@mof.gov.example",
            "Name": "سامي",
            "Agency": "MOF",
            "AgencyName": "Ministry of Finance",
            "AgencyNameAr": "وزارة المالية",
        },
        "RecipientDetails": [
            {
                "Address": "diwan@moh.gov.example",
                "Agency": "MOH",
                "AgencyName": "Ministry of Health",
                "AgencyNameAr": "وزارة الصحة",
                "RemoteMTA": "mail.moh.gov.example",
                "Answer": "250 2.0.0 saved",
            }
        ],
        "MessageIdentifier": {"Number": "MOF/2026/000123", "MessageID": "<1@mof.gov.example>"},
        "SubmissionTime": "2026-11-22T09:24:18.000000Z",
        "UserContentInfo": {
            "DigestMethod": "http://www.w3.org/2001/04/xmlenc#sha256",
            "DigestValue": bytes(range(32)).hex(),
        },
        "Grade": "E3",
        "LedgerIndex": 41,
    }


def test_the_subject_of_a_letter_is_never_in_its_record() -> None:
    assert "سرّ".encode() not in evidence_record(evidence(), KEY)


def test_anyone_can_check_the_signature_with_the_key_alone() -> None:
    """As docs/evidence-record.md says it, without any code of the product but the canonical form."""
    record = json.loads(evidence_record(evidence(), KEY))
    signature = record.pop("signature")
    signed = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    public = Ed25519PublicKey.from_public_bytes(KEY.vkey.key)
    public.verify(base64.b64decode(signature["ed25519"]), b"wasl-evidence/v1\n" + signed)


def test_a_record_that_was_changed_is_refused() -> None:
    octets = evidence_record(evidence(), KEY)
    assert read(octets, KEY.vkey)["LedgerIndex"] == 41
    for changed in (
        octets.replace(b'"E3"', b'"E7"'),
        octets.replace(b"delivered", b"processed"),
        octets.replace(b'"LedgerIndex":41', b'"LedgerIndex":42'),
        octets[:-1] + b',"more":1}',
    ):
        with pytest.raises(EvidenceRecordError):
            read(changed, KEY.vkey)
    with pytest.raises(EvidenceRecordError):
        read(octets, LedgerKey.make("wasl.gov.example/ledger").vkey)


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b"\xff", b"1", b'{"signature":1}', b"[" * 100_000])
def test_what_is_no_record_is_refused_as_such(octets: bytes) -> None:
    with pytest.raises(EvidenceRecordError):
        read(octets, KEY.vkey)


@pytest.mark.parametrize("event", sorted(NEGATIVE))
def test_a_negative_event_always_says_why(event: Event) -> None:
    bare = dataclasses.replace(RECIPIENT, event=event, reply="")
    record = json.loads(evidence_record(evidence(event, recipients=(bare,)), KEY))
    assert record["EventReasons"][0]["Details"]
    status = EnhancedStatus(5, 1, 1)
    told = dataclasses.replace(bare, reply="550 5.1.1 no such user", status=status, reason_ar="لا يوجد")
    record = json.loads(evidence_record(evidence(event, recipients=(told,)), KEY))
    assert [r["Details"] for r in record["EventReasons"]] == ["550 5.1.1 no such user", "لا يوجد"]


def test_a_positive_event_gives_no_reasons() -> None:
    assert "EventReasons" not in json.loads(evidence_record(evidence(), KEY))


@pytest.mark.parametrize(
    ("event", "grade", "member", "name"),
    [
        (Event.SUBMITTED, Grade.ACCEPTED, True, "SubmissionAcceptance"),
        (Event.REFUSED, Grade.NONE, True, "SubmissionRejection"),
        (Event.RELAYED, Grade.RELAYED, True, "RelayAcceptance"),
        (Event.RELAYED, Grade.RELAYED, False, "RelayToNonERDS"),
        (Event.FAILED, Grade.ACCEPTED, True, "RelayFailure"),
        (Event.FAILED, Grade.RELAYED, True, "ContentConsignmentFailure"),
        (Event.FAILED, Grade.RELAYED, False, "RelayToNonERDSFailure"),
        (Event.FETCHED, Grade.FETCHED, True, "ContentHandover"),
        (Event.READ, Grade.READ, True, "ContentAccessTracking"),
        (Event.REGISTERED, Grade.REGISTERED, True, "ConsignmentAcceptance"),
        (Event.RETURNED, Grade.REGISTERED, True, "ConsignmentRejection"),
        (Event.EXPIRED, Grade.DELIVERED, True, "AcceptanceRejectionExpiry"),
    ],
)
def test_event_uris(event: Event, grade: Grade, member: bool, name: str) -> None:
    assert event_uri(event, grade=grade, member=member) == f"http://uri.etsi.org/19522/Event/{name}"


@pytest.mark.parametrize("event", [Event.HELD, Event.LATE, Event.REFERRED, Event.PROCESSED, Event.AUTO_REPLY])
def test_no_uri_is_invented_for_what_the_standard_does_not_know(event: Event) -> None:
    assert event_uri(event) is None
    assert "ERDSEventId" not in json.loads(evidence_record(evidence(event), KEY))


def test_seen_is_marked_as_a_hint() -> None:
    assert json.loads(evidence_record(evidence(Event.SEEN), KEY))["Hint"] is True


def test_the_opening_of_the_ledger_entry_goes_along() -> None:
    row = EvidenceRow(
        id=7,
        letter_id=5,
        delivery_id=6,
        event="delivered",
        grade=3,
        at_us=1,
        noted_us=2,
        source="dsn",
        reporter="mx",
        detail={"a": 1},
        salt=b"s" * 16,
    )
    made = evidence(opening=opening(row), parts=(("text", b"\1" * 32), ("كتاب.pdf", b"\2" * 32)))
    record = read(evidence_record(made, KEY), KEY.vkey)
    found = record["opening"]
    assert found["record"]["detail"] == {"a": 1}
    assert found["salt"] == (b"s" * 16).hex()
    parts = record["UserContentInfo"]["PartsInfo"]
    assert [(p["Identifier"], p["DigestValue"]) for p in parts] == [
        ("text", "01" * 32),
        ("كتاب.pdf", "02" * 32),
    ]


def test_several_records_in_one_file() -> None:
    one, two = evidence_record(evidence(), KEY), evidence_record(evidence(Event.FAILED), KEY)
    assert evidence_file([one]) == one
    assert [r["Event"] for r in json.loads(evidence_file([one, two]))] == ["delivered", "failed"]


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_of_others_keeps_the_record_one_canonical_line(name: str, reply: str) -> None:
    letter = dataclasses.replace(LETTER, author_name=name, message_id=reply)
    recipient = dataclasses.replace(RECIPIENT, reply=reply, person=name, event=Event.FAILED)
    octets = evidence_record(evidence(Event.FAILED, letter=letter, recipients=(recipient,)), KEY)
    record = read(octets, KEY.vkey)
    assert canonical(record) == octets
    assert b"\n" not in octets and b"\r" not in octets and b"\0" not in octets
