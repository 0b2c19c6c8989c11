"""The audit of letters against what their acceptance sealed: each damage is named with its row."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, delete, select, text, update
from sqlalchemy.pool import NullPool

from gateway import high_water
from gateway.commands.ledger import _at_one_moment
from gateway.opening import open_record
from gateway.settings_file import read_settings
from tests.records import claim, letter, record_at, rows, sent, whole
from tests.unit.shell import Shell
from tracker import schema
from tracker.archive import Octets
from tracker.audit_ledger import verify_store
from tracker.model import DeliveryKind, LetterKind, now_us
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event, State

TWO = "b@moh.gov.example", "c@moe.gov.example"


def found(record: Record) -> dict[tuple[str, str], str]:
    """What does not fit, by table and row."""
    record.checkpoint()
    with record.read() as conn:
        misfits = verify_store(conn, record.archive, record.ledger.key)
    named = {(m.table, m.row): m.expected for m in misfits}
    assert len(named) == len(misfits), "each row once"
    return named


def misfits(record: Record) -> list[str]:
    """What does not fit, as it is said."""
    with record.read() as conn:
        return [str(m) for m in verify_store(conn, record.archive, record.ledger.key)]


def execute(record: Record, statement: Any) -> None:
    record.write(lambda conn: conn.execute(statement))


def note(record: Record, delivery_id: int, event: Event, **more: Any) -> None:
    record.note(Note(delivery_id=delivery_id, event=event, at_us=now_us(), source="person", **more))


def only(record: Record, table: Any) -> Any:
    (row,) = rows(record, table)
    return row


def test_letters_of_every_shape_fit(record: Record) -> None:
    body = b"From: a@mof.gov.example\r\n\r\nhello\r\n"
    digest = Octets.of(body).sha256
    record.accept(letter(record, "b@moh.gov.example", digest=digest, author="A@mof.gov.example"))
    for n, to in ((1, TWO), (2, ("b@moh.gov.example",))):  # the second one brings nobody new
        traced = b"Received: by %d\r\n" % n + body
        record.accept(letter(record, *to, text=traced, digest=digest, message_id="<1@mof>"))
    assert len(rows(record, schema.letter)) == 1 and len(rows(record, schema.submission)) == 3

    plain = {"message_id": None, "digest": None}
    a = letter(record, *TWO, text=b"two\r\n", **plain)
    held, refused = a.deliveries
    held = replace(held, state=State.HELD, intended="b1@moh.gov.example b2@moh.gov.example")
    refused = replace(refused, state=State.REFUSED, reason={"reply": "550 5.7.1 no"})
    record.accept(replace(a, deliveries=(held, refused, replace(held, state=State.QUEUED))))
    a = letter(record, "b@moh.gov.example", text=b"three\r\n", kind=LetterKind.REFUSED, **plain)
    given = replace(a.deliveries[0], state=State.REFUSED, kind=DeliveryKind.PASS)
    record.accept(replace(a, number_shape=None, deliveries=(given,)))
    a = letter(record, *TWO, text=b"four\r\n", kind=LetterKind.SHADOW, **plain)
    record.accept(replace(a, number_shape=None, deliveries=_of(a, DeliveryKind.SHADOW)))
    a = letter(record, *TWO, text=b"five\r\n", kind=LetterKind.PASS, number_shape=None, **plain)
    record.accept(replace(a, deliveries=_of(a, DeliveryKind.PASS)))
    record.accept(letter(record, kind=LetterKind.RECEIPT, text=b"x\r\n", deliveries=(), number_shape=None))
    whole(record)
    first, *others = claim(record)
    for event in (Event.FAILED, Event.REQUEUED, Event.PROCESSED, Event.IN_PROGRESS, Event.LATE):
        note(record, first.delivery_id, event)
    for one in others:
        sent(record, one)
        if one.kind is not DeliveryKind.PASS:
            note(record, one.delivery_id, Event.READ)
            note(record, one.delivery_id, Event.RELAYED)
    whole(record)


def _of(a: Any, kind: DeliveryKind) -> Any:
    return tuple(replace(d, kind=kind, asks=()) for d in a.deliveries)


def test_a_recipient_who_was_sent_no_letter_is_forgotten(record: Record) -> None:
    verdicts = [{"to": TWO[0], "kind": "letter"}, {"to": "c@elsewhere.example", "kind": "pass"}]
    a = letter(record, TWO[0], "c@elsewhere.example", decision={"verdicts": verdicts})
    to, private = a.deliveries
    record.accept(replace(a, deliveries=(to, replace(private, kind=DeliveryKind.PASS, asks=()))))
    for one in claim(record):
        sent(record, one)
    assert only(record, schema.delivery).recipient == TWO[0]
    whole(record)
    execute(record, update(schema.submission).values(decision={}))
    seal = rows(record, schema.evidence)[0].id
    expected = f"a delivery to c@elsewhere.example, as evidence {seal} sealed: it is gone"
    assert list(found(record).values()) == [expected]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (schema.letter, "number", "MOF/2026/000999"),
        (schema.letter, "number", None),
        (schema.letter, "agency", "MOH"),
        (schema.letter, "year", 2001),
        (schema.letter, "seq", 999),
        (schema.letter, "author", "evil@mof.gov.example"),
        (schema.letter, "subject", "forged"),
        (schema.letter, "message_id", "<x@y>"),
        (schema.letter, "accepted_us", 1),
        (schema.letter, "kind", "pass"),
        (schema.submission, "sender", "x@y"),
        (schema.submission, "account", "x"),
        (schema.submission, "peer", "9.9.9.9"),
        (schema.submission, "size", 1),
        (schema.submission, "at_us", 1),
        (schema.delivery, "recipient", "evil@moh.gov.example"),
        (schema.delivery, "grade", 7),
        (schema.delivery, "grade", 1),
        (schema.delivery, "outcome", "closed"),
        (schema.delivery, "kind", "pass"),
        (schema.delivery, "submission_id", 1),
    ],
)
def test_a_row_that_was_rewritten(record: Record, table: Any, column: str, value: Any) -> None:
    record.accept(letter(record, "b@moh.gov.example"))
    sent(record, *claim(record))
    whole(record)
    row = only(record, table)
    execute(record, update(table).values({column: value}))
    ((named, expected),) = found(record).items()
    assert named == (table.name, str(row.id))
    assert {"kind": "kind", "submission_id": "submission"}.get(column, column) in expected


@pytest.mark.parametrize("column", ["grade", "outcome", "recipient"])
def test_one_of_several_that_are_queued(record: Record, column: str) -> None:
    record.accept(letter(record, *TWO))
    first, second = rows(record, schema.delivery)
    value = {"grade": 2, "outcome": "failed", "recipient": "evil@moe.gov.example"}[column]
    changed = update(schema.delivery).where(schema.delivery.c.id == second.id).values({column: value})
    execute(record, changed)
    assert list(found(record)) == [("delivery", str(second.id))]
    sealed = {"grade": "grade 1: ", "outcome": "outcome open, ", "recipient": f"recipient {TWO[1]}, "}
    assert found(record)["delivery", str(second.id)].startswith(sealed[column])
    assert first.recipient == TWO[0]


def test_rows_that_are_gone(record: Record) -> None:
    one = letter(record, *TWO)
    record.accept(one)
    record.accept(letter(record, text=b"another\r\n", message_id="<2@mof>", digest=None))
    first, _ = rows(record, schema.letter)
    reached, queued, _ = rows(record, schema.delivery)
    seal = rows(record, schema.evidence)[0].id
    sent(record, next(c for c in claim(record) if c.delivery_id == reached.id))
    told = rows(record, schema.evidence)[-1].id
    (sub, _) = rows(record, schema.submission)

    execute(record, delete(schema.delivery).where(schema.delivery.c.id == queued.id))
    expected = f"a delivery to {TWO[1]}, as evidence {seal} sealed: it is gone"
    assert found(record) == {("letter", str(first.id)): expected}
    execute(record, delete(schema.delivery).where(schema.delivery.c.id == reached.id))
    told_of = f"the row that evidence {told} tells of: it is gone"
    assert misfits(record) == [
        f"delivery {reached.id}: {told_of}",
        *(f"letter {first.id}: {expected.replace(TWO[1], to)}" for to in TWO),
    ]

    execute(record, delete(schema.submission).where(schema.submission.c.id == sub.id))
    record.archive.delete(sub.archive_key)  # type: ignore[attr-defined]
    expected = f"a submission of the message that evidence {seal} sealed: it is gone"
    assert f"letter {first.id}: {expected}" in misfits(record)


def test_a_letter_that_is_gone(tmp_path: Path) -> None:
    with record_at(f"sqlite:///{tmp_path / 'wasl.db'}", tmp_path) as record:
        record.accept(letter(record))
        row, seal = only(record, schema.letter), only(record, schema.evidence)
        _sql(tmp_path, "delete from letter")
        assert found(record) == {
            ("letter", str(row.id)): f"the row that evidence {seal.id} tells of: it is gone"
        }
        _sql(tmp_path, "delete from evidence")
        named = found(record)
        assert ("evidence", str(seal.id)) in named and ("letter", str(row.id)) in named


def test_evidence_that_is_damaged_blames_no_other_row(record: Record) -> None:
    record.accept(letter(record, *TWO))
    for one in claim(record):
        sent(record, one)
    for row in rows(record, schema.evidence):
        for column, value in (("grade", 0), ("delivery_id", 5), ("event", "late"), ("detail", {"sha256": 5})):
            where = schema.evidence.c.id == row.id
            execute(record, update(schema.evidence).where(where).values({column: value}))
            assert list(found(record)) == [("evidence", str(row.id))], column
            execute(record, update(schema.evidence).where(where).values({column: getattr(row, column)}))
    whole(record)


def test_a_letter_that_nobody_sent(record: Record) -> None:
    record.accept(letter(record))
    row = only(record, schema.letter)
    execute(record, update(schema.evidence).values(letter_id=row.id))
    with record.read() as conn:
        copied = conn.execute(select(schema.delivery)).one()._mapping
        other = {**row._mapping, "id": 7, "number": "MOF/2026/000777"}
    record.write(lambda conn: conn.execute(schema.letter.insert(), other))
    record.write(lambda conn: conn.execute(schema.delivery.insert(), {**copied, "id": 8, "letter_id": 7}))
    assert found(record) == {("letter", "7"): "evidence of its acceptance"}


def test_many_letters_are_read_in_lots(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.audit_letters._LOT", 3)
    for n in range(20):
        to = [f"b{i}@moh.gov.example" for i in range(1 + n % 5)]
        record.accept(letter(record, *to, text=b"%d\r\n" % n, message_id=f"<{n}@mof>", digest=None))
    whole(record)
    last = rows(record, schema.delivery)[-1]
    execute(record, update(schema.delivery).where(schema.delivery.c.id == last.id).values(grade=3))
    assert list(found(record)) == [("delivery", str(last.id))]


DEEP = "'" + "[" * 3000 + "'"


@pytest.mark.parametrize(
    ("table", "set_"),
    [
        *(
            ("evidence", f"detail={v}")
            for v in ("'{'", "''", DEEP, "'[]'", "'null'", "'{\"a\":1e999}'", "x'ff'")
        ),
        *(("evidence", f"at_us={v}") for v in ("'x'", "1.5", "x'00'")),
        *(("evidence", f"salt={v}") for v in ("'text'", "x''", "5", "123456789012345678")),
        *(
            ("evidence", v)
            for v in ("grade='x'", "letter_id='x'", "delivery_id='x'", "event=cast(x'ff' as text)")
        ),
        *(("ledger_entry", f"entry={v}") for v in ("'{}'", "x'ff'", "x'5b5d'", "'x'")),
        ("ledger_entry", "evidence_id='x'"),
        *(
            ("ledger_tile", v)
            for v in ("hashes='text'", "hashes=5", "tile='x'", "level='x'", "level=900", "tile=-1")
        ),
        *(("checkpoint", v) for v in ("note=x'ff'", "note=''", "root='x'", "size=-1", "size=99999999")),
        *(("checkpoint", v) for v in ("note=cast(x'ff' as text)", "root=x''")),
        *(("submission", v) for v in ("archive_key='x'", "archive_key=x'00'", "sha256='x'", "sha256=x'00'")),
        *(("submission", v) for v in ("letter_id='x'", "sender=cast(x'ff' as text)", "size='x'")),
        *(("letter", v) for v in ("subject=x'ff'", "author=cast(x'ff' as text)", "seq='x'")),
        *(
            ("delivery", v)
            for v in ("grade='x'", "recipient=x'ff'", "outcome=cast(x'ff' as text)", "letter_id='x'")
        ),
    ],
)
def test_cells_that_cannot_be_read_are_named(tmp_path: Path, table: str, set_: str) -> None:
    with record_at(f"sqlite:///{tmp_path / 'wasl.db'}", tmp_path) as record:
        for n in range(2):
            record.accept(letter(record, *TWO, text=b"%d\r\n" % n, message_id=f"<{n}@mof>", digest=None))
        for one in claim(record):
            sent(record, one)
        whole(record)
        key = {"ledger_entry": "seq", "checkpoint": "size", "ledger_tile": "level"}.get(table, "id")
        with sqlite3.connect(tmp_path / "wasl.db") as conn:
            row = conn.execute(f"select max({key}) from {table}").fetchone()[0]
        _sql(tmp_path, f"update {table} set {set_} where {key}={row}")
        with record.read() as conn:
            named = {(m.table, m.row) for m in verify_store(conn, record.archive, record.ledger.key)}
        tables = {name for name, _ in named}
        assert table in tables
        if (
            table not in ("ledger_tile", "checkpoint")
            and "evidence_id" not in set_
            and "letter_id" not in set_
        ):
            assert named == {(table, str(row))}


def test_an_entry_far_off_all_others_is_named_soon(tmp_path: Path) -> None:
    with record_at(f"sqlite:///{tmp_path / 'wasl.db'}", tmp_path) as record:
        for n in range(2):
            record.accept(letter(record, text=b"%d\r\n" % n, message_id=f"<{n}@mof>", digest=None))
        _sql(tmp_path, "update ledger_entry set seq=9000000000000000000 where seq=1")
        with record.read() as conn:
            named = {(m.table, m.row) for m in verify_store(conn, record.archive, record.ledger.key)}
        assert ("ledger_entry", "9000000000000000000") in named


def _sql(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "wasl.db") as conn:
        conn.execute("pragma foreign_keys=off")
        for one in statements:
            conn.execute(one)


def test_a_log_that_is_behind_what_was_published(home: Path, wasl: Shell) -> None:
    settings = read_settings(home / "wasl.toml", {})
    data = settings.gateway.data_dir
    record = open_record(settings)
    for n in range(2):
        record.accept(letter(record, text=b"%d\r\n" % n, message_id=f"<{n}@mof>", digest=None))
        record.checkpoint()
    high_water.write(data, record)
    record.close()
    assert wasl("ledger", "verify").out == "2 entries, all of them fit\n"
    _sql(
        data,
        "delete from checkpoint where size=2",
        "delete from evidence where id=(select evidence_id from ledger_entry where seq=1)",
        "delete from ledger_entry where seq=1",
        "update ledger_tile set hashes=substr(hashes,1,32)",
        *(
            f"delete from {t} where letter_id=(select max(id) from letter)"
            for t in ("delivery", "submission")
        ),
        "delete from letter where id=(select max(id) from letter)",
    )
    said = wasl("ledger", "verify", "--json")
    assert said.status == 1
    misfit = {"table": "kept checkpoint", "row": "high-water.json"}
    assert said.lines[0] == {**misfit, "expected": "a log of 2 entries, it has 1"}
    assert said.lines[1:] == [{"size": 1, "misfits": 1}]
    file = high_water.path_of(data)
    for content in ("{", "[]", '{"checkpoint": 5}', '{"checkpoint": "x"}', "{}"):
        file.write_text(content)
        (line, _) = wasl("ledger", "verify", "--json").lines
        assert line == {**misfit, "expected": "a note signed by the log's key: not a checkpoint"}, content
    file.write_text('{"checkpoint": null}')
    assert wasl("ledger", "verify").status == 0


@pytest.mark.postgres
def test_on_postgresql_all_is_read_of_one_moment(pg_url: str) -> None:
    engine = create_engine(pg_url, poolclass=NullPool)
    with engine.connect() as conn:
        asked = _at_one_moment(conn).execute(text("show transaction_isolation"))
        assert asked.scalar() == "repeatable read"
    engine.dispose()
