"""Bounces that are no DSN: notices of non-delivery written for people only.

There is no standard to follow; qmail, Exim, old Exchange, Notes and many gateways each write their
own (the ground shared by most is RFC 821's habit: whose address, what the server said, then the
message itself). ``read`` looks at a message only if sender or subject look like a mail system's, and
gives the recipients with what was said about each, or None. What it gives is what a notice claims,
never better evidence than that. Never raises; text beyond ``MAX_TEXT`` is not looked at.

flufl.bounce knows some servers by their exact words; it raises on letters that are a little odd and
sees bounces in ordinary letters, so it is asked last, about small automatic mail only, behind a guard.
"""

from __future__ import annotations

import email
import email.policy
import html
import re
from dataclasses import dataclass

from flufl.bounce import all_failures

from tracker import dsn
from tracker.header import Buffer, Headers, mailboxes
from tracker.mime import MESSAGE_TYPES, Structure, text_of

MAX_TEXT = 1 << 17  # characters of a notice that are looked at
MAX_LINES = 3000
MAX_REPORTS = 1000
MAX_FLUFL = 1 << 17  # octets of a message that flufl.bounce is asked about
MAX_DIAGNOSTIC = 1000  # characters kept of what was said about a recipient

_MAILER = re.compile(
    r"mailer[-_. ]?daemon|mail[-_. ]?daemon|postmaster|post_master|mail[-_. ]delivery|mailsystem|mail[-_.]system"
    r"|mail[-_. ]?administrator|system administrator|sysadmin|delivery (?:sub)?system|^bounces?\b|mdaemon"
    r"|^mailer\b|^smtp(?:d32)?$|maildelivery|ndr administrator|^mailerdaemon",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^\s*(?:re|fwd?|aw|wg|tr|رد|إعادة توجيه)\s*:", re.IGNORECASE)
_SUBJECT = re.compile(
    r"undeliver|non[- ]?deliver|not? deliver|delivery (?:status )?(?:notification|report)|delivery (?:has )?fail"
    r"|fail(?:ed|ure)?[ :]*(?:notice|to deliver|delivery|mail)|failed (?:mail|message)|mail (?:delivery )?fail"
    r"|returned? (?:mail|message|to sender)|returning (?:mail|message|to sender)|mail (?:system )?error|mail returned"
    r"|delivery (?:error|problem|failure|status|delay|has been delayed|notice)|deliver(?:y)? warning|bounced? (?:mail|message)"
    r"|could ?n[o']t (?:be deliver|send)|cannot (?:be )?(?:deliver|send)|unable to deliver|delayed mail|rejected (?:mail|message)"
    r"|warning: (?:could not send|message)|message (?:delivery|could not|not delivered|undeliverable)|error sending your mail"
    r"|mail (?:could not|cannot|delivery|failure|undeliv)|user unknown|unknown user|address not found|no such user"
    r"|delivery incomplete|mail status report|e-?mail (?:not delivered|undeliverable|delivery)|not? member"
    r"|unzustellbar|nicht zugestellt|zustell|fehlgeschlagen|non remis|remise|échec|echec|non distribu"
    r"|no se (?:ha )?(?:pudo|podido)? ?(?:entreg|puede)|no entregad|devuelto|imposible entregar|mancata consegna|non recapitat"
    r"|impossibile recapitar|não (?:foi )?entreg|falha na entrega|niet bezorg|onbestelbaar|ej levere|olevererb|kan inte lever"
    r"|недостав|не доставл|невозможно достав|не может быть доставл|niedostarcz|nie dostarcz|nedoru[cč]"
    r"|teslim edilemedi|iletilemedi|配信(?:不能|エラー|でき)|配送エラー|エラー通知|送信エラー|無法傳遞|无法投递|退信|退回|傳遞失敗|未传递"
    r"|전달 실패|배달 실패|반송|تعذر (?:ال)?(?:تسليم|توصيل|إرسال)|تعذّر|لم يتم (?:ال)?(?:تسليم|توصيل)|فشل (?:في )?(?:ال)?(?:تسليم|توصيل|إرسال)"
    r"|غير قابل(?:ة)? للتسليم|إشعار (?:بعدم|عدم) (?:ال)?تسليم|رسالة مرتجعة",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"could ?n[o']t be delivered|could not deliver|can ?not be delivered|not be delivered|unable to deliver|undeliverable"
    r"|undelivered|delivery (?:to|of|has|attempt|fail|was|error|problem)[^\n]{0,60}(?:fail|error|recipient|problem|refused)"
    r"|was not delivered|not delivered|did not reach|permanent(?:ly)? (?:fatal )?(?:error|fail)|fatal error"
    r"|had delivery (?:problems|errors)|transcript of session|returned (?:to sender|message|below)|unknown user|user unknown"
    r"|no such user|mailbox (?:unavailable|full|not found)|recipient(?:s)? (?:was|were|is) rejected|deliver(?:ing)? (?:a|the|your) (?:mail|message)"
    r"|returned permanent errors|failed addresses|unknown recipient|has not (?:yet )?been delivered|wasn't delivered|invalid (?:user )?address"
    r"|mail (?:system )?error|failure reasons|unable to send|trouble delivering|error sending|rejected by|your (?:message|mail|e-mail) to [^\n]{1,200} (?:has been )?"
    r"(?:couldn't|could not|blocked|rejected|failed|bounced)|konnte nicht zugestellt|nicht zugestellt werden|n'a pas pu être|n’a pas pu être|no se (?:ha podido|pudo) entregar"
    r"|impossibile recapitare|не может быть доставлено|не удалось доставить|配信できません|送信できませんでした|無法傳遞|无法投递"
    r"|تعذر (?:تسليم|توصيل)|تعذّر|لم يتم تسليم|لم يتم توصيل|فشل تسليم|فشل توصيل|لا يمكن تسليم",
    re.IGNORECASE,
)
_DELAY = re.compile(
    r"delay|warning: could not send|will (?:keep trying|be retried|retry|continue)|still (?:being retried|trying)|transient non-fatal"
    r"|not yet been delivered|warning (?:message )?only|you do not need to resend|temporar(?:y|ily) (?:fail|defer)|تأخر|تأخير",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"successful(?:ly)? deliver|successful delivery notification|was successfully|relayed to", re.IGNORECASE
)
_FATAL = re.compile(r"permanent|fatal|failed|gave up|given up|could not|rejected|undeliver", re.IGNORECASE)

_ADDRESS = r"(?:\"[^\"\s]{1,64}\"|[^\s<>()\[\],;:\"\\@|=]{1,128})@[^\s<>()\[\],;:\"\\@?&/|]{1,253}"
_ANY = re.compile(_ADDRESS)
_LINE = re.compile(
    rf"^[ \t>*•-]*(?:<?\"?|&lt;|mailto:|\()(?P<address>{_ADDRESS})(?:\"?>?|&gt;)[\"')]?[ \t]*"
    rf"(?:<(?:mailto:)?{_ADDRESS}>)?(?P<after>:|\.\.\.|\(|\[|,|;|-|$|on |\d|invalid|user|mailbox|unknown|address|not |is |\.$)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"(?:RCPT TO|recipient(?: address)?|to the following (?:address|recipient)|(?:deliver\w*|delivered|send|sent) (?:\w+ ){{0,4}}to"
    rf"|unknown (?:user|recipient|address)|user unknown|no such user|permanent errors|address|account|mailbox(?: for)?|failed for|User \S{{0,80}})"
    rf"[ \t]*:?[ \t]*[<(\"]{{0,2}}(?P<address>{_ADDRESS})",
    re.IGNORECASE,
)
_NOT_ONE = re.compile(
    r"^(?:postmaster|mailer-daemon|abuse|support|helpdesk|noreply|no-reply|double-bounce)@", re.IGNORECASE
)

_RETURNED = re.compile(
    r"^[ \t>]*(?:-{2,}[^\n]{0,20}(?:(?:this is )?a copy of (?:the|your)|below this line|original message|message header|unsent message"
    r"|(?:the )?header of the original|returned message|message text follows|message follows|your (?:original )?message|undelivered message)"
    r"|original message (?:follows|headers?|header)|message headers? follow|below is a copy of the original|included is a copy of"
    r"|the original message (?:was|is)? ?(?:attached|below|included)|message contents follow|message details:|\*{3,} ?original message)",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_LINE = re.compile(
    r"^(?:received|return-path|message-id|date|from|to|subject|mime-version|content-type|dkim-signature|x-[\w-]+|reply-to|sender"
    r"|delivered-to|domainkey-signature|user-agent|x-mailer|cc|references|in-reply-to|authentication-results)[ \t]*:",
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
_TAG = re.compile(r"<[^<>]*>")
_UNSEEN = re.compile(r"<(/?)(?:style|script|head)\b", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/h\d|/li|p)\b[^<>]*>", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounce:
    """A notice of non-delivery: what it says of each recipient, and of which message."""

    reports: tuple[dsn.Report, ...]
    original_message_id: str | None = None


def from_mailer(headers: Headers) -> bool:
    """True when the author names itself as a mail system."""
    return any(
        _MAILER.search(box.spec.partition("@")[0]) or _MAILER.search(box.name)
        for name in ("from", "sender")
        for box in headers.addresses(name)[:3]
    )


def null_sender(headers: Headers) -> bool:
    """True when the final server noted a null reverse-path (RFC 5321 §4.4), or a mailer's."""
    path = headers.raw("return-path")
    if path is None:
        return False
    path = path.strip()
    return path in (b"", b"<>", b"<MAILER-DAEMON>", b"MAILER-DAEMON", b"<>:") or path.lower().startswith(
        b"<mailer-daemon@"
    )


def failure_subject(headers: Headers) -> bool:
    """True when the subject is one that mail systems give to notices of non-delivery."""
    subject = headers.text("subject") or ""
    return _PREFIX.match(subject) is None and _SUBJECT.search(subject[:500]) is not None


def read(octets: Buffer, structure: Structure) -> Bounce | None:
    """What a plain notice of non-delivery says, or None if the message is none."""
    headers = structure.headers
    listed = headers.raw("x-failed-recipients")
    mailer = from_mailer(headers)
    null = null_sender(headers)
    subject = failure_subject(headers)
    if not (listed or mailer or null or subject):
        return None
    report = structure.root.params.get("report-type", "").lower()
    whole = notice_text(octets, structure)
    notice = _before_copy(whole)
    words = _WORDS.search(notice) is not None
    fields = _FIELDS.search(whole) is not None
    declared = report == "delivery-status" or bool(listed)
    telling = declared or ((mailer or null) and (subject or words or fields)) or (subject and words)
    if not telling or (
        not subject and not mailer and not declared and not fields and "auto-submitted" in headers
    ):
        return None
    if not (subject or words or fields or listed):
        return None
    own = {box.spec.lower() for name in ("from", "to", "sender") for box in headers.addresses(name)}
    delayed = _DELAY.search(headers.text("subject") or "") is not None
    reports = _from_fields(whole) if fields else []
    if not reports:
        reports = _from_text(notice, own, delayed)
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


def _from_text(notice: str, own: set[str], delayed: bool) -> list[dsn.Report]:
    blocks: list[tuple[str, list[str], str]] = []
    current: list[str] | None = None
    action = "delayed" if delayed else "failed"
    for line in notice.split("\n")[:MAX_LINES]:
        found = _LINE.match(line[:2000])
        if found and not _is_own(found["address"], own):
            current = [line[found.end("address") :]]
            blocks.append((found["address"], current, action))
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line)
        elif _DONE.search(line[:500]):
            action = "delivered"
        elif _DELAY.search(line[:500]):
            action = "delayed"
        elif not delayed and _FATAL.search(line[:500]):
            action = "failed"
        if len(blocks) >= MAX_REPORTS:
            break
    if not blocks:
        for found in _NAMED.finditer(notice):
            if not _is_own(found["address"], own):
                blocks.append((found["address"], [], "delayed" if delayed else "failed"))
                if len(blocks) >= 50:
                    break
    if not blocks:
        found_any = {
            a.group().strip(".'`"): None
            for a in _ANY.finditer(notice)
            if not _is_own(a.group(), own) and not notice[max(a.start() - 7, 0) : a.start()].endswith(("mailto:", "//"))
        }
        if len(found_any) == 1:
            blocks.append((next(iter(found_any)), [], "delayed" if delayed else "failed"))
    out: dict[str, dsn.Report] = {}
    for address, lines, did in blocks:
        clean = address.strip(".'`")
        said = _said(" ".join(lines)) or _told(notice, clean)
        report = _make(clean, said, did, notice)
        known = out.get(clean.lower())
        if known is None or (known.status is None and report.status is not None):
            out[clean.lower()] = report
    return list(out.values())


def _is_own(address: str, own: set[str]) -> bool:
    address = address.strip(".'`").lower()
    return address in own or _NOT_ONE.match(address) is not None


def _said(text: str) -> str:
    return _SPACE.sub(" ", text).strip().lstrip(":>) \t")[:MAX_DIAGNOSTIC]


_CODE = re.compile(r"(?<![\d.])[45]\d\d[ \-]|(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.])")


def _told(notice: str, address: str) -> str:
    """What the whole notice says, from the first line that holds an SMTP code or the address."""
    lines = notice.split("\n")[:MAX_LINES]
    for index, line in enumerate(lines):
        if _CODE.search(line[:1000]):
            said: list[str] = []
            for more in lines[index : index + 8]:
                if not more.strip():
                    break
                said.append(more)
            return _said(" ".join(said))
    after = False
    for line in lines:
        if address in line:
            after = True
            rest = line.split(address, 1)[1].strip("<>:.,;\"' \t")
            if len(rest) > 8:
                return _said(rest)
        elif after and line.strip():
            return _said(line)
    return ""


def _make(address: str, said: str, action: str, notice: str) -> dsn.Report:
    status = dsn.find_status(said)
    if status is None:
        status = dsn.find_status(notice) if len(said) < 4 else None
    if status is not None and status[0] == "4" and action == "failed" and _DELAY.search(notice):
        action = "delayed"
    host = _HOST.search(said) or _HOST.search(notice)
    return dsn.Report(
        original_recipient=None,
        final_recipient=address,
        action=action,
        status=status,
        diagnostic_code=said or None,
        remote_mta=host["host"] if host else None,
    )


def _with_listed(
    reports: list[dsn.Report], listed: list[str], notice: str, delayed: bool
) -> list[dsn.Report]:
    """Exim and Gmail name the recipients in X-Failed-Recipients: those, with what was read of each."""
    known = {(r.final_recipient or "").lower(): r for r in reports}
    out = []
    for address in dict.fromkeys(listed[:MAX_REPORTS]):
        report = known.get(address.lower())
        if report is None:
            report = _make(address, _told(notice, address), "delayed" if delayed else "failed", notice)
        out.append(report)
    return out or reports


def _from_flufl(octets: Buffer, structure: Structure) -> list[dsn.Report]:
    if len(octets) > MAX_FLUFL or len(structure.parts) > 50 or any(p.depth > 8 for p in structure.parts):
        return []
    try:
        message = email.message_from_bytes(bytes(octets), policy=email.policy.compat32)
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
    octets: Buffer, structure: Structure, whole: str, notice: str, own: set[str], delayed: bool
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
    return [_make(to[0], _told(notice, to[0]), "delayed" if delayed else "failed", notice)]


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
