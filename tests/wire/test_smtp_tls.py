"""STARTTLS, implicit TLS, client certificates and AUTH over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.desk import WireLimits
from gateway.smtp_listener import SmtpListener
from tests.wire.wire_desk import LOOPS, Client, Closed, House, KeepingDesk, house, play, run, until
from tracker.archive import Archive
from tracker.model import Connection, Door
from tracker.reply import Reply

LETTER = """
    C: MAIL FROM:<a@mof.example>
    S: 250 2.1.0
    C: RCPT TO:<b@moh.example>
    S: 250 2.1.5
    C: DATA
    S: 354
    C: x
    C: .
    S: 250 2.0.0
"""
ALI, SECRET = "ali@mof.example", "كلمة السر"
PASSWORDS = {ALI: SECRET}


class Keys:
    """One authority for both sides."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("mail.example").configure_cert(self.server)
        self.ca.configure_trust(self.server)
        self.server.verify_mode = ssl.CERT_OPTIONAL
        self.client = ssl.create_default_context()
        self.ca.configure_trust(self.client)

    def known(self, *names: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
        """A client that shows a certificate."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        (ca or self.ca).issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def plain(user: str, password: str, acting_for: str = "") -> str:
    return b64encode(f"{acting_for}\0{user}\0{password}".encode()).decode()


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


async def secured(h: House, context: ssl.SSLContext) -> Client:
    """A client that has said STARTTLS and EHLO."""
    client = await h.greeted()
    assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
    await client.start_tls(context)
    assert "\n250-AUTH PLAIN LOGIN\n" in await client.ask("EHLO client.example")
    return client


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_offered_in_clear_and_under_tls(loop: str, keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, tls=keys.server) as h:
            async with await h.call() as client:
                await client.reply()
                said = (
                    (await client.ask("EHLO client.example"))
                    .replace("250-", "")
                    .replace("250 ", "")
                    .split("\n")
                )
                assert said == [
                    "mail.example",
                    "SIZE 52428800",
                    "8BITMIME",
                    "SMTPUTF8",
                    "PIPELINING",
                    "ENHANCEDSTATUSCODES",
                    "DSN",
                    "CHUNKING",
                    "STARTTLS",
                    "HELP",
                ]
                await play(
                    client,
                    "C: AUTH PLAIN AGEAYg==\nS: 538 5.7.11\nC: MAIL FROM:<a@mof.example> AUTH=<>\nS: 555",
                )
                await play(client, "C: STARTTLS now\nS: 501\nC: STARTTLS\nS: 220 2.0.0")
                await client.start_tls(keys.client)
                # RFC 3207 §4.2: what was said in clear is forgotten.
                await play(client, "C: MAIL FROM:<a@mof.example>\nS: 503 5.5.1")
                said = (
                    (await client.ask("EHLO client.example"))
                    .replace("250-", "")
                    .replace("250 ", "")
                    .split("\n")
                )
                assert said[-3:] == ["REQUIRETLS", "AUTH PLAIN LOGIN", "HELP"] and "STARTTLS" not in said
                await play(client, "C: STARTTLS\nS: 503 5.5.1")
                await play(client, LETTER.replace("mof.example>", "mof.example> REQUIRETLS AUTH=<>"))
            taken = h.desk.letters[0]
            assert taken.envelope.requiretls
            assert taken.conn.tls is not None and taken.conn.tls.version == "TLSv1.3"
            assert not taken.conn.tls.verified and taken.conn.tls.peer_names == ()
            assert [conn.tls is None for conn in h.desk.peers] == [True, False]
            assert h.desk.peers[1].helo == ""

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_said_before_the_handshake_is_not_used_after_it(
    loop: str, keys: Keys, tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path, tls=keys.server) as h:
            async with await h.greeted() as client:
                await client.send(b"STARTTLS\r\nEHLO evil.example\r\n")
                assert (await client.reply()).startswith("554 5.5.0")
                client.writer.write_eof()
                assert await client.rest() == b""
            # Injected a moment later, it breaks the handshake.
            async with await h.greeted() as client:
                await play(client, "C: STARTTLS\nS: 220")
                await client.send(b"EHLO evil.example\r\nMAIL FROM:<evil@mof.example>\r\n")
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await client.start_tls(keys.client)
            await until(lambda: not h.listener.sessions)
            assert not h.desk.params
            # A transaction begun in clear is gone.
            async with await h.greeted() as client:
                await play(client, "C: MAIL FROM:<a@mof.example>\nS: 250\nC: RCPT TO:<b@moh.example>\nS: 250")
                await play(client, "C: STARTTLS\nS: 220")
                await client.start_tls(keys.client)
                await play(client, "C: EHLO x.example\nS: 250-\nC: DATA\nS: 503 5.5.1")

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_implicit_tls_many_times(loop: str, keys: Keys, tmp_path: Path) -> None:
    async def one(h: House) -> None:
        async with await h.greeted(keys.client) as client:
            await play(client, LETTER + "C: QUIT\nS: 221")

    async def main() -> None:
        async with house(tmp_path, tls=keys.server, implicit=True) as h:
            for _ in range(5):
                await asyncio.gather(*(one(h) for _ in range(20)))
            assert len(h.desk.letters) == 100
            await until(lambda: not h.listener.sessions)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_large_letters_over_tls(loop: str, keys: Keys, tmp_path: Path) -> None:
    content = (b"x" * 70 + b"\r\n") * 30_000

    async def main() -> None:
        async with (
            house(tmp_path, tls=keys.server, implicit=True) as h,
            await h.greeted(keys.client) as client,
        ):
            await play(client, "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@moh.example>\nS: 250\nC: DATA\nS: 354")
            await client.send(content + b".\r\n")
            await play(client, "S: 250")
            assert h.desk.letters[0].content == content

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_after_the_final_dot_cancels_nothing(
    loop: str, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with house(tmp_path, tls=keys.server) as h:
            started = asyncio.Event()

            async def slow() -> None:
                started.set()
                await asyncio.sleep(0.1)

            h.desk.on_letter = slow
            async with await secured(h, keys.client) as client:
                await play(client, LETTER.partition("S: 354")[0] + "S: 354")
                await client.send(b"x\r\n.\r\n")
                await started.wait()
            await until(lambda: h.desk.letters and not h.listener.sessions)
            assert len(h.desk.letters) == 1

    run(loop, main())
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("loop", LOOPS)
def test_handshakes_that_fail_leave_nothing(loop: str, keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        limits = WireLimits(handshake_time=1.0, linger_time=0.3)
        async with house(tmp_path, tls=keys.server, implicit=True, limits=limits) as h:
            silent, chatty = await h.call(), await h.call()
            await chatty.send(b"EHLO client.example\r\n")
            with pytest.raises(Closed):
                while not (await chatty.reply()).startswith("220"):
                    pass
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await h.call(ssl.create_default_context())  # does not trust us
            assert h.listener.tally.connections >= 1  # a handshake that hangs is counted
            assert await silent.rest() == b""
            await until(lambda: not h.listener.sessions and h.listener.tally.connections == 0)
            for client in (silent, chatty):
                client.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_verified_certificate_is_told_to_the_desk(loop: str, keys: Keys, tmp_path: Path) -> None:
    def by_certificate(conn: Connection) -> Connection | Reply:
        if conn.tls is not None and "mail.mof.example" in conn.tls.peer_names:
            return replace(conn, agency="MOF")
        return conn

    async def main() -> None:
        async with house(tmp_path, tls=keys.server) as h:
            h.desk.on_connected = by_certificate
            async with await secured(h, keys.known("mail.mof.example", "relay.mof.example")) as client:
                await play(client, LETTER)
            conn = h.desk.letters[0].conn
            assert conn.agency == "MOF" and conn.tls is not None
            assert conn.tls.verified and conn.tls.peer_names == ("mail.mof.example", "relay.mof.example")
            # A certificate of somebody else's authority: no handshake.
            async with await h.greeted() as client:
                await play(client, "C: STARTTLS\nS: 220")
                with pytest.raises((ssl.SSLError, ConnectionError, Closed)):
                    await client.start_tls(keys.known("mail.mof.example", ca=trustme.CA()))
                    await client.ask("EHLO x.example")

    run(loop, main())


def test_the_desk_may_refuse_after_starttls(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, tls=keys.server) as h:
            h.desk.on_connected = lambda conn: Reply.of(554, "5.7.1", "No") if conn.tls else conn
            async with await h.greeted() as client:
                await play(client, "C: STARTTLS\nS: 220")
                await client.start_tls(keys.client)
                await play(client, "C: EHLO x.example\nS: 554 5.7.1 No")

    run("uvloop", main())


AUTH_DIALOGUES = {
    "plain at once": f"C: AUTH PLAIN {plain(ALI, SECRET)}\nS: 235 2.7.0",
    "plain in lower case": f"C: auth plain {plain(ALI, SECRET)}\nS: 235 2.7.0",
    "plain asked for": f"C: AUTH PLAIN\nS: 334\nC: {plain(ALI, SECRET)}\nS: 235 2.7.0",
    "acting for oneself": f"C: AUTH PLAIN {plain(ALI, SECRET, ALI)}\nS: 235",
    "login": f"""
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: {b64(ALI)}
        S: 334 UGFzc3dvcmQ6
        C: {b64(SECRET)}
        S: 235
    """,
    "login with a name": f"""
        C: AUTH LOGIN {b64(ALI)}
        S: 334 UGFzc3dvcmQ6
        C: {b64(SECRET)}
        S: 235
    """,
}


@pytest.mark.parametrize("name", AUTH_DIALOGUES)
def test_signing_in(name: str, keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, tls=keys.server, require_auth=True, door=Door.SUBMISSION) as h:
            h.desk.passwords = PASSWORDS
            async with await h.greeted() as client:
                await play(client, "C: MAIL FROM:<a@mof.example>\nS: 530 5.7.0 Issue STARTTLS")
            async with await secured(h, keys.client) as client:
                await play(client, "C: MAIL FROM:<a@mof.example>\nS: 530 5.7.0 Authentication")
                await play(client, AUTH_DIALOGUES[name])
                await play(client, "C: AUTH PLAIN AGEAYg==\nS: 503 5.5.1")
                await play(client, LETTER)
                # A new EHLO forgets the transaction, not who signed in.
                await play(client, "C: EHLO x.example\nS: 250-\n" + LETTER)
                assert h.listener.tally.by_account == {"ali@mof.example": 1}
            conn = h.desk.letters[1].conn
            assert conn.account == "ali@mof.example" and conn.agency == "MOF" and conn.door is Door.SUBMISSION

    run("uvloop", main())


def test_what_signs_nobody_in(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        limits = WireLimits(auth_delay=0.0, auth_failures=10, linger_time=0.5)
        async with house(tmp_path, tls=keys.server, require_auth=True, limits=limits) as h:
            h.desk.passwords = PASSWORDS | {"a\x01b": "x"}
            async with await secured(h, keys.client) as client:
                await play(
                    client,
                    f"""
                    C: AUTH PLAIN {plain(ALI, "wrong")}
                    S: 535 5.7.8
                    C: AUTH PLAIN {plain(ALI, SECRET, "other@mof.example")}
                    S: 535 5.7.8
                    C: AUTH PLAIN {plain("", "")}
                    S: 535 5.7.8
                    C: AUTH PLAIN {b64("a")}
                    S: 501 5.5.2
                    C: AUTH PLAIN {b64("a") + "%"}
                    S: 501 5.5.2
                    C: AUTH PLAIN //79AGEAYg==
                    S: 535
                    C: AUTH PLAIN AP//AGI=
                    S: 501 5.5.2
                    C: AUTH PLAIN {plain(chr(97) + chr(1) + "b", "x")}
                    S: 535 5.7.8
                    C: AUTH PLAIN =
                    S: 501 5.5.2
                    C: AUTH PLAIN
                    S: 334
                    C: *
                    S: 501 5.7.0
                    C: AUTH LOGIN
                    S: 334
                    C: *
                    S: 501 5.7.0
                    C: AUTH
                    S: 504 5.5.4
                    C: AUTH CRAM-MD5
                    S: 504 5.5.4
                    C: NOOP
                    S: 250
                    C: HELO x.example
                    S: 250
                    C: AUTH PLAIN {plain(ALI, SECRET)}
                    S: 503 5.5.1
                    """,
                )
            # Not within a transaction (RFC 4954 §4), which needs a door that lets strangers speak.
        async with (
            house(tmp_path, tls=keys.server, limits=limits) as h,
            await secured(h, keys.client) as client,
        ):
            await play(client, "C: MAIL FROM:<a@mof.example>\nS: 250\nC: AUTH PLAIN AGEAYg==\nS: 503 5.5.1")
            await client.send(b"RSET\r\nAUTH PLAIN\r\nAGEAYg==\r\n")
            await play(client, "S: 250\nS: 554 5.5.0")

    run("uvloop", main())


def test_a_long_credential_is_read_and_a_longer_one_refused(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        limits = WireLimits(auth_delay=0.0, linger_time=0.5)
        async with (
            house(tmp_path, tls=keys.server, limits=limits) as h,
            await secured(h, keys.client) as client,
        ):
            h.desk.passwords = {"a": "p" * 6000}
            await play(client, f"C: AUTH PLAIN\nS: 334\nC: {'A' * 13000}\nS: 500 5.5.6")
            await play(client, f"C: AUTH PLAIN {plain('a', 'p' * 6000)}\nS: 235")

    run("uvloop", main())


def test_failed_sign_ins_end_the_session(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        limits = WireLimits(auth_delay=0.05, auth_failures=2, linger_time=0.5)
        async with (
            house(tmp_path, tls=keys.server, limits=limits) as h,
            await secured(h, keys.client) as client,
        ):
            wrong = f"C: AUTH PLAIN {plain(ALI, 'wrong')}\nS: 535 5.7.8"
            await play(client, wrong)
            await play(client, wrong + "\nS: 421 4.7.0")

    run("uvloop", main())


def test_sessions_of_one_account_are_capped(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        limits = WireLimits(auth_delay=0.0, connections_per_account=1, linger_time=0.5)
        async with house(tmp_path, tls=keys.server, limits=limits) as h:
            h.desk.passwords = PASSWORDS
            async with await secured(h, keys.client) as first, await secured(h, keys.client) as second:
                await play(first, AUTH_DIALOGUES["plain at once"])
                await play(second, f"C: AUTH PLAIN {plain(ALI, SECRET)}\nS: 421 4.7.0")
                await play(first, LETTER)
            await until(lambda: not h.listener.tally.by_account)
            async with await secured(h, keys.client) as third:
                await play(third, AUTH_DIALOGUES["plain at once"])

    run("uvloop", main())


def test_a_relay_signs_in_without_an_account(keys: Keys, tmp_path: Path) -> None:
    class ByAgency(KeepingDesk):
        async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
            return replace(conn, agency="MOF")

    async def main() -> None:
        limits = WireLimits(connections_per_account=1)
        desk = ByAgency(Archive(tmp_path))
        listener = SmtpListener(
            desk, Door.RELAY, limits, keys.server, require_auth=True, hostname="mail.example"
        )
        (address,) = await listener.start("127.0.0.1")
        h = House(desk, listener, address[1])
        async with await secured(h, keys.client) as one, await secured(h, keys.client) as two:
            for client in (one, two):
                await play(client, f"C: AUTH PLAIN {plain('mof', 'x')}\nS: 235")
                await play(client, "C: AUTH PLAIN AGEAYg==\nS: 503 5.5.1\n" + LETTER)
        await listener.stop(0.2)
        assert [t.conn.agency for t in desk.letters] == ["MOF", "MOF"]

    run("uvloop", main())


def test_a_sign_in_that_breaks_is_temporary(keys: Keys, tmp_path: Path) -> None:
    class Broken(KeepingDesk):
        async def sign_in(self, conn: Connection, user: str, password: str) -> Any:
            raise RuntimeError("no server")

    async def main() -> None:
        listener = SmtpListener(
            Broken(Archive(tmp_path)), Door.SUBMISSION, WireLimits(), keys.server, hostname="mail.example"
        )
        (address,) = await listener.start("127.0.0.1")
        h = House(listener.desk, listener, address[1])  # type: ignore[arg-type]
        async with await secured(h, keys.client) as client:
            await play(client, f"C: AUTH PLAIN {plain('a', 'b')}\nS: 451 4.3.0\nC: NOOP\nS: 250")
        await listener.stop(0.2)

    run("uvloop", main())


def test_auth_needs_a_certificate_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="TLS"):
            SmtpListener(KeepingDesk(Archive(tmp_path)), Door.SUBMISSION, WireLimits(), require_auth=True)

    run("uvloop", main())
