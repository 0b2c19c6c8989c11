"""What sort of message this is, and everything Wasl reads in one that came back.

``read`` puts the readers together: structure, delivery reports (RFC 3464), disposition (RFC 8098),
plain bounces, automatic replies (RFC 3834), and the message it refers to. A machine-readable part
decides before any words do. Never raises: what is no message at all is ``unparseable``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tracker import automatic, bounce, dsn, mdn, phrases
from tracker.field_value import message_ids
from tracker.header import Buffer, Headers
from tracker.mime import LIMITS, Limits, Structure, scan, walk


class Kind(StrEnum):
    LETTER = "letter"
    DSN = "dsn"
    MDN = "mdn"
    AUTO_REPLY = "auto-reply"
    BOUNCE = "bounce"
    UNPARSEABLE = "unparseable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one message is and says."""

    kind: Kind
    structure: Structure
    reports: tuple[dsn.Report, ...] = ()
    dispositions: tuple[mdn.Disposition, ...] = ()  # in the words of a letter or an automatic answer, a hint
    refers_to: str | None = None  # the Message-ID of the message this one is about or answers

    @property
    def headers(self) -> Headers:
        return self.structure.headers

    @property
    def disposition(self) -> mdn.Disposition | None:
        """The first disposition, if any is told."""
        return self.dispositions[0] if self.dispositions else None


_KNOWN = frozenset(
    b"from to cc bcc subject date message-id received return-path mime-version content-type sender reply-to "
    b"delivered-to in-reply-to references resent-from resent-to resent-date content-transfer-encoding "
    b"x-mailer user-agent dkim-signature envelope-to apparently-to newsgroups x-failed-recipients "
    b"auto-submitted return-receipt-to disposition-notification-to comments keywords list-id "
    b"content-disposition authentication-results x-original-to precedence errors-to".split()
)


def kind(octets: Buffer, structure: Structure | None = None) -> Kind:
    """The kind of a message. Never raises."""
    return read(octets, structure).kind


def read(octets: Buffer, structure: Structure | None = None, limits: Limits = LIMITS) -> Reading:
    """Read a message for what it is and reports. Never raises."""
    headers = scan(octets) if structure is None else structure.headers
    if not is_message(headers):
        return Reading(kind=Kind.UNPARSEABLE, structure=structure or Structure(headers))
    parts = walk(octets, headers, limits) if structure is None else structure
    reports = dsn.read(octets, parts)
    receipt = mdn.read(octets, parts)
    if receipt and (reports is None or _receipt_first(parts)):
        return Reading(
            kind=Kind.MDN,
            structure=parts,
            reports=tuple(reports or ()),
            dispositions=receipt,
            refers_to=receipt[0].original_message_id,
        )
    if reports is not None:
        return _dsn(octets, parts, reports)
    words = mdn.in_words(octets, parts)
    said = (words,) if words is not None else ()
    told = automatic.auto_submitted(headers)
    strong = told == "auto-notified" or automatic.answers_by_itself(headers)
    if strong and not bounce.failure_subject(headers) and not bounce.from_mailer(headers):
        return Reading(kind=Kind.AUTO_REPLY, structure=parts, dispositions=said, refers_to=answers(headers))
    wrapped = mdn.wrapped(octets, parts)
    plain = bounce.read(octets, parts, declared=wrapped is not None and wrapped.is_failure)
    if plain is not None:
        return Reading(
            kind=Kind.BOUNCE,
            structure=parts,
            reports=plain.reports,
            refers_to=plain.original_message_id or answers(headers),
        )
    found = Kind.AUTO_REPLY if strong or is_auto_reply(headers) else Kind.LETTER
    return Reading(kind=found, structure=parts, dispositions=said, refers_to=answers(headers))


def is_message(headers: Headers) -> bool:
    """True when there is a header that mail has: one known field and no NUL among the names."""
    return any(item.name in _KNOWN for item in headers.fields)


def _receipt_first(structure: Structure) -> bool:
    if structure.root.params.get("report-type", "").lower() == "delivery-status":
        return False
    for part in structure.parts:
        if part.content_type in dsn.STATUS_TYPES:
            return False
        if part.content_type in mdn.NOTIFICATION_TYPES:
            return True
    return False


def _dsn(octets: Buffer, parts: Structure, reports: list[dsn.Report]) -> Reading:
    headers = parts.headers
    if not any(r.recipient for r in reports):
        # An empty or spoilt machine part: the words beside it may still tell whom it is about.
        plain = bounce.read(octets, parts)
        if plain is not None and plain.reports:
            reports = list(plain.reports)
    told = next((r.original_message_id for r in reports if r.original_message_id), None)
    original = told or dsn.returned_id(octets, parts) or bounce.quoted_id(octets, parts) or answers(headers)
    return Reading(
        kind=Kind.DSN,
        structure=parts,
        reports=tuple(dsn.with_original(reports, original)),
        refers_to=original,
    )


def answers(headers: Headers) -> str | None:
    """The message that a letter answers: In-Reply-To, else the last of References (RFC 5322 §3.6.4)."""
    told = message_ids(headers.raw("in-reply-to"))
    if told:
        return told[0]
    thread = message_ids(headers.raw("references"))
    return thread[-1] if thread else None


def is_auto_reply(headers: Headers) -> bool:
    """True when no single field says so but the marks together do."""
    if automatic.is_list(headers):
        return False
    subject = headers.text("subject") or ""
    away = phrases.AWAY.search(subject[:300]) is not None
    marks = (
        bool(automatic.auto_submitted(headers)),
        automatic.is_bulk(headers),
        automatic.null_return_path(headers),
        "x-auto-response-suppress" in headers,
    )
    if away:
        # A person may answer a notice: then the subject begins with Re: and no mark is there.
        return any(marks) or phrases.ANSWER_OR_FORWARD.match(subject) is None
    submitted, bulk, null, suppressed = marks
    answering = "in-reply-to" in headers or "references" in headers
    return (null and (submitted or bulk)) or (answering and sum((submitted, bulk, suppressed)) >= 2)
