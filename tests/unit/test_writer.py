"""What is told of a group that could not be written: a failure of the record, no act that it refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.records import claim, letter, made_store, sent, whole
from tracker.access import Role
from tracker.accounts import AccountError, make
from tracker.archive import Archive
from tracker.ledger import LedgerKey
from tracker.model import now_us
from tracker.noting import NoSuchDelivery, Note
from tracker.policy_store import PolicyStoreError, approve
from tracker.record import Record
from tracker.states import Event, UnknownMove
from tracker.writer import Errand, Writer


@contextmanager
def told_of(url: str, folder: Path) -> Iterator[tuple[Record, list[BaseException]]]:
    """A record, and what its failures were."""
    failures: list[BaseException] = []
    with Archive(folder / "archive") as archive:
        key = LedgerKey.make("wasl.test/ledger")
        record = Record(made_store(url), archive, key, zone="Asia/Amman", on_failure=failures.append)
        try:
            yield record, failures
        finally:
            record.close()


def test_a_refused_act_is_no_failure_of_the_record(record_url: str, tmp_path: Path) -> None:
    def account(conn: Connection) -> None:
        make(conn, 1, name="", password="a long pass phrase", role=Role.ADMIN)

    with told_of(record_url, tmp_path) as (record, failures):
        record.accept(letter(record))
        (c,) = claim(record)
        sent(record, c)
        with pytest.raises(UnknownMove, match="cannot happen to a delivery that is sent"):
            record.note(Note(delivery_id=c.delivery_id, event=Event.CANCELLED, at_us=now_us()))
        with pytest.raises(NoSuchDelivery):
            record.note(Note(delivery_id=12345, event=Event.RELAYED, at_us=now_us()))
        with pytest.raises(AccountError):
            record.write(account)
        with pytest.raises(PolicyStoreError):
            record.write(lambda conn: approve(conn, "0" * 16, by="rana", at_us=now_us()))
        assert failures == []
        with pytest.raises(ZeroDivisionError):
            record.write(lambda conn: 1 // 0)
        with pytest.raises(LookupError):  # what NoSuchDelivery is one of is still a fault of ours
            record.write(lambda conn: dict[str, int]()["x"])
        assert [type(error) for error in failures] == [ZeroDivisionError, KeyError]
        whole(record)


def test_a_failure_is_told_that_stood_behind_a_refusal_in_its_group(tmp_path: Path) -> None:
    """The refusal breaks the group off; written alone, the other errand fails by itself."""
    store = made_store(f"sqlite:///{tmp_path / 'wasl.db'}")
    told: list[BaseException] = []
    writer = Writer(store, told.append, threaded=False)
    done: list[Future[Any]] = [Future() for _ in range(4)]

    def refuse(conn: Connection) -> None:
        raise UnknownMove("cancelled cannot happen to a delivery that is sent")

    acts = [refuse, lambda conn: 1 // 0, lambda conn: "good", refuse]
    writer.commit_now(
        [
            Errand(writer.run_desk, act, writer.future_hub, future)
            for act, future in zip(acts, done, strict=True)
        ]
    )
    writer.stop()
    store.close()
    assert [type(f.exception()) for f in done] == [UnknownMove, ZeroDivisionError, type(None), UnknownMove]
    assert [type(error) for error in told] == [UnknownMove, ZeroDivisionError]
