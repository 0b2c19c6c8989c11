"""Passwords asked of real servers (Dovecot, Postfix) and of servers that misbehave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Submission
from gateway.sign_in_dialogue import SignInUnavailable, password_is_right
from gateway.submission import Outcome, PasswordCheck
from policies.agency import Agency, SignIn
from policies.directory import Directory
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, Tls, dovecot
from tests.servers.postfix import Postfix, postfix
from tests.wire.wire_desk import run
from tracker.model import Address, Connection, Door
from tracker.reply import Reply

ALI = Address.parse("ali@mof.example")
SECRET = 'كلمة "السر" \\ {5}'
LOOPBACK = "127.0.0.1"
SMTP_HELLO = (b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN PLAIN\r\n")
IMAP_HELLO = (b"* OK x\r\n", b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\nw1 OK\r\n")


@dataclass
class Servers:
    tls: Tls
    dovecot: Dovecot
    postfix: Postfix

    def sign_in(self, kind: str, tls: str, **more: Any) -> SignIn:
        if kind == "smtp":
            port: int | None = self.postfix.submission_port
        else:
            port = self.dovecot.imaps_port if tls == "implicit" else self.dovecot.imap_port
        return SignIn(
            **{"kind": kind, "host": LOOPBACK, "port": port, "tls": tls, "ca": self.tls.authority, **more}
        )


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[Servers]:
    tls = authority.issue(LOOPBACK)
    accounts = {str(ALI): SECRET, "omar@mof.example": "plain", "ali": "by local part"}
    with (
        dovecot(mailboxes=accounts, tls=tls) as imap,
        postfix(domains=["mof.example"], deliver_to=imap, tls=tls) as smtp,
    ):
        yield Servers(tls, imap, smtp)


def ask(server: SignIn, user: str, password: str) -> bool:
    answer: bool = run("uvloop", password_is_right(server, user, password, 60))
    return answer


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "tls", "loop"),
    [
        ("imap", "none", "uvloop"),
        ("imap", "opportunistic", "uvloop"),
        ("imap", "required", "uvloop"),
        ("imap", "required", "asyncio"),
        ("imap", "implicit", "uvloop"),
        ("smtp", "none", "uvloop"),
        ("smtp", "required", "uvloop"),
        ("smtp", "required", "asyncio"),
    ],
)
def test_a_real_server_says_yes_and_no(servers: Servers, kind: str, tls: str, loop: str) -> None:
    server = servers.sign_in(kind, tls)

    async def main() -> None:
        assert await password_is_right(server, str(ALI), SECRET, 60)
        assert not await password_is_right(server, str(ALI), SECRET + " ", 60)
        assert not await password_is_right(server, "nobody@mof.example", "x", 60)
        assert await password_is_right(server, "omar@mof.example", "plain", 60)

    run(loop, main())


@pytest.mark.servers
def test_certificates_are_checked(servers: Servers) -> None:
    for kind, tls in (("imap", "implicit"), ("imap", "required"), ("smtp", "required")):
        with pytest.raises(SignInUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            ask(servers.sign_in(kind, tls, ca=None), str(ALI), SECRET)
        assert ask(servers.sign_in(kind, tls, ca=None, verify=False), str(ALI), SECRET)


def agency(sign_in: SignIn | None, code: str = "MOF", domain: str = "mof.example") -> Agency:
    return Agency(code=code, name_ar="وزارة", name_en="Ministry", domains=(domain,), sign_in=sign_in)


def checker(
    sign_in: SignIn | None, *, clock: Callable[[], float] | None = None, **settings: Any
) -> PasswordCheck:
    directory = Directory([agency(sign_in), agency(None, "MOH", "moh.example")])
    section = Submission(**{"timeout": timedelta(seconds=60), **settings})
    return PasswordCheck(lambda: directory, section, **({"clock": clock} if clock else {}))


@pytest.mark.servers
def test_signing_in_fills_the_connection(servers: Servers) -> None:
    conn = Connection(door=Door.SUBMISSION, peer="192.0.2.1")

    async def main() -> None:
        check = checker(servers.sign_in("imap", "required"))
        signed = await check.sign_in(conn, "Ali@MOF.example", SECRET)
        assert isinstance(signed, Connection)
        assert signed.account == "ali@mof.example" and signed.agency == "MOF" and signed.peer == "192.0.2.1"
        for user, password in (
            ("ali@mof.example", "wrong"),
            ("ali@mof.example", ""),
            ("ali", SECRET),
            ("ali@moh.example", SECRET),
            ("ali@elsewhere.example", SECRET),
            ("ali@mof.example\r\nx", SECRET),
            ("ali@mof.example", "x\r\nw9 LOGOUT"),
            ("ali@mof.example", "x\0y"),
        ):
            refused = await check.sign_in(conn, user, password)
            assert isinstance(refused, Reply) and refused.code == 535, (user, refused)

    run("uvloop", main())


@pytest.mark.servers
def test_the_local_part_alone(servers: Servers) -> None:
    async def main() -> None:
        server = servers.sign_in("imap", "required", user_form="local")
        assert await checker(server).check(server, ALI, "by local part", "192.0.2.1") is Outcome.RIGHT

    run("uvloop", main())


@pytest.mark.servers
def test_a_right_password_is_remembered_for_a_while_as_a_digest(servers: Servers) -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now
        server = servers.sign_in("imap", "required")
        asked = Counted(server)
        async with asked.running():
            check = checker(None, clock=lambda: now)
            for _ in range(3):
                assert await check.check(asked.server, ALI, SECRET, "192.0.2.1") is Outcome.RIGHT
            assert asked.connections == 1
            # Another password is never answered from memory, and does not replace the right one.
            assert await check.check(asked.server, ALI, "wrong", "192.0.2.1") is Outcome.WRONG
            assert await check.check(asked.server, ALI, SECRET, "192.0.2.1") is Outcome.RIGHT
            assert asked.connections == 2
            assert SECRET not in repr(vars(check)) and SECRET.encode() not in b"".join(
                part for kept in check._kept.values() for part in kept if isinstance(part, bytes)
            )
            now += 301
            assert await check.check(asked.server, ALI, SECRET, "192.0.2.1") is Outcome.RIGHT
            assert asked.connections == 3
            check.forget()
            assert await check.check(asked.server, ALI, SECRET, "192.0.2.1") is Outcome.RIGHT
            assert asked.connections == 4
            never = checker(None, password_cache=timedelta(0))
            for _ in range(2):
                assert await never.check(asked.server, ALI, SECRET, "192.0.2.1") is Outcome.RIGHT
            assert asked.connections == 6

    run("uvloop", main())


class Counted:
    """A wire to a server that counts who passes."""

    def __init__(self, server: SignIn) -> None:
        self._target = server
        self.server = server
        self.connections = 0

    @asynccontextmanager
    async def running(self) -> Any:
        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while octets := await reader.read(65536):
                writer.write(octets)
            writer.close()

        async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            there, back = await asyncio.open_connection(self._target.host, self._target.port)
            await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

        async with listening(passed) as port:
            t = self._target
            self.server = SignIn(kind=t.kind, host=t.host, port=port, tls=t.tls, ca=t.ca)
            yield


@asynccontextmanager
async def listening(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> Any:
    """A server on a free port; every conversation is over when this is."""
    talks: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def talk() -> None:
            with suppress(OSError, EOFError, ValueError):
                await serve(reader, writer)
            writer.close()

        talks.append(asyncio.create_task(talk()))

    server = await asyncio.start_server(accept, LOOPBACK, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@pytest.mark.servers
def test_failures_are_throttled_by_account_and_address(servers: Servers) -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now
        asked = Counted(servers.sign_in("imap", "required"))
        async with asked.running():
            check = checker(None, clock=lambda: now, failures=3)

            async def attempt(password: str, peer: str = "192.0.2.1", account: Address = ALI) -> Outcome:
                return await check.check(asked.server, account, password, peer)

            for n in range(3):
                assert await attempt(f"guess {n}") is Outcome.WRONG
            assert await attempt("guess 4") is Outcome.THROTTLED
            # The right one neither, or the throttle would be an oracle.
            assert await attempt(SECRET) is Outcome.THROTTLED
            assert asked.connections == 3
            # From elsewhere, and for another account, it goes on.
            assert await attempt(SECRET, "192.0.2.2") is Outcome.RIGHT
            assert await attempt("plain", account=Address.parse("omar@mof.example")) is Outcome.RIGHT
            now += 601
            assert await attempt(SECRET) is Outcome.RIGHT

    run("uvloop", main())


def test_the_throttle_holds_for_many_at_once_and_for_a_whole_address() -> None:
    async def main() -> None:
        async with listening(scripted(*IMAP_HELLO, b"w4 NO x\r\n")) as port:
            server = SignIn(kind="imap", host=LOOPBACK, port=port, tls="none")
            check = checker(None, failures=3)
            many = (check.check(server, ALI, f"guess {n}", "192.0.2.3") for n in range(10))
            outcomes = await asyncio.gather(*many)
            assert outcomes.count(Outcome.WRONG) == 3 and outcomes.count(Outcome.THROTTLED) == 7
            # An IPv6 host and its neighbours are one.
            for n in range(30):
                name = Address.parse(f"a{n}@mof.example")
                assert await check.check(server, name, "x", f"2001:db8::{n}") is Outcome.WRONG
            name = Address.parse("b@mof.example")
            assert await check.check(server, name, "x", "2001:db8::ffff") is Outcome.THROTTLED

    run("uvloop", main())


def scripted(*script: bytes | None) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """A server that answers each line with the next words of its script; None closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for i, words in enumerate(script):
            if i:
                await reader.readline()
            if words is None:
                break
            writer.write(words)
        else:
            await reader.read()
        writer.close()

    return serve


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("smtp", (b"554 no\r\n",)),
        ("smtp", (b"hello\r\n",)),
        ("smtp", (None,)),
        ("smtp", (b"220 " + b"x" * 10_000 + b"\r\n",)),
        ("smtp", (b"220-x\r\n" * 300,)),
        ("smtp", (b"220 x\r\n", b"500 what\r\n")),
        ("smtp", (b"220 x\r\n", b"250 x\r\n")),
        ("smtp", (*SMTP_HELLO, b"454 4.7.0 later\r\n")),
        ("smtp", (*SMTP_HELLO, b"534 5.7.9 too weak\r\n")),
        ("smtp", (*SMTP_HELLO, b"250 OK\r\n")),
        ("smtp", (*SMTP_HELLO, b"334 \r\n", None)),
        ("smtp", (*SMTP_HELLO, b"\xff\xff\r\n")),
        ("imap", (b"* BYE\r\n",)),
        ("imap", (b"* PREAUTH x\r\n",)),
        ("imap", (b"* OK x\r\n", b"* x\r\n" * 300)),
        ("imap", (b"* OK x\r\n", b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nw1 OK\r\n")),
        ("imap", (b"* OK x\r\n", b"* {999999999}\r\n" + b"x" * 100_000)),
        ("imap", (*IMAP_HELLO, b"w4 NO [UNAVAILABLE] x\r\n")),
        ("imap", (*IMAP_HELLO, b"w4 BAD x\r\n")),
        ("imap", (*IMAP_HELLO, b"+ more\r\n")),
        ("imap", (*IMAP_HELLO, b"+ \r\n" * 100)),
        ("imap", (*IMAP_HELLO, None)),
    ],
)
def test_what_is_no_verdict_is_unavailable(kind: str, script: tuple[bytes | None, ...]) -> None:
    async def main() -> None:
        async with listening(scripted(*script)) as port:
            server = SignIn(kind=kind, host=LOOPBACK, port=port, tls="none")
            with pytest.raises(SignInUnavailable) as error:
                await password_is_right(server, "ali@mof.example", "geheim", 0.5)
            assert "geheim" not in str(error.value) and "Z2VoZWlt" not in str(error.value)

    run("uvloop", main())


@pytest.mark.parametrize(
    ("kind", "script", "right"),
    [
        ("smtp", (*SMTP_HELLO, b"235 yes\r\n"), True),
        ("smtp", (*SMTP_HELLO, b"535 no\r\n"), False),
        ("smtp", (*SMTP_HELLO, b"550 5.7.8 no\r\n"), False),
        (
            "smtp",
            (b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN\r\n", b"334 u\r\n", b"334 p\r\n", b"235 yes\r\n"),
            True,
        ),
        ("smtp", (b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN\r\n", b"535 no\r\n"), False),
        ("imap", (*IMAP_HELLO, b"* x\r\nW4 ok yes\r\n"), True),
        ("imap", (*IMAP_HELLO, b"w4 NO [AUTHENTICATIONFAILED] x\r\n"), False),
        ("imap", (b"* OK x\r\n", b"w1 OK\r\n", b"+ u\r\n", b"+ p\r\n", b"w4 OK\r\n"), True),
        ("imap", (b"* OK x\r\n", b"w1 OK\r\n", b"+ u\r\n", b"+ p\r\n", b"w4 NO\r\n"), False),
    ],
)
def test_what_is_a_verdict(kind: str, script: tuple[bytes, ...], right: bool) -> None:
    async def main() -> None:
        async with listening(scripted(*script)) as port:
            server = SignIn(kind=kind, host=LOOPBACK, port=port, tls="none")
            assert await password_is_right(server, "ali@mof.example", "x y", 60) is right

    run("uvloop", main())


def test_login_sends_both_words_as_literals() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK x\r\n")
        for answer in (b"w1 OK\r\n", b"+ \r\n", b"+ \r\n", b"w4 OK\r\n"):
            heard.append(await reader.readline())
            writer.write(answer)
        await reader.read()
        writer.close()

    async def main() -> None:
        async with listening(serve) as port:
            server = SignIn(kind="imap", host=LOOPBACK, port=port, tls="none")
            assert await password_is_right(server, 'a"b@mof.example', 'كلمة" \\', 60)

    run("uvloop", main())
    assert heard[1:] == [
        b"w4 LOGIN {15}\r\n",
        b'a"b@mof.example {11}\r\n',
        'كلمة" \\\r\n'.encode(),
    ]


@pytest.mark.parametrize("kind", ["smtp", "imap"])
def test_no_password_in_clear_where_tls_is_required(kind: str) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SMTP_HELLO[0] if kind == "smtp" else IMAP_HELLO[0])
        heard.append(await reader.readline())
        writer.write(SMTP_HELLO[1] if kind == "smtp" else IMAP_HELLO[1])
        heard.append(await reader.read())
        writer.close()

    async def main() -> None:
        async with listening(serve) as port:
            server = SignIn(kind=kind, host=LOOPBACK, port=port, tls="required")
            with pytest.raises(SignInUnavailable, match="does not offer TLS"):
                await password_is_right(server, "a@mof.example", "x", 60)
            while len(heard) < 2:  # noqa: ASYNC110 -- the other end of a connection
                await asyncio.sleep(0.01)

    run("uvloop", main())
    assert heard[1] == b""


def test_what_a_server_says_before_the_handshake_is_not_believed(authority: Authority) -> None:
    """An answer to AUTH, put into the clear behind the 220, must not sign anyone in (RFC 3207 §6)."""
    context = authority.context(LOOPBACK)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n250-x\r\n250 AUTH PLAIN\r\n235 yes\r\n")
        try:
            await writer.start_tls(context)
            await reader.readline()
        except (OSError, EOFError):
            pass
        writer.close()

    async def main() -> None:
        async with listening(serve) as port:
            ca = Path(authority.file)
            server = SignIn(kind="smtp", host=LOOPBACK, port=port, tls="required", ca=ca)
            with pytest.raises(SignInUnavailable):
                await password_is_right(server, "a@mof.example", "x", 60)

    run("asyncio", main())


def test_a_server_that_is_away_is_a_454_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    conn = Connection(door=Door.SUBMISSION, peer="192.0.2.1")

    async def main() -> None:
        async with listening(scripted(b"")) as port:
            away = SignIn(kind="imap", host=LOOPBACK, port=port, tls="none")
            check = checker(away, failures=2, timeout=timedelta(seconds=0.2))
            for _ in range(3):
                answer = await check.sign_in(conn, str(ALI), "geheim")
                assert isinstance(answer, Reply) and str(answer).startswith("454 4.7.0 Temporary")

    with caplog.at_level(logging.DEBUG):
        run("uvloop", main())
    assert "no answer in" in caplog.text and "geheim" not in caplog.text
