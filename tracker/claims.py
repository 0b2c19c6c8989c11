"""Claiming what is due: leases, so that several processes and nodes can share the work.

A claim takes a delivery from *queued* to *sending* and registers the attempt before it is made.
A lease that has run out, or that an earlier life of this node held, is claimed again; the attempt
it left open has no known end and is recorded as in doubt. There is no start-up special case.
On PostgreSQL rows are taken with FOR UPDATE SKIP LOCKED; on SQLite the one writer is the lock.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from tracker import schema
from tracker.archive import Octets
from tracker.attempt_lease import Lease
from tracker.doubtful import DoubtfulAttempts
from tracker.evidence import EvidenceBook, Proof, evidence_row
from tracker.model import Address, DeliveryKind, Door, IdSource, LetterKind, id_text
from tracker.states import Event, State
from tracker.writer import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What the deliveries of one mail transaction share: its envelope, its origin, its octets."""

    letter_id: int
    submission_id: int
    letter_kind: LetterKind
    number: str | None
    agency: str | None
    author: str
    message_id: str | None
    classification: str
    urgency: str
    letter_due_us: int | None
    at_us: int
    door: Door
    peer: str
    helo: str
    tls: str | None
    account: str | None
    sender: Address
    ret: str | None
    envid: str | None
    body: str
    smtputf8: bool
    requiretls: bool
    size: int
    sha256: bytes
    archive_key: str
    facts: dict[str, Any]
    octets: Octets | None  # still in memory, when the letter is handed over at once
    wire_id: str  # as logs and Received show it


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One delivery taken for sending, its attempt registered."""

    delivery_id: int
    attempt_id: int
    kind: DeliveryKind
    recipient: Address
    agency: str | None
    notify: str | None
    orcpt: str | None
    hop: str
    attempts: int  # this one included
    expires_us: int
    warned_us: int | None
    tag: bool
    subject_tag: bool
    sign: bool
    require_tls: bool
    in_doubt: bool  # how an earlier attempt ended is not known: it may have delivered
    due_us: int
    parcel: Parcel
    tried_us: int = 0  # how long it has really been tried, once it has expired; see Want.silence_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """How much a relay asks for."""

    owner: str  # node/incarnation
    limit: int
    now_us: int
    lease_us: int = 0  # until when; a relay gives a lease instead
    lease: Lease | None = None  # None: until lease_us, and what ended before now is lost
    full_hops: tuple[str, ...] = ()
    latest_us: int | None = None  # no wait ends later: what is due after this, a clock ahead put there
    silence_us: int = 0  # of a time without an attempt, so much counts as time of trying


class ClaimDesk(Desk):
    """Takes due deliveries."""

    order = 3

    def __init__(self, book: EvidenceBook, ids: IdSource, doubtful: DoubtfulAttempts | None = None) -> None:
        self._book = book
        self._ids = ids
        self._doubtful = doubtful if doubtful is not None else DoubtfulAttempts()

    def inside(self, conn: Connection, payloads: Sequence[Want]) -> list[list[Claim]]:
        self._doubtful.give_back(conn)
        return [self._claim(conn, want) for want in payloads]

    def after(self, payloads: Sequence[Want], results: list[list[Claim]]) -> None:
        self._doubtful.committed()

    def doubted(self) -> None:
        self._doubtful.doubted()

    def failed(self) -> None:
        self._doubtful.rolled_back()
        self._book.forget()

    def _claim(self, conn: Connection, want: Want) -> list[Claim]:
        d = schema.delivery.c
        node = want.owner.partition("/")[0]
        clock_us, until_us = want.now_us, want.lease_us
        if want.lease is not None:
            clock_us = want.lease.clock_us(conn)
            until_us = clock_us + want.lease.length_us
        if want.latest_us is not None:
            self._bring_back(conn, want.now_us, want.latest_us)
        free = or_(
            d.lease_us.is_(None),
            d.lease_us < clock_us,
            and_(d.lease_owner.startswith(f"{node}/", autoescape=True), d.lease_owner != want.owner),
        )
        # What was held and released, or cancelled and queued again, while an attempt ran: its end is awaited.
        due = select(d.id, d.lease_us).where(d.state == State.QUEUED.value, d.next_us <= want.now_us, free)
        if want.full_hops:
            due = due.where(d.hop.not_in(want.full_hops))
        due = due.order_by(d.next_us).limit(want.limit)
        lost = select(d.id).where(d.state == State.SENDING.value, free).limit(want.limit)
        if conn.dialect.name != "sqlite":
            due = due.with_for_update(skip_locked=True)
            lost = lost.with_for_update(skip_locked=True)
        lost_ids = list(conn.execute(lost).scalars())
        found = conn.execute(due).all() if len(lost_ids) < want.limit else []
        lost_ids += [row.id for row in found if row.lease_us is not None]
        ids = lost_ids + [row.id for row in found if row.lease_us is None]
        if not ids:
            return []
        conn.execute(
            update(schema.delivery)
            .where(d.id == bindparam("b_id"))
            .values(
                state=State.SENDING.value,
                lease_owner=want.owner,
                lease_us=until_us,
                attempts=d.attempts + 1,
            ),
            [{"b_id": i} for i in ids],
        )
        claims = _load(conn, ids, self._ids, doubtful=_in_doubt(conn, ids) | set(lost_ids))
        claims = _tried(conn, claims, want)
        conn.execute(
            insert(schema.attempt),
            [
                {
                    "id": c.attempt_id,
                    "delivery_id": c.delivery_id,
                    "started_us": want.now_us,
                    "owner": want.owner,
                    "hop": c.hop,
                }
                for c in claims
            ],
        )
        self._doubtful.wrote([c.attempt_id for c in claims])
        if lost_ids:
            lost_now = frozenset(lost_ids)
            self._doubt(conn, [c for c in claims if c.delivery_id in lost_now], want)
        return claims

    def _bring_back(self, conn: Connection, now_us: int, latest_us: int) -> None:
        """Make due what a clock that was days ahead has put off beyond every wait."""
        d = schema.delivery.c
        astray = select(d.id).where(d.state == State.QUEUED.value, d.next_us > latest_us)
        if conn.dialect.name != "sqlite":
            astray = astray.with_for_update(skip_locked=True)
        ids = list(conn.execute(astray).scalars())
        if ids:
            conn.execute(
                update(schema.delivery).where(d.id == bindparam("b_id")).values(next_us=now_us),
                [{"b_id": i} for i in ids],
            )

    def _doubt(self, conn: Connection, claims: list[Claim], want: Want) -> None:
        """Close the attempts that nobody ended and say so in the record."""
        a = schema.attempt.c
        conn.execute(
            update(schema.attempt)
            .where(a.delivery_id == bindparam("b_id"), a.ended_us.is_(None), a.id != bindparam("b_new"))
            .values(ended_us=want.now_us, result=Event.IN_DOUBT.value),
            [{"b_id": c.delivery_id, "b_new": c.attempt_id} for c in claims],
        )
        proofs = [
            Proof(
                evidence_row(
                    id=self._ids.next(),
                    letter_id=c.parcel.letter_id,
                    delivery_id=c.delivery_id,
                    event=Event.IN_DOUBT.value,
                    grade=0,
                    at_us=want.now_us,
                    noted_us=want.now_us,
                    detail={"hop": c.hop, "why": "the attempt was begun and its end was never noted"},
                )
            )
            for c in claims
            if c.kind in (DeliveryKind.LETTER, DeliveryKind.SHADOW)
        ]
        self._book.write(proofs)


def renew(conn: Connection, owner: str, delivery_ids: Sequence[int], lease: Lease) -> int:
    """Prolong the leases that ``owner`` still holds on these deliveries by a new ``lease``; how many."""
    d = schema.delivery.c
    until_us = lease.until_us(conn)
    renewed = 0
    for at in range(0, len(delivery_ids), 500):
        renewed += conn.execute(
            update(schema.delivery)
            .where(
                d.id.in_(delivery_ids[at : at + 500]),
                d.lease_owner == owner,
            )
            .values(lease_us=until_us)
        ).rowcount
    return renewed


def _tried(conn: Connection, claims: list[Claim], want: Want) -> list[Claim]:
    """Of what has expired by the clock of the day, how long it was really tried."""
    expired = [c.delivery_id for c in claims if c.expires_us <= want.now_us]
    if not expired:
        return claims
    a = schema.attempt.c
    begun: dict[int, list[int]] = {}
    asked = select(a.delivery_id, a.started_us).where(a.delivery_id.in_(expired)).order_by(a.id)
    for delivery_id, started_us in conn.execute(asked):
        begun.setdefault(delivery_id, []).append(started_us)
    return [
        replace(
            c, tried_us=_sum([c.parcel.at_us, *begun.get(c.delivery_id, ()), want.now_us], want.silence_us)
        )
        if c.expires_us <= want.now_us
        else c
        for c in claims
    ]


def _sum(times: Sequence[int], most: int) -> int:
    """The time from the first to the last, in which no step counts more than ``most`` and none backwards."""
    return sum(min(max(after - before, 0), most) for before, after in pairwise(times))


def _in_doubt(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Those of whom an earlier attempt may have delivered after all."""
    a = schema.attempt.c
    doubt = select(a.delivery_id).where(a.delivery_id.in_(ids), a.result == Event.IN_DOUBT.value)
    return set(conn.execute(doubt).scalars())


def _load(conn: Connection, ids: Sequence[int], source: IdSource, doubtful: Set[int]) -> list[Claim]:
    d, s, l = schema.delivery.c, schema.submission.c, schema.letter.c  # noqa: E741
    rows = conn.execute(
        select(
            d.id,
            d.kind,
            d.recipient,
            d.agency,
            d.notify,
            d.orcpt,
            d.hop,
            d.attempts,
            d.expires_us,
            d.warned_us,
            d.tag,
            d.subject_tag,
            d.sign,
            d.require_tls,
            d.next_us,
            l.id.label("letter_id"),
            l.kind.label("letter_kind"),
            l.number,
            l.agency.label("letter_agency"),
            l.author,
            l.message_id,
            l.classification,
            l.urgency,
            l.due_us.label("letter_due_us"),
            s.id.label("submission_id"),
            s.at_us,
            s.door,
            s.peer,
            s.helo,
            s.tls,
            s.account,
            s.sender,
            s.ret,
            s.envid,
            s.body,
            s.smtputf8,
            s.requiretls,
            s.size,
            s.sha256,
            s.archive_key,
            s.facts,
        )
        .join(schema.submission, s.id == d.submission_id)
        .join(schema.letter, l.id == d.letter_id)
        .where(d.id.in_(ids))
    ).all()
    place = {value: n for n, value in enumerate(ids)}
    parcels: dict[int, Parcel] = {}
    claims = []
    for row in sorted(rows, key=lambda row: place[row.id]):
        parcel = parcels.get(row.submission_id)
        if parcel is None:
            parcel = parcels[row.submission_id] = _parcel(row)
        claims.append(
            Claim(
                delivery_id=row.id,
                attempt_id=source.next(),
                kind=DeliveryKind(row.kind),
                recipient=Address.recorded(row.recipient),
                agency=row.agency,
                notify=row.notify,
                orcpt=row.orcpt,
                hop=row.hop,
                attempts=row.attempts,
                expires_us=row.expires_us,
                warned_us=row.warned_us,
                tag=row.tag,
                subject_tag=row.subject_tag,
                sign=row.sign,
                require_tls=row.require_tls,
                in_doubt=row.id in doubtful,
                due_us=row.next_us,
                parcel=parcel,
            )
        )
    return claims


def _parcel(row: Any) -> Parcel:
    return Parcel(
        letter_id=row.letter_id,
        submission_id=row.submission_id,
        letter_kind=LetterKind(row.letter_kind),
        number=row.number,
        agency=row.letter_agency,
        author=row.author,
        message_id=row.message_id,
        classification=row.classification,
        urgency=row.urgency,
        letter_due_us=row.letter_due_us,
        at_us=row.at_us,
        door=Door(row.door),
        peer=row.peer,
        helo=row.helo,
        tls=row.tls,
        account=row.account,
        sender=Address.recorded(row.sender or ""),
        ret=row.ret,
        envid=row.envid,
        body=row.body,
        smtputf8=row.smtputf8,
        requiretls=row.requiretls,
        size=row.size,
        sha256=row.sha256,
        archive_key=row.archive_key,
        facts=row.facts,
        octets=None,
        wire_id=id_text(row.submission_id),
    )
