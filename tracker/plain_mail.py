"""A notice of several sections to a mailbox: Arabic, then English, as plain text and as HTML.

A :class:`Sheet` is one language's worth: a title, sentences, and tables of letters. :func:`compose` sets two
of them as one message with a null sender's marks (Auto-Submitted, RFC 3834 §5), so that no machine answers.
Values that others wrote have been through :func:`tracker.foreign_text.shown` and stand between isolates in
plain text, in ``<bdi>`` in HTML. A pure function: the same sheet gives the same octets.

Fails: :class:`tracker.header_writer.HeaderError` for a gateway identity that cannot be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from tracker import header_writer as hw
from tracker.mime_writer import multipart, text
from tracker.model import Address
from tracker.notice import GatewayIdentity

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")
_MOST_REFERENCES = 12  # ids: the first, and the last eleven
_FONT = "font-family:'Segoe UI',Tahoma,'Noto Sans Arabic','Geeza Pro',Arial,sans-serif"
_RULE = "border-top:1px solid #8a8f98"
# On a phone a row is a block, each value beside its name; a client without such rules shows the table.
_NARROW = (
    "@media (max-width:560px){.t,.t tbody,.t tr,.t td{display:block!important;width:auto!important}"
    ".t .h,.t .z{display:none!important}.t td{border:0!important;padding:1px 6px!important}"
    ".t .f{border-top:1px solid #8a8f98!important;padding-top:8px!important}.t .n{display:inline!important}}"
)
NOTHING = ("–", "—")  # in a cell
_COLOURS = {"calm": "#3a7ca5", "warn": "#b7791f", "bad": "#c0453a"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in a table; ``code`` reads from the left, ``href`` leads to a page."""

    value: str
    code: bool = False
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading; ``more`` is said below when not all of them are here."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The notice in one language."""

    language: str
    title: str
    lead: tuple[str, ...]  # sentences; values of others are between U+2068 and U+2069
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    link: tuple[str, str] | None = None  # words, address
    tone: str = "calm"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainMail:
    """One message."""

    gateway: GatewayIdentity
    to: tuple[Address, ...]
    subject: str
    kind: str  # of Wasl-Receipt
    at_us: int
    arabic: Sheet
    english: Sheet
    number: str | None = None  # of the letter that it is about, if it is one
    message_id: str | None = None  # of that letter
    references: tuple[str, ...] = ()
    reply_to: Address | None = None  # where a person may answer to, if anywhere
    answers: bool = False  # a message brought it about (RFC 3834 §5: auto-replied), no event of our own
    seed: str = ""  # what makes its Message-ID another than that of the same words elsewhere


def isolated(value: str) -> str:
    """A value of others inside a sentence (Unicode UAX 9 §2.4)."""
    return f"\u2068{value}\u2069"


def compose(mail: PlainMail) -> bytes:
    """The message, complete; every line ends with CRLF."""
    gateway = mail.gateway
    body = multipart(
        "alternative", [text("plain", plain(mail.arabic, mail.english)), text("html", _html(mail))]
    )
    seed = sha256(repr((mail.seed, mail.kind, mail.at_us, mail.to)).encode() + body.body)
    out = bytearray()
    out += hw.structured("Date", hw.date(mail.at_us, gateway.zone))
    out += hw.address_field("From", [(gateway.display, gateway.address)])
    if mail.reply_to is not None:
        out += hw.address_field("Reply-To", [("", mail.reply_to)])
    out += hw.address_field("To", [("", address) for address in mail.to])
    out += hw.field("Subject", mail.subject)
    out += hw.structured("Message-ID", hw.message_id(gateway.domain, seed.digest()))
    thread = _thread(mail)
    if thread:
        out += hw.structured("In-Reply-To", thread[-1])
        out += hw.structured("References", " ".join(thread))
    out += hw.structured("Auto-Submitted", "auto-replied" if mail.answers else "auto-generated")
    out += hw.structured("X-Auto-Response-Suppress", "All")
    if mail.number is not None:
        out += hw.structured("Wasl-Letter", mail.number)
    out += hw.structured("Wasl-Receipt", mail.kind)
    out += hw.structured("Content-Language", "ar, en")
    out += hw.structured("MIME-Version", "1.0")
    return bytes(out) + body.header + b"\r\n" + body.body


def _thread(mail: PlainMail) -> list[str]:
    """The chain of identifiers, the letter's last; empty when it has no usable one (RFC 5322 §3.6.4)."""
    if mail.message_id is None or _MESSAGE_ID.fullmatch(mail.message_id) is None:
        return []
    before = [r for r in mail.references if _MESSAGE_ID.fullmatch(r) and r != mail.message_id]
    if len(before) >= _MOST_REFERENCES:
        before = [before[0], *before[-(_MOST_REFERENCES - 1) :]]
    return [*before, mail.message_id]


def plain(arabic: Sheet, english: Sheet) -> str:
    """Both sheets as text, lines ending with CRLF."""
    blocks = []
    for sheet in (arabic, english):
        lines = [sheet.title, "", *sheet.lead]
        for table in sheet.tables:
            lines += ["", f"{table.title}:"]
            for row in table.rows:
                told = [
                    f"{name}: {isolated(cell.value)}"
                    for name, cell in zip(table.columns, row, strict=True)
                    if cell.value not in NOTHING
                ]
                lines.append("- " + ("؛ " if sheet.language == "ar" else "; ").join(told))
            lines += [table.more] if table.more else []
        if sheet.notes:
            lines += ["", *sheet.notes]
        if sheet.link is not None:
            lines += ["", f"{sheet.link[0]}: {isolated(sheet.link[1])}"]
        blocks.append("\r\n".join(lines))
    return f"\r\n\r\n{'-' * 40}\r\n\r\n".join(blocks) + "\r\n"


def _html(mail: PlainMail) -> str:
    out = [
        "<!DOCTYPE html>",
        '<html lang="ar" style="color-scheme:light dark"><head>',
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(mail.arabic.title)}</title>",
        f"<style>{_NARROW}</style></head>",
        f'<body style="margin:0;padding:20px 14px;{_FONT};font-size:15px;line-height:1.65">',
    ]
    for sheet in (mail.arabic, mail.english):
        out += _sheet(sheet)
    return "\r\n".join([*out, "</body></html>"]) + "\r\n"


def _sheet(sheet: Sheet) -> list[str]:
    rtl = sheet.language == "ar"
    direction, side = ("rtl", "right") if rtl else ("ltr", "left")
    colour = _COLOURS.get(sheet.tone, _COLOURS["calm"])
    out = [
        f'<div dir="{direction}" lang="{sheet.language}" '
        f'style="max-width:760px;margin:0 auto 22px;text-align:{side}">',
        f'<div style="border-{side}:4px solid {colour};padding:2px 14px;font-size:20px;font-weight:700">'
        f"{escape(sheet.title)}</div>",
        *(f'<p style="margin:10px 0 0">{_bdi(line)}</p>' for line in sheet.lead),
    ]
    for table in sheet.tables:
        out += _table(table, side)
    out += [f'<p style="margin:14px 0 0">{_bdi(note)}</p>' for note in sheet.notes]
    if sheet.link is not None:
        words, url = sheet.link
        out.append(f'<p style="margin:14px 0 0"><a href="{escape(url)}">{escape(words)}</a></p>')
    return [*out, "</div>"]


def _table(table: Table, side: str) -> list[str]:
    head = "".join(
        f'<th align="{side}" style="font-weight:400;opacity:.72;padding:4px 6px">{escape(name)}</th>'
        for name in table.columns
    )
    out = [
        f'<p style="margin:16px 0 4px;font-weight:600">{escape(table.title)}</p>',
        '<table class="t" width="100%" cellpadding="0" cellspacing="0" border="0" style="font-size:14px">',
        f'<tr class="h">{head}</tr>',
    ]
    for row in table.rows:
        cells = "".join(
            f'<td{_role(n, cell)} valign="top" align="{side}" '
            f'style="{_RULE};padding:6px;overflow-wrap:break-word">'
            f"{_name(table.columns[n]) if n else ''}{_value(cell)}</td>"
            for n, cell in enumerate(row)
        )
        out.append(f"<tr>{cells}</tr>")
    out.append("</table>")
    if table.more:
        out.append(f'<p style="margin:6px 0 0;opacity:.72">{escape(table.more)}</p>')
    return out


def _role(n: int, cell: Cell) -> str:
    """What a cell is where the table is stacked: the head of its row, or one that says nothing."""
    return ' class="f"' if not n else ' class="z"' if cell.value in NOTHING else ""


def _name(column: str) -> str:
    """The column's name, which a wide table has above."""
    return f'<span class="n" style="display:none;mso-hide:all;opacity:.72">{escape(column)}: </span>'


def _value(cell: Cell) -> str:
    way = 'dir="ltr" style="white-space:nowrap"' if cell.code else 'dir="auto"'
    inner = f"<bdi {way}>{escape(cell.value)}</bdi>"
    return f'<a href="{escape(cell.href)}">{inner}</a>' if cell.href else inner


def _bdi(line: str) -> str:
    """A sentence whose isolates become elements."""
    return escape(line).replace("\u2068", '<bdi dir="auto">').replace("\u2069", "</bdi>")
