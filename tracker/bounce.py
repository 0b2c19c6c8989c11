"""Bounces that are no DSN: notices of non-delivery written for people only.

There is no standard to follow; qmail, Exim, old Exchange, Notes and many gateways each write their
own (the ground shared by most is RFC 821's habit: whose address, what the server said, then the
message itself). ``read`` looks at a message only if sender or subject look like a mail system's, and
gives the recipients with what was said about each, or None. What it gives is what a notice claims,
never better evidence than that. Never raises; text beyond ``MAX_TEXT`` is not looked at.

flufl.bounce knows some servers by their exact words; it raises on letters that are a little odd and
sees bounces in ordinary letters, so it is asked last, about small automatic mail only, behind a guard,
and its log, which has a trace of each letter that it stumbles over, is not heard.
"""

from __future__ import annotations

import email
import email.policy
import html
import logging
import re
from dataclasses import dataclass
from functools import cached_property

from tracker import dsn, phrases
from tracker.automatic import null_return_path
from tracker.field_value import mailboxes
from tracker.header import Buffer, Headers
from tracker.mime import HEADER_TYPES, MESSAGE_TYPES, Structure, text_of

MAX_TEXT = 1 << 17  # characters of a notice that are looked at
MAX_LINES = 3000
MAX_REPORTS = 1000
MAX_FLUFL = 1 << 17  # octets of a message that flufl.bounce is asked about
MAX_DIAGNOSTIC = 1000  # characters kept of what was said about a recipient

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # it raises what it logs

_ADDRESS = r"(?:\"[^\"\s]{1,64}\"|[^\s<>()\[\],;:\"\\@|=]{1,128})@[^\s<>()\[\],;:\"\\@?&/|]{1,253}"
_ANY = re.compile(_ADDRESS)
_LINE = re.compile(
    rf"^[ \t>*•-]*(?:<?\"?|&lt;|mailto:|\()(?P<address>{_ADDRESS})(?:\"?>?|&gt;)[\"')]?[ \t]*"
    rf"(?:<(?:mailto:)?{_ADDRESS}>)?"
    r"(?P<after>:|\.\.\.|\(|\[|,|;|-|$|on |\d|invalid|user|mailbox|unknown|address|not |is |\.$)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:RCPT TO|recipient(?: address)?|to the following (?:address|recipient)"
    r"|(?:deliver\w{0,5}|send|sent) (?:\w{1,20} ){0,4}to|unknown (?:user|recipient|address)|user unknown"
    r"|no such user|permanent errors|mailbox is full|address|account|mailbox(?: for)?|failed for"
    rf"|User \S{{1,80}})[ \t]*:?[ \t]*[<(\"]{{0,2}}(?P<address>{_ADDRESS})",
    re.IGNORECASE,
)
_NOT_ONE = re.compile(
    r"(?:postmaster|mailer-daemon|abuse|support|helpdesk|noreply|no-reply|double-bounce)@", re.IGNORECASE
)

_RETURNED = re.compile(
    r"^[ \t>]*(?:[-|]{2,}[^\n]{0,20}(?:(?:this is )?a copy of (?:the|your)|below this line|original message"
    r"|message header|unsent message|(?:the )?header of the original|returned m|message text follows"
    r"|message follows|your (?:original )?message|undelivered message)"
    r"|original message (?:follows|headers?|header)|message headers? follow"
    r"|below is a copy of the original|included is a copy of"
    r"|the original message (?:was|is)? ?(?:attached|below|included)|message contents follow|message details:"
    r"|\*{3,} ?original message)",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_LINE = re.compile(
    r"^(?:received|return-path|message-id|date|from|to|subject|mime-version|content-type|dkim-signature|x-[\w-]{1,60}"
    r"|reply-to|sender|delivered-to|domainkey-signature|user-agent|x-mailer|cc|references|in-reply-to"
    r"|authentication-results)[ \t]*:",
    re.IGNORECASE,
)
_QUOTED_ID = re.compile(
    r"^[> \t]*message-id:[ \t]*(?:\n[> \t]+)?(<[^<>\s]{1,900}>)", re.IGNORECASE | re.MULTILINE
)
_QUOTED_TO = re.compile(r"^[> \t]*to:[ \t]*([^\n]{1,500})", re.IGNORECASE | re.MULTILINE)
_FIELDS = re.compile(r"^[> \t]*(?:final-recipient|original-recipient):", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(
    r"(?:\bhost:?|while talking to|\bserver|\bMTA|remote system: dns;|\bby|relay|connect to)[ \t]+"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.){1,10}[A-Za-z]{2,24})",
    re.IGNORECASE,
)
_CODE = re.compile(r"(?<![\d.])([45])\d\d[ \-]|(?<![\d.])([45])\.\d{1,3}\.\d{1,3}(?![\d.])")
_RULE = re.compile(r"^[ \t]*[-=*_~#|]{3,}")
_TAG = re.compile(r"<[^<>]*>")
_UNSEEN = re.compile(r"<(/?)(?:style|script|head)\b", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/h\d|/li|p)\b[^<>]*>", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounce:
    """A notice of non-delivery: what it says of each recipient, and of which message."""

    reports: tuple[dsn.Report, ...]
    original_message_id: str | None = None


class Notice:
    """The words of a notice, without the message that is quoted below it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")[:MAX_LINES]

    @cached_property
    def host(self) -> str | None:
        """The first server that the notice names."""
        found = _HOST.search(self.text)
        return found["host"] if found else None

    @cached_property
    def said_in_code(self) -> str:
        """From the first line with an SMTP code."""
        at = next((n for n, line in enumerate(self.lines) if _CODE.search(line[:1000])), None)
        return "" if at is None else _paragraph(self.lines[at:], 8)

    def told(self, address: str) -> str:
        """What is said of an address nowhere beside it: the server's words, else what follows the address."""
        if self.said_in_code or not address:
            return self.said_in_code
        at = next((n for n, line in enumerate(self.lines) if address in line), None)
        if at is None:
            return ""
        rest = self.lines[at].split(address, 1)[1].strip("<>:.,;\"' \t")
        return _said(rest) if len(rest) > 8 else _paragraph(self.lines[at + 1 :], 8)


def from_mailer(headers: Headers) -> bool:
    """True when the author names itself as a mail system."""
    if headers.plain("from").endswith("<>") and not headers.addresses("from"):
        return True
    return any(
        phrases.MAILER.search(box.spec.partition("@")[0]) or phrases.MAILER.search(box.name)
        for name in ("from", "sender")
        for box in headers.addresses(name)[:3]
    )


def failure_subject(headers: Headers) -> bool:
    """True when the subject is one that mail systems give to notices of non-delivery."""
    subject = headers.text("subject") or ""
    return phrases.ANSWER_OR_FORWARD.match(subject) is None and bool(
        phrases.FAILURE_SUBJECT.search(subject[:500])
    )


def read(octets: Buffer, structure: Structure, *, declared: bool = False) -> Bounce | None:
    """What a plain notice of non-delivery says, or None if the message is none.

    ``declared``: something else in the message says that it is one.
    """
    headers = structure.headers
    listed = headers.raw("x-failed-recipients")
    mailer = from_mailer(headers)
    null = null_return_path(headers)
    subject = failure_subject(headers)
    if not (declared or listed or mailer or null or subject):
        return None
    report = structure.root.params.get("report-type", "").lower()
    whole = notice_text(octets, structure)
    notice = Notice(_before_copy(whole))
    words = phrases.FAILURE_WORDS.search(notice.text) is not None
    fields = _FIELDS.search(whole) is not None
    declared = declared or report == "delivery-status" or bool(listed)
    given_back = any(
        p.content_type in MESSAGE_TYPES or p.content_type in HEADER_TYPES for p in structure.parts
    )
    telling = (
        declared or ((mailer or null) and (subject or words or fields or given_back)) or (subject and words)
    )
    if not telling or (
        not subject and not mailer and not declared and not fields and "auto-submitted" in headers
    ):
        return None
    if not (subject or words or fields or declared or (mailer and given_back)):
        return None
    own = {box.spec.lower() for name in ("from", "to", "sender") for box in headers.addresses(name)}
    delayed = phrases.DELAYED.search(headers.text("subject") or "") is not None
    reports = _from_fields(whole) if fields else []
    if not reports:
        reports = _from_text(notice, own, delayed)
    if not reports and len(notice.text) < len(whole):
        named = _NAMED.search(whole)
        if named and not _is_own(named["address"], own):
            reports = [_make(named["address"].strip(".'`"), notice.told(""), "failed", notice)]
    if listed:
        reports = _with_listed(reports, [box.spec for box in mailboxes(listed)], notice, delayed)
    if not reports:
        reports = _from_flufl(octets, structure)
    if not reports:
        reports = _from_copy(octets, structure, whole, notice, own, delayed)
    original = dsn.returned_id(octets, structure) or quoted_id(octets, structure, whole)
    return Bounce(reports=tuple(reports[:MAX_REPORTS]), original_message_id=original)


def notice_text(octets: Buffer, structure: Structure) -> str:
    """The words of a notice: its text parts outside the returned message, HTML as plain text."""
    plain = [p for p in structure.leaves() if p.content_type.startswith("text/") and p.within < 0]
    chosen = [p for p in plain if p.content_type == "text/plain" and p.disposition != "attachment"]
    if not chosen:
        chosen = [p for p in plain if p.content_type == "text/html"][:1]
    if not chosen:
        chosen = [p for p in structure.parts if p.content_type.startswith("multipart/")][:1]
    out: list[str] = []
    room = MAX_TEXT
    for part in chosen:
        text = text_of(octets, part, limit=2 * MAX_TEXT)[:room]
        if part.content_type == "text/html":
            text = _from_html(text)
        out.append(text)
        room -= len(text)
        if room <= 0:
            break
    return "\n".join(out)


def _from_html(text: str) -> str:
    """The words of an HTML page, roughly: no scripts and styles, breaks as line ends."""
    kept: list[str] = []
    pos = 0
    hidden = False
    for mark in _UNSEEN.finditer(text):
        if not hidden:
            kept.append(text[pos : mark.start()])
        hidden = not mark[1]
        pos = mark.start()
    if not hidden:
        kept.append(text[pos:])
    return html.unescape(_TAG.sub(" ", _BREAK.sub("\n", "".join(kept))))


def _before_copy(text: str) -> str:
    """The notice without the message that is quoted below it."""
    mark = _RETURNED.search(text)
    stop = mark.start() if mark else len(text)
    lines = text[:stop].split("\n")[:MAX_LINES]
    run = 0
    for index, line in enumerate(lines):
        if _HEADER_LINE.match(line):
            run += 1
            if run >= 3 and index >= run:
                return "\n".join(lines[: index - run + 1])
        elif not line.startswith((" ", "\t")) or not run:
            run = 0
    return "\n".join(lines)


def _from_fields(text: str) -> list[dsn.Report]:
    """Reports from delivery-status fields that stand in plain text."""
    lines = [
        line.lstrip("> \t") if line[:1] in "> \t" and ":" in line[:40] else line for line in text.split("\n")
    ]
    return [r for r in dsn.read_fields("\n".join(lines).encode("utf-8", "replace")) if r.recipient]


def _from_text(notice: Notice, own: set[str], delayed: bool) -> list[dsn.Report]:
    blocks: list[tuple[str, list[str], str]] = []
    current: list[str] | None = None
    action = "delayed" if delayed else "failed"
    for line in notice.lines:
        found = _LINE.match(line[:2000])
        if found and not _is_own(found["address"], own):
            current = [line[found.end("address") :]]
            blocks.append((found["address"], current, action))
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line)
        elif phrases.DELIVERED.search(line[:500]):
            action = "delivered"
        elif phrases.DELAYED.search(line[:500]):
            action = "delayed"
        elif not delayed and phrases.GIVEN_UP.search(line[:500]):
            action = "failed"
        if len(blocks) >= MAX_REPORTS:
            break
    if not blocks:
        for found in _NAMED.finditer(notice.text):
            if not _is_own(found["address"], own):
                blocks.append((found["address"], [], "delayed" if delayed else "failed"))
                if len(blocks) >= 50:
                    break
    if not blocks:
        found_any = {
            a.group().strip(".'`"): None
            for a in _ANY.finditer(notice.text)
            if not _is_own(a.group(), own)
            and not notice.text[max(a.start() - 7, 0) : a.start()].endswith(("mailto:", "//"))
        }
        if len(found_any) == 1:
            blocks.append((next(iter(found_any)), [], "delayed" if delayed else "failed"))
    out: dict[str, dsn.Report] = {}
    for address, lines, did in blocks:
        clean = address.strip(".'`")
        said = _said(" ".join(lines))
        if not _ANY.sub("", said).strip("<>()[]:;,. \t-"):  # nothing but the address again
            said = notice.told(clean)
        if did == "failed" and phrases.DELAYED.search(said) and not phrases.GIVEN_UP.search(said):
            did = "delayed"
        report = _make(clean, said, did, notice, alone=len(blocks) == 1)
        known = out.get(clean.lower())
        if known is None or (known.status is None and report.status is not None):
            out[clean.lower()] = report
    return list(out.values())


def _is_own(address: str, own: set[str]) -> bool:
    address = address.strip(".'`").lower()
    return address in own or _NOT_ONE.match(address) is not None


def _said(text: str) -> str:
    return _SPACE.sub(" ", text).strip().lstrip(":>) \t")[:MAX_DIAGNOSTIC]


def _paragraph(lines: list[str], most: int) -> str:
    """The next lines that say something: headings that end in a colon lead on, rules are left out."""
    out: list[str] = []
    for line in lines[:60]:
        text = line.strip()
        if _RULE.match(line) and not text.strip("-=*_~#| \t"):
            continue
        if not text or _RULE.match(line):
            if out and not out[-1].endswith(":"):
                break
            continue
        if out and out[-1].endswith(":") and len(out) == 1 and out[0].lower() in _HEADINGS:
            out.clear()
        out.append(text)
        if len(out) >= most:
            break
    return _said(" ".join(out))


_HEADINGS = frozenset(
    {"because:", "reason:", "for the following reason:", "technical details of permanent failure:"}
)


def _make(address: str, said: str, action: str, notice: Notice, *, alone: bool = True) -> dsn.Report:
    status = dsn.find_status(said)
    if status is None:
        code = _CODE.search(said)
        if code is not None:  # RFC 3463 §3.1: the class is told, the rest is "other"
            status = f"{code[1] or code[2]}.0.0"
    host = _HOST.search(said)
    return dsn.Report(
        original_recipient=None,
        final_recipient=address,
        action=action,
        status=status,
        diagnostic_code=said or None,
        remote_mta=host["host"] if host else (notice.host if alone else None),
    )


def _with_listed(
    reports: list[dsn.Report], listed: list[str], notice: Notice, delayed: bool
) -> list[dsn.Report]:
    """Exim and Gmail name the recipients in X-Failed-Recipients: those, with what was read of each."""
    known = {(r.final_recipient or "").lower(): r for r in reports}
    out = []
    for address in dict.fromkeys(listed[:MAX_REPORTS]):
        report = known.get(address.lower())
        if report is None:
            report = _make(
                address,
                notice.told(address),
                "delayed" if delayed else "failed",
                notice,
                alone=len(listed) == 1,
            )
        out.append(report)
    return out or reports


class _PlainFields(email.policy.Compat32):
    """Field values are text whatever their octets: compat32 gives Header objects, which flufl cannot read."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


_PLAIN_FIELDS = _PlainFields()


def _from_flufl(octets: Buffer, structure: Structure) -> list[dsn.Report]:
    if len(octets) > MAX_FLUFL or len(structure.parts) > 50 or any(p.depth > 8 for p in structure.parts):
        return []
    from flufl.bounce import all_failures  # 40 ms to load, seldom needed

    try:
        message = email.message_from_bytes(bytes(octets), policy=_PLAIN_FIELDS)
        temporary, permanent = all_failures(message)
    except Exception:  # whatever it stumbles over, the message is still a bounce without recipients
        return []
    found = [(a, "delayed") for a in sorted(temporary)] + [(a, "failed") for a in sorted(permanent)]
    out = []
    for address, action in found[:MAX_REPORTS]:
        text = address.decode("utf-8", "replace").strip("<> \t\r\n")
        if "@" in text and not any(c.isspace() or c < " " for c in text):
            out.append(dsn.Report(final_recipient=text, action=action))
    return out


def _from_copy(
    octets: Buffer, structure: Structure, whole: str, notice: Notice, own: set[str], delayed: bool
) -> list[dsn.Report]:
    """The one addressee of the returned message, where the notice itself names nobody."""
    to: list[str] = []
    inner = next((p for p in structure.parts if p.content_type in MESSAGE_TYPES and p.within < 0), None)
    if inner is not None:
        content = dsn.returned_headers(octets, inner)
        to = [box.spec for box in content.addresses("to")]
    else:
        quoted = _QUOTED_TO.search(whole)
        if quoted:
            to = [box.spec for box in mailboxes(quoted[1].encode("utf-8", "replace"))]
    to = [address for address in to if "@" in address]
    if len(to) != 1:
        return []
    return [_make(to[0], notice.told(to[0]), "delayed" if delayed else "failed", notice)]


def quoted_id(octets: Buffer, structure: Structure, whole: str = "") -> str | None:
    """The Message-ID of the returned message where that stands in text."""
    found = _QUOTED_ID.search(whole)
    if found:
        return found[1]
    for part in structure.leaves():
        if part.within < 0 and part.content_type.startswith("text/"):
            found = _QUOTED_ID.search(text_of(octets, part, limit=MAX_TEXT))
            if found:
                return found[1]
    return None
