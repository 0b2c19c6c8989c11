"""COMMIT was done and its answer lost: nobody knows of what was handed over. And failures for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.records import HOUR, claim, letter, record_at, rows, sent, whole
from tests.servers.cut_proxy import CutProxy, cut_proxy
from tests.servers.postgres import Postgres
from tracker import schema
from tracker.model import now_us
from tracker.record import Record
from tracker.states import Event, State
from tracker.writer import CommitFailed

pytestmark = [pytest.mark.servers, pytest.mark.postgres]

LETTER = b"INSERT INTO letter"
ATTEMPT = b"INSERT INTO attempt"


@pytest.fixture
def proxy(postgres_server: Postgres) -> Iterator[CutProxy]:
    with cut_proxy(postgres_server.port) as made:
        yield made


@pytest.fixture
def record(proxy: CutProxy, pg_url: str, tmp_path: Path) -> Iterator[Record]:
    with record_at(proxy.url(pg_url), tmp_path) as made:
        yield made


def test_what_was_handed_over_and_not_told_is_claimed_at_once(record: Record, proxy: CutProxy) -> None:
    now = now_us()
    a = letter(record, hand_to="0/a", lease_us=now + HOUR)
    proxy.arm(LETTER)
    with pytest.raises(CommitFailed):
        record.accept(a)
    assert proxy.cuts == 1
    (row,) = rows(record, schema.delivery)
    assert (row.state, row.lease_owner) == (State.SENDING.value, "0/a")  # it was committed after all
    again = record.accept(replace(letter(record), submission_id=record.ids.next(), octets=a.octets))
    assert again.repeat and again.number == row_number(record)
    (found,) = claim(record)  # the same life asks for what is due
    assert (found.attempts, found.in_doubt) == (1, False)  # nobody has begun it
    sent(record, found, Event.DELIVERED)
    assert [r.state for r in rows(record, schema.delivery)] == [State.SENT.value]
    assert [r.id for r in rows(record, schema.attempt)] == [found.attempt_id]
    whole(record)


def test_a_claim_that_was_not_told_is_given_again(record: Record, proxy: CutProxy) -> None:
    record.accept(letter(record))
    proxy.arm(ATTEMPT)
    with pytest.raises(CommitFailed):
        claim(record)
    (found,) = claim(record)
    assert (found.attempts, found.in_doubt) == (1, False)
    assert claim(record) == []
    whole(record)


def test_what_was_rolled_back_leaves_nothing_to_look_for(record: Record, postgres_server: Postgres) -> None:
    with record.store.writer.begin() as conn:
        conn.execute(text("ALTER TABLE ledger_pending RENAME TO away"))
    a = letter(record, hand_to="0/a", lease_us=now_us() + HOUR)
    with pytest.raises(Exception, match="ledger_pending"):
        record.accept(a)
    assert not list(record.archive.keys())  # nothing names its octets
    assert not record.accept_desk._stored
    assert len(record.accept_desk._doubtful) == 0
    with record.store.writer.begin() as conn:
        conn.execute(text("ALTER TABLE away RENAME TO ledger_pending"))
    number = record.accept(a).number
    assert number is not None and number.endswith("/000001"), "the failed one took none"
    assert len(list(record.archive.keys())) == 1


def test_an_uncertain_failure_keeps_the_octets(record: Record, proxy: CutProxy) -> None:
    proxy.arm(LETTER)
    with pytest.raises(CommitFailed):
        record.accept(letter(record))
    assert len(list(record.archive.keys())) == 1
    assert not record.accept_desk._stored
    whole(record)


def row_number(record: Record) -> str:
    (row,) = rows(record, schema.letter)
    return str(row.number)
