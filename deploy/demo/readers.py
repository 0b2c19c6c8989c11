"""What people do with letters on the receiving side, by the programs that they have.

- :func:`fetch`: curl reads a letter through Wasl's IMAP door; the mailbox is the agency's own server's (E4).
- :func:`confirm`: the addressee's client returns a read receipt, in the form that Thunderbird gives it
  (RFC 8098), by the agency's own Postfix (E5).
- :func:`register`: the registry enters a letter in its incoming register (E6).
- :func:`move`: the registry moves a letter to a folder of its mailbox, on its own server; Wasl watches (E7).
- :func:`approve`: persons of the dashboard agree to a held letter, as each would at a terminal.

How it fails: :class:`ClientFailed` with what the program said, :class:`ServerFailed` for a ``wasl`` command.
"""

from __future__ import annotations

import re
import subprocess
from email.parser import BytesParser
from email.policy import compat32
from email.utils import formatdate
from pathlib import Path

from deploy.demo import mailboxes
from deploy.demo.agencies import PASSWORD, Agency, Person
from deploy.demo.clients import ClientFailed, Doors, hand_in
from deploy.demo.house import Gateway
from tests.servers.place import program


def fetch(where: Doors, person: str, message_id: str) -> bytes:
    """The letter's octets, as curl gets them through Wasl's door ``imaps``."""
    box = f"imaps://localhost:{where.imaps}/INBOX"
    found = _curl(where, person, box, "--request", f'UID SEARCH HEADER Message-ID "{message_id}"')
    uid = re.search(rb"^\* SEARCH (\d+)", found, re.MULTILINE)
    if uid is None:
        raise ClientFailed(f"curl found no {message_id} in the mailbox of {person}:\n{found!r}")
    return _curl(where, person, f"{box};UID={uid[1].decode()}")


def _curl(where: Doors, person: str, *more: str) -> bytes:
    command = [
        program("curl"),
        *("--silent", "--show-error", "--max-time", "20", "--cacert", str(where.authority)),
        *("--user", f"{person}:{PASSWORD}", *more),
    ]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise ClientFailed(f"curl ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    return done.stdout


def confirm(where: Doors, reader: Person, copy: bytes, file: Path) -> None:
    """Return the read receipt that the copy in the mailbox asks for; it is kept in ``file``."""
    header = BytesParser(policy=compat32).parsebytes(copy, headersonly=True)
    asked = re.search(r"[^\s<>]+@[^\s<>]+", str(header["Disposition-Notification-To"] or ""))
    if asked is None:
        raise ClientFailed(f"{header['Wasl-Letter']} asks for no read receipt")
    file.write_bytes(_receipt(reader, copy, asked[0], str(header["Message-ID"])))
    domain = reader.address.rpartition("@")[2]
    hand_in(where.postfix[domain], where, file, reader.address, reader.address, asked[0])


def _receipt(reader: Person, copy: bytes, to: str, message_id: str) -> bytes:
    """The message; its three parts and their names are Thunderbird's."""
    head = copy.partition(b"\r\n\r\n")[0]
    subject = re.search(rb"^Subject:(.*(?:\r\n[ \t].*)*)", head, re.MULTILINE)
    mark = "------------mdn020409030307080607060509"
    domain = reader.address.rpartition("@")[2]
    lines = [
        f"From: {reader.name} <{reader.address}>" if reader.name.isascii() else f"From: {reader.address}",
        f"Message-ID: <read.demo@{domain}>",
        f"Date: {formatdate(localtime=True)}",
        f"Subject: Return Receipt (displayed) -{subject[1].decode() if subject else ''}",
        f"To: {to}",
        f"References: {message_id}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=disposition-notification;\r\n boundary="{mark}"',
        f"\r\n--{mark}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit\r\n",
        f"The message that was sent to {reader.address} has been displayed.",
        f"\r\n--{mark}",
        'Content-Type: message/disposition-notification; name="MDNPart2.txt"',
        "Content-Disposition: inline",
        "Content-Transfer-Encoding: 7bit\r\n",
        f"Reporting-UA: desk.{domain}; Mozilla Thunderbird",
        f"Final-Recipient: rfc822;{reader.address}",
        f"Original-Message-ID: {message_id}",
        "Disposition: manual-action/MDN-sent-manually; displayed",
        f"\r\n--{mark}",
        'Content-Type: text/rfc822-headers; name="MDNPart3.txt"',
        "Content-Disposition: inline",
        "Content-Transfer-Encoding: 7bit\r\n\r\n",
    ]
    return "\r\n".join(lines).encode() + head + f"\r\n\r\n--{mark}--\r\n".encode()


def move(agency: Agency, registry: str, message_id: str, folder: str) -> None:
    """Move a letter on the agency's own server, as the registry's mail client does."""
    with mailboxes.opened(agency, registry) as imap:
        imap.select("INBOX")
        _, found = imap.uid("SEARCH", "HEADER", "Message-ID", f'"{message_id}"')
        uid = (found[0] or b"").decode()
        said, what = imap.uid("MOVE", uid, mailboxes.wire_name(folder))
        if said != "OK":
            raise ClientFailed(f"the letter could not be moved to {folder}: {what!r}")


def approve(gateway: Gateway, number: str, *persons: str) -> str:
    """Release a held letter; the difference from what should be: the last person's word sends it."""
    left = len(persons)
    for person in persons:
        left -= 1
        (one,) = gateway.house.rows("hold", "release", number, person=person)
        wanted = "open" if left else "released"
        if one.get("error") or one["state"] != wanted:
            return f"hold release by {person}: {one.get('error') or one['state']}, not {wanted}"
    return ""


def register(gateway: Gateway, number: str, person: str) -> str:
    """Enter a letter in the incoming register of the person's agency; what was not as it should be."""
    (one,) = gateway.house.rows("letter", "register", number, person=person)
    return str(one["error"]) if one["error"] else "" if one["incoming"] else "it got no incoming number"
