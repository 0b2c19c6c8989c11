"""Lists and letters on both databases, and by which indexes they are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, event, insert

from tests.records import made_store
from tests.wire.seed_letters import Seeder, tell_all
from tracker import accounts, audit, letter_page, overview, queries, schema, unmatched
from tracker.access import Role, Viewer
from tracker.archive import Archive
from tracker.model import IdSource, now_us
from tracker.search import fold, parse
from tracker.store import Store

ZONE = ZoneInfo("Asia/Amman")
ALL = Viewer(account="audit.all", role=Role.COMPLIANCE)
ROOT = Viewer(account="root", role=Role.ADMIN)
MOF = Viewer(account="mof", role=Role.VIEWER, agency="MOF")
MOH = Viewer(account="moh", role=Role.VIEWER, agency="MOH")
NOBODY = Viewer(account="nobody", role=Role.REGISTRY)


@pytest.fixture
def told(record_url: str, tmp_path: Path) -> Iterator[tuple[Store, dict[str, int]]]:
    store = made_store(record_url)
    archive = Archive(tmp_path / "objects")
    with store.writer.begin() as conn:
        ids = tell_all(Seeder(conn, archive))
    yield store, ids
    archive.close()
    store.close()


def found(conn: Connection, viewer: Viewer, line: str) -> list[int]:
    ids: list[int] = []
    cursor = None
    while True:
        page = queries.letters(conn, viewer, parse(line), zone=ZONE, before_id=cursor, limit=7)
        ids += [letter.id for letter in page.letters]
        cursor = page.next
        if cursor is None:
            return ids


def day(us: int) -> date:
    return datetime.fromtimestamp(us / 1_000_000, ZONE).date()


def test_both_databases_find_the_same(told: tuple[Store, dict[str, int]]) -> None:
    store, ids = told
    at = now_us()
    with store.reader.connect() as conn:
        for line, names in {
            "MOF/2026/120": {"main"},
            "is:waiting": {"late", "doubt", "retry", "queued"},
            "is:late": {"late", "main"},
            "is:failed": {"main", "bounced", "refused"},
            "موازنة المشاريع from:MOF": {"main"},
            "is:held": {"held"},
            "to:GBD is:failed": {"main"},
            "is:read from:PM": {"circular"},
            "diwan@ab.gov.example from:MOF": {"main"},
        }.items():
            assert set(found(conn, ALL, line)) == {ids[name] for name in names}, line
        everything = found(conn, ALL, "")
        assert everything == sorted(set(everything), reverse=True)
        assert len(everything) == 55
        assert found(conn, NOBODY, "") == []
        ours = set(found(conn, MOF, ""))
        assert ids["main"] in ours
        assert ids["bounced"] not in ours
        assert ours == {id_ for id_ in everything if letter_page.read(conn, MOF, id_) is not None}
        theirs = set(found(conn, MOH, "from:MOF"))
        assert {ids["main"], ids["hostile"]} <= theirs
        assert found(conn, MOH, "to:AB") == []
        for viewer in (ALL, MOF, MOH):  # each number is the length of the list behind it
            counts, today = overview.overview(conn, viewer, zone=ZONE, at_us=at), day(at)
            week = day(counts.since_us)
            assert (today - week).days == counts.days - 1
            for count, line in (
                (counts.waiting, "is:waiting"),
                (counts.late, f"is:late after:{week}"),
                (counts.failed, f"is:failed after:{week}"),
                (counts.relayed_today, f"grade:E2+ after:{today}"),
            ):
                assert (count.value, count.more) == (len(found(conn, viewer, line)), False), (viewer, line)
        counts = overview.overview(conn, ALL, zone=ZONE)
        assert (counts.waiting.value, counts.late.value, counts.failed.value) == (4, 2, 3)
        assert overview.overview(conn, NOBODY, zone=ZONE).waiting.value == 0
        assert len(unmatched.unmatched(conn, ROOT)[0]) == 2
        assert unmatched.unmatched(conn, ALL) == ((), None)
        page = letter_page.read(conn, MOH, ids["main"])
        assert page is not None
        assert [row.agency for row in page.recipients] == ["MOH"]
        assert {row.agency for row in page.named} == {"MOPIC", "GBD"}
        assert page.submissions[0].account is None
        assert page.submissions[0].verdicts == ()


@pytest.mark.parametrize("record_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("window", [1, 2, 5])
def test_windows_leave_nothing_out_and_repeat_nothing(
    told: tuple[Store, dict[str, int]], window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = told
    lines = ("is:open", "موازنة", "to:MOH", "is:failed", "grade:E3+", "from:MOF is:open")
    with store.reader.connect() as conn:
        whole = {(v, line): found(conn, v, line) for v in (ALL, MOF, MOH) for line in lines}
        monkeypatch.setattr("tracker.question.WINDOW", window)
        for (viewer, line), ids in whole.items():
            seen: list[int] = []
            cursor: int | None = None
            while True:
                page = queries.letters(conn, viewer, parse(line), zone=ZONE, before_id=cursor, seconds=0)
                seen += [letter.id for letter in page.letters]
                cursor = page.next
                if cursor is None:
                    break
            assert seen == ids, (viewer.account, line)
            once = queries.letters(conn, viewer, parse(line), zone=ZONE, limit=500, seconds=60)
            assert [letter.id for letter in once.letters] == ids


def test_accounts_and_audit_on_both_databases(record_url: str) -> None:
    store = made_store(record_url)
    ids = IdSource()
    with store.writer.begin() as conn:
        made = accounts.make(
            conn, ids.next(), name=" Rana ", password="a long sentence", role=Role.VIEWER, agency="MOH"
        )
        token = accounts.begin_session(conn, made.id, "192.0.2.1")
        audit.record(conn, ids.next(), audit.Action.SEARCH, account="rana", object_="x" * 5000)
        with pytest.raises(accounts.AccountError):
            accounts.make(
                conn, ids.next(), name="rana", password="a long sentence", role=Role.VIEWER, agency="MOH"
            )
        for bad in ({"role": Role.VIEWER}, {"role": Role.ADMIN, "agency": "MOH"}):
            with pytest.raises(accounts.AccountError):
                accounts.make(conn, ids.next(), name="x", password="a long sentence", **bad)  # type: ignore[arg-type]
    with store.reader.connect() as conn:
        assert accounts.verify(conn, "RANA", "a long sentence") == made
        assert accounts.verify(conn, "rana", "a long sentence.") is None
        assert accounts.verify(conn, "rana\x00", "a long sentence") is None
        session = accounts.session(conn, token)
        assert session is not None
        assert session.account == made
        assert accounts.session(conn, token[:-1] + ("A" if token[-1] != "A" else "Q")) is None
        assert accounts.session(conn, token, at_us=session.expires_us) is None
    with store.writer.begin() as conn:
        accounts.set_password(conn, "rana", "quite another sentence", must_change=True)
    with store.reader.connect() as conn:
        assert accounts.session(conn, token) is None
        assert accounts.verify(conn, "rana", "a long sentence") is None
        assert accounts.verify(conn, "rana", "quite another sentence") is not None
    store.close()


# Indexes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Sixty thousand plain letters between three agencies, one in ten thousand failed."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('many') / 'many.db'}")
    schema.metadata.create_all(store.writer)
    fill(store.writer, 60_000)
    yield store
    store.close()


def fill(engine: Engine, count: int, first: int = 0) -> None:
    """Letters of ten seconds' distance from 2026-01-01 on."""
    base = 1_767_225_600_000 - IdSource.EPOCH_MS
    for start in range(first, first + count, 5_000):
        letters, rows, carried = [], [], []
        for n in range(start, min(start + 5_000, first + count)):
            at_ms = base + n * 10_000
            sender, receiver = ("MOF", "MOH", "MOE")[n % 3], ("MOH", "MOE", "MOF")[n % 3]
            subject = f"كتاب رقم {n}" if n % 20_011 else "موازنة نادرة"
            letters.append(
                {
                    "id": at_ms << 22,
                    "kind": "letter",
                    "number": f"{sender}/2026/{n:06d}",
                    "agency": sender,
                    "year": 2026,
                    "seq": n,
                    "author": f"a@{sender.lower()}.gov.example",
                    "subject": subject,
                    "subject_fold": fold(subject),
                    "thread_id": at_ms << 22,
                    "accepted_us": (at_ms + IdSource.EPOCH_MS) * 1000,
                }
            )
            carried.append(
                {
                    "id": at_ms << 22 | 1,
                    "letter_id": at_ms << 22,
                    "at_us": 0,
                    "door": "relay",
                    "sender": "",
                    "size": 1,
                    "sha256": b"",
                    "archive_key": "",
                    "facts": {},
                    "facts_version": 1,
                    "decision": {},
                }
            )
            failed = n % 10_000 == 7
            rows.append(
                {
                    "id": at_ms << 22 | 2,
                    "letter_id": at_ms << 22,
                    "submission_id": at_ms << 22 | 1,
                    "kind": "letter",
                    "recipient": "diwan@x.example",
                    "recipient_key": "diwan@x.example",
                    "agency": receiver,
                    "bcc": False,
                    "hop": receiver,
                    "state": "failed" if failed else "sent",
                    "grade": 1 if failed else 3,
                    "outcome": "failed" if failed else "open",
                    "next_us": 0,
                    "attempts": 1,
                    "expires_us": 0,
                    "changed_us": 0,
                }
            )
        with engine.begin() as conn:
            conn.execute(insert(schema.letter), letters)
            conn.execute(insert(schema.submission), carried)
            conn.execute(insert(schema.delivery), rows)


@pytest.mark.parametrize(
    ("viewer", "line", "index"),
    [
        (ALL, "", "letter USING INTEGER PRIMARY KEY|letter USING INDEX sqlite_autoindex_letter"),
        (ALL, "MOF/2026/000123", "INDEX sqlite_autoindex_letter_1|INDEX uq_letter_number"),
        (ALL, "from:MOF", "ix_letter_agency_id"),
        (ALL, "to:MOH", "ix_delivery_agency_letter_id"),
        (ALL, "is:waiting", "ix_delivery_due"),
        (MOF, "", "ix_letter_agency_id"),
        (MOF, "from:MOH", "ix_delivery_agency_letter_id"),
        (MOF, "is:waiting", "ix_delivery_due"),
        (ALL, "<a@b>", "ix_letter_message_id"),
    ],
)
def test_each_question_is_driven_by_its_index(many: Store, viewer: Viewer, line: str, index: str) -> None:
    plans: list[str] = []

    def explain(conn: Connection, cursor, statement: str, parameters, _context, _many: bool) -> None:  # type: ignore[no-untyped-def]
        if statement.startswith("SELECT") and not plans:
            plan = conn.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[union-attr]
            plans.extend(row[3] for row in plan)

    event.listen(many.reader, "before_cursor_execute", explain)
    with many.reader.connect() as conn:
        queries.letters(conn, viewer, parse(line), zone=ZONE)
    event.remove(many.reader, "before_cursor_execute", explain)
    text = "\n".join(plans)
    assert re.search(index, text), text
    assert not re.search(r"SCAN (delivery|evidence)(?! USING INDEX ix_delivery_due)\b", text), text


def test_a_search_without_index_stops_in_time_and_goes_on_from_there(many: Store) -> None:
    with many.reader.connect() as conn:
        page = queries.letters(conn, ALL, parse("نادرة"), zone=ZONE, seconds=0)
        assert page.reached_us is not None
        assert page.next is not None
        seen = [letter.id for letter in page.letters]
        steps = 1
        while page.next is not None:
            page = queries.letters(conn, ALL, parse("نادرة"), zone=ZONE, before_id=page.next, seconds=0)
            seen += [letter.id for letter in page.letters]
            steps += 1
        whole = queries.letters(conn, ALL, parse("نادرة"), zone=ZONE, seconds=600)
        assert seen == [letter.id for letter in whole.letters]
        assert len(seen) == 3
        assert steps >= 3
        two_ends = queries.letters(conn, MOF, parse("is:failed"), zone=ZONE, seconds=600)
        assert len(two_ends.letters) == 4
        assert two_ends.next is None
