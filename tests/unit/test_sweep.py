"""Objects that no row names are removed: a day old, seen twice, never one of a letter."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.records import letter, made_store, whole
from tracker import sweep, worklist
from tracker.archive import Archive, Octets, key_for
from tracker.ledger import LedgerKey
from tracker.model import now_us
from tracker.record import Record

DAY = 24 * 3600 * 1_000_000


@dataclass
class House:
    record: Record
    seconds: float = 0.0

    def turn(self, limit: int = 500, at_us: int | None = None) -> int:
        with self.record.read() as conn:
            removed, mark = self.record._sweep.turn(conn, at_us or now_us(), limit)
        if mark is not None:
            kept = mark
            self.record.write(lambda conn: sweep.keep(conn, kept))
        return removed

    def loose(self, at_us: int, count: int = 1) -> list[str]:
        keys = [key_for(self.record.ids.next(), at_us) for _ in range(count)]
        self.record.archive.store([(key, Octets.of(key.encode())) for key in keys])
        return keys

    def objects(self) -> list[str]:
        return list(self.record.archive.keys())


@pytest.fixture
def house(record_url: str, tmp_path: Path) -> Iterator[House]:
    store = made_store(record_url)
    with Archive(tmp_path / "archive") as archive:
        record = Record(store, archive, LedgerKey.make("wasl.test/ledger"))
        made = House(record)
        record._sweep.clock = lambda: made.seconds
        try:
            yield made
        finally:
            record.close()


def test_only_what_is_old_and_seen_twice_goes(house: House) -> None:
    old, record = now_us() - 3 * DAY, house.record
    record.accept(letter(record, at_us=old))
    (kept,) = house.objects()
    (gone,) = house.loose(old)
    (young,) = house.loose(now_us() - DAY // 2)
    assert house.turn() == 0
    house.seconds = sweep.AGAIN_S - 1
    assert house.turn() == 0 and gone in house.objects()
    house.seconds += 2
    assert house.turn() == 1
    assert house.objects() == sorted([kept, young])
    assert house.turn() == 0
    whole(record)


def test_a_letter_whose_row_comes_between_the_two_looks_stays(house: House) -> None:
    """A node whose clock is days behind accepts it just now: its object looks old and has no row yet."""
    old, record = now_us() - 3 * DAY, house.record
    a = letter(record, at_us=old)
    record.archive.store([(record.accept_desk.archive_key(a), a.octets)])
    assert house.turn() == 0
    record.accept(a)
    house.seconds = 2 * sweep.AGAIN_S
    assert house.turn() == 0
    assert len(house.objects()) == 1
    whole(record)


def test_a_report_that_waits_for_a_person_is_named_by_the_worklist(house: House) -> None:
    old, record = now_us() - 3 * DAY, house.record
    (key,) = house.loose(old)
    unclear = worklist.Unclear(
        id=record.ids.next(),
        at_us=old,
        kind="dsn",
        reason="unknown",
        sender="",
        subject="",
        letter_id=None,
        archive_key=key,
        detail={},
    )
    record.write(lambda conn: worklist.add(conn, [unclear]))
    assert house.turn() == 0
    house.seconds = 2 * sweep.AGAIN_S
    assert house.turn() == 0 and house.objects() == [key]


def test_each_turn_is_bounded_and_the_next_life_goes_on_where_this_one_was(house: House) -> None:
    old, record = now_us() - 3 * DAY, house.record
    for n in range(8):
        record.accept(letter(record, at_us=old, message_id=f"<{n}@mof>", text=b"From: a\r\n\r\n%d\r\n" % n))
    (gone,) = house.loose(old + DAY)
    assert [house.turn(limit=4) for _ in range(3)] == [0, 0, 0]
    again = sweep.Sweep(record.archive, clock=lambda: house.seconds)
    record._sweep = again
    asked: list[str] = []
    with record.read() as conn:
        assert again.turn(conn, now_us(), 4) == (0, None)
    asked = [one.key for one in again._loose]
    assert asked == [gone]  # what was decided is not looked at again, what was not is
    house.seconds = 2 * sweep.AGAIN_S
    assert house.turn() == 1 and gone not in house.objects()
    with record.read() as conn:
        assert sweep.Sweep(record.archive).turn(conn, now_us(), 4)[0] == 0


def test_an_archive_that_is_newer_than_the_database_is_left_alone(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    old, record = now_us() - 3 * DAY, house.record
    record.accept(letter(record, at_us=old))
    house.loose(old, count=sweep.FEW + 1)
    with caplog.at_level(logging.ERROR):
        assert house.turn() == 0
    assert f"{sweep.FEW + 1} of {sweep.FEW + 2} objects" in caplog.text
    house.seconds = 2 * sweep.AGAIN_S
    assert house.turn() == 0
    assert len(house.objects()) == sweep.FEW + 2
