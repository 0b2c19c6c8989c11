"""The incoming register through the record's doors, on both databases: numbers, acts, bars, answers, eyes."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tracker import incoming, link_work, schema
from tracker.acceptance import Acceptance, Accepted, DeliveryDraft
from tracker.access import Role, Viewer
from tracker.archive import Archive, Octets
from tracker.audit_ledger import verify_store
from tracker.claims import Want
from tracker.filing import Bar, Deed, Filed, Filing, Purpose, Stage, own_number
from tracker.link_work import AnswersDue, LinkJudgement
from tracker.linking import LinkState
from tracker.model import Address, Connection, DeliveryKind, Door, Envelope, LetterKind, Recipient
from tracker.noting import AttemptEnd, Note
from tracker.record import Record
from tracker.states import Event
from tracker.store import Store

HOUR = 3600 * 1_000_000
SHAPE = "{seq}/{year}"
DIWAN = Viewer(account="diwan", role=Role.REGISTRY, agency="MOH")
CLERK = Viewer(account="rana", role=Role.REGISTRY, agency="MOH")
LOOKER = Viewer(account="looker", role=Role.VIEWER, agency="MOH")
MOF = Viewer(account="huda", role=Role.COMPLIANCE, agency="MOF")
MOJ = Viewer(account="zaid", role=Role.REGISTRY, agency="MOJ")
WHOLE = Viewer(account="salma", role=Role.COMPLIANCE)
CONSOLE = Viewer(account="console:root", role=Role.ADMIN)
YEAR = 2026
AT = 1_795_000_000_000_000  # in November 2026


_count = iter(range(1, 100_000))


def letter(record: Record, *to: str, sender: str = "MOF", **changes: Any) -> Acceptance:
    """A letter of MOF's to the registry of MOH, not yet accepted."""
    number = next(_count)
    octets = Octets.of(f"From: a@{sender.lower()}.gov.example\r\n\r\n{number}\r\n".encode())
    recipients = tuple(Recipient(address=Address.parse(t)) for t in to or ("diwan@moh.gov.example",))
    author = f"a@{sender.lower()}.gov.example"
    values: dict[str, Any] = {
        "kind": LetterKind.LETTER,
        "peer": Connection(door=Door.RELAY, peer="192.0.2.1", agency=sender),
        "envelope": Envelope(sender=Address.parse(author), recipients=recipients),
        "octets": octets,
        "at_us": AT,
        "expires_us": AT + 120 * HOUR,
        "agency": sender,
        "author": author,
        "subject": "كتاب",
        "message_id": f"<{number}@{sender.lower()}>",
        "digest": octets.sha256,
        "number_shape": "{agency}/{year}/{seq:06d}",
        "deliveries": tuple(
            DeliveryDraft(
                recipient=r,
                kind=DeliveryKind.LETTER,
                agency=r.address.host.split(".")[0].upper(),
                hop=r.address.host.split(".")[0].upper(),
                asks=("registered", "referred", "returned", "processed"),
            )
            for r in recipients
        ),
    }
    return Acceptance(submission_id=record.ids.next(), **(values | changes))


def relay(record: Record) -> None:
    """Everything that is due arrives."""
    at = AT + 1
    for claim in record.claim(Want(owner="0/a", limit=100, now_us=at, lease_us=at + HOUR)):
        record.note(
            Note(
                delivery_id=claim.delivery_id,
                event=Event.RELAYED,
                at_us=at,
                source="smtp",
                attempt=AttemptEnd(attempt_id=claim.attempt_id, reply="250 2.0.0 Ok"),
            )
        )


def arrived(record: Record, *to: str, **changes: Any) -> Accepted:
    accepted = record.accept(letter(record, *to, **changes))
    relay(record)
    return accepted


def file(record: Record, letter_id: int, deed: Deed, person: Viewer = CLERK, **more: Any) -> Filed:
    values: dict[str, Any] = {"agency": "MOH", "at_us": AT + HOUR, "name": "رنا العبادي"} | more
    return record.file([Filing(letter_id=letter_id, deed=deed, person=person, **values)])[0]


def rows(record: Record, table: Any) -> list[Any]:
    with record.read() as conn:
        return list(conn.execute(select(table).order_by(*table.primary_key.columns)))


def evidence(record: Record, letter_id: int) -> list[Any]:
    return [e for e in rows(record, schema.evidence) if e.letter_id == letter_id and e.delivery_id]


def events(record: Record, letter_id: int) -> list[str]:
    return [e.event for e in evidence(record, letter_id)]


def entry(record: Record, letter_id: int, viewer: Viewer = CLERK, agency: str = "MOH") -> incoming.Entry:
    with record.read() as conn:
        one = incoming.entry(conn, viewer, letter_id, agency)
    assert one is not None
    return one


def standing(record: Record, letter_id: int) -> list[tuple[int, str]]:
    return [(d.grade, d.outcome) for d in rows(record, schema.delivery) if d.letter_id == letter_id]


def receipts(record: Record, letter_id: int) -> list[str]:
    return [r.kind for r in rows(record, schema.receipt) if r.letter_id == letter_id]


def test_assigned_numbers_follow_each_other_per_agency_and_year(record: Record) -> None:
    letters = [arrived(record, "diwan@moh.gov.example", "diwan@moj.gov.example").letter_id for _ in range(3)]
    given = [file(record, i, Deed.REGISTER, shape=SHAPE).incoming for i in letters]
    assert given == ["1/2026", "2/2026", "3/2026"]
    assert file(record, letters[0], Deed.REGISTER, MOJ, agency="MOJ", shape=SHAPE).incoming == "1/2026"
    turn = 1_798_750_800_000_001  # 2027-01-01 00:00 in Amman
    late = arrived(record).letter_id
    assert file(record, late, Deed.REGISTER, shape=SHAPE, at_us=turn).incoming == "1/2027"
    (row, *_) = [e for e in evidence(record, letters[1]) if e.event == "registered"]
    assert (row.grade, row.source, row.reporter) == (6, "person", "rana")
    assert row.detail == {
        "incoming_number": "2/2026",
        "person": "رنا العبادي",
        "where": "dashboard",
        "assigned": True,
    }
    with record.read() as conn:
        assert verify_store(conn, record.archive, record.ledger.key, lambda done, total: None) == []


def test_a_refused_act_takes_no_number(record: Record) -> None:
    first, second = arrived(record).letter_id, arrived(record).letter_id
    assert file(record, first, Deed.REGISTER, MOJ, shape=SHAPE).bar is Bar.NOT_YOURS
    assert file(record, first, Deed.REGISTER, LOOKER, shape=SHAPE).bar is Bar.NOT_YOURS
    assert file(record, first, Deed.REGISTER, WHOLE, shape=SHAPE).bar is Bar.NOT_YOURS
    assert file(record, first, Deed.REGISTER, MOF, shape=SHAPE).bar is Bar.NOT_YOURS
    assert file(record, first, Deed.REGISTER, number="9", shape=SHAPE).bar is Bar.ASSIGNED
    assert file(record, 77, Deed.REGISTER, shape=SHAPE).bar is Bar.UNKNOWN
    assert file(record, first, Deed.RETURN, shape=SHAPE).bar is Bar.REASON
    assert file(record, first, Deed.REFER, shape=SHAPE).bar is Bar.TARGET
    assert rows(record, schema.incoming) == []
    assert file(record, first, Deed.REGISTER, CONSOLE, shape=SHAPE).incoming == "1/2026"
    again = file(record, first, Deed.REGISTER, shape=SHAPE)
    assert (again.bar, again.incoming, again.stage) == (Bar.REGISTERED, "1/2026", Stage.REGISTERED)
    assert file(record, second, Deed.REGISTER, shape=SHAPE).incoming == "2/2026"


def test_many_at_once_and_one_bad_among_them(record: Record) -> None:
    letters = [arrived(record).letter_id for _ in range(4)]
    wanted = [letters[0], letters[1], letters[1], 5, letters[2], letters[3]]
    filings = [
        Filing(letter_id=i, agency="MOH", deed=Deed.REGISTER, at_us=AT + HOUR, person=CLERK, shape=SHAPE)
        for i in wanted
    ]
    done = record.file(filings)
    assert [d.incoming for d in done] == ["1/2026", "2/2026", "2/2026", None, "3/2026", "4/2026"]
    assert [d.bar for d in done] == [None, None, Bar.REGISTERED, Bar.UNKNOWN, None, None]


def test_threads_that_register_together_leave_no_gap_and_give_nothing_twice(record: Record) -> None:
    letters = [arrived(record).letter_id for _ in range(12)]
    given: list[str | None] = []

    def work(own: list[int]) -> None:
        given.extend(file(record, i, Deed.REGISTER, shape=SHAPE).incoming for i in own)

    workers = [threading.Thread(target=work, args=(letters,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(given) == {f"{n}/2026" for n in range(1, 13)}
    assert sorted(r.seq for r in rows(record, schema.incoming)) == list(range(1, 13))


def test_a_number_of_the_registrys_own_is_kept_as_given_and_is_nobody_elses(record: Record) -> None:
    first, second, third = (arrived(record).letter_id for _ in range(3))
    assert file(record, first, Deed.REGISTER).bar is Bar.NUMBER
    assert file(record, first, Deed.REGISTER, number="بلا رقم").bar is Bar.NUMBER
    assert file(record, first, Deed.REGISTER, number="٥١٢ / 2026").incoming == "٥١٢ / 2026"
    for same in ("512", "0512", "2026/512"):
        assert file(record, second, Deed.REGISTER, number=same).bar is Bar.TAKEN, same
    assert file(record, second, Deed.REGISTER, number="512/2025").incoming == "512/2025"
    assert file(record, third, Deed.REGISTER, number="515").incoming == "515"
    with record.read() as conn:
        assert incoming.gaps(conn, CLERK, "MOH", 2026) == ((1, 511), (513, 514))
        assert incoming.gaps(conn, MOJ, "MOH", 2026) == ()
        found = incoming.found(conn, CLERK, "MOH", "512", 2026)
        assert [e.letter_id for e in found] == [first, second]
        assert [e.letter_id for e in incoming.found(conn, CLERK, "MOH", "512/2025", 2026)] == [second]
        assert incoming.found(conn, MOF, "MOH", "512", 2026) == ()
    assert file(record, third, Deed.REGISTER, number="516").bar is Bar.REGISTERED


def test_of_two_nodes_that_give_one_number_one_gives_it(
    record: Record, record_url: str, tmp_path: Path
) -> None:
    letters = [arrived(record).letter_id for _ in range(2)]
    with Archive(tmp_path / "archive") as archive:
        nodes = [record]
        if record.store.dialect != "sqlite":
            nodes.append(Record(Store(record_url), archive, record.ledger.key, zone="Asia/Amman", node=1))
        for number in range(10, 16):
            done: list[Filed] = []

            def give(node: Record, one: int, own: str, into: list[Filed]) -> None:
                into.append(file(node, one, Deed.REGISTER, number=own))

            pairs = zip([nodes[0], nodes[-1]], letters, strict=True)
            workers = [threading.Thread(target=give, args=(*pair, str(number), done)) for pair in pairs]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert sorted(str(d.bar) for d in done) == ["None", "taken"]
            letters = [arrived(record).letter_id for _ in range(2)]
        for node in nodes[1:]:
            node.close()


def test_who_lets_the_gateway_assign_from_now_on_goes_on_after_the_own_numbers(record: Record) -> None:
    first, second = arrived(record).letter_id, arrived(record).letter_id
    file(record, first, Deed.REGISTER, number="512")
    assert file(record, second, Deed.REGISTER, shape=SHAPE).incoming == "513/2026"


def test_the_course_of_a_letter(record: Record) -> None:
    one = arrived(record).letter_id
    assert file(record, one, Deed.REGISTER, shape=SHAPE).stage is Stage.REGISTERED
    referred = file(record, one, Deed.REFER, to="مديرية المشتريات", remark="للاطلاع السريع", shape=SHAPE)
    assert (referred.stage, referred.incoming) == (Stage.REFERRED, "1/2026")
    info = Purpose.INFORMATION
    assert file(record, one, Deed.REFER, to="المستشار القانوني", purpose=info).stage is Stage.REFERRED
    assert file(record, one, Deed.PROGRESS).stage is Stage.IN_PROGRESS
    assert file(record, one, Deed.PROGRESS).bar is Bar.SAME
    assert file(record, one, Deed.CLOSE, text="صرفت المخصصات").stage is Stage.CLOSED
    assert standing(record, one) == [(7, "closed")]
    assert file(record, one, Deed.CLOSE, text="x").bar is Bar.SAME
    assert file(record, one, Deed.RETURN, text="x").bar is Bar.ENDED
    assert file(record, one, Deed.REFER, to="x").bar is Bar.ENDED
    assert file(record, one, Deed.PROGRESS).stage is Stage.IN_PROGRESS
    assert standing(record, one) == [(7, "reopened")]
    assert file(record, one, Deed.RETURN, text="لا يخصنا").stage is Stage.RETURNED
    assert standing(record, one) == [(7, "returned")]
    course = ["registered", "referred", "referred", "in-progress", "processed", "in-progress", "returned"]
    assert events(record, one)[1:] == course
    assert receipts(record, one) == ["registered", "referred", "processed", "returned"]
    shown = entry(record, one)
    assert [(r.to, r.purpose, r.remark) for r in shown.referrals] == [
        ("مديرية المشتريات", "action", "للاطلاع السريع"),
        ("المستشار القانوني", "information", ""),
    ]
    assert (shown.referred_to, shown.note, shown.by) == ("مديرية المشتريات", "لا يخصنا", "رنا العبادي")


def test_what_stays_in_the_house_and_what_both_sides_read(record: Record) -> None:
    one = arrived(record, "diwan@moh.gov.example", "diwan@moj.gov.example").letter_id
    file(record, one, Deed.REFER, to="قسم أ", remark="سرّنا", shape=SHAPE)
    theirs = entry(record, one, MOF)
    assert (theirs.number, theirs.referred_to, theirs.referrals) == ("1/2026", "قسم أ", ())
    assert not theirs.may_act and entry(record, one).may_act
    with record.read() as conn:
        assert incoming.entry(conn, MOJ, one, "MOH") is None
        assert [e.agency for e in incoming.of_letter(conn, MOF, one)] == ["MOH"]
        assert [(e.agency, e.stage) for e in incoming.of_letter(conn, MOJ, one)] == [("MOJ", None)]
    assert "سرّنا" not in str([e.detail for e in rows(record, schema.evidence)])


def test_a_letter_is_registered_before_it_is_referred_or_closed(record: Record) -> None:
    closed, referred, returned, own = (arrived(record).letter_id for _ in range(4))
    assert file(record, closed, Deed.CLOSE, shape=SHAPE).incoming == "1/2026"
    assert events(record, closed)[1:] == ["registered", "processed"]
    assert receipts(record, closed) == ["processed"], "one message tells both"
    assert file(record, referred, Deed.REFER, to="قسم").incoming is None
    assert events(record, referred)[1:] == ["registered", "referred"]
    assert standing(record, referred) == [(6, "open")]
    assert file(record, referred, Deed.REGISTER, number="44").stage is Stage.REFERRED
    assert file(record, returned, Deed.RETURN, text="لا يخصنا", shape=SHAPE).incoming is None
    assert events(record, returned)[1:] == ["returned"]
    assert file(record, own, Deed.PROGRESS).incoming is None
    assert events(record, own)[1:] == ["in-progress"]


def test_an_act_counts_for_every_recipient_of_the_agency_and_tells_the_author_once(record: Record) -> None:
    to = ("minister@moh.gov.example", "diwan@moh.gov.example", "x@moj.gov.example")
    one = arrived(record, *to).letter_id
    file(record, one, Deed.REGISTER, shape=SHAPE)
    assert standing(record, one) == [(6, "open"), (6, "open"), (2, "open")]
    assert receipts(record, one) == ["registered"]
    assert len({e.delivery_id for e in evidence(record, one) if e.event == "registered"}) == 2


def test_what_waits_is_listed_oldest_first_and_leaves_the_list(record: Record) -> None:
    letters = [arrived(record).letter_id for _ in range(5)]
    arrived(record, "x@moj.gov.example")
    record.accept(letter(record))  # still on its way
    with record.read() as conn:
        page = incoming.waiting(conn, CLERK, "MOH", limit=3)
        assert [e.letter_id for e in page.entries] == letters[:3]
        rest = incoming.waiting(conn, CLERK, "MOH", limit=3, after=page.next)
        assert [e.letter_id for e in rest.entries] == letters[3:] and rest.next is None
        assert incoming.count_waiting(conn, CLERK) == 5
        assert incoming.waiting(conn, MOJ, "MOH").entries == ()
        assert incoming.count_waiting(conn, WHOLE) == 0
    file(record, letters[1], Deed.REGISTER, shape=SHAPE)
    file(record, letters[2], Deed.PROGRESS)
    file(record, letters[3], Deed.RETURN, text="x")
    with record.read() as conn:
        assert [e.letter_id for e in incoming.waiting(conn, CLERK, "MOH").entries] == [letters[0], letters[4]]
        under = incoming.taken(conn, CLERK, "MOH", stages=(Stage.REGISTERED, Stage.IN_PROGRESS))
        assert [e.letter_id for e in under.entries] == [letters[2], letters[1]]


def test_what_is_looked_for_all_the_time_goes_by_an_index(record: Record) -> None:
    if record.store.dialect != "sqlite":
        return
    with record.read() as conn:
        asked = incoming._untaken("MOH").order_by(schema.delivery.c.letter_id).limit(50)
        text = str(asked.compile(conn.engine, compile_kwargs={"literal_binds": True}))
        plan = str(conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all())
        due_text = str(link_work._due(1).compile(conn.engine, compile_kwargs={"literal_binds": True}))
        due_plan = str(conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {due_text}").all())
    assert "ix_delivery_untaken" in plan
    assert "ix_letter_link_open" in due_plan and "SCAN" not in due_plan


def observed(record: Record, letter_id: int, event: Event, folder: str, **more: Any) -> Filed:
    delivery = next(d.id for d in rows(record, schema.delivery) if d.letter_id == letter_id)
    note = Note(
        delivery_id=delivery,
        event=event,
        at_us=AT + HOUR,
        source="folder",
        detail={"mailbox": "diwan@moh.gov.example", "folder": folder, "text": folder, "by": "registry"},
    )
    deed = Deed.of(event)
    assert deed is not None
    return file(record, letter_id, deed, replace(CLERK, account=""), name="", observed=note, **more)


def test_a_folder_of_the_registry_takes_numbers_too(record: Record) -> None:
    one, own = arrived(record).letter_id, arrived(record).letter_id
    assert observed(record, one, Event.IN_PROGRESS, "قيد الإجراء", shape=SHAPE).incoming == "1/2026"
    assert events(record, one)[1:] == ["registered", "in-progress"]
    last = evidence(record, one)[-1]
    assert (last.source, last.reporter) == ("folder", "")
    assert last.detail["incoming_number"] == "1/2026" and "person" not in last.detail
    assert observed(record, one, Event.PROCESSED, "منجز", shape=SHAPE).stage is Stage.CLOSED
    again = observed(record, one, Event.PROCESSED, "منجز", shape=SHAPE)
    assert again.bar is None and standing(record, one) == [(7, "closed")], "recorded, and changes nothing"
    assert observed(record, own, Event.REGISTERED, "وارد").incoming is None
    assert events(record, own)[1:] == ["registered"]
    assert file(record, own, Deed.REGISTER, number="7").incoming == "7", "its number came later"
    assert entry(record, one).registered_by == ""


def answer(record: Record, first: Accepted, *to: str, sender: str = "MOH", **changes: Any) -> Accepted:
    values: dict[str, Any] = {"subject_number": first.number, "answer_effect": "closes"} | changes
    return record.accept(letter(record, *to or ("a@mof.gov.example",), sender=sender, **values))


def due(record: Record, **shapes: str) -> list[Filed]:
    return record.answer(AnswersDue(at_us=AT + 2 * HOUR, shapes=shapes))


def states(record: Record) -> list[str]:
    return [r.state for r in rows(record, schema.letter_link)]


def test_an_answer_closes_once_it_has_passed_through(record: Record) -> None:
    first = arrived(record)
    second = answer(record, first)
    row = next(r for r in rows(record, schema.letter) if r.id == second.letter_id)
    assert (row.answers, row.thread_id) == (first.letter_id, first.letter_id)
    assert due(record) == [] and states(record) == ["answer"]
    relay(record)
    (done,) = due(record, MOH=SHAPE)
    assert (done.stage, done.incoming, done.agency) == (Stage.CLOSED, "1/2026", "MOH")
    assert states(record) == ["done"] and due(record) == []
    assert standing(record, first.letter_id) == [(7, "closed")]
    last = evidence(record, first.letter_id)[-1]
    assert (last.source, last.event, last.detail["answer"]) == ("answer", "processed", second.number)
    assert receipts(record, first.letter_id) == ["processed"]
    assert entry(record, first.letter_id).answer == second.number
    third = answer(record, first)
    relay(record)
    due(record)
    assert evidence(record, first.letter_id)[-1].event == "linked"
    assert evidence(record, first.letter_id)[-1].detail["answer"] == third.number


@pytest.mark.parametrize(
    ("effect", "grade", "event"), [("advances", 6, "in-progress"), ("nothing", 2, "linked")]
)
def test_policy_says_what_an_answer_does(record: Record, effect: str, grade: int, event: str) -> None:
    first = arrived(record)
    answer(record, first, answer_effect=effect)
    relay(record)
    due(record)
    assert standing(record, first.letter_id) == [(grade, "open")]
    assert events(record, first.letter_id)[-1] == event


def test_an_answer_that_never_arrives_does_nothing(record: Record) -> None:
    first = arrived(record)
    answer(record, first)
    at = AT + 1
    (claim,) = record.claim(Want(owner="0/a", limit=9, now_us=at, lease_us=at + HOUR))
    end = AttemptEnd(attempt_id=claim.attempt_id, reply="550 5.1.1 no")
    record.note(Note(delivery_id=claim.delivery_id, event=Event.FAILED, at_us=at, attempt=end))
    assert due(record) == [] and states(record) == ["dropped"]
    assert standing(record, first.letter_id) == [(2, "open")]


def test_what_refers_to_a_letter_without_having_had_it_is_proposed(record: Record) -> None:
    first = arrived(record)
    other = answer(record, first, sender="MOJ")
    relay(record)
    due(record)
    row = next(r for r in rows(record, schema.letter) if r.id == other.letter_id)
    assert (row.answers, row.thread_id) == (None, other.letter_id)
    assert states(record) == ["proposed"] and standing(record, first.letter_id) == [(2, "open")]

    def say(person: Viewer, accept: bool = True) -> Any:
        word = LinkJudgement(
            letter_id=other.letter_id, to_id=first.letter_id, person=person, accept=accept, at_us=AT
        )
        return record.judge(word)

    assert say(MOJ).bar is Bar.UNKNOWN, "who wrote it cannot see what it names"
    assert say(CLERK).bar is Bar.UNKNOWN
    assert say(replace(MOF, role=Role.VIEWER)).bar is Bar.NOT_YOURS
    assert say(MOF).state is LinkState.CONFIRMED
    assert say(MOF, False).bar is Bar.SAME
    row = next(r for r in rows(record, schema.letter) if r.id == other.letter_id)
    assert (row.answers, row.thread_id) == (first.letter_id, first.letter_id)
    assert standing(record, first.letter_id) == [(2, "open")], "closing is the receiving registry's"
    assert "linked" in [e.event for e in rows(record, schema.evidence)]


def test_what_goes_on_to_others_follows_and_closes_nothing(record: Record) -> None:
    first = arrived(record)
    onward = answer(record, first, "x@moj.gov.example")
    own = answer(record, first, "diwan@moh.gov.example", sender="MOF")
    relay(record)
    assert due(record) == [] and states(record) == ["follows", "follows"]
    threads = {r.id: r.thread_id for r in rows(record, schema.letter)}
    assert threads[onward.letter_id] == threads[own.letter_id] == first.letter_id
    assert standing(record, first.letter_id) == [(2, "open")]


def test_one_letter_answers_several_by_text(record: Record) -> None:
    first, second = arrived(record), arrived(record)
    numbers = (first.number or "", second.number or "", "MOF/2026/999999")
    record.accept(
        letter(
            record, "a@mof.gov.example", sender="MOH", text_numbers=numbers, answer_effect="closes",
            references=("<nobody@x>",),
        )
    )  # fmt: skip
    relay(record)
    assert len(due(record)) == 2
    for one in (first, second):
        assert standing(record, one.letter_id) == [(7, "closed")]
    assert {r.how for r in rows(record, schema.letter_link)} == {"text"}


@pytest.mark.parametrize(
    ("text", "key", "year", "seq"),
    [
        ("512", "512", 2026, 512),
        ("٥١٢/٢٠٢٦", "512", 2026, 512),
        ("2025-77", "77", 2025, 77),
        ("و/12", "و 12", 2026, 12),
        ("12-3", "12 3", 2026, None),
        ("2026", "2026", 2026, 2026),
        ("99999999999", "99999999999", 2026, None),
    ],
)
def test_numbers_of_registries(text: str, key: str, year: int, seq: int | None) -> None:
    found = own_number(text, 2026)
    assert found is not None and (found.key, found.year, found.seq) == (key, year, seq)


@pytest.mark.parametrize("text", ["", "  ", "رقم", "\u202e", "5" * 61])
def test_no_numbers(text: str) -> None:
    assert own_number(text, 2026) is None
