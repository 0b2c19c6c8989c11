"""What a watched mailbox may claim of a letter, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from tests.records import HOUR, claim, letter
from tracker import schema, watch_lease, watch_positions
from tracker.evidence_kinds import evidence_kinds
from tracker.model import now_us
from tracker.noting import Note
from tracker.observing import arrivals, flag_changes
from tracker.record import Record
from tracker.sighting import Place, Seen
from tracker.states import Event
from tracker.watch_lease import WatchState
from tracker.watch_positions import Position
from tracker.watching import Found, find_delivery

ID = "<1@mof.gov.example>"


def post(record: Record, *to: str, message_id: str = ID, sent: bool = True) -> str:
    """Accept a letter from MOF and have it claimed; returns its number."""
    text = f"From: a@mof.gov.example\r\nMessage-ID: {message_id}\r\n\r\nhello\r\n".encode()
    accepted = record.accept(letter(record, *to, text=text, message_id=message_id))
    if sent:
        claim(record)
    assert accepted.number is not None
    return accepted.number


def found(record: Record, *claim: Any, **more: Any) -> Found | None:
    with record.read() as conn:
        return find_delivery(conn, *claim, **more)


def test_number_message_id_and_agency_must_all_agree(record: Record) -> None:
    number = post(record, "registry@moh.gov.example", "b@moe.gov.example")
    other = post(record, "registry@moh.gov.example", message_id="<2@mof.gov.example>")
    box = "Registry@MOH.gov.example"
    hit = found(record, "MOH", number, ID, box)
    assert hit is not None and hit.own and hit.recipient == "registry@moh.gov.example"
    assert hit.number == number
    assert found(record, "MOH", f" {number} ", f"{ID} ", box) == hit
    for wrong in (
        ("MOH", number, "<2@mof.gov.example>", box),
        ("MOH", other, ID, box),
        ("MOJ", number, ID, box),
        ("MOF", number, ID, "a@mof.gov.example"),
        ("MOH", "", ID, box),
        ("MOH", number, "", box),
        ("MOH", number + "\x00", ID, box),
        ("MOH", number, "<\ud800@x>", box),
        ("MOH", number * 1000, ID, box),
    ):
        assert found(record, *wrong) is None


def test_of_several_recipients_the_mailbox_says_which(record: Record) -> None:
    number = post(record, "registry@moh.gov.example", "minister@moh.gov.example", "info@moh.gov.example")
    for box in ("registry@moh.gov.example", "minister@moh.gov.example"):
        hit = found(record, "MOH", number, ID, box)
        assert hit is not None and hit.recipient == box and hit.own
    assert found(record, "MOH", number, ID, "archive@moh.gov.example") is None
    assert found(record, "MOH", number, ID, None) is None
    hit = found(record, "MOH", number, ID, "archive@moh.gov.example", also=("info@moh.gov.example",))
    assert hit is not None and hit.recipient == "info@moh.gov.example" and hit.own


def test_a_single_recipient_elsewhere_in_the_agency_is_found_and_said_to_be_another(record: Record) -> None:
    number = post(record, "ali@moh.gov.example")
    hit = found(record, "MOH", number, ID, "registry@moh.gov.example")
    assert hit is not None and not hit.own and hit.recipient == "ali@moh.gov.example"


def test_what_was_never_handed_over_is_in_no_mailbox(record: Record) -> None:
    number = post(record, "registry@moh.gov.example", sent=False)
    assert found(record, "MOH", number, ID, "registry@moh.gov.example") is None


PLACE = Place(
    agency="MOH",
    mailbox="registry@moh.gov.example",
    registry=True,
    server="mail.moh.gov.example",
    keywords=(("$Done", Event.PROCESSED), ("$Registered", Event.REGISTERED)),
)
WORK = replace(PLACE, folder="قيد الإجراء", event=Event.IN_PROGRESS)
DONE = replace(PLACE, folder="منجز", event=Event.PROCESSED)


def relayed(record: Record, *to: str, message_id: str = ID) -> str:
    """A letter whose attempt has ended well."""
    number = post(record, *to, message_id=message_id)
    with record.read() as conn:
        ids = list(conn.scalars(select(schema.delivery.c.id).where(schema.delivery.c.state == "sending")))
    for i in ids:
        record.note(Note(delivery_id=i, event=Event.RELAYED, at_us=now_us(), source="smtp"))
    return number


def seen(number: str, *flags: str, uid: int = 1, message_id: str = ID) -> Seen:
    return Seen(uid=uid, number=number, message_id=message_id, flags=frozenset(flags))


def look(record: Record, place: Place, *messages: Seen, here: frozenset[int] = frozenset()) -> list[str]:
    """See messages arrive, note what they prove and keep the position; returns the events."""
    with record.read() as conn:
        sightings, later = arrivals(conn, place, messages, now_us(), here)
    notes = [n for s in sightings for n in s.notes]
    for note in notes:
        record.note(note)
    position = Position(uidvalidity=1, uidnext=1 + max(m.uid for m in messages), modseq=9)
    record.write(lambda conn: watch_positions.keep(conn, place, position, sightings, now_us()))
    assert all(uid in [m.uid for m in messages] for uid in later)
    return [f"{n.event.value}/{n.source}" for n in notes]


def change(record: Record, place: Place, **flags: tuple[str, ...]) -> list[str]:
    """See flags of messages (``u1``, ``u2``) change."""
    with record.read() as conn:
        told = {int(name[1:]): frozenset(some) for name, some in flags.items()}
        sightings = flag_changes(conn, place, told, now_us())
    notes = [n for s in sightings for n in s.notes]
    for note in notes:
        record.note(note)
    position = Position(uidvalidity=1, uidnext=9)
    record.write(lambda conn: watch_positions.keep(conn, place, position, sightings, now_us()))
    return [f"{n.event.value}/{n.source}" for n in notes]


def test_arrival_hints_and_folders_are_noted_once(record: Record) -> None:
    number = relayed(record, "registry@moh.gov.example")
    assert look(record, PLACE, seen(number)) == ["delivered/imap"]
    assert look(record, PLACE, seen(number, uid=2)) == []
    assert change(record, PLACE, u1=("\\Seen", "\\Flagged")) == ["seen/imap"]
    assert change(record, PLACE, u1=("\\seen", "\\Answered")) == ["seen/imap"]
    assert change(record, PLACE, u1=(), u2=("\\Seen",)) == []
    assert change(record, PLACE, u1=("$done",)) == ["processed/keyword"]
    assert change(record, PLACE, u9=("\\Seen",)) == []
    assert look(record, WORK, seen(number, "\\Seen", "$Done")) == ["in-progress/folder"]
    assert look(record, WORK, seen(number, "\\Seen", "$Done", uid=7)) == []
    assert look(record, DONE, seen(number)) == ["processed/folder"]


def test_the_act_is_the_registrys_and_the_person_unknown(record: Record) -> None:
    number = relayed(record, "registry@moh.gov.example")
    look(record, DONE, seen(number))
    with record.read() as conn:
        e = schema.evidence.c
        rows = conn.execute(select(e.event, e.reporter, e.detail).where(e.source.in_(("imap", "folder"))))
        told = {r.event: (r.reporter, r.detail) for r in rows}
    assert told["delivered"][0] == "mail.moh.gov.example"
    assert told["processed"][0] == "" and told["processed"][1]["by"] == "registry"
    assert "person" not in told["processed"][1]


def test_another_recipients_letter_in_the_registry_proves_its_work_and_no_delivery(record: Record) -> None:
    number = relayed(record, "ali@moh.gov.example")
    assert look(record, PLACE, seen(number, "\\Seen")) == []
    assert change(record, PLACE, u1=("\\Seen", "\\Answered")) == []
    assert look(record, DONE, seen(number, "\\Seen")) == ["processed/folder"]
    other = relayed(record, "ali@moh.gov.example", message_id="<2@mof>")
    private = replace(DONE, registry=False, mailbox="omar@moh.gov.example")
    assert look(record, private, seen(other, message_id="<2@mof>")) == []


def test_a_claim_that_does_not_agree_raises_nothing(record: Record) -> None:
    number = relayed(record, "registry@moh.gov.example", "c@moe.gov.example")
    foreign = replace(PLACE, agency="MOE", mailbox="registry@moe.gov.example")
    assert look(record, PLACE, seen(number, message_id="<forged@x>")) == []
    assert look(record, PLACE, seen(number.replace("MOF", "MOJ"))) == []
    assert look(record, replace(PLACE, agency="MOJ"), seen(number)) == []
    assert look(record, foreign, seen(number)) == []
    with record.read() as conn:
        assert watch_positions.page(conn, PLACE.mailbox, "INBOX", 0, 10) == []


def test_an_attempt_under_way_is_waited_for(record: Record) -> None:
    number = post(record, "registry@moh.gov.example")
    with record.read() as conn:
        sightings, later = arrivals(conn, PLACE, [seen(number, uid=4)], now_us())
    assert (sightings, later) == ([], [4])


def test_what_lay_there_before_a_renumbering_is_no_news(record: Record) -> None:
    number = relayed(record, "registry@moh.gov.example")
    assert look(record, WORK, seen(number)) == ["delivered/imap", "in-progress/folder"]
    assert look(record, DONE, seen(number)) == ["processed/folder"]  # a copy: it lies in both
    with record.read() as conn:
        here = watch_positions.deliveries_in(conn, WORK.mailbox, WORK.folder)
    record.write(lambda conn: watch_positions.restart(conn, WORK.mailbox, WORK.folder))
    assert look(record, WORK, seen(number, uid=50), here=here) == []


def test_positions_are_kept_and_forgotten(record: Record) -> None:
    number = relayed(record, "registry@moh.gov.example")
    look(record, PLACE, seen(number, "\\Seen", "$Label1", uid=5))
    with record.read() as conn:
        assert watch_positions.positions(conn, PLACE.mailbox) == {
            "INBOX": Position(uidvalidity=1, uidnext=6, modseq=9)
        }
        kept = watch_positions.ours(conn, PLACE.mailbox, "INBOX", [1, 5, 9])
        assert list(kept) == [5] and kept[5].flags == "\\Seen"
        assert watch_positions.page(conn, PLACE.mailbox, "INBOX", 0, 10) == [5]
        assert watch_positions.page(conn, PLACE.mailbox, "INBOX", 5, 10) == []
        assert watch_positions.counts(conn)[PLACE.mailbox, "INBOX"][0] == 1
    record.write(lambda conn: watch_positions.vanished(conn, PLACE.mailbox, "INBOX", [(1, 4), (6, 9)]))
    with record.read() as conn:
        assert watch_positions.page(conn, PLACE.mailbox, "INBOX", 0, 10) == [5]
    record.write(lambda conn: watch_positions.vanished(conn, PLACE.mailbox, "INBOX", [(5, 5)]))
    with record.read() as conn:
        assert watch_positions.page(conn, PLACE.mailbox, "INBOX", 0, 10) == []


def test_a_lease_is_one_nodes_until_it_ends(record: Record) -> None:
    boxes = {"a@moh.gov.example": "MOH", "b@moh.gov.example": "MOH"}

    def take(owner: str, now: int, until: int, **wanted: str) -> frozenset[str]:
        return record.write(lambda c: watch_lease.take(c, wanted or boxes, owner, now, until))

    assert take("1/x", 100, 200) == frozenset(boxes)
    assert take("2/y", 150, 250) == frozenset()
    assert take("1/x", 150, 260) == frozenset(boxes)  # prolonged
    assert take("2/y", 259, 300) == frozenset()
    assert take("1/z", 200, 270) == frozenset(boxes)  # an earlier life of the same node
    assert take("11/q", 200, 270) == frozenset()  # node 11 is not node 1
    assert take("2/y", 271, 400) == frozenset(boxes)
    state = WatchState(
        mailbox="a@moh.gov.example", agency="MOH", state="watching", note="x" * 900, changed_us=5, seen_us=6
    )
    record.write(lambda c: watch_lease.report(c, [state], "1/x"))  # no longer its own
    with record.read() as conn:
        assert watch_lease.states(conn)["a@moh.gov.example"].state == ""
    record.write(lambda c: watch_lease.report(c, [state], "2/y"))
    with record.read() as conn:
        told = watch_lease.states(conn)["a@moh.gov.example"]
    assert (told.state, len(told.note), told.seen_us) == ("watching", 500, 6)
    record.write(lambda c: watch_lease.release(c, list(boxes), "2/y"))
    assert take("3/w", 272, 500) == frozenset(boxes)


def test_kinds_of_evidence_are_counted_per_agency(record: Record) -> None:
    numbers = [
        relayed(record, "registry@moh.gov.example", "c@moe.gov.example", message_id=f"<{i}@mof>")
        for i in range(3)
    ]
    for i, number in enumerate(numbers[:2]):
        look(record, DONE, seen(number, "\\Seen", uid=i + 1, message_id=f"<{i}@mof>"))
    with record.read() as conn:
        d = schema.delivery.c
        to_moe = list(conn.scalars(select(d.id).where(d.agency == "MOE")))
    for event, source in ((Event.READ, "mdn"), (Event.READ, "mdn"), (Event.AUTO_REPLY, "mdn")):
        record.note(Note(delivery_id=to_moe[0], event=event, at_us=77, source=source))
    with record.read() as conn:
        told = {(k.agency, k.kind.value): (k.deliveries, k.of) for k in evidence_kinds(conn)}
        assert {k.agency for k in evidence_kinds(conn, agency="MOE")} == {"MOE"}
        assert evidence_kinds(conn, now_us() + HOUR) == []
        last = {(k.agency, k.kind.value): k.last_us for k in evidence_kinds(conn)}
    assert told[("MOH", "watch")] == (2, 3) and told[("MOH", "registry")] == (2, 3)
    assert told[("MOE", "mdn")] == (1, 3) and last[("MOE", "mdn")] == 77
    assert told[("MOH", "mdn")] == (0, 3) and last[("MOH", "mdn")] is None
