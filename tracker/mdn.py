"""Message disposition notifications, the read receipts (RFC 8098; older forms RFC 2298, RFC 3798).

``read`` gives what the machine part says, or what a receipt wrapped in ``winmail.dat`` says, or nothing; a
message may tell several dispositions, in several parts, blocks or fields. Only ``displayed`` counts as
read; ``processed`` means a rule acted without showing, ``deleted`` may be unread, ``automatic-action``
means that no person decided. Exchange leaves Original-Message-ID out: then In-Reply-To, References or the
returned header tells which message it was. ``in_words`` is for programs that write only sentences: what
they say is a hint and no receipt. Never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracker import dsn, phrases, tnef
from tracker.field_value import decode_words, message_id, message_ids
from tracker.header import Buffer, Headers, scan
from tracker.mime import TNEF_TYPES, Structure, decoded, text_of, walk

NOTIFICATION_TYPES = ("message/disposition-notification", "message/global-disposition-notification")
MAX_PART = 1 << 20  # octets of one machine part
MAX_TNEF = 1 << 20  # octets of a winmail.dat that is looked into

TYPES = frozenset({"displayed", "deleted", "dispatched", "processed", "denied", "failed"})

MAX_TEXT = 1 << 16  # octets of a text that is looked through for the fields of a receipt
MAX_WORDS = 4096  # octets of a text that says in words that a message was read
MAX_TOLD = 20  # dispositions of one message

_TEXT_FIELDS = re.compile(
    rb"^(?:Reporting-UA|Original-Recipient|Final-Recipient|Original-Message-ID|Disposition)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_TELLS = re.compile(
    rb"^Disposition[ \t]*:[ \t]*(?:manual|automatic)-action[ \t]*/", re.IGNORECASE | re.MULTILINE
)
_COMMENT = re.compile(r"\([^()]{0,500}\)")
_MODE = re.compile(r"\s*(?P<mode>[A-Za-z-]+)\s*(?:/\s*(?P<sending>[A-Za-z-]+))?\s*;")
_WORD = re.compile(r"\s*([A-Za-z-]+)")
_BLANK = re.compile(rb"\n(?:[ \t\r]*\n)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """What became of a message at one recipient's, as that recipient's program tells it."""

    final_recipient: str | None = None
    original_recipient: str | None = None
    original_message_id: str | None = None
    mode: str | None = None  # manual-action or automatic-action
    sending_mode: str | None = None  # mdn-sent-manually or mdn-sent-automatically
    type: str | None = None  # displayed, deleted, dispatched, processed, denied, failed
    modifiers: tuple[str, ...] = ()  # e.g. "error"
    reporting_ua: str | None = None
    gateway: str | None = None
    errors: tuple[str, ...] = ()  # texts of Error, Failure and Warning fields
    in_reply_to: str | None = None
    wrapped: bool = False  # read from TNEF, where there is no machine part
    in_words: bool = False  # a sentence for people says so, nothing for machines
    refusal: str | None = None  # what a filter said that refused the message and calls that ``deleted``

    @property
    def is_read(self) -> bool:
        """True when the program says that the message was shown (RFC 8098 §3.2.6.2)."""
        return self.type == "displayed" and "error" not in self.modifiers and not self.in_words


def read(octets: Buffer, structure: Structure | None = None) -> tuple[Disposition, ...]:
    """The dispositions that a message reports, in its order; none if it is no receipt."""
    parts = walk(octets) if structure is None else structure
    machine = [p for p in parts.parts if p.content_type in NOTIFICATION_TYPES and p.within < 0]
    if machine:
        told = [d for part in machine[:MAX_TOLD] for d in _from_part(octets, parts, decoded(octets, part))]
        return tuple(told[:MAX_TOLD])
    return _from_text(octets, parts) or _from_tnef(octets, parts)


def in_words(octets: Buffer, structure: Structure) -> Disposition | None:
    """What a message without any machine part says in words, subject and text agreeing; else None."""
    top = structure.headers
    if phrases.READ_SUBJECT.search((top.text("subject") or "")[:300]) is None:
        return None
    part = next((p for p in structure.leaves() if p.content_type == "text/plain" and p.within < 0), None)
    if part is None or part.end - part.start > MAX_WORDS:
        return None
    if phrases.READ_WORDS.search(text_of(octets, part, limit=MAX_WORDS)) is None:
        return None
    reader = top.addresses("from")
    return Disposition(
        final_recipient=reader[0].spec if reader else None,
        original_message_id=original(octets, structure),
        type="displayed",
        in_reply_to=(message_ids(top.raw("in-reply-to")) or (None,))[0],
        in_words=True,
    )


def _from_text(octets: Buffer, structure: Structure) -> tuple[Disposition, ...]:
    """Some programs write the fields of a receipt into its text and forget the part."""
    declared = structure.root.params.get("report-type", "").lower() == "disposition-notification"
    for part in structure.leaves():
        if part.content_type != "text/plain" or part.within >= 0 or part.end - part.start > MAX_TEXT:
            continue
        content = decoded(octets, part)
        fields = _TEXT_FIELDS.search(content)
        if fields is not None and (declared or _TELLS.search(content)):
            return _from_part(octets, structure, content[fields.start() :])
    return ()


def _from_part(octets: Buffer, structure: Structure, content: bytes) -> tuple[Disposition, ...]:
    """What one machine part tells: of one recipient, as RFC 8098 §3 has it, or of one in each block."""
    content = content[:MAX_PART].lstrip(b"\r\n\t ")
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    blocks = [scan(block + b"\n") for block in _BLANK.split(content)[: 2 * MAX_TOLD]]
    whole = [b for b in blocks if "disposition" in b and "final-recipient" in b]
    if len(whole) < 2:
        # Some programs part the fields by blank lines; every field counts.
        whole = [scan(_BLANK.sub(b"\n", content))]
    return tuple(d for fields in whole for d in _from_fields(octets, structure, fields))[:MAX_TOLD]


def _from_fields(octets: Buffer, structure: Structure, fields: Headers) -> list[Disposition]:
    top = structure.headers
    answers = message_ids(top.raw("in-reply-to"))
    return [
        Disposition(
            final_recipient=dsn.recipient(fields.plain("final-recipient")),
            original_recipient=dsn.recipient(fields.plain("original-recipient"), decode_xtext=True),
            original_message_id=message_id(fields.raw("original-message-id")) or original(octets, structure),
            mode=mode,
            sending_mode=sending,
            type=kind,
            modifiers=modifiers,
            reporting_ua=fields.text("reporting-ua"),
            gateway=fields.text("mdn-gateway"),
            errors=tuple(
                decode_words(v) for n in ("error", "failure", "warning") for v in fields.all(n)[:20]
            ),
            in_reply_to=answers[0] if answers else None,
            refusal=_refusal(octets, structure, mode, kind),
        )
        for value in fields.all("disposition")[:MAX_TOLD] or [b""]
        for mode, sending, kind, modifiers in _told(decode_words(value))
    ]


def _told(text: str) -> list[tuple[str | None, str | None, str | None, tuple[str, ...]]]:
    """Mode, sending mode, type and modifiers of a Disposition field; several when it names several types."""
    text = text[:500]
    while text != (bare := _COMMENT.sub(" ", text)):
        text = bare
    found = _MODE.match(text)
    mode = sending = None
    if found is not None and found["mode"].lower() not in TYPES:
        mode, sending = found["mode"].lower(), (found["sending"] or "").lower() or None
        text = text[found.end() :]
    told: list[tuple[str | None, list[str]]] = []
    for item in re.split("[,;]", text):
        word, _, modifier = item.partition("/")
        name = _WORD.match(word)
        kind = name[1].lower() if name is not None else None
        if not told or kind in TYPES:
            told.append((kind, [modifier]))
        else:
            told[-1][1].append(item)
    return [
        (mode, sending, kind, tuple(w for m in modifiers if (w := m.strip().lower()))[:20])
        for kind, modifiers in told
    ]


def _refusal(octets: Buffer, structure: Structure, mode: str | None, kind: str | None) -> str | None:
    """The words of a refusal (Sieve, RFC 5429 §2.1.2; over quota) that calls itself ``deleted``."""
    if kind != "deleted" or mode != "automatic-action":
        return None
    words = next((p for p in structure.leaves() if p.content_type == "text/plain" and p.within < 0), None)
    text = " ".join(text_of(octets, words, limit=MAX_TEXT).split())[:1000] if words else ""
    subject = structure.headers.text("subject") or ""
    return text if phrases.REJECTED.search(f"{subject[:300]} {text}") else None


def original(octets: Buffer, structure: Structure) -> str | None:
    """The message a receipt is about where its machine part does not say (Exchange)."""
    top = structure.headers
    answers = message_ids(top.raw("in-reply-to"))
    if answers:
        return answers[0]
    named = message_id(top.raw("original-message-id")) or message_id(top.raw("x-original-message-id"))
    if named:
        return named
    back = dsn.returned_id(octets, structure)
    if back:
        return back
    thread = message_ids(top.raw("references"))
    return thread[-1] if thread else None


def wrapped(octets: Buffer, structure: Structure) -> tnef.Tnef | None:
    """The first ``winmail.dat`` of a message, read, if it is small enough to be a report."""
    for part in structure.leaves():
        name = (part.filename or "").lower()
        if part.within >= 0 or not (part.content_type in TNEF_TYPES or name == "winmail.dat"):
            continue
        if part.end - part.start <= 2 * MAX_TNEF:
            return tnef.read(decoded(octets, part)[:MAX_TNEF])
    return None


def _from_tnef(octets: Buffer, structure: Structure) -> tuple[Disposition, ...]:
    found = wrapped(octets, structure)
    if found is None or not (found.is_read_receipt or found.is_not_read):
        return ()
    top: Headers = structure.headers
    reader = top.addresses("from")
    texts = found.texts
    told = next(
        (
            i
            for key in (tnef.ORIGINAL_MESSAGE_ID, tnef.IN_REPLY_TO_ID, tnef.INTERNET_REFERENCES)
            if (i := (message_ids(texts.get(key, "").encode()) or (None,))[-1])
        ),
        None,
    )
    return (
        Disposition(
            final_recipient=reader[0].spec if reader else None,
            original_message_id=original(octets, structure) or told,
            type="displayed" if found.is_read_receipt else "deleted",
            in_reply_to=(message_ids(top.raw("in-reply-to")) or (None,))[0],
            wrapped=True,
        ),
    )
