"""The one transaction that makes acceptances a record.

:class:`AcceptDesk` writes a group of :class:`tracker.acceptance.Acceptance`: archive objects first
(synced), then letters, register numbers, deliveries, evidence, ledger entries and receipts due, all or
nothing. A transaction seen before is answered with the first number; a letter that its server split
gets the further recipients as deliveries of the same number (:mod:`tracker.same_letter`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from tracker import followups, policy_rows, schema
from tracker.acceptance import Acceptance, Accepted, DeliveryDraft, envelope_digest
from tracker.claims import Claim, Parcel
from tracker.doubtful import DoubtfulAttempts
from tracker.due_receipts import NOTIFY, earn, free
from tracker.evidence import EvidenceBook, Proof, evidence_row
from tracker.handing_over import claim_of, parcel_of
from tracker.linking import Cited, Links, find_cited, links_of, write_links
from tracker.model import DeliveryKind, IdSource, LetterKind, LetterNumber
from tracker.object_store import ObjectStore, remove
from tracker.prepared import Prepared
from tracker.registers import Registers
from tracker.same_letter import HalfKey, find_known, half_key, known_by, lock_digests
from tracker.states import Event, Grade, Outcome, State
from tracker.writer import Desk


class AcceptDesk(Desk):
    """Writes acceptances in groups."""

    order = 1

    def __init__(
        self,
        archive: ObjectStore,
        book: EvidenceBook,
        ids: IdSource,
        registers: Registers,
        accepted: Callable[[Sequence[Accepted]], None] | None = None,
        doubtful: DoubtfulAttempts | None = None,
    ) -> None:
        self._doubtful = doubtful if doubtful is not None else DoubtfulAttempts()
        self._archive = archive
        self._book = book
        self._ids = ids
        self._registers = registers
        self._accepted = accepted
        self._stored: set[str] = set()  # objects of a group under way: it may be tried again in parts

    def archive_key(self, a: Acceptance) -> str:
        return self._archive.key_for(a.submission_id, a.at_us)

    def before(self, payloads: Sequence[Acceptance]) -> Callable[[], None] | None:
        """Store the objects; what takes its time goes on while the rows are written."""
        keyed = [(self.archive_key(a), a.octets) for a in payloads]
        # What is neither in memory nor a spool file was stored by who spooled it (tracker.record_room).
        items = [
            (key, octets)
            for key, octets in keyed
            if key not in self._stored and (octets.memory is not None or octets.spooled)
        ]
        if not items:
            return None
        finish = self._archive.begin(items)

        def durable() -> None:
            finish()
            self._stored.update(key for key, _ in items)

        return durable

    def inside(self, conn: Connection, payloads: Sequence[Acceptance]) -> list[Accepted]:
        lot = _Lot(self, conn)
        numbered: dict[tuple[str, int], int] = {}
        for a in payloads:
            if a.number_shape and a.agency:
                numbered.setdefault((a.agency, self._registers.year(a.at_us)), 0)
        if numbered and conn.dialect.name != "sqlite":
            # Counter rows are the locks of an agency's register: taken in sorted order before the look for
            # repeats, so that two nodes can neither deadlock nor both miss each other's half of a letter.
            self._registers.lock(conn, sorted(numbered))
        digests = [envelope_digest(a) for a in payloads]
        if conn.dialect.name != "sqlite":  # what takes no number has no counter that would keep nodes apart
            lock_digests(conn, [d for a, d in zip(payloads, digests, strict=True) if not a.number_shape])
        known = find_known(conn, payloads, digests)
        repeats, halves = known.repeats, known.halves
        for a, digest in zip(payloads, digests, strict=True):
            settled = (a.followup_ids and not followups.free(conn, a.followup_ids)) or (
                a.receipt_ids and not free(conn, a.receipt_ids)
            )
            if settled and digest not in repeats:  # another node's mail stands
                repeats[digest] = Accepted(letter_id=0, number=None, repeat=True)
        cited = find_cited(conn, payloads)
        fresh: list[tuple[Acceptance, bytes]] = []
        plans: list[tuple[Acceptance, bytes, Accepted | None]] = []
        seen: dict[bytes, int] = {}
        for i, (a, digest) in enumerate(zip(payloads, digests, strict=True)):
            plans.append((a, digest, repeats.get(digest)))
            if digest not in repeats and digest not in seen:
                seen[digest] = i
                fresh.append((a, digest))
        new_letters: dict[HalfKey, tuple[int, str | None]] = {}
        wants: dict[tuple[str, int], list[Acceptance]] = {}
        for a, _ in fresh:
            key = half_key(a)
            if key is not None and (key in halves or key in new_letters):
                continue
            if key is not None:
                new_letters[key] = 0, None
            if a.number_shape and a.agency:
                wants.setdefault((a.agency, self._registers.year(a.at_us)), []).append(a)
        numbers: dict[int, LetterNumber] = {}
        for (agency, year), lots in sorted(wants.items()):
            first = self._registers.take(conn, agency, year, len(lots))
            for seq, a in enumerate(lots, start=first):
                numbers[id(a)] = LetterNumber.shape(a.number_shape or "", agency, year, seq)
        results: list[Accepted] = []
        written: dict[bytes, Accepted] = {}
        new_letters.clear()
        for a, digest, repeat in plans:
            if repeat is not None or digest in written:
                results.append(repeat or written[digest])
                continue
            key = half_key(a)
            half = None if key is None else halves.get(key) or new_letters.get(key)
            number = numbers.get(id(a))
            accepted = lot.write(a, digest, number, half, cited)
            if key is not None and half is None:
                new_letters[key] = accepted.letter_id, accepted.number
            written[digest] = Accepted(letter_id=accepted.letter_id, number=accepted.number, repeat=True)
            results.append(accepted)
        lot.flush()
        return results

    def after(self, payloads: Sequence[Acceptance], results: list[Accepted]) -> None:
        self._doubtful.committed()
        for a, accepted in zip(payloads, results, strict=True):
            self._stored.discard(self.archive_key(a))
            if accepted.repeat:
                remove(self._archive, self.archive_key(a))  # a repeat's object is referred to by nothing
        if self._accepted is not None:
            self._accepted(results)

    def doubted(self) -> None:
        self._doubtful.doubted()

    def failed(self) -> None:
        self._doubtful.rolled_back()
        self._book.forget()

    def abandoned(self, payload: Acceptance, certain: bool) -> None:
        """No row names its object; where that is not sure, it is left to :mod:`tracker.sweep`."""
        key = self.archive_key(payload)
        stored_here = key in self._stored
        self._stored.discard(key)
        in_hand = payload.octets.memory is not None or payload.octets.spooled
        if certain and (stored_here or not in_hand):
            remove(self._archive, key)


_INSERT_LETTER = Prepared(insert(schema.letter))
_INSERT_SUBMISSION = Prepared(insert(schema.submission))
_INSERT_DELIVERY = Prepared(insert(schema.delivery))
_INSERT_ATTEMPT = Prepared(insert(schema.attempt))
_SETTLE = Prepared(
    update(schema.receipt)
    .where(schema.receipt.c.id == bindparam("b_id"))
    .values(state="sent", sent_letter_id=bindparam("b_letter"))
)


class _Lot:
    """The rows of one group, gathered so that each table gets one executemany."""

    def __init__(self, desk: AcceptDesk, conn: Connection) -> None:
        self._desk = desk
        self._conn = conn
        self._clock_us = 0  # of leases, once one is granted
        self.letters: list[dict[str, Any]] = []
        self.submissions: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []
        self.proofs: list[Proof] = []
        self.receipts: list[dict[str, Any]] = []
        self.settled: list[dict[str, Any]] = []
        self.holds: list[dict[str, Any]] = []
        self.hits: list[dict[str, Any]] = []
        self.joined: list[dict[str, Any]] = []
        self.links: list[dict[str, Any]] = []

    def write(
        self,
        a: Acceptance,
        digest: bytes,
        number: LetterNumber | None,
        half: tuple[int, str | None] | None,
        cited: dict[str, Cited],
    ) -> Accepted:
        desk = self._desk
        submission_id, archive_key = a.submission_id, desk.archive_key(a)
        if half is None:
            letter_id = desk._ids.next()
            text = number.text if number else None
            links = links_of(a, letter_id, cited)
            self.letters.append(_letter_row(a, letter_id, number, links, digest))
            drafts = list(a.deliveries)
        else:
            letter_id, text = half
            links = links_of(a, letter_id, cited)
            drafts = self._not_yet(a, letter_id)
        self.links += links.rows
        parcel = parcel_of(a, letter_id, archive_key, text)
        self.submissions.append(_submission_row(a, letter_id, submission_id, archive_key, digest))
        if a.kind in (LetterKind.LETTER, LetterKind.SHADOW, LetterKind.REFUSED) and drafts:
            self._prove(a, letter_id, text, drafts)
        claims = [c for d in drafts if (c := self._delivery(a, d, parcel)) is not None]
        if a.hits or a.would:
            self.hits += policy_rows.hit_rows(letter_id, a)
        for receipt_id in a.receipt_ids:
            self.settled.append({"b_id": receipt_id, "b_letter": letter_id})
        if a.followup_ids:
            followups.settle(self._conn, a.followup_ids, letter_id)
        return Accepted(letter_id=letter_id, number=text, claims=tuple(claims))

    def _not_yet(self, a: Acceptance, letter_id: int) -> list[DeliveryDraft]:
        """The recipients of a letter's further transaction that have no row yet.

        Whoever sends it again after it was returned, refused or cancelled means to: that is a delivery of
        its own. The repeat of a transaction, in the same octets, does not come here.
        """
        here = {row["recipient_key"]: row for row in self.deliveries if row["letter_id"] == letter_id}
        c = schema.delivery.c
        asked = select(c.recipient_key, c.id, c.recipient, c.intended).where(
            c.letter_id == letter_id, c.state.not_in((State.FAILED.value, State.REFUSED.value))
        )
        before = {row.recipient_key: row for row in self._conn.execute(asked)}
        fresh: list[DeliveryDraft] = []
        for d in a.deliveries:
            key = d.recipient.address.key
            if key in here:
                row = here[key]
                row["intended"] = policy_rows.joined(row["intended"], row["recipient"], d)
            elif key in before:
                known = before[key]
                if (names := policy_rows.joined(known.intended, known.recipient, d)) != known.intended:
                    self.joined.append({"b_id": known.id, "b_intended": names})
            else:
                fresh.append(d)
        return fresh

    def _delivery(self, a: Acceptance, d: DeliveryDraft, parcel: Parcel) -> Claim | None:
        desk = self._desk
        delivery_id = desk._ids.next()
        take = a.hand_to is not None and d.state is State.QUEUED
        proven = d.kind in (DeliveryKind.LETTER, DeliveryKind.SHADOW)
        grade = Grade.ACCEPTED if proven and d.state is not State.REFUSED else Grade.NONE
        outcome = Outcome.FAILED if d.state is State.REFUSED else Outcome.OPEN
        address = d.recipient.address
        self.deliveries.append(
            {
                "id": delivery_id,
                "letter_id": parcel.letter_id,
                "submission_id": parcel.submission_id,
                "kind": d.kind.value,
                "recipient": str(address),
                "recipient_key": address.key,
                "agency": d.agency,
                "bcc": d.bcc,
                "notify": d.recipient.notify,
                "orcpt": d.recipient.orcpt,
                "asks": " ".join(d.asks),
                "tag": d.tag,
                "subject_tag": d.subject_tag,
                "sign": d.sign,
                "require_tls": d.require_tls,
                "hop": d.hop,
                "state": State.SENDING.value if take else d.state.value,
                "grade": int(grade),
                "outcome": outcome.value,
                "next_us": a.at_us,
                "attempts": 1 if take else 0,
                "lease_owner": a.hand_to if take else None,
                "lease_us": self._leased_until(a) if take else None,
                "expires_us": a.expires_us,
                "changed_us": a.at_us,
                "last_reply": d.reason.get("reply"),
                "intended": d.intended,
                "copy_by": d.copy_by,
                "receipts_to": d.receipts_to,
                "digest": d.digest,
                "from_agency": a.agency,
                "due_us": d.due_us if proven else None,
            }
        )
        if d.state is State.HELD or d.state is State.REFUSED:
            self._kept_back(a, d, parcel.letter_id, delivery_id, grade if proven else None)
        if not take:
            return None
        attempt_id = desk._ids.next()
        self.attempts.append(
            {
                "id": attempt_id,
                "delivery_id": delivery_id,
                "started_us": a.at_us,
                "owner": a.hand_to,
                "hop": d.hop,
            }
        )
        return claim_of(a, d, parcel, delivery_id, attempt_id)

    def _leased_until(self, a: Acceptance) -> int:
        if a.lease is None:
            return a.lease_us
        self._clock_us = self._clock_us or a.lease.clock_us(self._conn)
        return self._clock_us + a.lease.length_us

    def _kept_back(
        self, a: Acceptance, d: DeliveryDraft, letter_id: int, delivery_id: int, grade: Grade | None
    ) -> None:
        """A recipient who is held or refused: evidence if it is a letter, the hold, the author's receipt."""
        event = Event.HELD if d.state is State.HELD else Event.REFUSED
        if d.hold is not None and event is Event.HELD:
            hold_id = self._desk._ids.next()
            self.holds.append(policy_rows.hold_row(hold_id, letter_id, delivery_id, a.at_us, d.hold))
        if grade is not None:
            evidence_id = self.note(a, letter_id, delivery_id, event, grade, d.reason)
        else:
            evidence_id = self._desk._ids.next()  # pass-through leaves no evidence
        if event in d.asks and not a.envelope.sender.is_null:
            self._receipt(a, letter_id, delivery_id, event, evidence_id, d.receipts_to)

    def _prove(self, a: Acceptance, letter_id: int, number: str | None, drafts: list[DeliveryDraft]) -> None:
        detail: dict[str, Any] = {
            "number": number,
            "sender": str(a.envelope.sender),
            "author": a.author,
            "account": a.peer.account,
            "peer": a.peer.peer,
            "recipients": [str(d.recipient.address) for d in drafts],
            "subject": a.subject,
            "message_id": a.message_id,
            "sha256": a.octets.sha256.hex(),
            "size": a.octets.size,
            "policy_version": a.policy_version,
        }
        copies = {str(d.recipient.address): d.copy_by for d in drafts if d.copy_by is not None}
        if copies:
            detail["copies"] = copies  # by which rule
        if a.kind is LetterKind.REFUSED:
            evidence_id = self.note(a, letter_id, None, Event.REFUSED, Grade.NONE, detail)
        else:
            evidence_id = self.note(a, letter_id, None, Event.SUBMITTED, Grade.ACCEPTED, detail)
            asking = [d for d in drafts if Event.SUBMITTED in d.asks]
            if asking and not a.envelope.sender.is_null:
                to = asking[0].receipts_to
                self._receipt(a, letter_id, 0, Event.SUBMITTED, evidence_id, to)
        if a.notify:
            self._receipt(a, letter_id, 0, NOTIFY, evidence_id, " ".join(a.notify))

    def note(
        self,
        a: Acceptance,
        letter_id: int,
        delivery_id: int | None,
        event: Event,
        grade: Grade,
        detail: dict[str, Any],
    ) -> int:
        evidence_id = self._desk._ids.next()
        row = evidence_row(
            id=evidence_id,
            letter_id=letter_id,
            delivery_id=delivery_id,
            event=event.value,
            grade=int(grade),
            at_us=a.at_us,
            noted_us=a.at_us,
            detail=detail,
        )
        whole = delivery_id is None
        self.proofs.append(Proof(row, a.octets.sha256, a.parts) if whole else Proof(row))
        return evidence_id

    def _receipt(
        self,
        a: Acceptance,
        letter_id: int,
        delivery_id: int,
        kind: str,
        evidence_id: int,
        to: str | None,
    ) -> None:
        self.receipts.append(
            {
                "id": self._desk._ids.next(),
                "letter_id": letter_id,
                "delivery_id": delivery_id,
                "kind": str(kind),
                "recipient": to or str(a.envelope.sender),
                "evidence_id": evidence_id,
                "due_us": a.at_us,
                "state": "due",
            }
        )

    def flush(self) -> None:
        conn = self._conn
        for statement, rows in (
            (_INSERT_LETTER, self.letters),
            (_INSERT_SUBMISSION, self.submissions),
            (_INSERT_DELIVERY, self.deliveries),
            (_INSERT_ATTEMPT, self.attempts),
        ):
            if rows:
                statement.many(conn, rows)
        policy_rows.write_joined(conn, self.joined)
        policy_rows.write_holds(conn, self.holds)
        policy_rows.write_hits(conn, self.hits)
        write_links(conn, self.links)
        if self.receipts:
            earn(conn, self.receipts)
        if self.attempts:
            self._desk._doubtful.wrote([row["id"] for row in self.attempts])
        if self.settled:
            _SETTLE.many(conn, self.settled)
        self._desk._book.write(self.proofs)


def _letter_row(
    a: Acceptance, letter_id: int, number: LetterNumber | None, links: Links, envelope: bytes
) -> dict[str, Any]:
    return {
        "id": letter_id,
        "kind": a.kind.value,
        "number": number.text if number else None,
        "agency": a.agency,
        "year": number.year if number else None,
        "seq": number.seq if number else None,
        "author": a.author,
        "author_name": a.author_name,
        "message_id": a.message_id,
        "subject": a.subject,
        "subject_fold": a.subject_fold,
        "digest": known_by(a, envelope),
        "thread_id": links.thread_id or letter_id,
        "answers": links.answers,
        "receipt_for": a.receipt_for,
        "classification": a.classification,
        "urgency": a.urgency,
        "due_us": a.due_us,
        "accepted_us": a.at_us,
    }


def _submission_row(
    a: Acceptance, letter_id: int, submission_id: int, archive_key: str, digest: bytes
) -> dict[str, Any]:
    e = a.envelope
    return {
        "id": submission_id,
        "letter_id": letter_id,
        "at_us": a.at_us,
        "door": a.peer.door.value,
        "peer": a.peer.peer,
        "helo": a.peer.helo,
        "tls": str(a.peer.tls) if a.peer.tls else None,
        "account": a.peer.account,
        "sender": str(e.sender),
        "ret": e.ret,
        "envid": e.envid,
        "body": e.body,
        "smtputf8": e.smtputf8,
        "requiretls": e.requiretls,
        "size": a.octets.size,
        "sha256": a.octets.sha256,
        "archive_key": archive_key,
        "envelope_digest": digest,
        "facts": a.facts,
        "facts_version": a.facts_version,
        "decision": a.decision,
        "policy_version": a.policy_version,
    }
