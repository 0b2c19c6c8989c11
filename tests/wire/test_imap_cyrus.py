"""The IMAP proxy in front of Cyrus, which reads the standards in its own way: as direct, and seen."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator

import pytest

from policies.agency import ImapServer
from tests.servers.cyrus import Cyrus, cyrus
from tests.wire.imap_front import DOMAIN, Front, imap_front, letter, private
from tests.wire.test_imap_proxy import Raw, transcript

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Front, Cyrus]]:
    with cyrus() as server:
        upstream = ImapServer(host="127.0.0.1", port=server.imap_port, tls="none")
        with imap_front([upstream]) as front:
            yield front, server


def test_the_same_as_direct(both: tuple[Front, Cyrus]) -> None:
    front, server = both
    through = transcript(front.client("through"))
    with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as client:
        client.login(f"direct@{DOMAIN}", "secret")
        direct = transcript(client)
    for one, other in zip(through, direct, strict=True):
        assert _steady(one) == _steady(other)


def _steady(answer: object) -> str:
    return re.sub(r"\d{10}|MODSEQ \(?\d+\)?|\d+\.\d+ \+ \d+\.\d+|SESSIONID=<[^>]*>", "N", repr(answer))


def test_what_is_seen(both: tuple[Front, Cyrus]) -> None:
    front, _ = both
    client = front.client("seen")
    client.xatom("ENABLE", "QRESYNC")
    for n in (1, 2):
        client.append("INBOX", "", "", letter(n))
        client.append("INBOX", "", "", private(n))
    client.create("Done")
    client.select()
    client.uid("FETCH", "1:4", "(FLAGS ENVELOPE BODY.PEEK[HEADER])")
    client.uid("FETCH", "1:2", "(FLAGS UID BODY[])")
    client.uid("FETCH", "3:4", "(BODY.PEEK[TEXT])")
    client.noop()
    me = f"seen@{DOMAIN}"
    front.seen.wait(me, ("fetched", ""), ("fetched", ""))
    client.uid("STORE", "1:4", "+FLAGS.SILENT", "(\\Answered $MDNSent)")
    client.noop()
    wanted = [("fetched", "")] * 2 + [("answered", ""), ("mdn-sent", "")] * 2
    front.seen.wait(me, *wanted)
    client.uid("MOVE", "1:2", "Done")
    client.uid("STORE", "3", "+FLAGS", "\\Deleted")
    client.uid("EXPUNGE", "3")
    client.logout()
    front.seen.wait(me, *wanted, ("moved", "Done"), ("deleted", ""))
    assert {v.number for v in front.seen.visits if v.what == "deleted"} == {"MOF/2026/000002"}


def test_nothing_vanishes_in_a_question(both: tuple[Front, Cyrus]) -> None:
    """Another session removes a message: a question of ours draws no VANISHED, the client's NOOP does."""
    front, server = both
    client = front.client("gone")
    for n in range(3):
        client.append("INBOX", "", "", private(n))
    raw = Raw(front.port, "gone")
    raw.say(b"a ENABLE QRESYNC")
    raw.until(b"a OK")
    raw.say(b"b SELECT INBOX")
    raw.until(b"b OK")
    with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as other:
        other.login(f"gone@{DOMAIN}", "secret")
        other.select()
        other.store("1", "+FLAGS", "\\Deleted")
        other.expunge()
    raw.say(b"c STORE 3 +FLAGS.SILENT (\\Seen)")
    said = raw.until(b"c ")
    raw.say(b"d FETCH 3 (UID)")
    said += raw.until(b"d ")
    assert not [line for line in said if b"VANISHED" in line]
    assert b"* 3 FETCH (UID 3)" in said
    raw.say(b"e NOOP")
    assert [line for line in raw.until(b"e ") if b"VANISHED" in line] == [b"* VANISHED 1"]


def test_catenate_binary_and_urlauth(both: tuple[Front, Cyrus]) -> None:
    front, _ = both
    client = front.client("more")
    offered = client.capability()[1][0]
    assert b"CATENATE" in offered and b"BINARY" in offered
    assert not re.search(rb"COMPRESS|URLAUTH|LOGINDISABLED|STARTTLS", offered)
    raw = Raw(front.port, "more")
    raw.say(b"a APPEND INBOX ~{14+}\r\nA: b\r\n\r\nx\0y\r\n")
    assert raw.until(b"a ")[-1][:4] in (b"a OK", b"a NO")
    raw.say(b"b APPEND INBOX CATENATE (TEXT {9+}\r\nA: b\r\n\r\n\n TEXT {3+}\r\nxyz)")
    raw.until(b"b ")
    raw.say(b"c APPEND INBOX {10+}\r\nA: b\r\n\r\nc {11+}\r\nA: b\r\n\r\nde")
    assert raw.until(b"c ")[-1].startswith(b"c ")
    raw.say(b"d NOOP")
    assert raw.until(b"d ")[-1].startswith(b"d OK")
