"""TLS towards a next hop, and the password that is shown to nobody without it."""

from __future__ import annotations

import base64
import ssl
from typing import Any

import pytest

from gateway.hop_pool import Pool
from gateway.smtp_client import Outcome, Outgoing, OutRecipient, Stage, Timeouts
from policies.directory import NextHop
from tests.servers.certificates import Authority
from tests.wire.one_hop import Run
from tests.wire.scripted import Hung, Play, Wire, serving
from tracker.model import Address

QUICK = Timeouts(connect=60, greeting=60, hello=60, tls=60, mail=60, data=60, block=60, final=60, quit=0.1)
SECRET = "s3cret-of-the-hop"


@pytest.fixture(scope="module")
def ours(authority: Authority) -> ssl.SSLContext:
    """A server context with a certificate for localhost."""
    return authority.context("localhost")


def mail(**more: Any) -> Outgoing:
    to = OutRecipient(address=Address.parse("r@moh.example"))
    octets = b"Subject: x\r\n\r\nbody\r\n"
    return Outgoing(sender=Address.parse("a@mof.example"), recipients=(to,), pieces=[octets], **more)


def starttls(context: ssl.SSLContext, *after: str, inject: bytes = b"") -> Play:
    """A server that offers STARTTLS and takes a letter, with or without it."""

    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING", "STARTTLS")
        line = await wire.line()
        if line == b"STARTTLS":
            wire.writer.write(b"220 2.0.0 go ahead\r\n" + inject)
            await wire.writer.drain()
            await wire.writer.start_tls(context)
            await wire.ehlo("PIPELINING", *after)
            line = await wire.line()
        if line == b"QUIT":
            return await wire.say("221 bye")
        assert line.startswith(b"MAIL"), line
        await wire.lines(2)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.octets()
        return await wire.say("250 taken")

    return play


async def send(
    play: Play, letter: Outgoing | None = None, *, tls_port: Any = None, **more: Any
) -> tuple[Outcome, Any]:
    auth = more.pop("plain_auth_on_loopback", False)
    async with serving(play, tls=tls_port) as server:
        hop = NextHop(**({"name": "MOH", "host": "localhost", "port": server.port} | more))
        pool = Pool(hop, hostname="wasl.example", times=QUICK, plain_auth_on_loopback=auth)
        outcome = await pool.send(letter or mail())
        await pool.close(0.3)
    return outcome, server


def test_a_verified_connection(run: Run, authority: Authority, ours: ssl.SSLContext) -> None:
    for mode in ("opportunistic", "required"):
        outcome, server = run(lambda m=mode: send(starttls(ours), tls=m, ca=authority.file))
        assert outcome.results[0].accepted
        assert outcome.tls is not None and outcome.tls.verified
        assert outcome.tls.version.startswith("TLSv1.") and "localhost" in outcome.tls.peer_names
        assert len(server.wires) == 1
        assert server.said.count(b"EHLO wasl.example") == 2  # what was offered in clear counts no more


def test_implicit_tls(run: Run, authority: Authority, ours: ssl.SSLContext) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING")
        await wire.letter()

    outcome, _ = run(lambda: send(play, tls_port=ours, tls="implicit", ca=authority.file))
    assert outcome.results[0].accepted and outcome.tls is not None and outcome.tls.verified
    outcome, _ = run(lambda: send(play, tls_port=ours, tls="implicit"))  # an authority nobody knows
    assert outcome.results[0].stage is Stage.STARTTLS and not outcome.results[0].permanent
    outcome, _ = run(lambda: send(play, tls_port=ours, tls="implicit", verify=False))
    assert outcome.results[0].accepted and outcome.tls is not None and not outcome.tls.verified


def test_required_means_required(run: Run, authority: Authority, ours: ssl.SSLContext) -> None:
    async def without(wire: Wire) -> None:
        await wire.hello("PIPELINING")
        assert await wire.reader.read() == b""

    async def refused(wire: Wire) -> None:
        await wire.hello("STARTTLS")
        await wire.line()
        await wire.say("454 4.7.0 not now")
        assert await wire.reader.read() == b""

    other = authority.context("other.example")
    for play, more in (
        (without, {}),
        (refused, {}),
        (starttls(ours), {}),  # an authority that the system does not know
        (starttls(other), {"ca": authority.file}),  # another name
    ):
        outcome, server = run(lambda p=play, m=more: send(p, tls="required", **m))
        (result,) = outcome.results
        assert result.stage is Stage.STARTTLS, result
        assert not result.permanent and not result.in_doubt and result.told.transient
        assert not any(line.startswith(b"MAIL") for line in server.said)


def test_required_without_verification_takes_any_certificate(run: Run, authority: Authority) -> None:
    other = authority.context("other.example")
    outcome, _ = run(lambda: send(starttls(other), tls="required", verify=False))
    assert outcome.results[0].accepted and outcome.tls is not None and not outcome.tls.verified


def test_opportunistic_takes_what_it_gets_and_remembers(run: Run, authority: Authority) -> None:
    other = authority.context("other.example")

    async def main() -> None:
        async with serving(starttls(other)) as server:
            hop = NextHop(
                name="MOH", host="localhost", port=server.port, ca=authority.file, max_connections=1
            )
            pool = Pool(hop, hostname="wasl.example", times=QUICK, max_messages=1)
            for _ in range(2):
                outcome = await pool.send(mail())
                assert outcome.results[0].accepted
                assert outcome.tls is not None and not outcome.tls.verified
            assert len(server.wires) == 3  # one that failed, then the level is known
            outcome = await pool.send(mail(requiretls=True))
            assert outcome.results[0].stage is Stage.LOCAL
            await pool.close(0.3)

    run(main)


def test_opportunistic_goes_on_in_clear_when_tls_is_broken(run: Run) -> None:
    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING", "STARTTLS")
        line = await wire.line()
        if line == b"STARTTLS":
            await wire.say("220 go ahead", b"this is no handshake", b"\x15\x03\x01")
            await wire.reader.read()
            return
        await wire.lines(2)
        await wire.say("250 ok", "250 ok", "354 go on")
        await wire.octets()
        await wire.say("250 taken")

    outcome, _ = run(lambda: send(play))
    assert outcome.results[0].accepted and outcome.tls is None
    outcome, _ = run(lambda: send(play, tls="required", verify=False))
    assert not outcome.results[0].accepted


@pytest.mark.parametrize(
    "inject",
    [b"250 injected\r\n", b"250-injected", b"250-x\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n"],
)
def test_nothing_said_before_the_handshake_counts_after_it(
    run: Run, authority: Authority, ours: ssl.SSLContext, inject: bytes
) -> None:
    outcome, server = run(
        lambda: send(
            starttls(ours, inject=inject), tls="required", ca=authority.file, username="u", password=SECRET
        )
    )
    (result,) = outcome.results
    assert not result.accepted and not result.in_doubt
    assert SECRET.encode() not in b"".join(server.said)
    assert not any(line.startswith((b"MAIL", b"AUTH")) for line in server.said)


@pytest.mark.parametrize(
    "inject", [b"250-x\r\n250-REQUIRETLS\r\n", b"250-x\r\n250-REQUIRETLS\r\n250-S", b"2"]
)
def test_half_a_reply_before_the_handshake_is_thrown_away(
    run: Run, authority: Authority, ours: ssl.SSLContext, inject: bytes
) -> None:
    play = starttls(ours, inject=inject)
    more: dict[str, Any] = {"tls": "required", "ca": authority.file}
    outcome, _ = run(lambda: send(play, mail(requiretls=True), **more))
    assert str(outcome.results[0].told.status) == "5.7.30"
    outcome, _ = run(lambda: send(play, **more))
    assert outcome.results[0].accepted


def test_requiretls_needs_a_verified_peer_that_offers_it(
    run: Run, authority: Authority, ours: ssl.SSLContext
) -> None:
    letter = mail(requiretls=True)
    more: dict[str, Any] = {"tls": "required", "ca": authority.file}
    outcome, server = run(lambda: send(starttls(ours, "REQUIRETLS"), letter, **more))
    assert outcome.results[0].accepted
    assert b"MAIL FROM:<a@mof.example> REQUIRETLS" in server.said
    for play, change in (
        (starttls(ours), {}),
        (starttls(ours, "REQUIRETLS"), {"verify": False}),
    ):
        outcome, server = run(lambda p=play, c=change: send(p, letter, **(more | c)))
        (result,) = outcome.results
        assert str(result.told.status) == "5.7.30" and result.permanent
        assert not any(line.startswith(b"MAIL") for line in server.said)


def auth(words: str, *steps: str) -> Play:
    async def play(wire: Wire) -> None:
        await wire.hello("PIPELINING", words)
        for step in steps:
            if (await wire.line()).upper() == b"QUIT":
                raise Hung
            await wire.say(step)
        if steps and steps[-1].startswith("235"):
            await wire.letter()
        else:
            assert await wire.reader.read() in (b"", b"QUIT\r\n")

    return play


WHO = {"username": "wasl@moh.example", "password": SECRET}
IN_CLEAR = {"tls": "none", "plain_auth_on_loopback": True}


def test_the_password_is_not_shown_without_tls(run: Run) -> None:
    outcome, server = run(lambda: send(auth("AUTH PLAIN LOGIN"), tls="none", **WHO))
    assert outcome.results[0].stage is Stage.AUTH and not outcome.results[0].permanent
    assert server.said == [b"EHLO wasl.example"]
    outcome, server = run(lambda: send(auth("AUTH PLAIN LOGIN"), **WHO))  # opportunistic, no STARTTLS offered
    assert outcome.results[0].stage is Stage.AUTH
    assert server.said == [b"EHLO wasl.example"]


@pytest.mark.parametrize(
    ("words", "steps", "said"),
    [
        ("AUTH LOGIN PLAIN", ["235 2.7.0 in"], [b"AUTH PLAIN " + base64.b64encode(
            b"\0wasl@moh.example\0" + SECRET.encode())]),
        ("AUTH=LOGIN", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 in"], [
            b"AUTH LOGIN", base64.b64encode(b"wasl@moh.example"), base64.b64encode(SECRET.encode())]),
    ],
)  # fmt: skip
def test_plain_and_login(run: Run, words: str, steps: list[str], said: list[bytes]) -> None:
    outcome, server = run(lambda: send(auth(words, *steps), **IN_CLEAR, **WHO))
    assert outcome.results[0].accepted
    assert server.said[1 : 1 + len(said)] == said
    for secret in (SECRET, base64.b64encode(SECRET.encode()).decode(), said[0][11:].decode() or SECRET):
        assert secret not in outcome.transcript
    assert outcome.transcript.splitlines()[2].endswith(steps[-1])


def test_a_wrong_password_keeps_the_letter_and_is_not_repeated_to_anyone(run: Run) -> None:
    echo = base64.b64encode(b"\0wasl@moh.example\0" + SECRET.encode()).decode()
    outcome, _ = run(lambda: send(auth("AUTH PLAIN", f"535 5.7.8 no: {SECRET} {echo}"), **IN_CLEAR, **WHO))
    (result,) = outcome.results
    assert result.stage is Stage.AUTH and result.reply is not None and result.reply.code == 535
    assert not result.permanent
    assert SECRET not in str(outcome) and echo not in str(outcome)


def test_neither_mechanism(run: Run) -> None:
    outcome, _ = run(lambda: send(auth("AUTH CRAM-MD5"), **IN_CLEAR, **WHO))
    assert outcome.results[0].stage is Stage.AUTH
