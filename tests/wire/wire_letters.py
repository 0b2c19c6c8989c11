"""Letters and reports for the wire, octet by octet, and looking into what came of them.

Nothing here parses a message by the code under test: fields are found with regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from itertools import count

from tests.servers.sink import Received

_MAC = re.compile(rb"<(wasl-[a-z2-7]+@[a-z.]+)>")
_serial = count(1)


def stuffed(octets: bytes) -> bytes:
    """Octets as DATA carries them (RFC 5321 §4.5.2)."""
    whole = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", whole) + b".\r\n"


def letter(
    to: str = "diwan@moh.gov.example",
    *,
    author: str = "author@mof.gov.example",
    subject: str = "كتاب رسمي",
    text: str = "السلام عليكم،\n",
    more: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """An ordinary letter and its Message-ID, which no other test uses."""
    message = EmailMessage(policy=SMTP)
    message["From"] = author
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0300"
    message["Message-ID"] = message_id = new_id()
    for name, value in (more or {}).items():
        message[name] = value
    message.set_content(text)
    return message.as_bytes(), message_id


def new_id() -> str:
    return f"<{next(_serial)}.{id(_serial):x}@tests.example>"


def header(octets: bytes, name: str) -> str:
    """The raw value of a header field on one line; empty when it is not there."""
    head = octets.partition(b"\r\n\r\n")[0] + b"\r\n"
    found = re.search(rb"(?mi)^" + name.encode() + rb":[ \t]*((?:.*\r\n)(?:[ \t].*\r\n)*)", head)
    return "" if found is None else re.sub(rb"\r\n[ \t]+", b" ", found[1]).decode("utf-8").strip()


def trace_removed(octets: bytes) -> bytes:
    """Without what every server that handles mail must add (RFC 5321 §4.4), and our mark against loops."""
    while octets[:9] == b"Received:" or octets[:14] == b"Wasl-Instance:":
        _, _, octets = octets.partition(b"\r\n")
        while octets[:1] in (b" ", b"\t"):
            _, _, octets = octets.partition(b"\r\n")
    return octets


def as_sent(octets: bytes) -> bytes:
    """A message out of a Maildir with the line ends that it had on the wire."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def body(octets: bytes) -> bytes:
    return octets.partition(b"\r\n\r\n")[2]


def return_address(received: Received) -> str:
    """The reverse-path that a copy left the gateway with; it must be one of the gateway's own."""
    found = _MAC.match(received.sender)
    assert found is not None, received.sender
    return found[1].decode()


def report(action: str, recipient: str, *, status: str = "2.0.0", mta: str = "mail.moh.gov.example") -> bytes:
    """A delivery status notification as RFC 3464 has it."""
    return (
        f"From: MAILER-DAEMON@{mta}\r\nTo: <>\r\nSubject: Delivery report\r\nMessage-ID: {new_id()}\r\n"
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nWords for people.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; {mta}\r\n\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
    ).encode()
