"""``wasl inspect``: what Wasl reads in a message file, for people or as one JSON object a line.

The file is read as it is found on disks: a mailbox separator or a byte order mark before the header
and line ends of any system are tolerated, nothing is changed in what is hashed. Whatever the file,
there is a record: a directory, a binary file or a path that cannot be opened is ``unparseable``, and
why stands on standard error (:attr:`Inspection.note`). Nothing here raises.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies import attachment
from policies.attachment_fact import AttachmentFact
from tracker import kind
from tracker.dsn import Report
from tracker.kind import Kind
from tracker.mdn import Disposition

MAX_FILE = 1 << 28  # octets of a file that are read

_BOM = b"\xef\xbb\xbf"
_NAME = re.compile(rb"[!-9;-~]{1,200}[ \t]*:|From ")
_SEPARATOR = re.compile(rb"\nFrom \S{1,300}[^\n]{0,100} \d\d:\d\d(?::\d\d)?[^\n]{0,40}\r?\n(?=[!-9;-~]+:)")
# Written as escapes: what a terminal would act upon, and halves of characters that no UTF-8 can hold.
_ESCAPED = re.compile("[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one file holds; ``note`` tells why a file could not be read."""

    file: str
    kind: Kind = Kind.UNPARSEABLE
    message_id: str | None = None
    author: str | None = None
    subject: str | None = None
    attachments: tuple[AttachmentFact, ...] = ()
    reports: tuple[Report, ...] = ()
    disposition: Disposition | None = None
    refers_to: str | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record of ``wasl inspect --json``: always the same keys, None where nothing was found."""
        return {
            "file": self.file,
            "kind": self.kind.value,
            "message_id": self.message_id,
            "from": self.author,
            "subject": self.subject,
            "attachments": [
                {
                    "name": a.name or None,
                    "declared": a.declared,
                    "detected": a.detected,
                    "size": a.size,
                    "sha256": a.sha256,
                }
                for a in self.attachments
            ],
            "reports": [
                {
                    "original_recipient": r.original_recipient,
                    "final_recipient": r.final_recipient,
                    "action": r.action,
                    "status": r.status,
                    "diagnostic_code": r.diagnostic_code,
                    "remote_mta": r.remote_mta,
                }
                for r in self.reports
            ],
            "disposition": _disposition(self.disposition),
            "refers_to": self.refers_to,
        }


def _disposition(found: Disposition | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "final_recipient": found.final_recipient,
        "mode": found.mode,
        "type": found.type,
        "original_message_id": found.original_message_id,
    }


def inspect_path(path: str | os.PathLike[str]) -> Inspection:
    """Read one file; ``-`` is standard input. Never raises."""
    name = os.fsdecode(os.fspath(path))
    try:
        octets, note = _read(name)
    except (OSError, ValueError, MemoryError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        return Inspection(file=name, note=reason or type(e).__name__)
    return inspect_octets(name, octets, note)


def _read(name: str) -> tuple[bytes, str]:
    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE), ""
    with open(name, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        octets = file.read(MAX_FILE)
    return octets, "" if len(octets) == status.st_size else f"only the first {len(octets)} octets were read"


def _without_waiting(name: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe and without becoming a terminal's process."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)


def inspect_octets(name: str, octets: bytes, note: str = "") -> Inspection:
    """Read the octets of one message file. Never raises."""
    try:
        return _inspect(name, message_of(octets), note)
    except Exception as e:  # the promise of the command: a record for every file, also when we are wrong
        return Inspection(file=name, note=f"{note}; {type(e).__name__}: {e}".lstrip("; "))


def message_of(octets: bytes) -> bytes:
    """The first message of a file, without what systems put before it."""
    if octets.startswith(_BOM):
        octets = octets[len(_BOM) :]
    if b"\n" not in octets and b"\r" in octets:  # line ends of old Macintosh systems
        octets = octets.replace(b"\r", b"\n")
    lead = len(octets) - len(octets.lstrip(b" \t\r\n"))
    begin = octets.rfind(b"\n", 0, lead) + 1  # the first line with anything in it
    if begin and _NAME.match(octets, begin):
        octets = octets[begin:]
    if octets.startswith(b"From "):
        following = _SEPARATOR.search(octets)
        if following is not None:
            octets = octets[: following.start() + 1]
    return octets


def _inspect(name: str, octets: bytes, note: str) -> Inspection:
    reading = kind.read(octets)
    if reading.kind is Kind.UNPARSEABLE:
        return Inspection(file=name, note=note or ("an empty file" if not octets else "no message header"))
    headers = reading.headers
    author = headers.addresses("from")
    report = reading.kind in (Kind.DSN, Kind.MDN, Kind.BOUNCE)
    return Inspection(
        file=name,
        kind=reading.kind,
        message_id=headers.message_id,
        author=author[0].spec if author else None,
        subject=headers.text("subject"),
        attachments=attachment.look(octets, reading.structure, report=report),
        reports=reading.reports,
        disposition=reading.disposition if report else None,
        refers_to=reading.refers_to,
        note=note or ", ".join(reading.structure.faults),
    )


def json_line(found: Inspection) -> bytes:
    """One record as one line of UTF-8 JSON; controls and bidi marks as escapes, so that they show."""
    text = json.dumps(found.to_json(), ensure_ascii=False)
    return _ESCAPED.sub(lambda m: f"\\u{ord(m[0]):04x}", text).encode() + b"\n"


def run(files: Sequence[str], *, as_json: bool, out: BinaryIO | None = None) -> int:
    """The command: a record for each file in the order given. Returns the exit status, always 0."""
    sink = out or sys.stdout.buffer
    try:
        if as_json:
            for name in files:
                sink.write(json_line(inspect_path(name)))
                sink.flush()
        else:
            show(map(inspect_path, files), Console())
    except BrokenPipeError:
        # The reader has seen enough; what is still in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def show(found: Iterable[Inspection], console: Console) -> None:
    """Records for people: one block for each file."""
    for index, one in enumerate(found):
        if index:
            console.print()
        console.print(block(one))
        if one.attachments:
            console.print(_attachment_table(one.attachments))
        if one.reports:
            console.print(_report_table(one.reports))


def block(one: Inspection) -> Table:
    """The fields of one record as two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows: list[tuple[str, str | None]] = [
        ("File", one.file),
        ("Kind", one.kind.value),
        ("Message-ID", one.message_id),
        ("From", one.author),
        ("Subject", one.subject),
        ("Refers to", one.refers_to),
    ]
    told = one.disposition
    if told is not None:
        rows.append(("Disposition", " · ".join(t for t in (told.type, told.mode, told.sending_mode) if t)))
        rows.append(("Recipient", told.final_recipient))
        rows.append(("Original", told.original_message_id))
    rows.append(("Note", one.note or None))
    for label, value in rows:
        if value is not None:
            table.add_row(label, visible(value))
    return table


def visible(value: str | None) -> Text:
    """Text with controls, bidi marks and line ends written as escapes."""
    return Text("" if value is None else _HIDDEN.sub(lambda m: f"\\u{ord(m[0]):04x}", value))


_HIDDEN = re.compile(
    "[\x00-\x1f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def _attachment_table(found: Sequence[AttachmentFact]) -> Table:
    table = Table(title="Attachments", title_justify="left", box=None, padding=(0, 2))
    for label in ("Name", "Declared", "Detected"):
        table.add_column(label, overflow="fold")
    table.add_column("Octets", justify="right")
    table.add_column("SHA-256", overflow="fold")
    for a in found:
        table.add_row(
            visible(a.name or "–"), visible(a.declared), visible(a.detected), f"{a.size:,}", a.sha256[:16]
        )
    return table


def _report_table(found: Sequence[Report]) -> Table:
    table = Table(title="Reports", title_justify="left", box=None, padding=(0, 2))
    for label in ("Recipient", "Action", "Status", "Remote MTA", "Diagnostic"):
        table.add_column(label, overflow="fold")
    for r in found:
        table.add_row(
            *(visible(v) for v in (r.recipient, r.action, r.status, r.remote_mta, r.diagnostic_code))
        )
    return table
