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
_GRADES = {"accepted": "E1 accepted", "relayed": "E2 at the server", "delivered": "E3 in the mailbox"}


def _text(text: str, style: str = "") -> Text:
    return Text(text if text.isascii() else f"{_LRM}{text}{_LRM}", style=style)


def show(console: Console, found: Sequence[Found]) -> None:
    """Print one row per letter and recipient."""
    table = Table(box=HORIZONTALS, pad_edge=False, header_style="bold", expand=False)
    table.add_column("number", no_wrap=True)
    table.add_column("subject", justify="right", max_width=34, overflow="ellipsis", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("grade", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("receipts", max_width=20)
    table.add_column("", no_wrap=True)
    for one in found:
        mark = Text("✓", "green") if one.as_it_should() else Text("✗", "bold red")
        for row, address in enumerate(one.letter.recipients):
            state, grade, outcome = _standing(one, address)
            hidden = " (bcc)" if address in one.letter.bcc else ""
            table.add_row(
                one.number or "–" if row == 0 else "",
                _text(one.letter.subject) if row == 0 else "",
                one.letter.envelope_sender if row == 0 else "",
                address + hidden,
                state,
                grade,
                outcome,
                ", ".join(one.kinds) or "–" if row == 0 else "",
                mark if row == 0 else "",
                end_section=row == len(one.letter.recipients) - 1,
            )
    console.print(table)


def _standing(one: Found, address: str) -> tuple[Text, str, str]:
    if one.refusal:
        return Text(f"refused {one.refusal}", "yellow"), "–", "–"
    fate = one.fates.get(address)
    if fate is None:
        passed = address in one.copies
        return Text("passed on" if passed else "not seen", "" if passed else "red"), "–", "not registered"
    colour = {"sent": "green", "failed": "red"}.get(fate.state, "yellow")
    return Text(fate.state, colour), _GRADES.get(fate.grade, fate.grade), fate.outcome
