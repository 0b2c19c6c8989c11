"""The way in, octet by octet: what the agency's server is told, of whom, and what it is never told.

In front of a scripted server, because what matters is what it hears; Dovecot then shows that it believes it.
"""

from __future__ import annotations

import imaplib
import logging
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import BinaryIO

import pytest

from policies.agency import ImapServer
from tests.servers.dovecot import dovecot
from tests.servers.place import wait_until
from tests.wire.imap_front import DOMAIN, Front, imap_front
from tests.wire.test_imap_proxy import Raw

USER = f"a@{DOMAIN}"
TOKEN = f"user={USER}\x01auth=Bearer ya29.a-token\x01\x01".encode()
CODED = b64encode(TOKEN)


class Listener:
    """An IMAP server that writes down what it is told and takes the right token or password."""

    def __init__(self, offers: bytes, behind: bytes = b"IMAP4rev1 IDLE", more: bytes = b"") -> None:
        self.heard: list[bytes] = []
        self._offers, self._behind, self._more = offers, behind, more
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.upstream = ImapServer(host="127.0.0.1", port=self._listening.getsockname()[1], tls="none")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with suppress(ConnectionError, StopIteration), peer, peer.makefile("rb") as lines:
                self._talk(peer, lines)

    def _talk(self, peer: socket.socket, lines: BinaryIO) -> None:
        peer.sendall(b"* OK [CAPABILITY " + self._offers + b"] hello\r\n")
        for line in lines:
            self.heard.append(line[:-2])
            tag, _, command = line[:-2].partition(b" ")
            if not command.startswith(b"AUTHENTICATE"):
                said = self._more if command == b"MORE" else b""
                peer.sendall(said + tag + b" OK done\r\n")
                continue
            _, mechanism, *initial = command.split()
            if not initial:
                peer.sendall(b"+ \r\n")
                initial = [next(lines)[:-2]]
                self.heard += initial
            if initial[0] in (CODED, b64encode(f"\0{USER}\0secret".encode())):
                peer.sendall(tag + b" OK [CAPABILITY " + self._behind + b"] in\r\n")
                continue
            if mechanism == b"XOAUTH2":
                peer.sendall(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
                self.heard.append(next(lines)[:-2])
            peer.sendall(tag + b" NO [AUTHENTICATIONFAILED] Wrong\r\n")

    def close(self) -> None:
        self._listening.close()


@contextmanager
def in_front_of(listener: Listener, **changes: str) -> Iterator[tuple[Front, Listener]]:
    try:
        with imap_front([replace(listener.upstream, **changes)]) as front:  # type: ignore[arg-type]
            yield front, listener
    finally:
        listener.close()


OAUTH = b"IMAP4rev1 AUTH=XOAUTH2"


@pytest.mark.parametrize("initial", [True, False], ids=["with-the-command", "asked-for"])
@pytest.mark.parametrize(
    ("offers", "heard"),
    [
        (OAUTH + b" SASL-IR", [b"w1 AUTHENTICATE XOAUTH2 " + CODED]),
        (OAUTH, [b"w1 AUTHENTICATE XOAUTH2", CODED]),
    ],
    ids=["sasl-ir", "no-sasl-ir"],
)
def test_a_token_passes_unchanged(offers: bytes, heard: list[bytes], initial: bool) -> None:
    with in_front_of(Listener(offers)) as (front, server):
        raw = Raw(front.port)
        if initial:
            raw.say(b"a AUTHENTICATE XOAUTH2 " + CODED)
        else:
            raw.say(b"a AUTHENTICATE XOAUTH2")
            assert raw.line() == b"+ "
            raw.say(CODED)
        assert raw.line() == b"a OK [CAPABILITY IMAP4rev1 IDLE] in"
        raw.say(b"b NOOP")
        assert raw.line() == b"b OK done"
        assert server.heard == [*heard, b"b NOOP"]


def test_a_token_that_is_refused() -> None:
    """The client gets the server's reason, answers it with an empty line, and may try again."""
    with in_front_of(Listener(OAUTH + b" SASL-IR")) as (front, server):
        raw = Raw(front.port)
        stale = b64encode(TOKEN.replace(b"ya29", b"old"))
        raw.say(b"a AUTHENTICATE XOAUTH2 " + stale)
        assert raw.line() == b"+ eyJzdGF0dXMiOiI0MDAifQ=="
        raw.say(b"")
        assert raw.line() == b"a NO [AUTHENTICATIONFAILED] Wrong"
        raw.say(b"b AUTHENTICATE XOAUTH2 " + CODED)
        assert raw.line().startswith(b"b OK")
        assert server.heard[1:] == [b"", b"w1 AUTHENTICATE XOAUTH2 " + CODED]


def test_a_server_without_oauth_is_not_asked() -> None:
    with in_front_of(Listener(b"IMAP4rev1 AUTH=PLAIN")) as (front, server):
        raw = Raw(front.port)
        raw.say(b"a AUTHENTICATE XOAUTH2 " + CODED)
        assert raw.line() == b"a NO [CANNOT] The server does not take XOAUTH2"
        raw.say(b"b AUTHENTICATE XOAUTH2 " + b64encode(b"auth=Bearer x\x01\x01"))
        assert raw.line().startswith(b"b BAD")
        assert server.heard == []


def test_capabilities_that_nobody_knows_pass_and_those_past_wasl_do_not() -> None:
    past = b"COMPRESS=DEFLATE UNAUTHENTICATE URLAUTH URLAUTH=BINARY JMAPACCESS MAILBOX-REFERRALS UIDONLY"
    open_ones = b"IMAP4rev2 X-NEW XTHING=1 IDLE MOVE"
    line = b"* CAPABILITY " + past + b" " + open_ones + b"\r\n"
    listener = Listener(b"IMAP4rev1 AUTH=PLAIN SASL-IR", open_ones + b" " + past, line)
    with in_front_of(listener) as (front, server):
        raw = Raw(front.port)
        raw.say(f"a LOGIN {USER} secret".encode())
        assert raw.line() == b"a OK [CAPABILITY " + open_ones + b"] in"
        raw.say(b"b MORE")
        assert raw.until(b"b ")[0].split() == [b"*", b"CAPABILITY", *open_ones.split()]
        before = len(server.heard)
        for verb in (b"COMPRESS DEFLATE", b"UNAUTHENTICATE", b'URLFETCH "imap://x"', b"GETJMAPACCESS"):
            raw.say(b"c " + verb)
            assert raw.line().startswith(b"c NO "), verb
        assert len(server.heard) == before
        raw.say(b"d XTHING of its own")
        assert raw.line() == b"d OK done" and server.heard[-1] == b"d XTHING of its own"


WHO = {
    "auto-id": ("auto", b"ID", rb'w1 ID \("x-originating-ip" "127\.0\.0\.77" "x-originating-port" "\d+".*'),
    "auto-both": ("auto", b"ID XCLIENT", rb"w1 XCLIENT ADDR=127\.0\.0\.77 PORT=\d+"),
    "xclient": ("xclient", b"XCLIENT", rb"w1 XCLIENT ADDR=127\.0\.0\.77 PORT=\d+"),
    "id": ("id", b"ID XCLIENT", rb'w1 ID \("x-originating-ip" "127\.0\.0\.77" .*\)'),
    "none": ("none", b"ID XCLIENT", rb"w1 AUTHENTICATE PLAIN \S+"),
    "not-offered": ("id", b"IDLE", rb"w1 AUTHENTICATE PLAIN \S+"),
}


@pytest.mark.parametrize(("way", "offers", "heard"), WHO.values(), ids=list(WHO))
def test_the_server_learns_the_clients_address(way: str, offers: bytes, heard: bytes) -> None:
    listener = Listener(b"IMAP4rev1 AUTH=PLAIN SASL-IR " + offers)
    with in_front_of(listener, client_address=way) as (front, server):
        client = imaplib.IMAP4.__new__(_From77)
        client.__init__("127.0.0.1", front.port)  # type: ignore[misc]
        client.login(USER, "secret")
        assert re.fullmatch(heard, server.heard[0]), server.heard


class _From77(imaplib.IMAP4):
    """Comes from an address of its own."""

    def _create_socket(self, timeout: float | None = None) -> socket.socket:
        return socket.create_connection((self.host, self.port), 60, ("127.0.0.77", 0))


def test_a_client_cannot_tell_it_another_address() -> None:
    listener = Listener(b"IMAP4rev1 AUTH=PLAIN SASL-IR ID")
    with in_front_of(listener) as (front, server):
        raw = Raw(front.port)
        raw.say(b'i ID ("name" "Mail" "X-Originating-IP" "192.0.2.9" "x-connected-port" "1")')
        raw.until(b"i OK")
        raw.say(f"a LOGIN {USER} secret".encode())
        raw.until(b"a OK")
        pairs = re.findall(rb'"([^"]*)" "([^"]*)"', server.heard[0])
        assert [value for key, value in pairs if key.lower() == b"x-originating-ip"] == [b"127.0.0.1"]
        assert (b"name", b"Mail") in pairs and b"192.0.2.9" not in server.heard[0]


@pytest.mark.servers
def test_dovecot_believes_it() -> None:
    with dovecot(trusts="127.0.0.0/8") as server:
        upstream = ImapServer(host="127.0.0.1", port=server.imap_port, tls="none")
        with imap_front([upstream]) as front:
            client = _From77("127.0.0.1", front.port)
            client.login(USER, "secret")
            wait_until(lambda: f"user=<{USER}>" in server.log(), "the login")
            (line,) = [one for one in server.log().splitlines() if f"Login: user=<{USER}>" in one]
            assert "rip=127.0.0.77" in line, line
            client.logout()


def test_a_fault_does_not_write_down_what_it_was_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gateway import imap_session
    from gateway.imap_observer import Observer

    secret = "averyprivateword"

    def broken(*what: object) -> None:
        try:
            int(f"{secret} {what}")
        except ValueError as error:
            raise RuntimeError(f"{secret} {what}") from error

    more = b"* CAPABILITY IMAP4rev1\r\n"
    for where, name in ((Observer, "begins"), (imap_session, "filtered")):
        listener = Listener(b"IMAP4rev1 AUTH=PLAIN SASL-IR", more=more)
        with in_front_of(listener) as (front, _), caplog.at_level(logging.DEBUG):
            raw = Raw(front.port, "a")
            monkeypatch.setattr(where, name, broken)
            raw.say(b"a NOOP " + secret.encode())
            if name == "begins":
                assert raw.line() == b"a OK done"
            else:
                raw.say(b"b MORE")
                raw.ended()
            monkeypatch.undo()
    told = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "the session goes on unwatched" in told and "session is ended by a fault" in told
    assert "in broken" in told and "ValueError" in told
    assert secret not in told
