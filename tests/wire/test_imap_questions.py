"""The proxy's own questions, in front of scripted servers that do what real ones seldom do."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway import imap_session
from policies.agency import ImapServer
from tests.servers.place import wait_until
from tests.wire.imap_front import DOMAIN, Front, imap_front
from tests.wire.test_imap_proxy import Raw

HEADER = b"Wasl-Letter: MOF/2026/000001\r\nMessage-ID: <1@mof.gov.example>\r\n\r\n"
Answers = Callable[[bytes, bytes], bytes]


class Scripted:
    """An IMAP server for one client at a time; ``answers`` gives what is said to a tag and a command."""

    def __init__(self, answers: Answers) -> None:
        self.commands: list[bytes] = []
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.upstream = ImapServer(host="127.0.0.1", port=self._listening.getsockname()[1], tls="none")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as lines:
                peer.sendall(b"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN] hello\r\n")
                for line in lines:
                    tag, _, command = line.rstrip(b"\r\n").partition(b" ")
                    if command.startswith(b"AUTHENTICATE"):
                        peer.sendall(tag + b" OK [CAPABILITY IMAP4rev1 IDLE COMPRESS=DEFLATE] in\r\n")
                        continue
                    self.commands.append(command)
                    said = b"* 3 EXISTS\r\n" if command.startswith(b"SELECT") else self._answers(tag, command)
                    if b"\0" not in said:
                        peer.sendall(said + tag + b" OK done\r\n")
                    else:
                        peer.sendall(said.replace(b"\0", b""))

    def close(self) -> None:
        self._listening.close()


@contextmanager
def scripted(answers: Answers) -> Iterator[tuple[Front, Scripted, Raw]]:
    server = Scripted(answers)
    try:
        with imap_front([server.upstream]) as front:
            raw = Raw(front.port, "a")
            raw.say(b"s SELECT INBOX")
            assert raw.until(b"s ") == [b"* 3 EXISTS", b"s OK done"]
            yield front, server, raw
    finally:
        server.close()


def answer(number: int, uid: int, *, before: bytes = b"", behind: bytes = b"") -> bytes:
    """What a server says to the question."""
    return (
        b"* %d FETCH (%sBODY[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)] {%d}\r\n" % (number, before, len(HEADER))
        + HEADER
        + b" UID %d%s)\r\n" % (uid, behind)
    )


def ours(tag: bytes) -> bool:
    return tag.startswith(b"wasl")


def test_an_expunge_in_a_question_is_kept_back_until_it_may_come() -> None:
    def answers(tag: bytes, command: bytes) -> bytes:
        if not ours(tag):
            return b""
        if command.startswith(b"SEARCH"):
            return b"* SEARCH 2\r\n"
        return answer(2, 12) + b"* 1 EXPUNGE\r\n* 2 EXISTS\r\n* OK [ALERT] the sky is falling\r\n"

    with scripted(answers) as (front, server, raw):
        raw.say(b"a UID STORE 12 +FLAGS.SILENT (\\Seen)")
        assert raw.line() == b"a OK done"
        assert raw.line() == b"* OK [ALERT] the sky is falling", "what counts nothing is not kept back"
        front.seen.wait(f"a@{DOMAIN}", ("seen", ""))
        before = len(server.commands)
        for command in (b"FETCH 2 FLAGS", b"STORE 2 FLAGS (x)", b"SEARCH ALL", b"COPY 2 x", b"MOVE 2 x"):
            raw.say(b"b " + command)
            assert raw.line().startswith(b"b NO [EXPUNGEISSUED]"), command
        assert len(server.commands) == before, "numbers that no longer agree never reach the server"
        raw.say(b"c NOOP")
        assert raw.until(b"c ") == [b"* 1 EXPUNGE", b"* 2 EXISTS", b"c OK done"]
        raw.say(b"d FETCH 2 FLAGS")
        assert raw.line() == b"d OK done"


def test_flags_that_come_with_an_answer_are_news_for_the_client() -> None:
    def answers(tag: bytes, command: bytes) -> bytes:
        if not ours(tag):
            return b""
        if command.startswith(b"SEARCH"):
            return b'* ESEARCH (TAG "%s") ALL 2:3\r\n' % tag
        changed = answer(3, 13, behind=b" FLAGS (\\Flagged) MODSEQ (7)")
        return answer(2, 12, before=b"FLAGS (\\Answered) ") + b"* 1 FETCH (FLAGS (\\Deleted))\r\n" + changed

    with scripted(answers) as (front, _, raw):
        raw.say(b"a UID STORE 12:13 +FLAGS.SILENT (\\Seen)")
        assert raw.line() == b"a OK done"
        assert [raw.line() for _ in range(3)] == [
            b"* 1 FETCH (FLAGS (\\Deleted))",
            b"* 2 FETCH (FLAGS (\\Answered))",
            b"* 3 FETCH (FLAGS (\\Flagged) MODSEQ (7))",
        ]
        front.seen.wait(f"a@{DOMAIN}", ("seen", ""), ("seen", ""))


def test_news_of_a_search_that_the_client_keeps_open_is_the_clients() -> None:
    """RFC 5267: a server with CONTEXT=SEARCH tells them whenever it likes, in our questions too."""

    def answers(tag: bytes, command: bytes) -> bytes:
        if not ours(tag):
            return b""
        news = b'* ESEARCH (TAG "c") UID ADDTO (0 7)\r\n'
        if command.startswith(b"SEARCH"):
            return news + b"* SEARCH 2\r\n" + news
        return news + answer(2, 12)

    with scripted(answers) as (front, _, raw):
        raw.say(b"a UID STORE 12 +FLAGS.SILENT (\\Seen)")
        news = b'* ESEARCH (TAG "c") UID ADDTO (0 7)'
        assert [raw.line() for _ in range(4)] == [b"a OK done", news, news, news]
        front.seen.wait(f"a@{DOMAIN}", ("seen", ""))


def test_answers_without_the_fields_are_hidden_too() -> None:
    def answers(tag: bytes, command: bytes) -> bytes:
        if not ours(tag):
            return b""
        if command.startswith(b"SEARCH"):
            return b"* SEARCH 1 2\r\n"
        return (
            b"* 1 FETCH (UID 11 BODY[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)] NIL)\r\n"
            b'* 2 FETCH (UID 12 BODY[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)] "")\r\n'
        )

    with scripted(answers) as (front, _, raw):
        raw.say(b"a UID STORE 11:12 +FLAGS.SILENT (\\Seen)")
        raw.say(b"b NOOP")
        assert [raw.line(), raw.line()] == [b"a OK done", b"b OK done"]
        assert front.seen.visits == []


def test_a_question_that_is_refused_is_nobodys_loss() -> None:
    def answers(tag: bytes, command: bytes) -> bytes:
        return b"\0" + tag + b" BAD no\r\n" if ours(tag) else b""

    with scripted(answers) as (front, server, raw):
        for _ in range(3):
            raw.say(b"a UID STORE 11 +FLAGS.SILENT (\\Seen)")
            assert raw.line() == b"a OK done"
        raw.say(b"b UID MOVE 11 x")
        assert raw.line() == b"b OK done"
        assert front.seen.visits == []
        assert server.commands[-1] == b"UID MOVE 11 x"


def test_a_question_that_stays_without_answer_delays_but_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imap_session, "_PATIENCE_S", 0.2)
    kept: list[bytes] = []

    def answers(tag: bytes, command: bytes) -> bytes:
        if ours(tag):
            kept.append(tag)
            return b"\0"
        if command == b"NOOP" and kept:  # at last
            return b"* SEARCH 1 2 3\r\n" + kept.pop() + b" OK SEARCH\r\n"
        return b"* SEARCH 2\r\n" if command == b"SEARCH ALL" else b""

    with scripted(answers) as (front, _, raw):
        raw.say(b"a UID STORE 11 +FLAGS.SILENT (\\Seen)")
        assert raw.line() == b"a OK done"
        raw.say(b"b NOOP")
        assert raw.line() == b"b OK done", "neither the answer nor its tag are shown"
        raw.say(b"c SEARCH ALL")
        assert [raw.line(), raw.line()] == [b"* SEARCH 2", b"c OK done"]
        raw.say(b"d UID STORE 11 +FLAGS.SILENT (\\Seen)")
        assert raw.line() == b"d OK done"
        assert front.seen.visits == []


def test_a_command_that_nobody_answers_does_not_hold_up_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap_session, "_PATIENCE_S", 0.2)

    def answers(tag: bytes, command: bytes) -> bytes:
        return b"\0" if command == b"XLOST" else b"* SEARCH\r\n" if command.startswith(b"SEARCH") else b""

    with scripted(answers) as (_, server, raw):
        raw.say(b"a XLOST\r\nb UID MOVE 11 x")
        assert raw.line() == b"b OK done"
        assert server.commands[-1] == b"UID MOVE 11 x"


def test_words_that_look_like_protocol_change_nothing() -> None:
    text = b"* OK a1 OK {3}\r\n* BYE-BYE\r\n"

    def answers(tag: bytes, command: bytes) -> bytes:
        if ours(tag):
            return b"* SEARCH\r\n"
        body = b"wasl OK\r\na OK\r\n* 1 EXPUNGE\r\n* CAPABILITY COMPRESS=DEFLATE\r\n+ go\r\n"
        return text + b"* 1 FETCH (BODY[1] {%d}\r\n" % len(body) + body + b")\r\n"

    with scripted(answers) as (_, _, raw):
        raw.say(b"a FETCH 1 BODY[1]")
        said = raw.until(b")")
        assert b"* OK a1 OK {3}" in said and b"* CAPABILITY COMPRESS=DEFLATE" in said
        assert raw.line() == b"a OK done"
        raw.say(b"a CAPABILITY")
        assert b"a OK done" in raw.until(b"a OK done")


def test_a_server_that_floods_holds_little_memory() -> None:
    def answers(tag: bytes, command: bytes) -> bytes:
        if command == b"FLOOD":
            return b"* SEARCH " + b"1 " * 3_000_000 + b"\r\n* 9999999999999999999999 FETCH (x)\r\n"
        return b""

    with scripted(answers) as (front, _, raw):
        raw.say(b"a FLOOD")
        wait_until(lambda: len(raw.sock.recv(1, socket.MSG_PEEK)) == 1, "the flood")
        (session,) = front.proxy._sessions
        assert len(session._responses._rest) < 300_000
        assert re.fullmatch(rb"\* SEARCH (1 ){3000000}", raw.line())
        raw.until(b"a OK")
