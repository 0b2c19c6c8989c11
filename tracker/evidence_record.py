"""``evidence.json``: what happened to one recipient of a letter, signed, for whoever must check it.

STANDARDS
    ETSI EN 319 522-3 (the names of its members and the event URIs of its table 2), RFC 3463 (reason
    codes), ``docs/evidence-record.md`` (the exact form), ``LEDGER.md`` 1 and 5 (canonical form, signature).

Events that the ETSI table does not know (held, late, referred, processed, …) carry no
``ERDSEventId``; ``Event`` always has Wasl's own name. A negative event always has ``EventReasons``.
Whoever verifies a record also compares the content digest with the letter in hand: a good signature
over another letter proves nothing.

HOW IT FAILS
    :class:`EvidenceRecordError` for octets that are no record or whose signature does not fit.
    Building one does not fail: text of others is kept to one line and freed of controls.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from tracker.foreign_text import shown
from tracker.ledger import LedgerKey
from tracker.model import id_text, when
from tracker.notice import GatewayIdentity, LetterFacts, RecipientFacts
from tracker.states import Event, Grade
from tracker.verify import Vkey, canonical, evidence_text

VERSION = "1"
SHA256_URI = "http://www.w3.org/2001/04/xmlenc#sha256"
_EVENT_URI = "http://uri.etsi.org/19522/Event/"

_ETSI: dict[Event, str] = {
    Event.SUBMITTED: "SubmissionAcceptance",
    Event.REFUSED: "SubmissionRejection",
    Event.RELAYED: "RelayAcceptance",
    Event.DELIVERED: "ContentConsignment",
    Event.FETCHED: "ContentHandover",
    Event.SEEN: "ContentAccessTracking",
    Event.READ: "ContentAccessTracking",
    Event.REGISTERED: "ConsignmentAcceptance",
    Event.RETURNED: "ConsignmentRejection",
    Event.EXPIRED: "AcceptanceRejectionExpiry",
}

NEGATIVE = frozenset(
    {
        Event.REFUSED,
        Event.HELD,
        Event.LATE,
        Event.FAILED,
        Event.CANCELLED,
        Event.RETURNED,
        Event.EXPIRED,
    }
)
"""Events whose record must say why."""

_WEAK = frozenset({Event.SEEN})


class EvidenceRecordError(ValueError):
    """Not an evidence record, or not signed by that key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One act of evidence, as its record tells it."""

    id: int
    gateway: GatewayIdentity
    letter: LetterFacts
    recipients: tuple[RecipientFacts, ...]
    event: Event
    at_us: int
    grade: Grade
    ledger_index: int | None = None  # None: the entry has no place yet
    opening: Mapping[str, Any] | None = None  # tracker.ledger.opening: what the entry commits to
    parts: tuple[tuple[str, bytes], ...] = ()  # name and SHA-256 of text and attachments


def event_uri(event: Event, *, grade: Grade = Grade.NONE, member: bool = True) -> str | None:
    """The ETSI URI of an event, None where EN 319 522-3 table 2 has none.

    ``grade`` is how far the letter had come (a failure after E2 is one of consignment, before it one
    of relay), ``member`` whether the recipient belongs to an agency of the directory.
    """
    if event is Event.FAILED:
        if not member:
            return f"{_EVENT_URI}RelayToNonERDSFailure"
        return f"{_EVENT_URI}{'ContentConsignmentFailure' if grade >= Grade.RELAYED else 'RelayFailure'}"
    if event is Event.RELAYED and not member:
        return f"{_EVENT_URI}RelayToNonERDS"
    name = _ETSI.get(event)
    return None if name is None else f"{_EVENT_URI}{name}"


def instant(us: int) -> str:
    """Microseconds of UTC as ``2026-11-22T11:24:18.000000Z``."""
    return when(us).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def evidence_record(evidence: Evidence, key: LedgerKey) -> bytes:
    """The signed record in canonical form, one line without an end."""
    return canonical(key.sign_evidence(_members(evidence, key.origin)))


def evidence_file(records: Sequence[bytes]) -> bytes:
    """Several records as one ``evidence.json``: the record itself, or a list of them (LEDGER.md 5)."""
    return records[0] if len(records) == 1 else b"[" + b",".join(records) + b"]"


def read(octets: bytes, vkey: Vkey) -> dict[str, Any]:
    """The members of a record after its signature was found good; raises :class:`EvidenceRecordError`."""
    try:
        record = json.loads(octets)
        signature = base64.b64decode(record["signature"]["ed25519"], validate=True)
        signed = evidence_text(record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceRecordError("not an evidence record") from error
    if not vkey.verify(signature, signed):
        raise EvidenceRecordError("the signature does not fit the record")
    return dict(record)


def reasons(recipient: RecipientFacts) -> list[dict[str, str]]:
    """Why: the status code, what the other side said, and the words of a rule or a clerk."""
    said = [shown(recipient.reply, 800), shown(recipient.reason_en, 800), shown(recipient.reason_ar, 800)]
    detail = list(dict.fromkeys(filter(None, said)))
    return [{"Code": str(recipient.shown_status), "Details": text} for text in detail or ["no reason given"]]


def _members(evidence: Evidence, origin: str) -> dict[str, Any]:
    gateway, letter = evidence.gateway, evidence.letter
    member = all(r.agency for r in evidence.recipients)
    uri = event_uri(evidence.event, grade=evidence.grade, member=member)
    record: dict[str, Any] = {
        "version": VERSION,
        "EvidenceIdentifier": f"{id_text(evidence.id)}@{gateway.domain}",
        "Event": evidence.event.value,
        "EventTime": instant(evidence.at_us),
        "EvidenceIssuerDetails": _filled(
            {
                "Name": shown(gateway.name_en, 200),
                "NameAr": shown(gateway.name_ar, 200),
                "Domain": gateway.domain,
                "Ledger": origin,
            }
        ),
        "SenderDetails": _filled(
            {
                "Address": str(letter.author),
                "Name": shown(letter.author_name, 200),
                "Agency": letter.agency,
                "AgencyName": shown(letter.agency_en, 200),
                "AgencyNameAr": shown(letter.agency_ar, 200),
            }
        ),
        "RecipientDetails": [_recipient(r) for r in evidence.recipients],
        "MessageIdentifier": _filled(
            {"Number": letter.number or "", "MessageID": shown(letter.message_id or "", 998)}
        ),
        "SubmissionTime": instant(letter.accepted_us),
        "UserContentInfo": _content(letter.sha256, evidence.parts),
        "Grade": f"E{int(evidence.grade)}",
    }
    if uri is not None:
        record["ERDSEventId"] = uri
    if evidence.event in NEGATIVE:
        record["EventReasons"] = [reason for r in evidence.recipients for reason in reasons(r)]
    if evidence.event in _WEAK:
        record["Hint"] = True
    if evidence.ledger_index is not None:
        record["LedgerIndex"] = evidence.ledger_index
    if evidence.opening is not None:
        record["opening"] = dict(evidence.opening)
    return record


def _recipient(recipient: RecipientFacts) -> dict[str, str]:
    return _filled(
        {
            "Address": str(recipient.address),
            "Agency": recipient.agency,
            "AgencyName": shown(recipient.agency_en, 200),
            "AgencyNameAr": shown(recipient.agency_ar, 200),
            "RemoteMTA": shown(recipient.remote_mta, 255),
            "Answer": shown(recipient.reply, 800),
            "Person": shown(recipient.person, 200),
            "IncomingNumber": shown(recipient.incoming_number, 80),
            "ReferredTo": shown(recipient.referred_to, 200),
            "AnsweredBy": shown(recipient.answer_number, 80),
            "Disposition": shown(recipient.disposition, 200),
        }
    )


def _content(digest: bytes, parts: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    content: dict[str, Any] = {"DigestMethod": SHA256_URI, "DigestValue": digest.hex()}
    if parts:
        content["PartsInfo"] = [
            {"Identifier": shown(name, 200), "DigestMethod": SHA256_URI, "DigestValue": value.hex()}
            for name, value in parts
        ]
    return content


def _filled(members: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in members.items() if value}
