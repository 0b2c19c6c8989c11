"""Client programs and a mail server that people use, sending to the listener."""

from __future__ import annotations

import asyncio
import shutil
import smtplib
from pathlib import Path

import pytest

from gateway.desk import WireLimits
from tests.servers.certificates import Authority
from tests.servers.clients import CLIENTS, ENVIRONMENT, Handing
from tests.servers.place import Place
from tests.servers.postfix import postfix
from tests.wire.wire_desk import House, house, run
from tracker.model import Door

pytestmark = pytest.mark.servers

NAME = "127.0.0.1"
ALI, SECRET = "ali@mof.example", "pa ss'w\"örd"
MESSAGE = (
    "From: Ali <ali@mof.example>\r\nTo: Omar <omar@moh.example>\r\nSubject: =?utf-8?B?2YPYqtin2Kg=?=\r\n"
    "Message-ID: <1@mof.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0300\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ".\r\nالسلام عليكم\r\n..\r\n"
).encode()


async def program(*command: str | Path, octets: bytes = b"") -> str:
    """Run a client to its end and return what it printed; fails on another status than 0."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    try:
        out, _ = await asyncio.wait_for(child.communicate(octets), 120)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, out.decode(errors="replace")
    return out.decode(errors="replace")


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_signs_in_and_submits(
    client: str, implicit: bool, authority: Authority, tmp_path: Path
) -> None:
    async def main() -> None:
        tls = authority.context(NAME)
        async with house(tmp_path, door=Door.SUBMISSION, tls=tls, implicit=implicit, require_auth=True) as h:
            h.desk.passwords = {ALI: SECRET}
            letter = Handing(
                folder=tmp_path,
                octets=MESSAGE,
                sender=ALI,
                recipient="omar@moh.example",
                port=h.port,
                ca=authority.file,
                implicit=implicit,
                account=ALI,
                password=SECRET,
                auth="login" if client == "swaks" else "plain",
                dsn=True,
            )
            words, octets = CLIENTS[client](letter)
            await program(*words, octets=octets)
            (taken,) = h.desk.letters
            assert taken.content == MESSAGE
            assert taken.conn.account == ALI and taken.conn.tls is not None
            assert str(taken.envelope.sender) == ALI
            assert [str(r.address) for r in taken.envelope.recipients] == ["omar@moh.example"]
            if client == "msmtp":
                assert taken.envelope.ret == "HDRS"
                assert taken.envelope.recipients[0].notify == "FAILURE,DELAY"

    run("uvloop", main())


def inject(port: int, n: int) -> None:
    with smtplib.SMTP(NAME, port) as client:
        client.sendmail(
            ALI,
            [f"omar{n}@moh.example"],
            MESSAGE,
            ["BODY=8BITMIME", "RET=HDRS", f"ENVID=Case+2B{n}"],
            ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;Omar{n}@MOH.example"],
        )


async def arrived(h: House, count: int) -> None:
    async with asyncio.timeout(110):
        while len(h.desk.letters) < count:  # noqa: ASYNC110 -- a mail server says nothing when it has sent
            await asyncio.sleep(0.05)


def test_postfix_relays_with_everything_it_knows(authority: Authority, place: Place, tmp_path: Path) -> None:
    """Pipelining, 8BITMIME, SMTPUTF8, DSN parameters, STARTTLS and a kept connection, over a real server."""

    async def main() -> None:
        async with house(tmp_path, tls=authority.context(NAME)) as h:
            settings = {
                "smtp_tls_security_level": "secure",
                "smtp_tls_CAfile": str(authority.file),
                "smtp_tls_secure_cert_match": NAME,
            }
            with postfix(place, relayhost=(NAME, h.port), settings=settings) as agency:
                for n in range(3):
                    await asyncio.to_thread(inject, agency.port, n)
                await arrived(h, 3)
            for taken in h.desk.letters:
                assert taken.content.endswith(MESSAGE)
                assert taken.content.startswith(b"Received: ")
                assert taken.conn.tls is not None
                assert (taken.envelope.body, taken.envelope.ret) == ("8BITMIME", "HDRS")
            assert {t.envelope.envid for t in h.desk.letters} == {"Case+2B0", "Case+2B1", "Case+2B2"}
            assert {(r.notify, r.orcpt) for t in h.desk.letters for r in t.envelope.recipients} == {
                ("SUCCESS,FAILURE", f"rfc822;Omar{n}@MOH.example") for n in range(3)
            }

    run("uvloop", main())


def test_smtp_source_on_many_connections(tmp_path: Path) -> None:
    source = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
    assert source, "smtp-source is not installed"

    async def main() -> None:
        limits = WireLimits(connections_per_address=100)
        async with house(tmp_path, limits=limits) as h:
            for keep in ((), ("-d",)):
                h.desk.letters.clear()
                await program(
                    source, "-4", *keep, "-s", "20", "-m", "200", "-l", "200000", "-f", ALI,
                    "-t", "omar@moh.example", f"{NAME}:{h.port}",
                )  # fmt: skip
                assert len(h.desk.letters) == 200
                assert {len(t.content) >= 200_000 for t in h.desk.letters} == {True}

    run("uvloop", main())
