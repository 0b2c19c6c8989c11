"""The IMAP proxy on the wire, in front of Dovecot: ways in, what passes, what is seen, what is cut off."""

from __future__ import annotations

import base64
import imaplib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.settings_imap import Imap
from policies.agency import ImapServer
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import wait_until
from tests.wire.imap_front import DOMAIN, Front, imap_front, letter, private

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def plain(dovecot_server: Dovecot) -> Iterator[Front]:
    """Without TLS, as bench and tests may have it on the loopback."""
    with imap_front([ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")]) as front:
        yield front


class Raw:
    """A client that says exactly what it is told to."""

    def __init__(self, port: int, user: str = "") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.buffer = b""
        self.line()
        if user:
            self.say(f"l LOGIN {user}@{DOMAIN} secret".encode())
            assert self.until(b"l ")[-1].startswith(b"l OK")

    def say(self, line: bytes) -> None:
        self.sock.sendall(line + b"\r\n")

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def until(self, start: bytes) -> list[bytes]:
        """Lines up to the one that begins so."""
        lines = [self.line()]
        while not lines[-1].startswith(start):
            lines.append(self.line())
        return lines

    def ended(self) -> bytes:
        """What still comes until the end of the connection."""
        try:
            while more := self.sock.recv(65536):
                self.buffer += more
        except ConnectionResetError:
            pass
        return self.buffer


# Ways in.


def test_every_way_to_log_in(plain: Front) -> None:
    user, password = f"ways@{DOMAIN}", "secret"
    message = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    name, word = (base64.b64encode(w.encode()).decode() for w in (user, password))
    dialogues: list[list[tuple[str, str]]] = [
        [(f"a LOGIN {user} {password}", "a OK")],
        [(f'a login "{user}" "{password}"', "a OK")],
        [(f"a LOGIN {{{len(user)}}}", "+"), (f"{user} {{{len(password)}}}", "+"), (password, "a OK")],
        [(f"a LOGIN {{{len(user)}+}}\r\n{user} {{{len(password)}+}}\r\n{password}", "a OK")],
        [(f"a LOGIN {user} {{{len(password)}}}", "+"), (password, "a OK")],
        [(f"a AUTHENTICATE PLAIN {message}", "a OK")],
        [("a AUTHENTICATE PLAIN", "+"), (message, "a OK")],
        [("a AUTHENTICATE LOGIN", "+"), (name, "+"), (word, "a OK")],
        [(f"a authenticate login {name}", "+"), (word, "a OK")],
        [("a AUTHENTICATE PLAIN", "+"), ("*", "a BAD"), (f"b LOGIN {user} {password}", "b OK")],
        [("a SELECT INBOX", "a BAD"), ("b ID NIL", "* ID"), (f"c LOGIN {user} {password}", "b OK")],
    ]
    for dialogue in dialogues:
        client = Raw(plain.port)
        for said, answer in dialogue:
            client.say(said.encode())
            assert client.line().startswith(answer.encode()), (dialogue, said)


def test_a_wrong_password_is_the_servers_word(plain: Front) -> None:
    client = plain.client()
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.login(f"wrong@{DOMAIN}", "not it")
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.login("nobody@elsewhere.example", "secret")
    with pytest.raises(imaplib.IMAP4.error):
        client.login("nodomain", "secret")
    client.login(f"wrong@{DOMAIN}", "secret")
    assert client.select()[0] == "OK"


def test_who_fails_too_often_has_to_wait(dovecot_server: Dovecot) -> None:
    upstream = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")
    with imap_front([upstream], settings=Imap(clear_login=True, failures=3)) as front:
        for _ in range(3):
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                front.client().login(f"throttled@{DOMAIN}", "no")
        with pytest.raises(imaplib.IMAP4.error, match=r"\[UNAVAILABLE\] Too many"):
            front.client().login(f"throttled@{DOMAIN}", "secret")
        assert front.client("another").select()[0] == "OK", "another account may"
        wait_until(lambda: "Login: user=<another@" in dovecot_server.log(), "the log of that")
        assert "Login: user=<throttled@" not in dovecot_server.log(), "the server was not asked"


def test_a_server_that_is_away_is_no_wrong_password() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with imap_front([ImapServer(host="127.0.0.1", port=closed.getsockname()[1], tls="none")]) as front:
            for _ in range(12):
                with pytest.raises(imaplib.IMAP4.error, match=r"UNAVAILABLE.*cannot be reached"):
                    front.client().login(f"a@{DOMAIN}", "secret")


def test_tls_on_both_sides(authority: Authority) -> None:
    with dovecot(tls=authority.issue("127.0.0.1", "localhost")) as server:
        assert server.imaps_port is not None
        for port, how in ((server.imap_port, "required"), (server.imaps_port, "implicit")):
            upstream = ImapServer(host="127.0.0.1", port=port, tls=how, ca=authority.file)
            with imap_front(
                [upstream], tls=authority.context("localhost", "127.0.0.1"), settings=Imap()
            ) as front:
                client = front.client()
                assert "LOGINDISABLED" in client.capabilities
                with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
                    client.login(f"tls@{DOMAIN}", "secret")
                client = front.client()
                client.starttls(authority.client())
                client.login(f"tls@{DOMAIN}", "secret")
                assert client.append("INBOX", "", "", letter(1))[0] == "OK"
                inside = imaplib.IMAP4_SSL("localhost", front.tls_port, ssl_context=authority.client())
                inside.login(f"tls@{DOMAIN}", "secret")
                inside.select()
                large = private(2, "x" * 3_000_000)
                assert inside.append("INBOX", "", "", large)[0] == "OK"
                assert inside.uid("FETCH", "*", "(BODY.PEEK[])")[1][0][1] == large
                inside.logout()
        stranger = ImapServer(host="127.0.0.1", port=server.imaps_port, tls="implicit")
        with imap_front([stranger]) as front, pytest.raises(imaplib.IMAP4.error, match="cannot be reached"):
            front.client("unverified")


def test_nothing_before_the_handshake_is_used_after_it(plain: Front, authority: Authority) -> None:
    upstream = ImapServer(host="127.0.0.1", port=1, tls="none")
    with imap_front([upstream], tls=authority.context("localhost", "127.0.0.1")) as front:
        raw = Raw(front.port)
        raw.sock.sendall(b"a STARTTLS\r\nb NOOP\r\n")
        assert b"b OK" not in raw.ended()
        raw = Raw(front.port)
        raw.say(b"a STARTTLS")
        assert raw.line().startswith(b"a OK")
        raw.sock.sendall(b"b NOOP\r\n")  # no handshake: the connection ends
        assert b"b OK" not in raw.ended()
        raw = Raw(front.port)
        raw.say(b'i ID ("name" "before")')
        raw.until(b"i OK")
        raw.say(b"a STARTTLS")
        raw.line()
        inside = authority.client().wrap_socket(raw.sock, server_hostname="localhost")
        inside.sendall(b"c CAPABILITY\r\n")
        said = inside.recv(4096)
        assert b"STARTTLS" not in said and b"AUTH=PLAIN" in said


def test_a_server_that_injects_before_the_handshake_is_not_used(authority: Authority) -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            peer.sendall(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hello\r\n")
            peer.recv(1000)
            peer.sendall(b"w1 OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
            peer.recv(1000)
            peer.close()

        threading.Thread(target=serve, daemon=True).start()
        upstream = ImapServer(host="127.0.0.1", port=listening.getsockname()[1], tls="required", verify=False)
        with imap_front([upstream]) as front, pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
            front.client("a")


# What passes.


def transcript(client: imaplib.IMAP4) -> list[object]:
    """What a client gets for a good part of the protocol, times and identifiers taken out."""
    out: list[object] = []

    def note(answer: tuple[str, Any]) -> None:
        out.append((answer[0], [p for p in answer[1] if not isinstance(p, bytes) or b" secs" not in p]))

    for n in range(3):
        client.append("INBOX", "(\\Flagged)", "", letter(n) if n else private(n))
    client.create("Empty")
    client.enable("CONDSTORE")
    note(client.select())
    note(client.fetch("1:*", "(FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
    note(client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT MESSAGE-ID)])"))
    note(client.uid("FETCH", "1:*", "(BODY.PEEK[]<0.10> BODY.PEEK[1] BINARY.PEEK[1])"))
    note(client.uid("FETCH", "2", "(RFC822)"))
    note(client.uid("SEARCH", "SUBJECT", '"MOF"'))
    note(client.search(None, "SUBJECT", '"private"'))
    note(client.uid("SORT", "(REVERSE SUBJECT)", "UTF-8", "ALL"))
    note(client.uid("STORE", "1:2", "+FLAGS", "(\\Seen custom)"))
    note(client.status("INBOX", "(MESSAGES UIDNEXT)"))
    note(client.uid("COPY", "2:3", "Empty"))
    note(client.uid("MOVE", "3", "Empty"))
    note(client.list())
    note(client.xatom("STATUS", "nowhere", "(MESSAGES)"))
    note(client.noop())
    note(client.store("1", "+FLAGS", "\\Deleted"))
    note(client.expunge())
    note(client.close())
    note(client.select("Empty", readonly=True))
    note(client.fetch("1:*", "(UID FLAGS)"))
    note(client.logout())
    return out


def test_the_same_as_direct(plain: Front, dovecot_server: Dovecot) -> None:
    through = transcript(plain.client("through"))
    with imaplib.IMAP4("127.0.0.1", dovecot_server.imap_port, timeout=90) as client:
        client.login(f"direct@{DOMAIN}", "secret")
        direct = transcript(client)
    for one, other in zip(through, direct, strict=True):
        assert _steady(one) == _steady(other)


def _steady(answer: object) -> str:
    return re.sub(r"\d{10}|MODSEQ \(?\d+\)?|\(\d+\.\d+[\d. +]* secs\)", "N", repr(answer))


def test_idle_condstore_catenate_and_refused_literals(plain: Front) -> None:
    raw = Raw(plain.port, "extended")
    raw.say(b"a ENABLE QRESYNC")
    raw.until(b"a OK")
    raw.say(b"b APPEND INBOX CATENATE (TEXT {5+}\r\nA: b\n TEXT {8}")
    assert raw.until(b"+")
    raw.sock.sendall(b"\r\n\r\nxyz\n)\r\n")
    assert raw.until(b"b ")[-1].startswith(b"b OK")
    raw.say(b"c SELECT INBOX (QRESYNC (1 1))")
    assert raw.until(b"c ")[-1].startswith(b"c OK")
    raw.say(b"d APPEND nowhere {10}")
    while (line := raw.line())[:2] not in (b"d ", b"+ "):
        pass
    if line.startswith(b"+"):
        raw.say(b"1234567890")
        line = raw.until(b"d ")[-1]
    assert line.startswith(b"d NO")
    raw.say(b"e IDLE")
    raw.until(b"+")
    other = plain.client("extended")
    other.append("INBOX", "", "", private(9))
    assert raw.until(b"* 2 EXISTS")
    raw.say(b"DONE")
    assert raw.until(b"e ")[-1].startswith(b"e OK")
    raw.say(b"f UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")
    assert raw.until(b"f ")[-1].startswith(b"f OK")
    raw.say(b"g IDLE\r\nDONE")  # not waiting for the "+"
    assert raw.until(b"g ")[-1].startswith(b"g OK")


def test_what_cannot_be_watched_is_hidden_and_refused(plain: Front) -> None:
    client = plain.client("hidden")
    assert not {c for c in client.capability()[1][0].split() if c.startswith((b"COMPRESS", b"STARTTLS"))}
    assert client.xatom("COMPRESS", "DEFLATE")[0] == "NO"
    raw = Raw(plain.port, "hidden")
    raw.say(b"a LOGIN {3+}\r\nabc {3+}\r\nxyz")
    raw.say(b"b NOOP")
    assert raw.line().startswith(b"a NO") and raw.until(b"b ")[-1].startswith(b"b OK")
    raw.say(b"c STARTTLS")
    assert raw.line().startswith(b"c NO")


def test_pipelined_commands_are_answered_as_direct(plain: Front, dovecot_server: Dovecot) -> None:
    said = []
    for port, user in ((plain.port, "pipe"), (dovecot_server.imap_port, "piped")):
        client = imaplib.IMAP4("127.0.0.1", port)
        client.login(f"{user}@{DOMAIN}", "secret")
        client.create("Archive")
        for n in range(5):
            client.append("INBOX", "", "", letter(n))
        raw = Raw(port)
        raw.say(f"l LOGIN {user}@{DOMAIN} secret".encode())
        raw.until(b"l ")
        raw.sock.sendall(
            b"a SELECT INBOX\r\nb UID FETCH 1:5 (BODY.PEEK[])\r\nc UID STORE 1:2 +FLAGS.SILENT (\\Seen)\r\n"
            b"d UID MOVE 1 Archive\r\ne UID EXPUNGE 2\r\nf NOOP\r\ng LOGOUT\r\n"
        )
        said.append(sorted(_steady(line) for line in raw.ended().splitlines() if b"[COPYUID" not in line))
    assert said[0] == said[1]
    fetched = [("fetched", "")] * 5
    wait_until(lambda: plain.seen.told(f"pipe@{DOMAIN}")[:5] == fetched, "all to be seen")


# What is seen.


def test_what_is_seen_of_letters_and_nothing_of_others(plain: Front) -> None:
    client = plain.client("seen")
    client.create("Done")
    client.xatom("ID", '("name" "TestMail" "version" "1.2")')
    client.append("INBOX", "", "", letter(1))
    client.append("INBOX", "", "", private(1))
    client.select()
    client.uid("FETCH", "1:2", "(FLAGS ENVELOPE BODY.PEEK[HEADER])")
    client.uid("FETCH", "1:2", "(UID RFC822.SIZE BODY.PEEK[]<0.20> BODY.PEEK[1])")
    client.noop()
    me = f"seen@{DOMAIN}"
    assert plain.seen.told(me) == []
    client.uid("FETCH", "1:2", "(BODY.PEEK[])")
    client.noop()
    plain.seen.wait(me, ("fetched", ""))
    client.uid("STORE", "1:2", "+FLAGS.SILENT", "(\\Seen \\Answered $MDNSent)")
    client.uid("MOVE", "1:2", "Done")
    wanted = [("fetched", ""), ("seen", ""), ("answered", ""), ("mdn-sent", ""), ("moved", "Done")]
    plain.seen.wait(me, *wanted)
    client.select("Done")
    client.fetch("1:*", "(RFC822.TEXT)")
    client.store("1:*", "+FLAGS", "\\Deleted")
    client.close()
    plain.seen.wait(me, *wanted, ("fetched", ""), ("deleted", ""))
    (visit, *_) = [v for v in plain.seen.visits if v.account == me]
    assert (visit.number, visit.message_id) == ("MOF/2026/000001", "<1@mof.gov.example>")
    assert (visit.agency, visit.mailbox, visit.client, visit.peer) == ("MOH", me, "TestMail 1.2", "127.0.0.1")
    assert all("private" not in repr(v) for v in plain.seen.visits)


def test_a_body_that_was_not_handed_over_whole_is_not_fetched(plain: Front) -> None:
    client = plain.client("cutoff")
    client.append("INBOX", "", "", letter(7, "x" * 12_000_000))  # more than lies on the way to a client
    raw = Raw(plain.port, "cutoff")
    raw.say(b"a SELECT INBOX")
    raw.until(b"a OK")
    raw.say(b"b FETCH 1 BODY.PEEK[]")
    raw.until(b"* 1 FETCH")
    raw.sock.close()
    time.sleep(0.3)
    assert plain.seen.told(f"cutoff@{DOMAIN}") == []


def test_a_client_that_goes_at_once_is_seen_all_the_same(plain: Front) -> None:
    client = plain.client("hasty")
    client.append("INBOX", "", "", letter(3))
    raw = Raw(plain.port, "hasty")
    raw.sock.sendall(b"a SELECT INBOX\r\n")
    raw.until(b"a OK")
    raw.sock.sendall(b"b UID STORE 1 +FLAGS.SILENT (\\Seen)\r\n")
    raw.until(b"b OK")
    raw.sock.sendall(b"c LOGOUT\r\n")
    assert b"c OK" in raw.ended()
    plain.seen.wait(f"hasty@{DOMAIN}", ("seen", ""))


def test_a_fault_of_the_observer_does_not_end_the_session(
    plain: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.imap_observer import Observer

    def broken(*what: object) -> None:
        raise RuntimeError("as if there were a mistake")

    client = plain.client("fault")
    client.append("INBOX", "", "", letter(4))
    for name in ("begins", "response", "wants", "handed", "finished", "question"):
        monkeypatch.setattr(Observer, name, broken)
        client = plain.client("fault")
        assert client.select()[0] == "OK"
        for _ in range(2):
            assert client.uid("FETCH", "1", "(BODY.PEEK[])")[1][0][1] == letter(4)
            assert client.uid("STORE", "1", "+FLAGS", "(\\Seen)")[0] == "OK"
            assert client.uid("MOVE", "9", "nowhere")[0] in ("OK", "NO")
        assert client.logout()[0] == "BYE"
        monkeypatch.undo()


# Hostile clients.


def test_hostile_clients_are_cut_off(plain: Front) -> None:
    raw = Raw(plain.port)
    raw.sock.sendall(b"a" * 20_000)
    assert b"BYE" in raw.ended()
    raw = Raw(plain.port)
    raw.sock.sendall(b"a LOGIN {99999999+}\r\n")
    assert b"BYE" in raw.ended()
    raw = Raw(plain.port)
    raw.sock.sendall(b"\xff\x00nonsense\r\n" * 12)  # at once: it hangs up before the last of them
    assert b"BYE" in raw.ended()
    raw = Raw(plain.port, "hostile")
    with suppress(ConnectionError):  # it may hang up before the last of it
        raw.sock.sendall(b"a SEARCH " + b"(" * 200_000)
    assert b"BYE Command line too long" in raw.ended()
    raw = Raw(plain.port, "hostile")
    raw.sock.sendall(b"a SEARCH " + b"(" * 30_000 + b"\r\n")
    assert raw.line()[:2] in (b"a ", b"* ")


def test_octets_ahead_of_a_refused_literal_are_bounded(plain: Front) -> None:
    raw = Raw(plain.port, "ahead")
    raw.sock.settimeout(2)
    sent = 0
    with pytest.raises((TimeoutError, ConnectionError)):
        raw.sock.sendall(b"a APPEND INBOX {100}\r\n")
        while sent < 200_000_000:
            # A server that says "+" takes a hundred of them; what follows is a line without end.
            sent += raw.sock.send(b"x" * 65536)
    assert sent < 20_000_000
    assert plain.client("ahead").noop()[0] == "OK", "the others go on"


def test_a_client_that_never_reads_holds_little(plain: Front) -> None:
    client = plain.client("slow")
    client.append("INBOX", "", "", private(5, "y" * 4_000_000))
    raw = Raw(plain.port, "slow")
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.say(b"a SELECT INBOX")
    raw.until(b"a OK")
    for n in range(20):
        raw.say(b"f%d FETCH 1 BODY.PEEK[]" % n)
    time.sleep(0.5)
    sessions = list(plain.proxy._sessions)
    waiting = max(session._client.transport.get_write_buffer_size() for session in sessions)
    assert waiting < 2_000_000
    raw.sock.close()


def test_login_takes_no_longer_than_it_may(dovecot_server: Dovecot) -> None:
    from datetime import timedelta

    upstream = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")
    narrow = Imap(clear_login=True, login_timeout=timedelta(minutes=5), connections_per_address=2)
    with imap_front([upstream], settings=narrow) as front:
        raw, second = Raw(front.port), Raw(front.port)
        third = socket.create_connection(("127.0.0.1", front.port), timeout=60)
        assert b"BYE [LIMIT]" in third.recv(1000)
        third.close()
    assert b"BYE" in raw.ended() and b"BYE" in second.ended()
    quick = Imap(clear_login=True, login_timeout=timedelta(seconds=0.5))
    with imap_front([upstream], settings=quick) as front:
        assert b"BYE No login in time" in Raw(front.port).ended()
        wait_until(lambda: not front.proxy._tally.connections, "all to be gone")


def test_the_client_is_told_when_the_gateway_stops(dovecot_server: Dovecot) -> None:
    upstream = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")
    with imap_front([upstream]) as front:
        raw, early = Raw(front.port, "stop"), Raw(front.port)
    assert b"* BYE The gateway is stopping" in raw.ended()
    assert b"* BYE The gateway is stopping" in early.ended()


def test_a_half_made_handshake_ends(authority: Authority) -> None:
    upstream = ImapServer(host="127.0.0.1", port=1, tls="none")
    with imap_front([upstream], tls=authority.context("localhost", "127.0.0.1")) as front:
        with socket.create_connection(("127.0.0.1", front.tls_port), timeout=60) as sock:
            sock.sendall(b"a LOGIN x y\r\n" * 10)
            assert b"OK" not in sock.recv(1000)
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", front.tls_port)) as sock:
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        wait_until(lambda: not front.proxy._tally.connections, "all to be gone")
