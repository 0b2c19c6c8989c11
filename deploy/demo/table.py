"""The table of states that the demonstration ends with, for a terminal.

Arabic stands between left-to-right marks (UAX #9), so that a terminal that orders text itself keeps
the columns in their places, and one that does not shows the letters in the order in which they are written.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.outcome import Found

_LRM = "\u200e"
_GRADES = {"accepted": "E1", "relayed": "E2", "delivered": "E3"}
_LEGEND = (
    "E1 accepted by Wasl   E2 taken by the agency's server   E3 in the mailbox   @mof = @mof.gov.example"
)


def show(console: Console, found: Sequence[Found]) -> None:
    """Print one row per letter and recipient."""
    table = Table(box=HORIZONTALS, pad_edge=False, header_style="bold")
    table.add_column("number", no_wrap=True)
    table.add_column("subject", justify="right", max_width=26, overflow="ellipsis", no_wrap=True)
    for name in ("from", "to", "state", "grade", "outcome"):
        table.add_column(name, no_wrap=True)
    table.add_column("receipts", min_width=11)
    table.add_column("", no_wrap=True)
    for one in found:
        mark = Text("✓", "green") if one.as_it_should() else Text("✗", "bold red")
        for row, address in enumerate(one.letter.recipients):
            head = row == 0
            table.add_row(
                (one.number or "–") if head else "",
                _text(one.letter.subject) if head else "",
                _short(one.letter.envelope_sender) if head else "",
                _short(address) + (" bcc" if address in one.letter.bcc else ""),
                *_standing(one, address),
                (", ".join(one.kinds) or "–") if head else "",
                mark if head else "",
            )
    console.print(table)
    console.print(_LEGEND, style="dim")


def _text(text: str) -> Text:
    return Text(text if text.isascii() else f"{_LRM}{text}{_LRM}")


def _short(address: str) -> str:
    return address.removesuffix(".gov.example")


def _standing(one: Found, address: str) -> tuple[Text, str, str]:
    """State, grade and outcome."""
    if one.refusal:
        return Text(one.refusal, "yellow"), "–", "refused"
    fate = one.fates.get(address)
    if fate is None:
        return (Text("passed on"), "–", "private") if address in one.copies else (Text("?", "red"), "–", "–")
    colour = {"sent": "green", "failed": "red"}.get(fate.state, "yellow")
    return Text(fate.state, colour), _GRADES.get(fate.grade, fate.grade), fate.outcome
