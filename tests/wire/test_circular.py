"""A circular: one letter with a large attachment to 110 agencies is opened and hashed once, signed for each.

Each copy has a return address of its own, so 110 heads are signed; what all share, the body, must not be
read for that again. Hash and opening are counted, not timed: one more is a failure on any machine.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dkim
import pytest
import uvloop

from gateway import signing_room
from gateway.composer import Composer, Identity, Sending
from gateway.instance import Instance
from gateway.keys import KeyFile, make_keys, record_name, record_value
from gateway.reverse_path import ReversePath
from gateway.sign import body_hash
from gateway.signing_room import SigningRoom
from policies.agency import Agency, DkimKey
from policies.directory import Directory, NextHop
from tracker.archive import Archive, Octets
from tracker.claims import Claim, Parcel
from tracker.model import Address, DeliveryKind, Door, LetterKind

AGENCIES = 110
HEAD = (
    b"From: author@mof.gov.example\r\nTo: all@agencies.example\r\nSubject: circular\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0300\r\nMessage-ID: <circular@mof.gov.example>\r\n\r\n"
)
LETTER = HEAD + (b"0123456789abcdef" * 4 + b"\r\n") * 10_000  # 660 KB, far over what goes by value
DOMAIN = "mof.gov.example"
AT_US = 1_795_000_000_000_000


class CountedArchive(Archive):
    """The archive, counting how often an object is opened."""

    opened = 0

    def open(self, key: str) -> Octets:
        self.opened += 1
        return super().open(key)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[KeyFile, ...]:
    return tuple(make_keys(tmp_path / "keys", DOMAIN, "s1"))


def stored(archive: Archive) -> str:
    """The key of the letter's object."""
    spool = archive.spool()
    spool.write(LETTER)
    key = archive.key_for(1, AT_US)
    archive.store([(key, spool.finish())])
    return key


def claims(key: str, octets: Octets | None) -> list[Claim]:
    """The deliveries of the circular, one at each agency's own next hop; ``octets`` while at hand."""
    parcel = Parcel(
        letter_id=1,
        submission_id=1,
        letter_kind=LetterKind.LETTER,
        number="MOF/2026/000001",
        agency="MOF",
        author="author@mof.gov.example",
        message_id="<circular@mof.gov.example>",
        classification="",
        urgency="",
        letter_due_us=None,
        at_us=AT_US,
        door=Door.RELAY,
        peer="192.0.2.1",
        helo="mail.mof.gov.example",
        tls=None,
        account=None,
        sender=Address.parse("author@mof.gov.example"),
        ret=None,
        envid=None,
        body="7BIT",
        smtputf8=False,
        requiretls=False,
        size=len(LETTER),
        sha256=b"",
        archive_key=key,
        facts={},
        octets=octets,
        wire_id="1",
    )
    return [
        Claim(
            delivery_id=n,
            attempt_id=n,
            kind=DeliveryKind.LETTER,
            recipient=Address.parse(f"diwan@agency{n}.gov.example"),
            agency=f"A{n}",
            notify=None,
            orcpt=None,
            hop=f"A{n}",
            attempts=1,
            expires_us=AT_US,
            warned_us=None,
            tag=True,
            subject_tag=True,
            sign=True,
            require_tls=False,
            in_doubt=False,
            due_us=AT_US,
            parcel=parcel,
        )
        for n in range(1, AGENCIES + 1)
    ]


def verified(octets: bytes, keys: tuple[KeyFile, ...]) -> int:
    """How many of the signatures hold, by dkimpy."""
    records = {record_name(made.key).rstrip("."): record_value(made.key).encode() for made in keys}
    message: Any = dkim.DKIM(octets)  # type: ignore[no-untyped-call]
    known: Callable[..., bytes] = lambda name, timeout=5: records[name.decode().rstrip(".")]  # noqa: E731
    return sum(message.verify(idx=index, dnsfunc=known) for index in range(len(keys)))


@pytest.mark.parametrize("at_once", [True, False], ids=["as it came in", "claimed later"])
def test_a_circular_is_opened_once_and_signed_for_each(
    keys: tuple[KeyFile, ...], tmp_path: Path, at_once: bool
) -> None:
    archive = CountedArchive(tmp_path / "archive")
    key = stored(archive)
    deliveries = claims(key, Archive(archive.root).open(key) if at_once else None)
    dkim_keys = tuple(
        DkimKey(selector=made.key.selector, domain=DOMAIN, key_file=Path(made.path)) for made in keys
    )
    mof = Agency(code="MOF", name_ar="المالية", name_en="Finance", domains=(DOMAIN,), dkim=dkim_keys)

    async def main() -> list[Sending]:
        room = SigningRoom()
        with ThreadPoolExecutor(2) as executor:
            composer = Composer(
                Identity(hostname="wasl.gov.example", zone="Asia/Amman", domain="wasl.gov.example"),
                archive,
                lambda: Directory([mof]),
                ReversePath(b"s" * 32, "wasl.gov.example"),
                Instance(b"s" * 32, "wasl.gov.example"),
                executor,
                room,
            )
            ways = [NextHop(name=claim.hop, host="127.0.0.1", port=25) for claim in deliveries]
            made = await asyncio.gather(
                *(composer.compose([d], way) for d, way in zip(deliveries, ways, strict=True))
            )
            await room.close()
        return made

    sendings = uvloop.run(main())
    assert archive.opened == (0 if at_once else 1)
    assert len({sending.outgoing.sender for sending in sendings}) == AGENCIES
    # All copies are pieces of the one view of the one object: nobody has a body of his own in memory.
    views = {id(sending.opened.view) for sending in sendings if sending.opened is not None}
    assert len(views) == 1
    for sending in sendings:
        assert sum(len(piece) for piece in sending.outgoing.pieces if isinstance(piece, bytes)) < 20_000
    for sending in (sendings[0], sendings[-1]):
        octets = b"".join(bytes(piece) for piece in sending.outgoing.pieces)
        assert octets.endswith(LETTER[len(HEAD) :]) and verified(octets, keys) == 2


def test_the_body_of_a_circular_is_hashed_once(
    keys: tuple[KeyFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the signing room does with the orders of one letter that differ in the return address."""
    from tests.wire.test_signing_room import order

    hashed: list[int] = []

    def counted(octets: Any, start: int = 0) -> bytes:
        hashed.append(len(octets) - start)
        return body_hash(octets, start)

    monkeypatch.setattr(signing_room, "body_hash", counted)
    archive = Archive(tmp_path / "archive")
    path = str(archive.path_of(stored(archive)))
    names = tuple((str(made.path), DOMAIN, made.key.selector) for made in keys)
    room = signing_room._Room()
    prefixes = set()
    for n in range(AGENCIES):
        asked = order(names)._replace(notify_to=f"wasl-{n}@wasl.gov.example")
        answer: Any = pickle.loads(room.answer(memoryview(pickle.dumps((tuple(asked), None, path))))[4:])
        prefixes.add(answer[0])
    assert len(prefixes) == AGENCIES
    assert hashed == [len(LETTER) - len(HEAD)]
