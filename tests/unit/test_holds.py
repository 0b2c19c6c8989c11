"""Holds through the record's doors, on both databases: who may decide, two persons, expiry, what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from gateway.crossing import Crossing
from gateway.holding import HoldClock
from gateway.refusals import Refusals
from gateway.retry import RetrySchedule
from tracker import holds, schema
from tracker.acceptance import Acceptance, DeliveryDraft, HoldDraft
from tracker.access import Role, Viewer
from tracker.archive import Octets
from tracker.claims import Claim, Want
from tracker.hold_desk import Decided, Decision, Expiry
from tracker.holds import Act, Bar, Hold, HoldState
from tracker.model import (
    Address,
    Connection,
    DeliveryKind,
    Door,
    Envelope,
    LetterKind,
    Recipient,
    id_text,
    now_us,
)
from tracker.queue import Act as QueueAct
from tracker.queue import act
from tracker.record import Record
from tracker.states import State

HOUR = 3600 * 1_000_000
ASKS = ("submitted", "held", "refused", "delivered", "relayed", "failed")

ADMIN = Viewer(account="root-admin", role=Role.ADMIN)
WHOLE = Viewer(account="salma", role=Role.COMPLIANCE)
OTHER = Viewer(account="omar", role=Role.COMPLIANCE)
MOF_COMPLIANCE = Viewer(account="huda", role=Role.COMPLIANCE, agency="MOF")
MOF_VIEWER = Viewer(account="looker", role=Role.VIEWER, agency="MOF")
MOH_COMPLIANCE = Viewer(account="zaid", role=Role.COMPLIANCE, agency="MOH")
MOJ_REGISTRY = Viewer(account="rami", role=Role.REGISTRY, agency="MOJ")


def held(
    record: Record,
    *to: str,
    approvers: Sequence[str] = ("compliance",),
    needs: int = 1,
    expires_us: int | None = None,
    at_expiry: str = "refuse",
    kind: DeliveryKind = DeliveryKind.LETTER,
    sender: str = "author@mof.gov.example",
    name: str = "1",
) -> Acceptance:
    """A letter of MOF's that a rule holds for all its recipients; not yet accepted."""
    octets = Octets.of(f"From: {sender}\r\nMessage-ID: <{name}@mof>\r\n\r\nhello {name}\r\n".encode())
    recipients = tuple(Recipient(address=Address.parse(t)) for t in to or ("b@moh.gov.example",))
    at = now_us()
    letter = kind is DeliveryKind.LETTER
    return Acceptance(
        submission_id=record.ids.next(),
        kind=LetterKind.LETTER if letter else LetterKind.PASS,
        peer=Connection(door=Door.RELAY, peer="192.0.2.1", agency="MOF"),
        envelope=Envelope(sender=Address.parse(sender), recipients=recipients),
        octets=octets,
        at_us=at,
        expires_us=at + HOUR,
        agency="MOF",
        author=sender if letter else "",
        subject="كتاب" if letter else "",
        message_id=f"<{name}@mof>",
        digest=octets.sha256,
        number_shape="{agency}/{year}/{seq:06d}" if letter else None,
        hits=("secret-out",),
        deliveries=tuple(
            DeliveryDraft(
                recipient=r,
                kind=kind,
                agency="MOH",
                hop="MOH",
                state=State.HELD,
                asks=ASKS,
                reason={"rule": "secret-out", "reply": "", "ar": "سري", "en": "secret"},
                hold=HoldDraft(
                    rule="secret-out",
                    ar="سري",
                    en="secret",
                    approvers=tuple(approvers),
                    needs=needs,
                    expires_us=expires_us,
                    at_expiry=at_expiry,
                ),
            )
            for r in recipients
        ),
    )


def one_hold(record: Record, **terms: Any) -> Hold:
    record.accept(held(record, **terms))
    with record.read() as conn:
        found = holds.open_holds(conn, WHOLE).holds
    return found[-1]


def decide(
    record: Record, hold_id: int, person: Viewer, what: Act = Act.RELEASE, note: str | None = None
) -> Decided:
    at = now_us()
    decision = Decision(
        hold_id=hold_id,
        person=person,
        act=what,
        at_us=at,
        expires_us=at + 120 * HOUR,
        note=note if note is not None else "not as it is" if what is Act.REFUSE else "",
    )
    return record.decide([decision])[0]


def expire(record: Record, expiry: Expiry) -> list[Decided]:
    ended: list[Decided] = record.writer.call(record.hold_desk, expiry)
    return ended


def page(record: Record, hold_id: int, viewer: Viewer = ADMIN) -> Hold:
    with record.read() as conn:
        found = holds.hold_page(conn, viewer, hold_id)
    assert found is not None
    return found


def rows(record: Record, table: Any) -> list[Any]:
    with record.read() as conn:
        return list(conn.execute(select(table).order_by(*table.primary_key.columns)))


def events(record: Record) -> list[str]:
    return [e.event for e in rows(record, schema.evidence)]


def claim(record: Record) -> list[Claim]:
    at = now_us()
    return record.claim(Want(owner="0/a", limit=100, now_us=at, lease_us=at + HOUR))


def whole(record: Record) -> None:
    """The ledger verifies against every evidence row and every archived object."""
    from tracker.audit_ledger import verify_store

    record.checkpoint()
    with record.read() as conn:
        assert not verify_store(conn, record.archive, record.ledger.key.vkey, lambda done, of: None)


def test_a_held_letter_has_a_number_and_waits(record: Record) -> None:
    one = one_hold(record)
    assert one.number is not None and one.number.endswith("/000001")
    assert (one.state, one.given, one.needs, one.bar) == (HoldState.OPEN, 0, 1, None)
    assert claim(record) == []
    assert sorted(events(record)) == ["held", "submitted"]
    assert [(r.rule, r.shadow) for r in rows(record, schema.rule_hit)] == [("secret-out", False)]
    assert sorted(r.kind for r in rows(record, schema.receipt)) == ["held", "submitted"]
    whole(record)


def test_one_person_releases_and_it_goes_out(record: Record) -> None:
    one = one_hold(record)
    done = decide(record, one.id, WHOLE, note="checked")
    assert (done.state, done.released, done.bar) == (HoldState.RELEASED, True, None)
    (claimed,) = claim(record)
    assert claimed.delivery_id == one.delivery_id
    assert claimed.expires_us > now_us() + 100 * HOUR  # it waited here: the time of trying begins now
    told = rows(record, schema.evidence)[-1]
    assert (told.event, told.source, told.reporter) == ("released", "person", "salma")
    assert told.detail["person"] == "salma" and told.detail["note"] == "checked"
    kept = page(record, one.id)
    assert [(a.account, a.act, a.note) for a in kept.approvals] == [("salma", Act.RELEASE, "checked")]
    assert kept.bar is Bar.DECIDED and kept.decided_us is not None
    whole(record)


def test_two_different_persons_are_needed_and_each_act_is_evidence(record: Record) -> None:
    one = one_hold(record, needs=2)
    first = decide(record, one.id, WHOLE)
    assert (first.state, first.given, first.released) == (HoldState.OPEN, 1, False)
    assert claim(record) == []
    assert decide(record, one.id, WHOLE).bar is Bar.TWICE
    console = Viewer(account="console:salma (as root)", role=Role.ADMIN)
    assert decide(record, one.id, console).bar is Bar.TWICE
    second = decide(record, one.id, OTHER)
    assert (second.state, second.given, second.released) == (HoldState.RELEASED, 2, True)
    assert events(record)[-2:] == ["approved", "released"]
    assert rows(record, schema.evidence)[-1].detail["persons"] == ["salma", "omar"]
    assert len(claim(record)) == 1
    assert decide(record, one.id, ADMIN).bar is Bar.DECIDED
    whole(record)


def test_a_refusal_says_why(record: Record) -> None:
    one = one_hold(record)
    assert decide(record, one.id, WHOLE, Act.REFUSE, " \n").bar is holds.Bar.REASON
    assert page(record, one.id).state is HoldState.OPEN and not page(record, one.id).approvals
    assert decide(record, one.id, WHOLE, Act.REFUSE, "the annex is missing").bar is None


def test_a_refusal_decides_whatever_was_approved(record: Record) -> None:
    one = one_hold(record, needs=2)
    decide(record, one.id, WHOLE)
    done = decide(record, one.id, WHOLE, Act.REFUSE, "thought better of it")
    assert done.state is HoldState.REFUSED and not done.released
    assert claim(record) == []
    (delivery,) = rows(record, schema.delivery)
    assert (delivery.state, delivery.outcome, delivery.grade) == ("refused", "failed", 1)
    told = rows(record, schema.evidence)[-1]
    assert (told.event, told.detail["status"], told.detail["en"]) == ("refused", "5.7.1", "secret")
    assert [r.kind for r in rows(record, schema.receipt)].count("refused") == 1
    assert [a.act for a in page(record, one.id).approvals] == [Act.REFUSE]
    (letter,) = rows(record, schema.letter)
    assert letter.number == one.number  # the number stays taken
    whole(record)


@pytest.mark.parametrize(
    ("approvers", "person", "bar"),
    [
        (("compliance",), MOF_COMPLIANCE, None),  # at the sender's end
        (("compliance",), MOH_COMPLIANCE, Bar.UNKNOWN),  # another agency's letters are not known to it
        (("compliance",), ADMIN, Bar.NOT_APPROVER),
        (("admin",), ADMIN, None),
        (("MOH",), MOH_COMPLIANCE, None),  # named by the rule
        (("moj",), MOJ_REGISTRY, None),
        (("MOF",), MOF_VIEWER, Bar.NOT_APPROVER),  # looks and decides nothing
        (("looker",), MOF_VIEWER, None),  # named as a person
        (("rami",), MOJ_REGISTRY, None),
        (("registry",), MOJ_REGISTRY, Bar.UNKNOWN),
        (("admin",), Viewer(account="console:root", role=Role.ADMIN), None),
        (("compliance",), Viewer(account="console:root", role=Role.ADMIN), None),
        (("MOH",), Viewer(account="console:root", role=Role.ADMIN), Bar.NOT_APPROVER),
        (("admin", "author"), Viewer(account="author", role=Role.ADMIN), Bar.AUTHOR),
        (("admin",), Viewer(account="author@mof.gov.example", role=Role.ADMIN), Bar.AUTHOR),
        (("author",), Viewer(account="author", role=Role.REGISTRY, agency="MOH"), None),  # of the same name
    ],
)
def test_who_may_decide(record: Record, approvers: Sequence[str], person: Viewer, bar: Bar | None) -> None:
    one = one_hold(record, approvers=approvers)
    with record.read() as conn:
        listed = holds.open_holds(conn, person).holds
        mine = holds.open_holds(conn, person, mine=True).holds
        seen = holds.hold_page(conn, person, one.id)
        counted = holds.count_open(conn, person)
    assert bool(listed) == (bar is not Bar.UNKNOWN) == (seen is not None)
    assert [h.bar for h in listed] == ([] if bar is Bar.UNKNOWN else [bar])
    assert bool(mine) == (bar is None)
    assert holds.bar_of(page(record, one.id), person) is bar  # the same without the list's own condition
    assert counted >= len(listed)
    assert decide(record, one.id, person).bar is bar
    assert len(claim(record)) == (bar is None)


def test_the_list_goes_page_by_page(record: Record) -> None:
    for n in range(5):
        record.accept(held(record, name=str(n)))
    with record.read() as conn:
        first = holds.open_holds(conn, MOF_COMPLIANCE, limit=2)
        second = holds.open_holds(conn, MOF_COMPLIANCE, limit=2, after=first.next)
        third = holds.open_holds(conn, MOF_COMPLIANCE, limit=2, after=second.next)
        assert holds.count_open(conn, MOF_COMPLIANCE) == 5
        assert holds.count_open(conn, MOH_COMPLIANCE) == 0
        assert holds.open_holds(conn, WHOLE, rule="another").holds == ()
    assert [len(p.holds) for p in (first, second, third)] == [2, 2, 1]
    assert third.next is None
    assert len({h.id for p in (first, second, third) for h in p.holds}) == 5


def test_many_are_decided_at_once_and_one_that_cannot_be_stops_no_other(record: Record) -> None:
    for n in range(4):
        record.accept(held(record, name=str(n)))
    with record.read() as conn:
        ids = [h.id for h in holds.open_holds(conn, WHOLE).holds]
    at = now_us()
    asked = [
        Decision(hold_id=i, person=WHOLE, act=Act.RELEASE, at_us=at, expires_us=at + HOUR)
        for i in (*ids, 12345)
    ]
    done = record.decide(asked)
    assert [d.bar for d in done] == [None] * 4 + [Bar.UNKNOWN]
    assert len(claim(record)) == 4
    whole(record)


def test_open_pages_are_told_what_time_decided(record: Record) -> None:
    one = one_hold(record, expires_us=now_us() - 1)
    told = record.subscribe()
    schedule = RetrySchedule(
        waits=(timedelta(minutes=1),),
        jitter=0,
        warn_after=timedelta(hours=4),
        give_up_after=timedelta(days=5),
    )

    async def look() -> int:
        return await HoldClock(Crossing(record), schedule, None, Refusals()).look()

    assert asyncio.run(look()) == 1
    assert told.get(timeout=60) == one.letter_id


@pytest.mark.parametrize(
    ("then", "state", "event"), [("release", "queued", "released"), ("refuse", "refused", "refused")]
)
def test_what_nobody_decides_in_time(record: Record, then: str, state: str, event: str) -> None:
    at = now_us()
    one = one_hold(record, expires_us=at + 10 * HOUR, at_expiry=then)
    with record.read() as conn:
        assert not holds.any_due(conn, at)
        assert holds.any_due(conn, at + 11 * HOUR)
    assert expire(record, Expiry(at_us=at, expires_us=at)) == []
    (done,) = expire(record, Expiry(at_us=at + 11 * HOUR, expires_us=at + 99 * HOUR))
    assert (done.hold_id, done.state, done.released) == (one.id, HoldState.EXPIRED, then == "release")
    assert expire(record, Expiry(at_us=at + 12 * HOUR, expires_us=at)) == []
    (delivery,) = rows(record, schema.delivery)
    assert delivery.state == state
    told = rows(record, schema.evidence)[-1]
    assert (told.event, told.source, told.detail["expired"]) == (event, "timer", True)
    assert decide(record, one.id, WHOLE).bar is Bar.DECIDED
    whole(record)


@pytest.mark.parametrize("what", [QueueAct.RELEASE, QueueAct.CANCEL, QueueAct.REQUEUE])
def test_the_queue_is_no_way_around_the_approvers(record: Record, what: QueueAct) -> None:
    one = one_hold(record)
    (done,) = act(record, what, [id_text(one.delivery_id)], "root", now_us() + HOUR)
    assert "secret-out" in done.error and "wasl hold" in done.error
    assert page(record, one.id).state is HoldState.OPEN
    assert claim(record) == []


def test_what_an_administrator_holds_himself_he_releases(record: Record) -> None:
    a = held(record)
    a = replace(a, deliveries=tuple(replace(d, state=State.QUEUED, hold=None) for d in a.deliveries))
    record.accept(a)
    (delivery,) = rows(record, schema.delivery)
    act(record, QueueAct.HOLD, [id_text(delivery.id)], "root", 0)
    (done,) = act(record, QueueAct.RELEASE, [id_text(delivery.id)], "root", 0)
    assert (done.state, done.error) == ("queued", "")


def test_held_mail_that_is_no_letter_shows_addresses_only_and_to_those_who_see_all(record: Record) -> None:
    record.accept(held(record, kind=DeliveryKind.PASS, approvers=("compliance", "MOF")))
    with record.read() as conn:
        (one,) = holds.open_holds(conn, WHOLE).holds
        assert (one.subject, one.author, one.number) == ("", "", None)
    decide(record, one.id, WHOLE, Act.REFUSE)
    assert events(record) == []
    assert [r.kind for r in rows(record, schema.receipt)] == ["held", "refused"]


def test_two_recipients_are_held_and_decided_apart(record: Record) -> None:
    record.accept(held(record, "b@moh.gov.example", "c@moh.gov.example"))
    with record.read() as conn:
        first, second = holds.open_holds(conn, WHOLE).holds
        assert holds.ids_of(conn, [first.delivery_id, second.delivery_id]) == [first.id, second.id]
        assert holds.meant(conn, second.delivery_id) == holds.meant(conn, second.id) == second.id
        assert len(holds.of_letter(conn, MOF_COMPLIANCE, first.letter_id)) == 2
    decide(record, first.id, WHOLE)
    decide(record, second.id, WHOLE, Act.REFUSE)
    assert {d.recipient: d.state for d in rows(record, schema.delivery)} == {
        first.recipient: "queued",
        second.recipient: "refused",
    }


def test_a_letter_repeated_by_its_server_is_held_once(record: Record) -> None:
    a = held(record)
    record.accept(a)
    record.accept(replace(a, submission_id=record.ids.next()))
    assert len(rows(record, schema.hold)) == 1
