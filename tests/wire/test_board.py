"""The follow-up board and its lists on both databases: the same numbers by other means, and which indexes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from tests.servers.postgres import Postgres
from tracker import board, schema, waiting_list
from tracker.access import Role, Viewer
from tracker.board import DUE, Edges, Side, What
from tracker.evidence_kinds import EvidenceKind, evidence_kinds
from tracker.model import IdSource
from tracker.store import Store
from tracker.waiting_list import Asked

ALL = Viewer(account="audit.all", role=Role.COMPLIANCE)
MOF = Viewer(account="mof", role=Role.COMPLIANCE, agency="MOF")
MOH = Viewer(account="moh", role=Role.REGISTRY, agency="MOH")
NOBODY = Viewer(account="nobody", role=Role.REGISTRY)
CODES = ("MOF", "MOH", "MOE", "PM", "AB")
DAY = 86_400_000_000
NOW = 1_790_000_000_000_000
TIMES = Edges(now_us=NOW, midnight_us=NOW + DAY // 3, week_us=NOW + DAY // 3 + 7 * DAY)
COUNT = 6_000


@dataclass(frozen=True)
class Row:
    """A delivery as it was written, to count by."""

    id: int
    letter_id: int
    kind: str
    sender: str
    agency: str
    state: str
    grade: int
    outcome: str
    due_us: int | None
    warned: bool
    doubt: bool
    accepted_us: int


def _rows() -> list[Row]:
    chance = random.Random(7)
    rows = []
    for n in range(COUNT):
        at = NOW - int(chance.random() * 200 * DAY)
        letter_id = (at // 1000 - IdSource.EPOCH_MS) << 22 | n
        sender, agency = chance.sample(CODES, 2)
        state = chance.choices(("sent", "queued", "held", "failed", "refused"), (90, 5, 2, 2, 1))[0]
        grade = chance.randint(2, 7) if state == "sent" else 1
        outcome = "open"
        if state in ("failed", "refused"):
            outcome = "failed"
        elif grade == 7:
            outcome = chance.choices(("closed", "reopened"), (9, 1))[0]
        elif grade == 6:
            outcome = chance.choices(("open", "returned"), (9, 1))[0]
        due = NOW + int((chance.random() - 0.6) * 30 * DAY) if chance.random() < 0.3 else None
        rows.append(
            Row(
                id=letter_id | 1 << 21,
                letter_id=letter_id,
                kind=chance.choices(("letter", "shadow"), (9, 1))[0],
                sender=sender,
                agency=agency,
                state=state,
                grade=grade,
                outcome=outcome,
                due_us=due,
                warned=state == "queued" and chance.random() < 0.5,
                doubt=state == "queued" and chance.random() < 0.3,
                accepted_us=at,
            )
        )
    return rows


def _fill(conn: Connection, rows: list[Row]) -> None:
    letters = [
        {
            "id": r.letter_id, "kind": r.kind, "number": f"{r.sender}/2026/{n:06d}", "agency": r.sender,
            "thread_id": r.letter_id, "accepted_us": r.accepted_us, "subject": f"كتاب {n}",
            "due_us": r.due_us, "urgency": "urgent" if n % 7 == 0 else "",
        }
        for n, r in enumerate(rows)
    ]  # fmt: skip
    deliveries = [
        {
            "id": r.id, "letter_id": r.letter_id, "submission_id": r.letter_id, "kind": r.kind,
            "recipient": "diwan@x.example", "recipient_key": "diwan@x.example", "agency": r.agency,
            "hop": r.agency, "state": r.state, "grade": r.grade, "outcome": r.outcome, "next_us": 0,
            "attempts": 1, "expires_us": 0, "changed_us": r.accepted_us, "due_us": r.due_us,
            "from_agency": r.sender, "warned_us": NOW if r.warned else None, "bcc": False,
        }
        for r in rows
    ]  # fmt: skip
    attempts = [
        {"id": r.id + n, "delivery_id": r.id, "started_us": n, "ended_us": n, "owner": "0/a", "hop": r.agency,
         "result": result}
        for r in rows if r.doubt
        for n, result in ((1, "attempted"), (2, "in-doubt"))
    ]  # fmt: skip
    for table, values in (
        (schema.letter, letters),
        (schema.delivery, deliveries),
        (schema.attempt, attempts),
    ):
        for first in range(0, len(values), 2_000):
            conn.execute(insert(table), values[first : first + 2_000])


ROWS = _rows()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        made = Store(f"sqlite:///{tmp_path_factory.mktemp('board') / 'wasl.db'}")
        yield from _filled(made)
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield from _filled(Store(url))


def _filled(store: Store) -> Iterator[Store]:
    schema.metadata.create_all(store.writer)
    with store.writer.begin() as conn:
        _fill(conn, ROWS)
    with store.writer.begin() as conn:
        conn.execute(text("ANALYZE"))
    yield store
    store.close()


def _awaited(r: Row) -> bool:
    return r.due_us is not None and r.outcome in ("open", "reopened") and r.state != "held"


def _untaken(r: Row) -> bool:
    return r.state == "sent" and r.grade < 6 and r.outcome == "open" and r.letter_id >= TIMES.floor


MEANT: dict[What, Callable[[Row], bool]] = {
    What.LATE: lambda r: _awaited(r) and (r.due_us or 0) < NOW,
    What.TODAY: lambda r: _awaited(r) and NOW <= (r.due_us or 0) < TIMES.midnight_us,
    What.WEEK: lambda r: _awaited(r) and TIMES.midnight_us <= (r.due_us or 0) < TIMES.week_us,
    What.ANSWER: _awaited,
    What.REGISTRATION: _untaken,
    What.READ: lambda r: _untaken(r) and r.grade < 5,
    What.UNDELIVERED: lambda r: r.warned,
    What.DOUBT: lambda r: r.doubt,
}


def expected(viewer: Viewer, side: Side, what: What) -> list[Row]:
    """The rows behind a number, by the record's own words."""
    rows = [r for r in ROWS if MEANT[what](r)]
    if not viewer.sees_all:
        rows = [r for r in rows if (r.agency if side is Side.IN else r.sender) == viewer.agency]
    key = (lambda r: (r.due_us, r.id)) if what in DUE else (lambda r: (r.letter_id, r.id))
    return sorted(rows, key=key)


ENDS = [(ALL, Side.IN), (MOF, Side.IN), (MOF, Side.OUT), (MOH, Side.IN), (MOH, Side.OUT)]


@pytest.mark.parametrize(("viewer", "side"), ENDS, ids=lambda one: getattr(one, "account", one))
def test_the_board_counts_what_the_lists_show(store: Store, viewer: Viewer, side: Side) -> None:
    with store.reader.connect() as conn:
        counted = board.board(conn, viewer, side, CODES, TIMES)
        letters = board.board(conn, viewer, side, CODES, TIMES, letters=True)
        for what in What:
            rows = expected(viewer, side, what)
            listed = list(waiting_list.all_waiting(conn, viewer, Asked(what=what, side=side), TIMES, 10_000))
            assert [one.delivery_id for one in listed] == [r.id for r in rows], (viewer.account, side, what)
            assert counted.total(what).value == len(rows), (viewer.account, side, what)
            for code, row in counted.rows.items():
                assert row[what].value == sum(r.agency == code for r in rows), (code, what)
                once = {r.letter_id for r in rows if r.agency == code}
                assert letters.rows[code][what].value == len(once), (code, what)
    if viewer is MOF and side is Side.IN:
        assert set(counted.rows) == {"MOF"}


@pytest.mark.parametrize("what", list(What))
def test_lists_are_narrowed_and_leave_nothing_out(store: Store, what: What) -> None:
    with store.reader.connect() as conn:
        for asked, keep in (
            (Asked(what=what, agency="MOH"), lambda r: r.agency == "MOH"),
            (Asked(what=what, sender="PM"), lambda r: r.sender == "PM"),
            (Asked(what=what, agency="MOH", sender="PM"), lambda r: (r.agency, r.sender) == ("MOH", "PM")),
        ):
            wanted = [r.id for r in expected(ALL, Side.IN, what) if keep(r)]
            seen: list[int] = []
            after = None
            while True:
                page = waiting_list.waiting(conn, ALL, asked, TIMES, after=after, limit=7)
                seen += [line.delivery_id for line in page.lines]
                after = page.next
                if after is None:
                    break
            assert seen == wanted, asked
        urgent = list(waiting_list.all_waiting(conn, ALL, Asked(what=what, urgency="urgent"), TIMES, 10_000))
        assert {one.urgency for one in urgent} <= {"urgent"} and len(urgent) < len(
            expected(ALL, Side.IN, what)
        )


def test_a_scan_that_ends_early_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.waiting_list.SCAN", 40)
    with store.reader.connect() as conn:
        for viewer, side in ENDS:
            for what in (What.READ, What.DOUBT):
                asked = Asked(what=what, side=side, urgency="urgent")
                found = [
                    one.delivery_id for one in waiting_list.all_waiting(conn, viewer, asked, TIMES, 10_000)
                ]
                assert len(found) == len(set(found))
                assert found or what is What.DOUBT
                whole = {r.id for r in expected(viewer, side, what)}
                assert set(found) <= whole


def test_nobody_sees_another_agencys_rows(store: Store) -> None:
    with store.reader.connect() as conn:
        for what in What:
            for asked in (
                Asked(what=what, side=Side.IN, agency="MOH"),
                Asked(what=what, side=Side.IN, sender="PM"),
                Asked(what=what, side=Side.OUT, sender="PM"),
                Asked(what=what, side=Side.OUT, agency="AB"),
            ):
                for one in waiting_list.waiting(conn, MOF, asked, TIMES, limit=500).lines:
                    assert "MOF" in (one.agency, one.sender), asked
            assert waiting_list.waiting(conn, NOBODY, Asked(what=what), TIMES).lines == ()
            foreign = Asked(what=what, side=Side.OUT, sender="PM")
            assert waiting_list.waiting(conn, MOF, foreign, TIMES).lines == ()
        assert board.board(conn, NOBODY, Side.IN, CODES, TIMES).rows == {}


def test_counts_stop_and_say_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "CAP", 20)
    with store.reader.connect() as conn:
        row = board.board(conn, ALL, Side.IN, ["MOH"], TIMES).rows["MOH"]
    assert (row[What.ANSWER].value, row[What.ANSWER].more) == (19, True)


def plans(store: Store, ask: Callable[[Connection], Any]) -> str:
    """How the database answers the statements of a question."""
    said: list[tuple[str, Any]] = []

    def heard(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            said.append((statement, parameters))

    out = []
    with store.reader.connect() as conn:
        event.listen(conn, "before_cursor_execute", heard)
        ask(conn)
        event.remove(conn, "before_cursor_execute", heard)
        if conn.dialect.name != "sqlite":  # so small a table is not worth an index to PostgreSQL
            for way in ("seqscan", "hashjoin", "mergejoin"):
                conn.exec_driver_sql(f"SET enable_{way} = off")
        explain = "EXPLAIN QUERY PLAN " if conn.dialect.name == "sqlite" else "EXPLAIN "
        for statement, parameters in said:
            rows = conn.exec_driver_sql(explain + statement, parameters).all()
            out += [str(row[-1]) for row in rows]
    return "\n".join(out)


QUESTIONS: list[tuple[str, Callable[[Connection], Any], str]] = [
    ("the board", lambda c: board.board(c, ALL, Side.IN, CODES, TIMES), "ix_delivery_awaited"),
    ("the board, untaken", lambda c: board.board(c, ALL, Side.IN, CODES, TIMES), "ix_delivery_untaken"),
    ("ours", lambda c: board.board(c, MOF, Side.OUT, CODES, TIMES), "ix_delivery_owed"),
    ("late at us", lambda c: board.late_at(c, "MOH", NOW), "ix_delivery_awaited"),
    (
        "a list of one agency",
        lambda c: waiting_list.waiting(c, MOH, Asked(what=What.LATE), TIMES),
        "ix_delivery_awaited",
    ),
    (
        "a list of what is owed to one",
        lambda c: waiting_list.waiting(c, MOF, Asked(what=What.ANSWER, side=Side.OUT), TIMES),
        "ix_delivery_owed",
    ),
    (
        "a list of all agencies",
        lambda c: waiting_list.waiting(c, ALL, Asked(what=What.LATE), TIMES),
        "ix_delivery_due_us",
    ),
    (
        "what one agency has not taken in",
        lambda c: waiting_list.waiting(c, MOH, Asked(what=What.REGISTRATION), TIMES),
        "(?:ix_delivery_untaken|ix_delivery_agency_letter_id)",  # the second has them in order
    ),
    (
        "what is in doubt",
        lambda c: waiting_list.waiting(c, ALL, Asked(what=What.DOUBT), TIMES),
        "ix_delivery_due",
    ),
]


@pytest.mark.parametrize(("what", "ask", "index"), QUESTIONS, ids=[q[0] for q in QUESTIONS])
def test_each_question_has_its_index(
    store: Store, what: str, ask: Callable[[Connection], Any], index: str
) -> None:
    plan = plans(store, ask)
    assert re.search(rf"\b{index}\b", plan), plan
    assert not re.search(r"SCAN (?:d|delivery)(?!\w)(?! USING)|Seq Scan on delivery", plan), plan


def test_evidence_is_measured_of_the_newest(store: Store) -> None:
    with store.reader.connect() as conn:
        (one, *_) = evidence_kinds(conn, agency="MOH", newest=50)
        taken = sum(r.agency == "MOH" and r.kind == "letter" and r.grade >= 2 for r in ROWS)
        assert one.of == 50 < taken
        of_ours = evidence_kinds(conn, sender="MOF", newest=100)
        assert {seen.kind for seen in of_ours} == set(EvidenceKind)
        assert sum(seen.of for seen in of_ours if seen.kind is EvidenceKind.MDN) <= 100
        assert "MOF" not in {seen.agency for seen in of_ours}
        plan = plans(store, lambda c: evidence_kinds(c, agency="MOH", newest=50))
    assert "ix_delivery_agency_letter_id" in plan and "ix_evidence_letter_id" in plan, plan
