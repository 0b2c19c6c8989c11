"""A whole gateway: letters go in by SMTP, are read through its IMAP doors, and the record says so.

And nothing of anything else does: after proxied private mail neither database nor logs nor archive hold it.
"""

from __future__ import annotations

import imaplib
import os
import re
import resource
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import wait_until
from tests.wire.gateway_front import MOF, MOH, Agency, Front, gateway_front, hop
from tests.wire.wire_letters import letter

pytestmark = pytest.mark.servers
PEOPLE = Agency(code="MOH", domain=MOH.domain, bind=MOH.bind)


@pytest.fixture(scope="module")
def mailboxes() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, mailboxes: Dovecot
) -> Iterator[Front]:
    imap = f"imap: {{host: 127.0.0.1, port: {mailboxes.imap_port}, tls: none}}\n"
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # the gateway has to lower it by itself
    with gateway_front(
        tmp_path_factory.mktemp("imap"),
        authority,
        agencies=(MOF, PEOPLE),
        hops={"MOH": hop(mailboxes.lmtp_port, "lmtp") + imap},
        doors=("imap", "imaps"),
        sections={"log": {"level": "debug"}},
    ) as running:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
        yield running


def client(front: Front, user: str) -> imaplib.IMAP4:
    opened = imaplib.IMAP4_SSL(
        "localhost", front.wasl.ports["imaps"], ssl_context=front.authority.client(), timeout=90
    )
    opened.login(user, "secret")
    return opened


def noted(front: Front, message_id: str) -> list[Any]:
    return [row for row in front.evidence(message_id) if row.source == "imap-proxy"]


def test_a_letter_that_is_fetched_piece_by_piece(front: Front) -> None:
    octets, message_id = letter(text="السلام عليكم،\n" * 500)
    user = "pieces@moh.gov.example"
    front.accept(octets, user)
    front.wait_standing(message_id, user, "sent", 3, "open")
    reader = client(front, user)
    reader.select()
    pieces: list[bytes] = []
    while not pieces or len(pieces[-1]) == 8000:
        answer: Any = reader.uid("FETCH", "1", f"(UID BODY.PEEK[]<{8000 * len(pieces)}.8000>)")[1]
        pieces.append(answer[0][1])
        reader.noop()
        assert len(pieces) > 1 or noted(front, message_id) == [], "the rest is still to come"
    assert len(pieces) > 1
    reader.logout()
    front.wait_standing(message_id, user, "sent", 4, "open")
    assert [row.event for row in noted(front, message_id)] == ["fetched"]


def test_a_letter_that_is_fetched_seen_and_moved(front: Front) -> None:
    octets, message_id = letter()
    user = "diwan@moh.gov.example"
    number = front.accept(octets, user)
    front.wait_standing(message_id, user, "sent", 3, "open")
    reader = client(front, user)
    reader.xatom("ID", '("name" "TestMail" "version" "2")')
    reader.create("Done")
    reader.select()
    fields: Any = reader.fetch("1", "(BODY.PEEK[HEADER.FIELDS (WASL-LETTER)])")[1]
    assert number.encode() in fields[0][1]
    assert noted(front, message_id) == []
    reader.fetch("1", "(RFC822)")
    reader.uid("STORE", "1", "+FLAGS", "(\\Seen \\Answered)")
    reader.uid("MOVE", "1", "Done")
    reader.logout()
    front.wait_standing(message_id, user, "sent", 4, "open")
    wait_until(lambda: len(noted(front, message_id)) == 4, "four notes")
    rows = noted(front, message_id)
    assert [(r.event, r.detail.get("flag") or r.detail.get("to")) for r in rows] == [
        ("fetched", None),
        ("seen", "\\Seen"),
        ("seen", "\\Answered"),
        ("noticed", "Done"),
    ]
    assert {r.reporter for r in rows} == {user}
    assert rows[0].detail["client"] == "TestMail 2" and rows[0].detail["account"] == user
    # Once more changes nothing: how often somebody looks is nobody's business.
    again = client(front, user)
    again.select("Done")
    again.fetch("1", "(RFC822)")
    again.logout()
    # Another account of the agency that gets hold of it is another matter, and is told as such.
    octets = mail_of(front, user, "Done")
    other = client(front, "clerk@moh.gov.example")
    other.append("INBOX", "", "", octets)
    other.select()
    other.fetch("1", "(BODY[])")
    other.logout()
    wait_until(lambda: len(noted(front, message_id)) == 5, "the other account's")
    (*_, last) = noted(front, message_id)
    assert last.reporter == "clerk@moh.gov.example" and last.detail["other_mailbox"] is True
    front.verify()


def mail_of(front: Front, user: str, folder: str) -> bytes:
    with client(front, user) as reader:
        reader.select(folder, readonly=True)
        answer: Any = reader.fetch("1", "(BODY.PEEK[])")[1]
        return bytes(answer[0][1])


def test_a_made_up_letter_proves_nothing(front: Front) -> None:
    octets, message_id = letter()
    user = "victim@moh.gov.example"
    number = front.accept(octets, user)
    front.wait_standing(message_id, user, "sent", 3, "open")
    other = client(front, "forger@moh.gov.example")
    for tag, mid in ((number, "<another@mof.gov.example>"), ("MOF/2026/999999", message_id), (number, "")):
        other.append("INBOX", "", "", f"Wasl-Letter: {tag}\r\nMessage-ID: {mid}\r\n\r\nx\r\n".encode())
    other.select()
    other.fetch("1:*", "(BODY[])")
    other.uid("STORE", "1:*", "+FLAGS", "(\\Seen)")
    other.logout()
    time.sleep(0.5)
    assert noted(front, message_id) == []
    assert front.standing(message_id) == {user: ("sent", 3, "open")}


def test_nothing_is_kept_of_private_mail(front: Front, mailboxes: Dovecot) -> None:
    user, secret = "private@moh.gov.example", "Zq7verysecretword"
    reader = client(front, user)
    reader.create(f"{secret}folder")
    for n in range(20):
        octets = (
            f"From: {secret}from@example.org\r\nTo: {user}\r\nMessage-ID: <{secret}{n}@example.org>\r\n"
            f"Subject: {secret} {n}\r\nIn-Reply-To: <{secret}parent@example.org>\r\n\r\nDear {secret}\r\n"
        )
        reader.append("INBOX", "", "", octets.encode())
    reader.select()
    reader.fetch("1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)")
    reader.fetch("1:*", "(BODY[])")
    reader.fetch("1:5", "(RFC822.TEXT)")
    reader.uid("STORE", "1:20", "+FLAGS", f"(\\Seen \\Answered {secret}word)")
    reader.search(None, "SUBJECT", secret)
    reader.uid("COPY", "1:3", f"{secret}folder")
    reader.uid("MOVE", "4:6", f"{secret}folder")
    reader.store("1:3", "+FLAGS", "\\Deleted")
    reader.expunge()
    reader.logout()
    # A client that is cut off in the middle, and one that speaks nonsense.
    half = client(front, user)
    half.send(f"x SEARCH SUBJECT {{100}}\r\n{secret}".encode())
    half.shutdown()
    # One that does not read what it asked for: it waits where it is, and in no file.
    slow = client(front, user)
    slow.append("INBOX", "", "", f"Subject: {secret}\r\n\r\n{secret * 200_000}\r\n".encode())
    slow.select()
    slow.send(b"y FETCH * (BODY[])\r\n")
    time.sleep(0.5)
    pid = front.wasl.child.process.pid
    written = _written(pid)
    assert any(path.is_relative_to(front.house.data) for path in written)
    assert [path for path in written if not path.is_relative_to(front.house.root)] == []
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 ", limits, re.M), "and a process that dies leaves no core"
    slow.shutdown()
    front.wasl.house.run("ledger", "verify")
    kept = [path for path in front.house.root.rglob("*") if path.is_file()]
    assert any(path.name == "wasl.db" for path in kept)
    assert [path for path in kept if _holds(path, secret)] == []
    assert secret not in front.wasl.log()
    theirs = [path for path in (mailboxes.place / "mail").rglob("*") if path.is_file()]
    assert any(_holds(path, secret) for path in theirs), "the words were there to be found"


def _written(pid: int) -> list[Path]:
    """The files that a process and its children have open for writing, deleted ones too."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            info = (fd.parent.parent / "fdinfo" / fd.name).read_text()
            flags = int(next(line for line in info.splitlines() if line.startswith("flags:"))[6:], 8)
            if flags & os.O_ACCMODE and stat.S_ISREG(fd.stat().st_mode):
                found.append(fd.readlink())
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += [
                path for child in (task / "children").read_text().split() for path in _written(int(child))
            ]
    return found


def _holds(path: Path, word: str) -> bool:
    with suppress(FileNotFoundError):  # what came and went while the folder was read
        return word.lower().encode() in path.read_bytes().lower()
    return False
