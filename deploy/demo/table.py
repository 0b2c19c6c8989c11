"""The table of states that the demonstration ends with, for a terminal of any width.

In 130 columns it is a table, in fewer two or three short lines a letter. Arabic stands between left-to-right
marks (UAX #9), so that a terminal that orders text itself keeps the columns in their places, and one that
does not shows the letters in the order in which they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.outcome import Found

WIDE = 130  # columns
_LRM = "\u200e"
_ZONE = ZoneInfo("Asia/Amman")
_GRADES = ("accepted", "relayed", "delivered", "fetched", "read", "registered", "processed")
_LEGEND = (
    "E1 accepted by Wasl   E2 taken by the agency's server   E3 in the mailbox   E4 fetched by a client",
    "E5 read receipt   E6 in the incoming register   E7 closed or answered   @mof = @mof.gov.example",
)


def show(console: Console, found: Sequence[Found]) -> None:
    """Print where each letter is for each recipient."""
    if console.width < WIDE:
        for one in found:
            _lines(console, one)
        console.print()
    else:
        console.print(_table(found))
    for line in _LEGEND:
        console.print(line, style="dim")


def _table(found: Sequence[Found]) -> Table:
    table = Table(box=HORIZONTALS, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("number", no_wrap=True)
    table.add_column("subject", justify="right", max_width=22, overflow="ellipsis", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("to", max_width=13, overflow="ellipsis", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("how far", no_wrap=True)
    table.add_column("what people did", min_width=17, overflow="fold")
    table.add_column("receipts", min_width=20, max_width=20)
    table.add_column("", no_wrap=True)
    for one in found:
        for row, address in enumerate(one.letter.recipients):
            head = row == 0
            table.add_row(
                (one.number or "–") if head else "",
                _text(one.letter.subject) if head else "",
                _short(one.letter.envelope_sender) if head else "",
                _to(one, address),
                _state(one, address),
                _ladder(one, address),
                _done(one, address),
                (", ".join(one.kinds) or "–") if head else "",
                _mark(one) if head else "",
            )
    return table


def _lines(console: Console, one: Found) -> None:
    """One letter in a narrow terminal."""
    console.print()
    console.print(_mark(one), Text(one.number or "–", "bold"), _text(one.letter.subject), soft_wrap=True)
    sender = _short(one.letter.envelope_sender)
    for row, address in enumerate(one.letter.recipients):
        way = f"  {sender if row == 0 else '':<10} → {_to(one, address):<14}"
        said = (_ladder(one, address), _state(one, address), _done(one, address, "; "))
        console.print(Text(way), *(word for word in said if word), soft_wrap=True)
    if one.kinds:
        console.print(Text(f"  receipts: {', '.join(one.kinds)}", "dim"), soft_wrap=True)


def _mark(one: Found) -> Text:
    return Text("✓", "green") if one.as_it_should() else Text("✗", "bold red")


def _text(text: str) -> Text:
    return Text(text if text.isascii() else f"{_LRM}{text}{_LRM}")


def _short(address: str) -> str:
    return address.removesuffix(".gov.example")


def _to(one: Found, address: str) -> str:
    return _short(address) + (" bcc" if address in one.letter.bcc else "")


def _state(one: Found, address: str) -> Text:
    """The state of the relay, and the outcome where it says more."""
    if one.refusal:
        return Text(f"refused {one.refusal.rpartition(' ')[2]}", "yellow")
    fate = one.fates.get(address)
    if fate is None:
        return Text("private") if address in one.copies else Text("?", "red")
    colour = {"sent": "green", "failed": "red"}.get(fate.state, "yellow")
    said = fate.state if fate.outcome in ("open", fate.state) else f"{fate.state}, {fate.outcome}"
    return Text(said, colour)


def _ladder(one: Found, address: str) -> Text:
    """The grade and its place on the ladder of seven; the steps below it need not have been seen."""
    fate = one.fates.get(address)
    if one.refusal or fate is None or fate.grade not in _GRADES:
        return Text("–")
    below = _GRADES.index(fate.grade)
    above = len(_GRADES) - below - 1
    return Text.assemble(f"E{below + 1} ", ("·" * below, "dim"), ("●", "green"), ("·" * above, "dim"))


def _done(one: Found, address: str, between: str = "\n") -> Text:
    """What was done with it there, and by when an answer is due."""
    said = [one.done[address]] if address in one.done else []
    if one.due_us is not None and address == one.letter.to[0]:
        due = datetime.fromtimestamp(one.due_us / 1_000_000, _ZONE)
        said.append(f"due {due:%d %b %H:%M}")
    return _text(between.join(said))
