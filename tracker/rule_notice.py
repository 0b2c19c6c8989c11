"""The mail to those whom a rule wants told that it applied: which rule, which letter, what became of it.

STANDARDS
    RFC 3834 §5 (Auto-Submitted), RFC 5322 §3.6. It goes out with a null reverse-path, and nothing is
    answered to it. It bears neither the letter's text nor its attachments.

Arabic first, then English; what others wrote is kept to one line, freed of controls and set between
isolates. Building one does not fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from html import escape

from tracker import header_writer as hw
from tracker.foreign_text import shown
from tracker.mime_writer import multipart, text
from tracker.model import Address
from tracker.notice import GatewayIdentity

MOST = 50  # recipients that are named; more are counted

_ACTIONS = {
    "accept": ("أُرسل", "sent on"),
    "hold": ("محجوز للموافقة", "held for approval"),
    "reject": ("مرفوض", "refused"),
    "pass": ("مُرّر", "passed on"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTold:
    """A rule that applied, with its description."""

    id: str
    ar: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleNotice:
    """What is told, and to whom."""

    gateway: GatewayIdentity
    to: tuple[Address, ...]
    rules: tuple[RuleTold, ...]
    number: str | None
    author: str
    subject: str
    recipients: tuple[tuple[str, str], ...]  # address, action
    at_us: int


def compose(notice: RuleNotice) -> bytes:
    """The message, complete; every line ends with CRLF."""
    gateway = notice.gateway
    body = multipart("alternative", [text("plain", _plain(notice)), text("html", _html(notice))])
    seed = sha256(repr((notice.at_us, notice.number, notice.to)).encode() + body.body)
    names = ", ".join(rule.id for rule in notice.rules)
    tag = f" [{notice.number}]" if notice.number else ""
    out = bytearray()
    out += hw.structured("Date", hw.date(notice.at_us, gateway.zone))
    out += hw.address_field("From", [(gateway.display, gateway.address)])
    out += hw.address_field("To", [("", address) for address in notice.to])
    out += hw.field("Subject", f"إشعار بتطبيق قاعدة: {names}{tag}")
    out += hw.structured("Message-ID", hw.message_id(gateway.domain, seed.digest()))
    out += hw.structured("Auto-Submitted", "auto-generated")
    out += hw.structured("X-Auto-Response-Suppress", "All")
    out += hw.structured("Wasl-Receipt", "notify")
    out += hw.structured("Content-Language", "ar, en")
    out += hw.structured("MIME-Version", "1.0")
    return bytes(out) + body.header + b"\r\n" + body.body


def _lines(notice: RuleNotice, language: str) -> list[tuple[str, str]]:
    """Label and value, in one language; what others wrote has been through ``shown``."""
    arabic = language == "ar"
    out: list[tuple[str, str]] = []
    for rule in notice.rules:
        described = (rule.ar or rule.en) if arabic else (rule.en or rule.ar)
        out.append(("القاعدة" if arabic else "Rule", f"{rule.id} {shown(described, 400)}".strip()))
    if notice.number:
        out.append(("رقم الصادر" if arabic else "Number", notice.number))
    out.append(("من" if arabic else "From", shown(notice.author, 300) or "<>"))
    if notice.subject:
        out.append(("الموضوع" if arabic else "Subject", shown(notice.subject, 300)))
    for address, action in notice.recipients[:MOST]:
        known = _ACTIONS.get(action)
        word = (known[0] if arabic else known[1]) if known else action
        out.append(("إلى" if arabic else "To", f"{shown(address, 300)} ({word})"))
    if len(notice.recipients) > MOST:
        more = str(len(notice.recipients) - MOST)
        out.append(("وغيرهم" if arabic else "and others", more))
    return out


_LEADS = {
    "ar": "طُبّقت قاعدة من سياسة التوجيه على كتاب.",
    "en": "A rule of the routing policy applied to a letter.",
}


def _plain(notice: RuleNotice) -> str:
    blocks = []
    for language in ("ar", "en"):
        lines = [f"{label}: \u2068{value}\u2069" for label, value in _lines(notice, language)]
        blocks.append("\r\n".join([_LEADS[language], "", *lines]))
    return "\r\n\r\n".join(blocks) + "\r\n"


def _html(notice: RuleNotice) -> str:
    out = ["<!DOCTYPE html>", '<html lang="ar" style="color-scheme:light dark"><body>']
    for language in ("ar", "en"):
        direction = "rtl" if language == "ar" else "ltr"
        out.append(f'<div dir="{direction}" lang="{language}" style="line-height:1.6;margin-bottom:20px">')
        out.append(f"<p>{escape(_LEADS[language])}</p><table>")
        for label, value in _lines(notice, language):
            out.append(f"<tr><td>{escape(label)}</td><td><bdi>{escape(value)}</bdi></td></tr>")
        out.append("</table></div>")
    out.append("</body></html>")
    return "\r\n".join(out) + "\r\n"
