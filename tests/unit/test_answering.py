"""What is asked of the record before a letter is decided upon, and what refusals in session leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import insert

from gateway import refusals as gateway_refusals
from gateway.refusals import REST, Refusals
from tests.records import made_store
from tracker import refusals, schema
from tracker.access import Role, Viewer
from tracker.answering import letter_answered
from tracker.model import now_us
from tracker.refusals import DAY_US, Count
from tracker.store import Store

WHOLE = Viewer(account="salma", role=Role.COMPLIANCE)
MOF = Viewer(account="huda", role=Role.COMPLIANCE, agency="MOF")


@pytest.fixture
def store(record_url: str) -> Iterator[Store]:
    made = made_store(record_url)
    yield made
    made.close()


def write(store: Store, number: int, kind: str = "letter", **more: object) -> None:
    row = {
        "id": number,
        "kind": kind,
        "thread_id": number,
        "accepted_us": now_us(),
        "message_id": f"<{number}@mof>",
        "number": f"MOF/2026/{number:06d}" if kind == "letter" else None,
        "agency": "MOF",
        "classification": "",
        "urgency": "",
    }
    with store.writer.begin() as conn:
        conn.execute(insert(schema.letter).values(**(row | more)))


def test_the_letter_answered_is_the_number_else_the_last_reference(store: Store) -> None:
    write(store, 1, classification="secret", due_us=77)
    write(store, 2)
    write(store, 3, kind="pass")
    with store.reader.connect() as conn:
        by_number = letter_answered(conn, ("<2@mof>",), ("MOF/2026/000001",), "MOF")
        assert by_number is not None
        assert (by_number.id, by_number.classification, by_number.due_us) == (1, "secret", 77)
        by_reference = letter_answered(
            conn, ("<1@mof>", "<2@mof>", "<unknown@x>"), ("MOF/2026/999999",), "MOF"
        )
        assert by_reference is not None and by_reference.id == 2
        assert letter_answered(conn, ("<3@mof>",), (), "MOF") is None  # no letter
        assert letter_answered(conn, (), (), "MOF") is None
        assert letter_answered(conn, (), ("MOF/2026/000001",), "MOH") is None  # whoever it did not reach
        many = tuple(f"<{n}@nobody>" for n in range(500))
        last = letter_answered(conn, (*many, "<1@mof>"), (), "MOF")
        assert last is not None and last.id == 1
        assert (
            letter_answered(conn, ("<1@mof>", *many), (), "MOF") is None
        )  # only the last ones are asked for


@pytest.mark.parametrize(
    ("state", "known"), [("sent", True), ("queued", True), ("held", False), ("refused", False)]
)
def test_who_received_a_letter_answers_it(store: Store, state: str, known: bool) -> None:
    write(store, 1)
    with store.writer.begin() as conn:
        conn.execute(
            insert(schema.delivery).values(
                id=9,
                letter_id=1,
                submission_id=1,
                kind="letter",
                recipient="b@moh.gov.example",
                recipient_key="b@moh.gov.example",
                agency="MOH",
                hop="MOH",
                state=state,
                grade=1,
                outcome="open",
                next_us=0,
                attempts=0,
                expires_us=0,
                changed_us=0,
            )
        )
    with store.reader.connect() as conn:
        assert (letter_answered(conn, ("<1@mof>",), (), "MOH") is not None) == known


def test_refusals_add_up_by_agency_day_and_rule(store: Store) -> None:
    day = now_us() // DAY_US
    for count in (2, 3):
        with store.writer.begin() as conn:
            key = ("MOF", day, "unknown-domain")
            refusals.add(conn, {key: Count(count=count, last_us=count, reply="550 5.1.2 no")})
            refusals.add(conn, {("MOH", day, "unknown-domain"): Count(count=1, last_us=1, reply="550")})
    with store.reader.connect() as conn:
        found = refusals.refused(conn, WHOLE, since_us=now_us() - DAY_US)
        own = refusals.refused(conn, MOF, since_us=now_us() - DAY_US)
        later = refusals.refused(conn, WHOLE, since_us=now_us() + 2 * DAY_US)
    assert {(r.agency, r.rule, r.count, r.last_us) for r in found} == {
        ("MOF", "unknown-domain", 5, 3),
        ("MOH", "unknown-domain", 2, 1),
    }
    assert [r.agency for r in own] == ["MOF"]
    assert later == ()


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_refusals, "MOST", 4)
    counts = Refusals()
    for n in range(100):
        counts.count("MOF", f"rule-{n}", "550 no")
    kept = counts._counts
    assert len(kept) <= 5
    assert sum(c.count for c in kept.values()) == 100
    assert any(rule == REST for _, _, rule in kept)
