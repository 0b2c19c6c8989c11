"""A record with letters in it, for tests on both databases: accepting, claiming, what came of an attempt."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select

from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.archive import Archive, Octets
from tracker.claims import Claim, Want
from tracker.ledger import LedgerKey
from tracker.model import Address, Connection, DeliveryKind, Door, Envelope, LetterKind, Recipient, now_us
from tracker.noting import AttemptEnd, Note
from tracker.record import Record
from tracker.states import Event
from tracker.store import Store

HOUR = 3600 * 1_000_000
SHAPE = "{agency}/{year}/{seq:06d}"


@cache
def _model() -> Path:
    """An SQLite file with the tables of an empty record, made once a process: others are copies of it."""
    folder = Path(tempfile.mkdtemp(prefix="wasl-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = Store(f"sqlite:///{folder / 'wasl.db'}")
    store.create()
    store.close()
    return folder / "wasl.db"


def made_store(url: str) -> Store:
    """A store with all tables; where the URL names an SQLite file that is not there, it is copied."""
    file = make_url(url)
    if file.get_backend_name() == "sqlite" and file.database and not Path(file.database).exists():
        shutil.copyfile(_model(), file.database)
    store = Store(url)
    store.create()
    return store


@contextmanager
def record_at(url: str, folder: Path) -> Iterator[Record]:
    """A record in an empty database, with its archive in a folder."""
    store = made_store(url)
    with Archive(folder / "archive") as archive:
        made = Record(store, archive, LedgerKey.make("wasl.test/ledger"), zone="Asia/Amman")
        try:
            yield made
        finally:
            made.close()


def letter(
    record: Record,
    *to: str,
    text: bytes = b"From: a@mof.gov.example\r\n\r\nhello\r\n",
    message_id: str | None = "<1@mof>",
    **changes: Any,
) -> Acceptance:
    """The acceptance of a letter from MOF; ``changes`` replace any of its values."""
    octets = Octets.of(text)
    recipients = tuple(Recipient(address=Address.parse(t)) for t in to or ("b@moh.gov.example",))
    at = changes.pop("at_us", now_us())
    values: dict[str, Any] = {
        "kind": LetterKind.LETTER,
        "peer": Connection(door=Door.RELAY, peer="192.0.2.1", agency="MOF"),
        "envelope": Envelope(sender=Address.parse("a@mof.gov.example"), recipients=recipients),
        "octets": octets,
        "at_us": at,
        "expires_us": at + 120 * HOUR,
        "agency": "MOF",
        "author": "a@mof.gov.example",
        "message_id": message_id,
        "digest": octets.sha256,
        "number_shape": SHAPE,
        "deliveries": tuple(
            DeliveryDraft(
                recipient=r,
                kind=DeliveryKind.LETTER,
                agency=r.address.host.split(".")[0].upper(),
                hop=r.address.host.split(".")[0].upper(),
                asks=("submitted", "delivered", "relayed?", "late", "failed", "cancelled"),
            )
            for r in recipients
        ),
    }
    return Acceptance(submission_id=record.ids.next(), **(values | changes))


def claim(record: Record, owner: str = "0/a", at: int | None = None, **more: Any) -> list[Claim]:
    """Take what is due."""
    at = now_us() if at is None else at
    return record.claim(Want(owner=owner, limit=100, now_us=at, lease_us=at + HOUR, **more))


def rows(record: Record, table: Any) -> list[Any]:
    """A whole table, in order."""
    with record.read() as conn:
        return list(conn.execute(select(table).order_by(*table.primary_key.columns)))


def end(c: Claim, reply: str = "250 2.0.0 ok") -> AttemptEnd:
    """How an attempt ended."""
    return AttemptEnd(attempt_id=c.attempt_id, peer="mx[192.0.2.2]:25", reply=reply, edit={"v": 1})


def sent(record: Record, c: Claim, event: Event = Event.RELAYED, **detail: Any) -> None:
    """Note what the next hop answered to a claim."""
    record.note(
        Note(
            delivery_id=c.delivery_id,
            event=event,
            at_us=now_us(),
            source="smtp",
            detail=detail,
            attempt=end(c),
        )
    )


def whole(record: Record) -> None:
    """The ledger verifies against every evidence row and every archived object."""
    from tracker.audit_ledger import verify_store

    record.checkpoint()
    with record.read() as conn:
        misfits = verify_store(conn, record.archive, record.ledger.key.vkey, lambda done, of: None)
    assert not misfits
