"""The ledger: entries, places, proofs, checkpoints, on both databases, and through rollbacks."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool, StaticPool

from tracker import schema
from tracker.ledger import (
    EvidenceRow,
    Ledger,
    LedgerBroken,
    LedgerKey,
    canonical,
    commit,
    entry_bytes,
    new_salt,
    opening,
    proof_text,
    record_bytes,
)
from tracker.states import Event, Grade
from tracker.verify import (
    LogProof,
    Unproven,
    check_consistency,
    leaf_hash,
    node_hash,
    open_checkpoint,
    root_from_inclusion,
)

KEY = LedgerKey.make("wasl.example/ledger")
TABLES = [schema.ledger_entry, schema.ledger_pending, schema.ledger_tile, schema.checkpoint]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def entries(start: int, stop: int) -> list[tuple[int, bytes]]:
    return [(n + 1, b"entry %d" % n) for n in range(start, stop)]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % n) for n in range(count)]


@pytest.fixture
def engine(db_url: str) -> Iterator[Engine]:
    engine = create_engine(db_url, poolclass=NullPool)
    schema.metadata.create_all(engine, TABLES)
    yield engine
    engine.dispose()


@pytest.fixture
def memory() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine, TABLES)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


def row(**given: Any) -> EvidenceRow:
    values: dict[str, Any] = {
        "id": 887_000_000_000_000_001,
        "letter_id": 887_000_000_000_000_002,
        "delivery_id": 887_000_000_000_000_003,
        "event": Event.RELAYED,
        "grade": Grade.RELAYED,
        "at_us": 1_790_000_000_000_000,
        "noted_us": 1_790_000_000_000_001,
        "source": "smtp",
        "reporter": "mail.moh.gov.example",
        "detail": {"reply": "250 2.0.0 حُفظ", "tls": None, "hops": [1, {"a": True}]},
        "salt": bytes(range(16)),
    }
    return EvidenceRow(**{**values, **given})


# -- entries ---------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ID = st.integers(0, (1 << 63) - 1)
ROWS = st.builds(
    EvidenceRow,
    id=ID,
    letter_id=ID,
    delivery_id=st.none() | ID,
    event=st.sampled_from([event.value for event in Event]),
    grade=st.integers(0, 7),
    at_us=ID,
    noted_us=ID,
    source=TEXT,
    reporter=TEXT,
    detail=st.dictionaries(TEXT, VALUE, max_size=5),
    salt=st.binary(min_size=16, max_size=40),
)


@given(VALUE)
@settings(max_examples=60)
def test_canonical_is_one_form_that_reads_back(value: Any) -> None:
    octets = canonical(value)
    assert json.loads(octets) == value
    assert canonical(json.loads(octets)) == octets
    plain = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert octets == plain.encode()


@given(
    ROWS,
    st.none() | st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=32, max_size=32), max_size=3),
)
@settings(max_examples=50)
def test_entry_is_canonical_and_opens(each: EvidenceRow, octets: bytes | None, parts: list[bytes]) -> None:
    record = record_bytes(each)
    entry = entry_bytes(each, octets=octets, parts=parts)
    assert canonical(json.loads(record)) == record
    assert canonical(json.loads(entry)) == entry
    members = json.loads(entry)
    assert members["record"] == commit(each.salt, record).hex()
    assert members.get("octets") == (commit(each.salt, octets).hex() if octets else None)
    assert members.get("parts", []) == [commit(each.salt, part).hex() for part in parts]
    assert (members["id"], members["letter"]) == (str(each.id), str(each.letter_id))
    assert opening(each) == {"record": json.loads(record), "salt": each.salt.hex()}


def test_entry_says_nothing_in_clear() -> None:
    entry = entry_bytes(row(detail={"subject": "سري", "to": "a@moh.gov.example"}), octets=bytes(32)).decode()
    assert "moh" not in entry
    assert "سري" not in entry
    assert set(json.loads(entry)) == {
        "at",
        "delivery",
        "event",
        "grade",
        "id",
        "letter",
        "octets",
        "record",
        "v",
    }


def test_same_record_with_another_salt_is_another_commitment() -> None:
    assert entry_bytes(row(salt=new_salt())) != entry_bytes(row(salt=new_salt()))
    assert commit(b"ab", b"c") != commit(b"a", b"bc")


@pytest.mark.parametrize("detail", [{"n": 0.5}, {"b": b"x"}, {"s": {1, 2}}, {"o": object()}])
def test_what_has_no_canonical_form_is_refused(detail: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        entry_bytes(row(detail=detail))


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(ValueError, match="16 to 255"):
        entry_bytes(row(salt=b"short"))


def test_lone_surrogates_do_not_stop_a_letter() -> None:
    assert b'"x?"' in record_bytes(row(detail={"a": "x\udc80"}))


# -- places and proofs -----------------------------------------------------------------------------------


def test_append_places_and_roots(engine: Engine) -> None:
    ledger = Ledger(KEY)
    at = 0
    for count in (1, 1, 5, 0, 248, 1, 1, 300, 3):
        with engine.begin() as conn:
            assert ledger.append(conn, entries(at, at + count)) == range(at, at + count)
        at += count
        with engine.connect() as conn:
            for fresh in (ledger, Ledger(KEY)):
                head = fresh.head(conn)
                assert (head.size, head.root) == (at, naive_root(leaves(at)))
    with engine.connect() as conn:
        rows = conn.execute(select(schema.ledger_entry).order_by(schema.ledger_entry.c.seq)).all()
        assert [(r.seq, r.evidence_id, bytes(r.entry)) for r in rows] == [
            (n, n + 1, b"entry %d" % n) for n in range(at)
        ]
        assert ledger.place(conn, 17) == 16
        assert ledger.place(conn, 10_000) is None


def test_tiles_are_those_of_c2sp(memory: Connection) -> None:
    """The example of tlog-tiles: 70,000 entries are 273 full tiles and three partial levels."""
    Ledger(KEY).append(memory, entries(0, 70_000))
    t = schema.ledger_tile.c
    tiles = {
        (level, n): bytes(hashes) for level, n, hashes in memory.execute(select(t.level, t.tile, t.hashes))
    }
    widths: dict[int, list[int]] = {}
    for (level, _), hashes in sorted(tiles.items()):
        widths.setdefault(level, []).append(len(hashes) // 32)
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1]}
    assert tiles[0, 3] == b"".join(leaves(1024)[768:])
    assert tiles[1, 0][:32] == naive_root(leaves(256))
    assert tiles[2, 0] == naive_root(leaves(65_536))


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_inclusion_and_consistency_at_random_sizes(data: st.DataObject) -> None:
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine, TABLES)
    ledger = Ledger(KEY)
    size = data.draw(st.integers(1, 900))
    steps = sorted({*data.draw(st.lists(st.integers(1, size), max_size=6)), size})
    with engine.connect() as conn:
        at = 0
        for step in steps:
            ledger.append(conn, entries(at, step))
            at = step
        if data.draw(st.booleans()):
            ledger.forget()
        for small in data.draw(st.lists(st.integers(0, size), min_size=1, max_size=8)):
            assert ledger.root_at(conn, small) == naive_root(leaves(small))
            proof = ledger.consistency(conn, small, size)
            check_consistency(small, naive_root(leaves(small)), size, naive_root(leaves(size)), proof)
            if small:
                seq = data.draw(st.integers(0, small - 1))
                found = ledger.prove(conn, seq, small)
                assert found.entry == b"entry %d" % seq
                assert len(found.hashes) <= max(small - 1, 0).bit_length()
                assert root_from_inclusion(leaf_hash(found.entry), seq, small, found.hashes) == naive_root(
                    leaves(small)
                )
                with pytest.raises(Unproven):
                    root = root_from_inclusion(leaf_hash(b"forged"), seq, small, found.hashes)
                    if root != naive_root(leaves(small)):
                        raise Unproven("another root")
            with pytest.raises(Unproven):
                check_consistency(small, leaf_hash(b"forged"), size, naive_root(leaves(size)), proof)
    engine.dispose()


def test_nothing_is_proved_that_is_not_there(memory: Connection) -> None:
    ledger = Ledger(KEY)
    ledger.append(memory, entries(0, 10))
    for seq, size in ((10, 11), (5, 5), (-1, 5), (3, 2)):
        with pytest.raises(LookupError):
            ledger.prove(memory, seq, size)
    for first, second in ((3, 11), (5, 3), (-1, 3)):
        with pytest.raises(LookupError):
            ledger.consistency(memory, first, second)
    with pytest.raises(LookupError):
        ledger.root_at(memory, 11)


# -- rollback --------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans(), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
def test_a_rolled_back_append_leaves_nothing(steps: list[tuple[int, bool, bool]]) -> None:
    """Groups that are rolled back, some told to the ledger and some not, then others in their place."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    schema.metadata.create_all(engine, TABLES)
    ledger = Ledger(KEY)
    kept: list[bytes] = []
    for number, (count, commits, told) in enumerate(steps):
        group = [(len(kept) + n + 1, b"group %d entry %d" % (number, n)) for n in range(count)]
        with engine.connect() as conn:
            ledger.append(conn, group)
            ledger.prove(conn, len(kept), len(kept) + count)
            if commits:
                conn.commit()
                kept += [leaf_hash(entry) for _, entry in group]
            else:
                conn.rollback()
                if told:
                    ledger.forget()
    with engine.connect() as conn:
        assert Ledger(KEY).head(conn).root == ledger.head(conn).root == naive_root(kept)
    engine.dispose()


def test_a_failed_statement_in_a_savepoint_leaves_nothing(memory: Connection) -> None:
    ledger = Ledger(KEY)
    ledger.append(memory, entries(0, 300))
    with pytest.raises(IntegrityError), memory.begin_nested():
        ledger.append(memory, [(1, b"lost")] * 3)
        memory.execute(insert(schema.ledger_entry), {"seq": 0, "evidence_id": 1, "entry": b"twice"})
    ledger.append(memory, entries(300, 303))
    assert ledger.head(memory).root == naive_root(leaves(303))


def test_tiles_that_do_not_fit_stop_the_log(memory: Connection) -> None:
    Ledger(KEY).append(memory, entries(0, 300))
    t = schema.ledger_tile
    memory.execute(update(t).where(t.c.level == 0, t.c.tile == 1).values(hashes=bytes(44 * 32)))
    with pytest.raises(LedgerBroken, match="entry 299"):
        Ledger(KEY).append(memory, entries(300, 301))
    memory.execute(delete(t).where(t.c.level == 1))
    with pytest.raises(LedgerBroken, match="tile"):
        Ledger(KEY).append(memory, entries(300, 301))


# -- checkpoints -----------------------------------------------------------------------------------------


def test_checkpoint_is_a_signed_note_and_only_when_grown(engine: Engine) -> None:
    ledger = Ledger(KEY)
    with engine.begin() as conn:
        assert ledger.checkpoint(conn, 1) is None
        assert ledger.latest(conn) is None
        ledger.append(conn, entries(0, 5))
        made = ledger.checkpoint(conn, 2)
        assert made is not None
        assert ledger.checkpoint(conn, 3) is None
    with engine.begin() as conn:
        ledger.append(conn, entries(5, 9))
        assert ledger.covering(conn, 4) == made
        assert ledger.covering(conn, 5) is None
        later = ledger.checkpoint(conn, 4)
    assert later is not None
    with engine.connect() as conn:
        assert ledger.latest(conn) == later
        assert ledger.covering(conn, 5) == later
        head = open_checkpoint(made.note, [KEY.vkey])
        assert (head.origin, head.size, head.root) == ("wasl.example/ledger", 5, naive_root(leaves(5)))
        root = base64.b64encode(naive_root(leaves(5))).decode()
        assert made.note.startswith(f"wasl.example/ledger\n5\n{root}\n\n— wasl.example/ledger ")
        proof = LogProof.parse(proof_text(ledger.prove(conn, 2, made.size), made.note))
        assert proof.check() == head
        assert (proof.entry, proof.index) == (b"entry 2", 2)


def test_nothing_is_signed_that_contradicts_what_was_signed(memory: Connection) -> None:
    ledger = Ledger(KEY)
    ledger.append(memory, entries(0, 600))
    assert ledger.checkpoint(memory, 1) is not None
    # History is rewritten as a whole: entries and tiles agree with one another, but not with the note.
    for table in (schema.ledger_entry, schema.ledger_tile):
        memory.execute(delete(table))
    Ledger(KEY).append(memory, [(n, b"new history %d" % n) for n in range(700)])
    for each in (ledger, Ledger(KEY)):
        each.forget()
        with pytest.raises(LedgerBroken, match="does not begin with"):
            each.checkpoint(memory, 2)


def test_an_older_state_is_noticed(memory: Connection) -> None:
    ledger = Ledger(KEY)
    ledger.append(memory, entries(0, 50))
    early = ledger.checkpoint(memory, 1)
    ledger.append(memory, entries(50, 100))
    late = ledger.checkpoint(memory, 2)
    assert early is not None
    assert late is not None
    ledger.must_contain(memory, early.note)
    ledger.must_contain(memory, late.note)
    older = create_engine("sqlite://")
    schema.metadata.create_all(older, TABLES)
    with older.connect() as conn:
        restored = Ledger(KEY)
        restored.append(conn, entries(0, 60))
        restored.must_contain(conn, early.note)
        with pytest.raises(LedgerBroken, match="60 entries, but 100"):
            restored.must_contain(conn, late.note)
        with pytest.raises(Unproven):
            Ledger(LedgerKey.make("wasl.example/ledger")).must_contain(conn, early.note)
    older.dispose()


def test_key_survives_its_file(tmp_path: Any) -> None:
    path = tmp_path / "ledger.pem"
    path.write_bytes(KEY.pem())
    again = LedgerKey.load(KEY.origin, path)
    assert again.vkey == KEY.vkey
    assert again.sign(1, bytes(32)) == KEY.sign(1, bytes(32))
    for origin in ("", "a b", "a+b", "a\nb"):
        with pytest.raises(ValueError, match="origin"):
            LedgerKey.make(origin)


# -- several nodes ---------------------------------------------------------------------------------------


def test_pending_entries_get_their_places_in_order(engine: Engine) -> None:
    ledger = Ledger(KEY)
    with engine.begin() as conn:
        ledger.pend(conn, [(n, b"entry %d" % (n - 1)) for n in (3, 1, 2, 5, 4)])
        assert ledger.head(conn).size == 0
    with engine.begin() as conn:
        assert ledger.sequence(conn, 3) == 3
    with engine.begin() as conn:
        assert ledger.sequence(conn, 3) == 2
        assert ledger.sequence(conn, 3) == 0
        assert ledger.head(conn).root == naive_root(leaves(5))
        assert conn.execute(select(schema.ledger_pending)).all() == []
        assert ledger.place(conn, 4) == 3


@pytest.mark.postgres
def test_nodes_sequence_one_after_the_other(pg_url: str) -> None:
    """Writers pend and sequencers race on one PostgreSQL: no gap, no repeat, one root."""
    engine = create_engine(pg_url, pool_size=8)
    schema.metadata.create_all(engine, TABLES)
    writing = threading.Event()
    writing.set()
    failures: list[BaseException] = []

    def write(node: int) -> None:
        ledger = Ledger(KEY)
        for n in range(40):
            with engine.begin() as conn:
                ledger.pend(conn, [(node * 1000 + n * 5 + i, b"%d/%d/%d" % (node, n, i)) for i in range(5)])

    turns = itertools.count(1)

    def sequence() -> None:
        ledger = Ledger(KEY)
        try:
            while True:
                last = not writing.is_set()
                with engine.connect() as conn:
                    done = ledger.sequence(conn, 17)
                    if done and next(turns) % 3 == 0:
                        conn.rollback()
                        continue
                    conn.commit()
                if last and not done:
                    return
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    writers = [threading.Thread(target=write, args=(node,)) for node in range(3)]
    sequencers = [threading.Thread(target=sequence) for _ in range(3)]
    for thread in (*writers, *sequencers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in sequencers:
        thread.join()
    assert not failures
    ledger = Ledger(KEY)
    with engine.begin() as conn:
        while ledger.sequence(conn, 500):
            pass
    with engine.connect() as conn:
        rows = conn.execute(select(schema.ledger_entry).order_by(schema.ledger_entry.c.seq)).all()
        assert [r.seq for r in rows] == list(range(600))
        assert len({r.evidence_id for r in rows}) == 600
        assert ledger.head(conn).root == naive_root([leaf_hash(bytes(r.entry)) for r in rows])
    engine.dispose()


@pytest.mark.postgres
def test_appends_of_two_nodes_wait_for_one_another(pg_url: str) -> None:
    engine = create_engine(pg_url, pool_size=8)
    schema.metadata.create_all(engine, TABLES)
    failures: list[BaseException] = []

    def work(node: int) -> None:
        ledger = Ledger(KEY)
        try:
            for n in range(60):
                with engine.connect() as conn:
                    ledger.append(
                        conn, [(node * 1000 + n * 3 + i, b"%d/%d/%d" % (node, n, i)) for i in range(3)]
                    )
                    if n % 5 == node:
                        conn.rollback()
                    else:
                        conn.commit()
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(node,)) for node in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with engine.connect() as conn:
        rows = conn.execute(select(schema.ledger_entry).order_by(schema.ledger_entry.c.seq)).all()
        assert [r.seq for r in rows] == list(range(3 * 48 * 3))
        assert Ledger(KEY).head(conn).root == naive_root([leaf_hash(bytes(r.entry)) for r in rows])
    engine.dispose()


# -- cost ------------------------------------------------------------------------------------------------


def test_cost_does_not_grow_with_the_log(memory: Connection) -> None:
    """The statements of one append are the same few at the first entry and at the 5,000th."""
    ledger = Ledger(KEY)
    counts = []
    statements: list[str] = []
    driver = memory.connection.driver_connection
    assert driver is not None
    driver.set_trace_callback(statements.append)
    for at in (0, 20, 5_000):
        size = ledger.head(memory).size
        ledger.append(memory, entries(size, at))
        statements.clear()
        ledger.append(memory, entries(at, at + 20))
        counts.append(len(statements))
    assert all(count <= 20 + 3 for count in counts), counts  # an insert an entry, and a few for the tree
