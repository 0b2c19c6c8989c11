"""A registry's acts count for all recipients of its agency, blind copies too; who learns of those by that.

DESIGN §11: the row of a blind copy is seen by the author's side and by that recipient's. On both databases.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from tests.unit.test_registry import CLERK, MOF, MOJ, SHAPE, arrived, file, letter, relay, rows
from tracker import incoming, letter_page, public_view, schema
from tracker.access import Role, Viewer
from tracker.filing import Deed
from tracker.record import Record

AB = Viewer(account="nour", role=Role.COMPLIANCE, agency="AB")
DIWAN, QUIET = "diwan@moh.gov.example", "quiet@moh.gov.example"
HIDDEN, NAMED = "hidden@moj.gov.example", "diwan@ab.gov.example"
BLIND = {QUIET, HIDDEN}


def sent(record: Record) -> int:
    """A letter to MOH and AB, with blind copies for another mailbox of MOH and for MOJ; they have it."""
    made = letter(record, QUIET, DIWAN, HIDDEN, NAMED)
    drafts = tuple(replace(d, bcc=str(d.recipient.address) in BLIND) for d in made.deliveries)
    accepted = record.accept(replace(made, deliveries=drafts))
    relay(record)
    return accepted.letter_id


def told(record: Record, viewer: Viewer, letter_id: int) -> str:
    """All that a viewer's pages say of a letter."""
    with record.read() as conn:
        page = letter_page.read(conn, viewer, letter_id)
        assert page is not None
        shown = [page.recipients, page.named, page.events, page.submissions]
        return str([*shown, incoming.of_letter(conn, viewer, letter_id)])


def test_an_act_is_the_agencys_and_its_receipt_names_who_was_named(record: Record) -> None:
    one = sent(record)
    assert file(record, one, Deed.REGISTER, shape=SHAPE).incoming == "1/2026"
    d = {row.recipient: row for row in rows(record, schema.delivery)}
    assert {to: row.grade for to, row in d.items()} == {DIWAN: 6, QUIET: 6, HIDDEN: 2, NAMED: 2}
    receipts = [r for r in rows(record, schema.receipt) if r.kind == "registered"]
    assert [r.delivery_id for r in receipts] == [d[DIWAN].id], "one, of the recipient whom the letter names"
    assert receipts[0].recipient == "a@mof.gov.example"
    e = schema.evidence.c
    with record.read() as conn:
        details = list(conn.scalars(select(e.detail).where(e.event == "registered")))
        assert incoming.first_delivery(conn, one, "MOH") == d[DIWAN].id, "where its command mails go"
    assert not any(to in str(details) for to in d), "evidence of an act names no recipients"


def test_an_act_tells_nobody_of_a_blind_copy(record: Record) -> None:
    """Neither those whom the letter names, nor the registry of one agency of another's, nor the public."""
    one = sent(record)
    before = {viewer.agency: told(record, viewer, one) for viewer in (AB, CLERK, MOJ)}
    file(record, one, Deed.REFER, to="قسم", shape=SHAPE)
    file(record, one, Deed.REGISTER, MOJ, agency="MOJ", shape=SHAPE)
    assert told(record, AB, one) == before["AB"], "whom it names reads nothing new"
    for hidden in (QUIET, HIDDEN, "MOJ", "1/2026"):
        assert hidden not in told(record, AB, one)
    assert HIDDEN not in told(record, CLERK, one) and "MOJ" not in told(record, CLERK, one)
    theirs = told(record, MOJ, one)
    assert HIDDEN in theirs and "1/2026" in theirs
    assert QUIET not in theirs and "قسم" not in theirs and "'referred'" not in theirs
    author = told(record, MOF, one)
    assert all(to in author for to in (DIWAN, QUIET, HIDDEN, NAMED)), "who wrote it sees whom he wrote to"
    with record.read() as conn:
        number = conn.scalar(select(schema.letter.c.number).where(schema.letter.c.id == one))
        public = public_view.by_number(conn, str(number))
    assert public is not None
    assert [(a.agency, int(a.grade)) for a in public.addressees] == [("MOH", 6), ("AB", 2)]


def test_a_letter_that_came_as_a_blind_copy_only_is_registered_as_any_other(record: Record) -> None:
    accepted = arrived(record, DIWAN)
    made = letter(record, HIDDEN)
    hidden = record.accept(replace(made, deliveries=(replace(made.deliveries[0], bcc=True),)))
    relay(record)
    with record.read() as conn:
        assert [e.letter_id for e in incoming.waiting(conn, MOJ, "MOJ").entries] == [hidden.letter_id]
        assert [e.letter_id for e in incoming.waiting(conn, CLERK, "MOH").entries] == [accepted.letter_id]
    assert file(record, hidden.letter_id, Deed.REGISTER, MOJ, agency="MOJ", shape=SHAPE).incoming == "1/2026"
    assert [r.kind for r in rows(record, schema.receipt) if r.letter_id == hidden.letter_id] == ["registered"]
