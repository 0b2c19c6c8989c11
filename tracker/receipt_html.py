"""The pages of a receipt as HTML for mail clients, from Outlook's Word engine to a telephone.

Tables and inline style only; no image, no script, no style sheet, and no link but the one to the
verify page. Text and ground keep the client's own colours (``color-scheme: light dark``), only the
marks have colours of ours, in a middle tone that stands out on white and on black; so a dark client
needs no second design. Values that others wrote are escaped and stand in ``<bdi>``. Never raises.
"""

from __future__ import annotations

from html import escape

from tracker.notice import Notice
from tracker.receipt_text import Entry, Line, Page, Row, beyond_table, pages, rows, summary
from tracker.receipt_words import LABELS

_FONT = "font-family:'Segoe UI',Tahoma,'Noto Sans Arabic','Geeza Pro',Arial,sans-serif"
_COLOURS = {"calm": "#3a7ca5", "good": "#2e8b57", "warn": "#b7791f", "bad": "#c0453a"}
_SIGNS = {"calm": "\u2022", "good": "\u2713", "warn": "!", "bad": "\u2715"}
_MUTED = "opacity:.72"
_RULE = "border-top:1px solid #8a8f98"
_BREAK = "word-break:break-word;overflow-wrap:anywhere"
_CODE = "font-family:Consolas,'DejaVu Sans Mono',monospace;font-size:13px"


def html(notice: Notice) -> str:
    """The whole document, Arabic first (right to left), then English; lines end with CRLF."""
    arabic, english = pages(notice)
    out = [
        "<!DOCTYPE html>",
        '<html lang="ar" style="color-scheme:light dark">',
        "<head>",
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(arabic.title)}</title>",
        "</head>",
        '<body style="margin:0;padding:0">',
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"><tr>'
        '<td align="center" style="padding:20px 14px">',
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0"'
        f' style="max-width:620px;{_FONT};font-size:15px;line-height:1.65;text-align:start">',
        *_page(arabic),
        *_table(notice),
        f'<tr><td style="{_RULE};padding:0;line-height:1px;font-size:1px">&nbsp;</td></tr>',
        *_page(english),
        "</table>",
        "</td></tr></table>",
        "</body>",
        "</html>",
    ]
    return "\r\n".join(out) + "\r\n"


def _page(page: Page) -> list[str]:
    rtl = page.language == "ar"
    direction, side, other = ("rtl", "right", "left") if rtl else ("ltr", "left", "right")
    colour = _COLOURS[page.tone]
    number = f'<bdi dir="ltr" style="font-weight:600;white-space:nowrap">{escape(page.number)}</bdi>'
    lead = escape(page.lead).replace("{number}", number)
    attributes = f'dir="{direction}" lang="{page.language}"'
    out = [
        f'<tr><td {attributes} align="{side}" style="padding:18px 0 22px;text-align:{side}">',
        f'<table role="presentation" width="100%" {attributes} cellpadding="0" cellspacing="0" border="0">',
        f'<tr><td style="border-{side}:4px solid {colour};padding:2px 14px">',
        f'<div style="font-size:21px;font-weight:700;line-height:1.35">{escape(page.title)}</div>',
        f'<div style="padding-top:6px">{lead}</div>',
        "</td></tr></table>",
        *_lines(page.facts, attributes, side, other),
    ]
    for entry in page.entries:
        out += _entry(entry, attributes, side, other)
    out += [f'<p style="margin:14px 0 0">{escape(note)}</p>' for note in page.notes]
    if page.verify:
        url = escape(page.verify)
        out.append(
            f'<p style="margin:14px 0 0">{escape(page.labels["verify"])}: '
            f'<a href="{url}" style="{_BREAK}"><bdi dir="ltr">{url}</bdi></a></p>'
        )
    out += [f'<p style="margin:14px 0 0;font-size:13px;{_MUTED}">{escape(page.footer)}</p>', "</td></tr>"]
    return out


def _name(label: str) -> str:
    return escape(label).replace("SHA-256", '<bdi dir="ltr" style="white-space:nowrap">SHA-256</bdi>')


def _value(line: Line) -> str:
    text = escape(line.value)
    if line.code:
        return f'<bdi dir="ltr" style="{_CODE};{_BREAK}">{text}</bdi>'
    if line.value[:4].isdigit():  # a time or a number: always left to right
        return f'<bdi dir="ltr">{text}</bdi>'
    return f'<bdi dir="auto">{text}</bdi>' if line.foreign else text


def _lines(lines: tuple[Line, ...], attributes: str, side: str, other: str) -> list[str]:
    if not lines:
        return []
    out = [
        f'<table role="presentation" width="100%" {attributes} cellpadding="0" cellspacing="0" border="0"'
        ' style="margin-top:12px">'
    ]
    for line in lines:
        out.append(
            f'<tr><td width="30%" valign="top" style="padding:3px 0;padding-{other}:12px;text-align:{side};'
            f'{_MUTED}">{_name(line.label)}</td>'
            f'<td valign="top" style="padding:3px 0;text-align:{side};{_BREAK}">{_value(line)}</td></tr>'
        )
    return [*out, "</table>"]


def _entry(entry: Entry, attributes: str, side: str, other: str) -> list[str]:
    colour = _COLOURS[entry.tone]
    sign = f'<span style="color:{colour};font-weight:700">{_SIGNS[entry.tone]}</span>'
    name = f'<bdi dir="auto" style="font-weight:600">{escape(entry.name)}</bdi><br>' if entry.name else ""
    return [
        f'<table role="presentation" width="100%" {attributes} cellpadding="0" cellspacing="0" border="0"'
        f' style="margin-top:14px"><tr><td style="{_RULE};padding-top:10px">',
        f'<table role="presentation" {attributes} cellpadding="0" cellspacing="0" border="0"><tr>'
        f'<td valign="top" style="padding-{other}:10px">{sign}</td>'
        f'<td style="text-align:{side};{_BREAK}">{name}<bdi dir="ltr">{escape(entry.address)}</bdi></td>'
        "</tr></table>",
        *_lines(entry.lines, attributes, side, other),
        "</td></tr></table>",
    ]


def _table(notice: Notice) -> list[str]:
    """One table for both languages when the recipients are many."""
    table = rows(notice)
    if not table:
        return []
    counts = "".join(
        f'<tr><td style="padding:2px 0;padding-left:10px"><bdi dir="ltr"><b>{count}</b></bdi></td>'
        f'<td style="padding:2px 0;padding-left:14px">{escape(ar)}</td>'
        f'<td style="padding:2px 0;{_MUTED}"><bdi dir="ltr">{escape(en)}</bdi></td></tr>'
        for ar, en, count in summary(notice)
    )
    out = [
        f'<tr><td dir="rtl" align="right" style="{_RULE};padding:16px 0;text-align:right">',
        f'<table dir="rtl" cellpadding="0" cellspacing="0" border="0">{counts}</table>',
        '<table width="100%" dir="rtl" cellpadding="0" cellspacing="0" border="0" style="margin-top:12px">',
        f'<tr style="{_MUTED}">{_head("recipient")}{_head("state")}</tr>',
        *(_row(row) for row in table),
        "</table>",
    ]
    left = beyond_table(notice)
    if left:
        out.append(f'<p style="margin:10px 0 0">{LABELS["more"].ar} {left}<br>{LABELS["more"].en} {left}</p>')
    return [*out, "</td></tr>"]


def _head(key: str) -> str:
    label = LABELS[key]
    return (
        '<th align="right" style="font-weight:400;padding:4px 0;text-align:right">'
        f'{escape(label.ar)} <bdi dir="ltr">{escape(label.en)}</bdi></th>'
    )


def _row(row: Row) -> str:
    colour = _COLOURS[row.tone]
    cell = f"{_RULE};padding:7px 0;text-align:right;{_BREAK}"
    names = "<br>".join(
        f'<bdi dir="auto">{escape(name)}</bdi>' for name in dict.fromkeys((row.name_ar, row.name_en)) if name
    )
    style = f' style="{_CODE}"' if row.wire else ""
    detail = f'<br><bdi dir="auto"{style}>{escape(row.detail)}</bdi>' if row.detail else ""
    return (
        f'<tr><td valign="top" style="{cell};padding-left:12px">{names}{"<br>" if names else ""}'
        f'<bdi dir="ltr" style="{_MUTED}">{escape(row.address)}</bdi></td>'
        f'<td valign="top" width="46%" style="{cell}">'
        f'<span style="color:{colour};font-weight:700">{_SIGNS[row.tone]}</span> {escape(row.state_ar)}'
        f'<br><bdi dir="ltr">{escape(row.state_en)}</bdi>'
        f'<br><bdi dir="ltr" style="{_MUTED}">{escape(row.time)}</bdi>{detail}</td></tr>'
    )
