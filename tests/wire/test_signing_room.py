"""The signing room: the same edits as in this process, many at once, and a room that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from gateway.keys import make_keys
from gateway.sealing import KeyName, KeyRing, Order, seal
from gateway.sign import body_hash
from gateway.signing_room import RoomClosed, SigningRoom
from tracker.header import scan

LETTER = b"From: a@mof.gov.example\r\nTo: b@moh.gov.example\r\nSubject: hello\r\n\r\nhello\r\n"
DOMAIN = "mof.gov.example"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[KeyName, ...]:
    rsa, ed = make_keys(tmp_path, DOMAIN, "s1")
    return tuple((str(made.path), DOMAIN, made.key.selector) for made in (rsa, ed))


@pytest.fixture
async def room() -> AsyncIterator[SigningRoom]:
    made = SigningRoom()
    yield made
    await made.close()


def order(keys: tuple[KeyName, ...], number: str = "MOF/2026/000001") -> Order:
    return Order(
        submission_id=1,
        hostname="wasl.gov.example",
        zone="Asia/Amman",
        tagged=True,
        keys=keys,
        at_us=1_795_000_000_000_000,
        door="relay",
        peer="192.0.2.1",
        helo="mx.mof.gov.example",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384 verified",
        account=None,
        smtputf8=False,
        instance="wasl.gov.example; id=x",
        number=number,
        subject_tag=f"[{number}]",
        classification=None,
        urgency=None,
        authentication_results="none",
        message_id="<made@wasl.gov.example>",
    )


def without_signatures(prefix: bytes) -> bytes:
    at = prefix.find(b"Authentication-Results:")
    return prefix[at:]


@pytest.mark.anyio
async def test_the_room_makes_the_edit_that_this_process_makes(
    room: SigningRoom, keys: tuple[KeyName, ...], tmp_path: Path
) -> None:
    here = seal(order(keys), LETTER, scan(LETTER), KeyRing(), lambda start: body_hash(LETTER, start))
    by_value = await room.seal(order(keys), LETTER, None)
    file = tmp_path / "letter.eml"
    file.write_bytes(LETTER)
    by_file = await room.seal(order(keys), None, str(file))
    for edit in (by_value, by_file):
        assert edit.cuts == here.cuts and edit.body_at == here.body_at
        assert without_signatures(edit.prefix) == without_signatures(here.prefix)
        assert edit.prefix.count(b"DKIM-Signature:") == 2
        assert edit.restore(edit.apply(LETTER)) == LETTER


@pytest.mark.anyio
async def test_many_orders_at_once_are_answered_each_with_its_own(
    room: SigningRoom, keys: tuple[KeyName, ...]
) -> None:
    found: dict[int, bytes] = {}

    async def one(n: int) -> None:
        text = LETTER + b"x" * (n * 700)
        found[n] = (await room.seal(order(keys, f"MOF/2026/{n:06d}"), text, None)).prefix

    async with anyio.create_task_group() as group:
        for n in range(1, 120):
            group.start_soon(one, n)
    assert all(f"MOF/2026/{n:06d}".encode() in prefix for n, prefix in found.items()) and len(found) == 119


@pytest.mark.anyio
async def test_a_letter_that_cannot_be_done_is_told_and_the_room_goes_on(
    room: SigningRoom, keys: tuple[KeyName, ...]
) -> None:
    with pytest.raises(ValueError, match="FileNotFoundError"):
        await room.seal(order(keys), None, "/nowhere/at/all")
    assert (await room.seal(order(keys), LETTER, None)).prefix


@pytest.mark.anyio
async def test_a_killed_room_fails_its_orders_and_the_next_order_opens_another(
    room: SigningRoom, keys: tuple[KeyName, ...]
) -> None:
    await room.seal(order(keys), LETTER, None)
    child = room.pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)

    async def asked() -> None:
        with pytest.raises(RoomClosed):
            await room.seal(order(keys), LETTER, None)

    async with anyio.create_task_group() as group:
        group.start_soon(asked)
        await anyio.sleep(0.05)
        os.kill(child, signal.SIGKILL)
    assert (await room.seal(order(keys), LETTER, None)).prefix
    assert room.pid not in (None, child)


@pytest.mark.anyio
async def test_a_closed_room_is_closed(keys: tuple[KeyName, ...]) -> None:
    room = SigningRoom()
    await room.seal(order(keys), LETTER, None)
    child = room.pid
    await room.close()
    with pytest.raises(RoomClosed):
        await room.seal(order(keys), LETTER, None)
    assert child is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
