"""Delivery status notifications (RFC 3464, RFC 6533; statuses RFC 3463, ORCPT RFC 3461 §4.2).

``read`` gives one :class:`Report` for each recipient that the machine-readable part speaks of, or
None when the message has no such part. The part is read wherever it stands: some servers put it into
``multipart/mixed``, encode it, forget the blank line between recipients or the Action field.
``delivered``, ``relayed`` and ``expanded`` stay apart: only the first says that a mailbox was reached.
Never raises; what a report does not say is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_tz

from tracker.field_value import decode_words, message_id
from tracker.header import Buffer, Headers, scan
from tracker.mime import HEADER_TYPES, MESSAGE_TYPES, Part, Structure, decoded, walk

STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
MAX_BLOCKS = 5000  # recipients read from one report
MAX_PART = 1 << 22  # octets of one machine part

ACTIONS = frozenset({"failed", "delayed", "delivered", "relayed", "expanded", "transferred", "opaque"})
_ALIASES = {
    "failure": "failed",
    "fail": "failed",
    "bounced": "failed",
    "undeliverable": "failed",
    "delay": "delayed",
    "expired": "failed",
    "error": "failed",
    "deferred": "delayed",
    "deliver": "delivered",
    "relay": "relayed",
    "expand": "expanded",
}

_BLANK = re.compile(rb"\n[ \t\r]*(?=\n)")
_FOLD = re.compile(rb"[ \t\r]*\n[ \t]*")
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_COMMENT = re.compile(r"\s+\([^()]*\)\s*$")
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report says of one recipient. Texts as reported, None where it is silent."""

    original_recipient: str | None = None  # as the sender wrote it (ORCPT), decoded
    final_recipient: str | None = None
    action: str | None = None  # failed, delayed, delivered, relayed, expanded, ...
    status: str | None = None  # "5.1.1"
    diagnostic_code: str | None = None  # with its type, e.g. "smtp; 550 5.1.1 no such user"
    remote_mta: str | None = None
    reporting_mta: str | None = None
    original_envelope_id: str | None = None
    arrival: datetime | None = None  # when the reporting server took the message in
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None
    original_message_id: str | None = None

    @property
    def recipient(self) -> str | None:
        """The address to match by: the one that was sent to where it is told, else the final one."""
        return self.original_recipient or self.final_recipient


def read(octets: Buffer, structure: Structure | None = None) -> list[Report] | None:
    """The reports of a delivery status notification, or None if the message has no machine part."""
    parts = walk(octets) if structure is None else structure
    found = [part for part in parts.parts if part.content_type in STATUS_TYPES and part.within < 0]
    if not found:
        return None
    reports: list[Report] = []
    for part in found[:20]:
        if len(reports) >= MAX_BLOCKS:
            break
        reports.extend(read_fields(decoded(octets, part)[:MAX_PART]))
    return reports[:MAX_BLOCKS]


def read_fields(content: bytes) -> list[Report]:
    """The reports in the content of a ``message/delivery-status`` part."""
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    common: dict[str, str] = {}
    blocks: list[dict[str, str]] = []
    for block in _BLANK.split(b"\n" + content + b"\n")[:MAX_BLOCKS]:
        for fields in _fields(block.lstrip(b"\r\n")):
            about = fields.keys() & _PER_RECIPIENT
            if not about or ("reporting-mta" in fields and not fields.keys() & _RECIPIENT):
                for name, value in fields.items():
                    common.setdefault(name, value)
            elif blocks and not fields.keys() & _NAMES_ONE and not fields.keys() & blocks[-1].keys():
                blocks[-1].update(fields)  # a stray blank line inside one recipient's fields
            else:
                blocks.append(fields)
    return [_report(common, fields) for fields in blocks]


_RECIPIENT = frozenset({"final-recipient", "original-recipient", "x-actual-recipient"})
_NAMES_ONE = _RECIPIENT | {"action"}
_PER_RECIPIENT = _NAMES_ONE | {"status", "diagnostic-code"}


def _fields(block: bytes) -> list[dict[str, str]]:
    """The fields of one block; more than one dict when recipients follow without a blank line."""
    headers = scan(block)
    out: list[dict[str, str]] = [{}]
    for item in headers.fields:
        name = item.name.decode("ascii", "replace")
        if name in ("final-recipient", "action") and name in out[-1]:
            out.append({})
        value = _FOLD.sub(b" ", headers.value(item)[:16384])
        out[-1].setdefault(name, decode_words(value))
    return [fields for fields in out if fields]


def _report(common: dict[str, str], fields: dict[str, str]) -> Report:
    def get(*names: str) -> str | None:
        return next((v for n in names for v in (fields.get(n), common.get(n)) if v), None)

    diagnostic = get("diagnostic-code", "x-diagnostic-code")
    status = find_status(get("status") or "")
    action = action_of(get("action") or "")
    told = find_status(diagnostic or "")
    if status is None or (status.endswith(".0.0") and told and told[0] == status[0]):
        status = told or status
    if action is None and status is not None and status[0] in "45":
        action = "failed" if status[0] == "5" else "delayed"
    final = fields.get("final-recipient")
    return Report(
        original_recipient=recipient(fields.get("original-recipient"), decode_xtext=True),
        final_recipient=recipient(final) or recipient(fields.get("x-actual-recipient")),
        action=action,
        status=status,
        diagnostic_code=diagnostic,
        remote_mta=_typed(get("remote-mta")),
        reporting_mta=_typed(common.get("reporting-mta") or fields.get("reporting-mta")),
        original_envelope_id=get("original-envelope-id"),
        arrival=_date(get("arrival-date")),
        last_attempt=_date(get("last-attempt-date")),
        will_retry_until=_date(get("will-retry-until")),
        original_message_id=message_id((get("original-message-id", "x-original-message-id") or "").encode()),
    )


def action_of(value: str) -> str | None:
    """The action word without comments and habits; an unknown word is kept as it is, lower case."""
    found = _WORD.search(value)
    if found is None:
        return None
    word = found[0].lower()
    return _ALIASES.get(word, word)


def find_status(text: str) -> str | None:
    """The first enhanced status code in a text (RFC 3463 §2), or None."""
    found = _STATUS.search(text)
    return found[1] if found else None


def _typed(value: str | None) -> str | None:
    """A value without its ``dns;``."""
    if not value:
        return None
    kind, mark, rest = value.partition(";")
    if mark and rest.strip() and re.fullmatch(r"[A-Za-z0-9-]+\s*", kind):
        value = rest
    return value.strip() or None


def recipient(value: str | None, *, decode_xtext: bool = False) -> str | None:
    """An address without its type, brackets and comment; xtext (RFC 3461 §4) and ``\\x{}`` undone."""
    if not value:
        return None
    kind, mark, rest = value.partition(";")
    if mark and re.fullmatch(r"\s*[A-Za-z0-9/-]+\s*", kind):
        value = rest
    else:
        kind = ""
    value = _COMMENT.sub("", value.strip()).strip()
    if "<" in value and ">" in value[value.index("<") :]:
        value = value[value.index("<") + 1 :]
        value = value[: value.index(">")]
    value = value.strip().strip("<>").strip()
    if kind.strip().lower() == "utf-8":
        value = _UNITEXT.sub(_scalar, value)
    if decode_xtext and "+" in value:
        value = _XTEXT.sub(_xchar, value)
    return value or None


def _scalar(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if 0x20 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _xchar(found: re.Match[str]) -> str:
    """One ``+XX``, undone only where an encoder had to write it: ``user+42@`` is somebody's tag."""
    code = int(found[1], 16)
    return chr(code) if code in (0x2B, 0x3D) or (code == 0x40 and "@" not in found.string) else found[0]


def _date(value: str | None) -> datetime | None:
    """A date field (RFC 5322 §3.3) as an aware time, or None if it is none."""
    if not value:
        return None
    try:
        fields = parsedate_tz(value[:200])
        if fields is None:
            return None
        zone = fields[9] or 0
        moment = datetime(*fields[:6], tzinfo=UTC).timestamp() - zone
        return datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError, IndexError, TypeError, RecursionError):
        return None


def returned_id(octets: Buffer, structure: Structure) -> str | None:
    """The Message-ID of the message that a report gives back, whole or its header only."""
    for part in structure.parts:
        if part.within >= 0 or part.depth == 0:
            continue
        if part.content_type in HEADER_TYPES or part.content_type in MESSAGE_TYPES:
            found = returned_headers(octets, part).message_id
            if found:
                return found
    return None


def returned_headers(octets: Buffer, part: Part) -> Headers:
    """The header of a returned message; blank lines before it are left out."""
    return scan(decoded(octets, part)[: 1 << 20].lstrip(b"\r\n\t "))


def with_original(reports: list[Report], original: str | None) -> list[Report]:
    """The reports with the Message-ID of the original filled in where they are silent about it."""
    if original is None:
        return reports
    return [r if r.original_message_id else replace(r, original_message_id=original) for r in reports]
