"""The audit of the whole store: one octet changed anywhere is found, and its row is named."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, create_engine, delete, insert, select, update
from sqlalchemy.pool import NullPool

from tracker import schema
from tracker.archive import Archive, Octets, key_for
from tracker.audit_ledger import Misfit, StoreAudit, audit_store, verify_store
from tracker.ledger import EvidenceRow, Ledger, LedgerKey, entry_bytes

KEY = LedgerKey.make("wasl.example/ledger")
AT = 1_790_000_000_000_000
LETTERS = 180  # each with two pieces of evidence: more than one tile
CHECKPOINTS = (40, 100, 170)  # after so many letters


class House:
    """A store with letters, evidence, archive and ledger, as the record writes them."""

    def __init__(self, url: str, root: Path, letters: int = LETTERS) -> None:
        self.engine = create_engine(url, poolclass=NullPool)
        schema.metadata.create_all(self.engine)
        self.archive = Archive(root, memory_limit=4000)
        self.ledger = Ledger(KEY)
        self.ids = itertools.count(10**17)
        self.notes: list[str] = []
        with self.engine.begin() as conn:
            objects: list[tuple[str, Octets]] = []
            for number in range(letters):
                objects.append(self.letter(conn, number))
                if number + 1 in CHECKPOINTS:
                    made = self.ledger.checkpoint(conn, AT + number)
                    assert made is not None
                    self.notes.append(made.note)
        self.archive.store(objects)

    def letter(self, conn: Connection, number: int) -> tuple[str, Octets]:
        letter, submission = next(self.ids), next(self.ids)
        octets = Octets.of(b"From: a@b\r\n\r\nletter %d\r\n" % number + b"x" * (number * 40))
        key = key_for(submission, AT + number * 60_000_000)
        conn.execute(
            insert(schema.letter),
            {
                "id": letter,
                "kind": "letter",
                "thread_id": letter,
                "accepted_us": AT,
                "subject": f"موضوع {number}",
            },
        )
        conn.execute(
            insert(schema.submission),
            {
                "id": submission,
                "letter_id": letter,
                "at_us": AT,
                "door": "relay",
                "sender": "a@b",
                "size": octets.size,
                "sha256": octets.sha256,
                "archive_key": key,
                "facts": {},
                "facts_version": 1,
                "decision": {},
            },
        )
        detail = {"sha256": octets.sha256.hex(), "subject": f"موضوع {number}", "n": number}
        self.evidence(conn, letter, "submitted", detail, octets.sha256, (hashlib.sha256(b"part").digest(),))
        self.evidence(conn, letter, "relayed", {"reply": "250 ok"})
        return key, octets

    def evidence(
        self,
        conn: Connection,
        letter: int,
        event: str,
        detail: dict[str, Any],
        octets: bytes | None = None,
        parts: tuple[bytes, ...] = (),
        pend: bool = False,
    ) -> int:
        row = EvidenceRow(
            id=next(self.ids),
            letter_id=letter,
            delivery_id=None,
            event=event,
            grade=1,
            at_us=AT,
            noted_us=AT,
            source="wasl",
            reporter="r",
            detail=detail,
            salt=os.urandom(16),
        )
        values = {name: getattr(row, name) for name in EvidenceRow.__slots__}
        conn.execute(insert(schema.evidence), values)
        write = self.ledger.pend if pend else self.ledger.append
        write(conn, [(row.id, entry_bytes(row, octets=octets, parts=parts))])
        return row.id

    def audit(self, **given: Any) -> StoreAudit:
        with self.engine.connect() as conn:
            return audit_store(conn, self.archive, KEY, **given)

    def misfits(self) -> set[tuple[str, str]]:
        with self.engine.connect() as conn:
            return {(m.table, m.row) for m in verify_store(conn, self.archive, KEY)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, Path]:
    root = tmp_path_factory.mktemp("built")
    return House(f"sqlite:///{root / 'wasl.db'}", root / "archive"), root


@pytest.fixture
def house(built: tuple[House, Path]) -> Iterator[House]:
    """The store as built; what a test changes is put back after it."""
    house, root = built
    shutil.copyfile(root / "wasl.db", root / "kept.db")
    keys = list(house.archive.keys())
    if not (root / "kept").exists():
        shutil.copytree(house.archive.root, root / "kept")
    yield house
    shutil.copyfile(root / "kept.db", root / "wasl.db")
    for key in keys:
        kept = (root / "kept" / key).read_bytes()
        if not (house.archive.root / key).exists() or (house.archive.root / key).read_bytes() != kept:
            (house.archive.root / key).write_bytes(kept)
    house.ledger.forget()


def flip(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def change(house: House, table: Table, where: dict[str, Any], **values: Any) -> None:
    with house.engine.begin() as conn:
        done = conn.execute(
            update(table).where(*(table.c[k] == v for k, v in where.items())).values(**values)
        )
        assert done.rowcount == 1


def fetch(house: House, table: Table, where: dict[str, Any]) -> Any:
    with house.engine.connect() as conn:
        return conn.execute(select(table).where(*(table.c[k] == v for k, v in where.items()))).one()


def test_a_store_that_nobody_touched_fits(house: House) -> None:
    steps: list[tuple[int, int]] = []
    found = house.audit(progress=lambda done, total: steps.append((done, total)), kept=house.notes)
    assert found.misfits == []
    assert (found.entries, found.checkpoints, found.objects) == (2 * LETTERS, len(CHECKPOINTS), LETTERS)
    assert (found.disposed, found.waiting) == (0, 0)
    assert steps[0] == (0, 3 * LETTERS)
    assert steps[-1] == (3 * LETTERS, 3 * LETTERS)
    assert steps == sorted(steps)


def test_an_empty_store_and_one_of_a_single_entry_fit(tmp_path: Path) -> None:
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.connect() as conn:
        assert verify_store(conn, Archive(tmp_path), KEY.vkey) == []
        Ledger(KEY).append(conn, [(1, b"entry")])
        assert [m.table for m in verify_store(conn, Archive(tmp_path), [KEY.vkey])] == ["ledger_entry"]
    engine.dispose()


@pytest.mark.parametrize(
    ("seq", "at"),
    [(0, 0), (0, 30), (1, 8), (2, 60), (79, -30), (80, 120), (255, 30), (256, -1)]
    + [(seq, at) for seq in (340, 357, 359) for at in (0, 30, 120, -1)],
)
def test_a_changed_entry(house: House, seq: int, at: int) -> None:
    entry = bytes(fetch(house, schema.ledger_entry, {"seq": seq}).entry)
    change(house, schema.ledger_entry, {"seq": seq}, entry=flip(entry, at))
    found = house.misfits()
    undecidable = (
        seq >= 2 * CHECKPOINTS[-1] and seq % 2 == 0
    )  # no root beyond, and parts that nobody can check
    assert ("ledger_entry", str(seq)) in found
    assert found <= {("ledger_entry", str(seq)), *([("ledger_tile", "0/1")] if undecidable else [])}


@pytest.mark.parametrize(
    ("level", "tile", "at"),
    [(0, 0, 0), (0, 0, 2600), (0, 0, -1), (0, 1, 0), (0, 1, 85 * 32), (0, 1, -1), (1, 0, 7)],
)
def test_a_changed_tile(house: House, level: int, tile: int, at: int) -> None:
    where = {"level": level, "tile": tile}
    change(
        house,
        schema.ledger_tile,
        where,
        hashes=flip(bytes(fetch(house, schema.ledger_tile, where).hashes), at),
    )
    assert house.misfits() == {("ledger_tile", f"{level}/{tile}")}


def test_where_nothing_tells_both_are_named(house: House) -> None:
    """No signed root beyond it, and an entry with parts, which only their digests could confirm."""
    where = {"level": 0, "tile": 1}
    hashes = bytes(fetch(house, schema.ledger_tile, where).hashes)
    change(house, schema.ledger_tile, where, hashes=flip(hashes, 84 * 32))
    assert house.misfits() == {("ledger_tile", "0/1"), ("ledger_entry", "340")}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("event", "read"),
        ("grade", 5),
        ("at_us", AT + 1),
        ("noted_us", AT + 1),
        ("source", "mdn"),
        ("reporter", "s"),
        ("delivery_id", 5),
        ("detail", {"reply": "250 oK"}),
        ("salt", bytes(16)),
    ],
)
@pytest.mark.parametrize("seq", [100, 359])
def test_changed_evidence(house: House, column: str, value: Any, seq: int) -> None:
    evidence_id = fetch(house, schema.ledger_entry, {"seq": seq}).evidence_id
    change(house, schema.evidence, {"id": evidence_id}, **{column: value})
    assert house.misfits() == {("evidence", str(evidence_id))}


@pytest.mark.parametrize("number", [0, 99, 150])
def test_a_changed_object(house: House, number: int) -> None:
    key = sorted(house.archive.keys())[number]
    path = house.archive.root / key
    path.write_bytes(flip(path.read_bytes(), number))
    assert house.misfits() == {("archive", key)}
    path.unlink()
    assert house.misfits() == {("archive", key)}
    path.mkdir()
    assert house.misfits() == {("archive", key)}
    path.rmdir()


def test_a_changed_submission(house: House) -> None:
    with house.engine.connect() as conn:
        rows = conn.execute(select(schema.submission).order_by(schema.submission.c.id)).all()
    change(house, schema.submission, {"id": rows[7].id}, sha256=flip(rows[7].sha256, 5))
    change(
        house, schema.submission, {"id": rows[9].id}, archive_key=rows[10].archive_key, sha256=rows[10].sha256
    )
    assert house.misfits() == {("submission", str(rows[7].id)), ("submission", str(rows[9].id))}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_checkpoint(house: House, place: int) -> None:
    size = 2 * CHECKPOINTS[place]
    row = fetch(house, schema.checkpoint, {"size": size})
    change(house, schema.checkpoint, {"size": size}, root=flip(row.root, 3))
    assert house.misfits() == {("checkpoint", str(size))}
    change(house, schema.checkpoint, {"size": size}, root=row.root)
    for at in range(place, len(row.note), 40):
        note = row.note[:at] + ("A" if row.note[at] != "A" else "B") + row.note[at + 1 :]
        change(house, schema.checkpoint, {"size": size}, note=note)
        assert house.misfits() == {("checkpoint", str(size))}, row.note[at:]


def test_rows_that_are_gone(house: House) -> None:
    entry = fetch(house, schema.ledger_entry, {"seq": 50})
    with house.engine.begin() as conn:
        conn.execute(delete(schema.ledger_entry).where(schema.ledger_entry.c.seq == 50))
    assert house.misfits() == {("ledger_entry", "50"), ("evidence", str(entry.evidence_id))}
    with house.engine.begin() as conn:
        conn.execute(insert(schema.ledger_entry), dict(entry._mapping))
        conn.execute(delete(schema.evidence).where(schema.evidence.c.id == entry.evidence_id))
    assert house.misfits() == {("evidence", str(entry.evidence_id))}


@pytest.mark.parametrize(("level", "tile"), [(0, 0), (0, 1), (1, 0)])
def test_a_tile_that_is_gone(house: House, level: int, tile: int) -> None:
    t = schema.ledger_tile.c
    with house.engine.begin() as conn:
        conn.execute(delete(schema.ledger_tile).where(t.level == level, t.tile == tile))
    assert house.misfits() == {("ledger_tile", f"{level}/{tile}")}


def test_rows_that_should_not_be_there(house: House) -> None:
    with house.engine.begin() as conn:
        letter = conn.execute(select(schema.letter.c.id).limit(1)).scalar_one()
        conn.execute(
            insert(schema.evidence),
            {
                "id": 5,
                "letter_id": letter,
                "event": "read",
                "grade": 5,
                "at_us": 1,
                "noted_us": 1,
                "source": "mdn",
                "detail": {},
                "salt": bytes(16),
            },
        )
        conn.execute(insert(schema.ledger_tile), {"level": 3, "tile": 0, "hashes": bytes(32)})
    assert house.misfits() == {("evidence", "5"), ("ledger_tile", "3/0")}


def test_a_tail_that_was_cut_off(house: House) -> None:
    """Entries and tiles taken away together are still missed by the signed checkpoint."""
    with house.engine.begin() as conn:
        entries = [(r.evidence_id, bytes(r.entry)) for r in conn.execute(select(schema.ledger_entry))]
        for table in (schema.ledger_entry, schema.ledger_tile):
            conn.execute(delete(table))
        house.ledger.forget()
        house.ledger.append(conn, entries[:320])
    found = house.misfits()
    assert ("checkpoint", "340") in found
    assert {row for row in found if row[0] != "evidence"} == {("checkpoint", "340")}


def test_history_rewritten_as_a_whole(house: House) -> None:
    """Evidence, entries and tiles all agree with one another: only what was signed gives it away."""
    with house.engine.begin() as conn:
        rows = conn.execute(select(schema.ledger_entry).order_by(schema.ledger_entry.c.seq)).all()
        entries = [(r.evidence_id, bytes(r.entry)) for r in rows]
        evidence = conn.execute(select(schema.evidence).where(schema.evidence.c.id == entries[151][0])).one()
        values = {**evidence._mapping, "grade": 7, "event": "processed"}
        conn.execute(update(schema.evidence).where(schema.evidence.c.id == evidence.id).values(values))
        entries[151] = evidence.id, entry_bytes(EvidenceRow(**values))
        for table in (schema.ledger_entry, schema.ledger_tile):
            conn.execute(delete(table))
        house.ledger.forget()
        house.ledger.append(conn, entries)
    assert house.misfits() == {("checkpoint", "200")}  # the first that does not fit
    with house.engine.begin() as conn:
        conn.execute(delete(schema.checkpoint))
    assert house.misfits() == set()  # with no checkpoint left in the store …
    kept = house.audit(kept=house.notes).misfits
    assert [(m.table, m.row) for m in kept] == [("kept checkpoint", "2")]  # … one that was kept elsewhere


def test_a_checkpoint_of_a_strangers_key(house: House) -> None:
    size = 2 * CHECKPOINTS[1]
    row = fetch(house, schema.checkpoint, {"size": size})
    note = LedgerKey.make(KEY.origin).sign(size, row.root)
    change(house, schema.checkpoint, {"size": size}, note=note)
    assert house.misfits() == {("checkpoint", str(size))}


def test_what_is_disposed_of_is_no_misfit(house: House) -> None:
    with house.engine.begin() as conn:
        submission = conn.execute(select(schema.submission).order_by(schema.submission.c.id).limit(1)).one()
        conn.execute(
            update(schema.evidence)
            .where(schema.evidence.c.letter_id == submission.letter_id)
            .values(salt=None, detail={}, reporter="")
        )
    house.archive.delete(submission.archive_key)
    found = house.audit()
    assert found.misfits == []
    assert found.disposed == 2


def test_a_salt_taken_away_to_hide_a_change_is_found(house: House) -> None:
    evidence_id = fetch(house, schema.ledger_entry, {"seq": 11}).evidence_id
    change(house, schema.evidence, {"id": evidence_id}, salt=None, event="failed")
    assert house.misfits() == {("evidence", str(evidence_id))}
    with house.engine.begin() as conn:
        letter = fetch(house, schema.evidence, {"id": evidence_id}).letter_id
        conn.execute(update(schema.evidence).where(schema.evidence.c.letter_id == letter).values(salt=None))
    # Without any salt the letter passes for disposed of, but its message is still there.
    assert {table for table, _ in house.misfits()} == {"evidence"}


def test_waiting_entries_are_counted_and_checked(house: House) -> None:
    with house.engine.begin() as conn:
        letter = conn.execute(select(schema.letter.c.id).limit(1)).scalar_one()
        waiting = house.evidence(conn, letter, "read", {"a": 1}, pend=True)
    found = house.audit()
    assert (found.misfits, found.waiting) == ([], 1)
    change(house, schema.evidence, {"id": waiting}, grade=6)
    assert house.misfits() == {("evidence", str(waiting))}


def test_an_entry_repeated_for_the_same_evidence(house: House) -> None:
    row = fetch(house, schema.ledger_entry, {"seq": 20})
    with house.engine.begin() as conn:
        house.ledger.append(conn, [(row.evidence_id, bytes(row.entry))])
    assert house.misfits() == {("ledger_entry", str(2 * LETTERS))}


def test_full_tiles_of_the_upper_levels_are_compared(tmp_path: Path) -> None:
    """A tree of more than 256 * 256 entries, which have no evidence here: only tiles are looked at."""
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    t = schema.ledger_tile
    with engine.connect() as conn:
        Ledger(KEY).append(conn, [(n, b"entry %d" % n) for n in range(66_000)])
        for level in (1, 2):
            where = t.c.level == level, t.c.tile == 0
            hashes = conn.execute(select(t.c.hashes).where(*where)).scalar_one()
            conn.execute(update(t).where(*where).values(hashes=flip(bytes(hashes), 5)))
        found = verify_store(conn, Archive(tmp_path), KEY)
        assert [m.row for m in found if m.table == "ledger_tile"] == ["1/0", "2/0"]
    engine.dispose()


def test_several_faults_are_all_named(house: House) -> None:
    for seq in (10, 11, 130, 300):
        entry = bytes(fetch(house, schema.ledger_entry, {"seq": seq}).entry)
        change(house, schema.ledger_entry, {"seq": seq}, entry=flip(entry, 30))
    where = {"level": 0, "tile": 0}
    hashes = bytes(fetch(house, schema.ledger_tile, where).hashes)
    change(house, schema.ledger_tile, where, hashes=flip(hashes, 160 * 32))
    evidence_id = fetch(house, schema.ledger_entry, {"seq": 205}).evidence_id
    change(house, schema.evidence, {"id": evidence_id}, grade=2)
    entries = {("ledger_entry", str(seq)) for seq in (10, 11, 130, 300)}
    assert house.misfits() == {*entries, ("ledger_tile", "0/0"), ("evidence", str(evidence_id))}


def test_a_misfit_reads_as_a_line() -> None:
    line = str(Misfit(table="evidence", row="7", expected="an entry in the ledger"))
    assert line == "evidence 7: an entry in the ledger"


@pytest.mark.postgres
def test_the_same_on_postgresql(pg_url: str, tmp_path: Path) -> None:
    house = House(pg_url, tmp_path / "archive", letters=42)
    assert house.audit(kept=house.notes).misfits == []
    entry = bytes(fetch(house, schema.ledger_entry, {"seq": 70}).entry)
    change(house, schema.ledger_entry, {"seq": 70}, entry=flip(entry, 40))
    assert house.misfits() == {("ledger_entry", "70")}
    house.engine.dispose()
