"""Which kinds of evidence an agency's servers and clients really give, measured from the record.

For compliance staff, so that they know what silence means: an agency whose clients never sent a read
receipt says nothing by not sending one. Counted are deliveries, not rows of evidence: each kind once for
each delivery, over what was handed to the agency since a moment. Raises what the database does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Select, and_, case, func, or_, select

from tracker import schema
from tracker.model import DeliveryKind, IdSource
from tracker.states import Event, Grade


class EvidenceKind(StrEnum):
    """Where evidence of a delivery comes from, beyond the agency's server having taken it."""

    LMTP = "lmtp"  # the next hop's 250 was the mailbox
    DSN = "dsn"  # a report of success by mail
    MDN = "mdn"  # a read receipt
    PROXY = "proxy"  # the IMAP proxy saw the client fetch it
    WATCH = "watch"  # the IMAP watch saw it in the mailbox
    REGISTRY = "registry"  # a folder, a keyword or a person of the agency said what was done


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSeen:
    """How often an agency gave one kind of evidence."""

    agency: str
    kind: EvidenceKind
    deliveries: int  # that have it
    of: int  # that its servers took (E2 and higher)
    last_us: int | None  # None: never

    @property
    def share(self) -> float:
        return self.deliveries / self.of if self.of else 0.0


_e, _d = schema.evidence.c, schema.delivery.c
_KINDS = {
    EvidenceKind.LMTP: and_(
        _e.source.in_(("lmtp", "smtp")), _e.event == Event.DELIVERED.value
    ),  # smtp: of a hop declared final
    EvidenceKind.DSN: and_(_e.source == "dsn", _e.event == Event.DELIVERED.value),
    EvidenceKind.MDN: and_(_e.source == "mdn", _e.event == Event.READ.value),
    EvidenceKind.PROXY: _e.source == "imap-proxy",
    EvidenceKind.WATCH: and_(_e.source == "imap", _e.event == Event.DELIVERED.value),
    EvidenceKind.REGISTRY: or_(
        _e.source.in_(("folder", "keyword")),
        and_(
            _e.source == "person",
            _e.event.in_(
                (
                    Event.REGISTERED.value,
                    Event.IN_PROGRESS.value,
                    Event.REFERRED.value,
                    Event.RETURNED.value,
                    Event.PROCESSED.value,
                )
            ),
        ),
    ),
}
_KIND = case(*((condition, kind.value) for kind, condition in _KINDS.items()), else_="")


def evidence_kinds(
    conn: Connection,
    since_us: int = 0,
    agency: str | None = None,
    *,
    sender: str | None = None,
    newest: int | None = None,
) -> list[KindSeen]:
    """Per receiving agency and kind, for letters of which the agency's server took hold since ``since_us``.

    Every agency that took a letter has a row for every kind, so that a nought is seen. In order of
    agency and kind. ``newest``: at most so many of the newest letters are looked at, of ``agency`` those
    that it received, of ``sender`` those that it sent.
    """
    # Ids are made in order of time (tracker.model.IdSource): the range is one of the primary key.
    floor = _id_at(since_us)
    taken = and_(
        _d.kind == DeliveryKind.LETTER.value,
        _d.grade >= int(Grade.RELAYED),
        _d.agency.is_not(None),
        _d.id >= floor,
    )
    if agency is not None:
        taken = and_(taken, _d.agency == agency)
    if newest is not None:
        taken = and_(taken, _d.id.in_(_newest(agency, sender, newest)))
    counted = conn.execute(select(_d.agency, func.count()).where(taken).group_by(_d.agency))
    of: dict[str, int] = {row[0]: row[1] for row in counted}
    rows = conn.execute(
        select(_d.agency, _KIND.label("kind"), func.count(_d.id.distinct()), func.max(_e.at_us))
        .join(schema.evidence, and_(_e.letter_id == _d.letter_id, _e.delivery_id == _d.id))
        .where(taken, or_(*_KINDS.values()))
        .group_by(_d.agency, _KIND)
    )
    found = {(code, kind): (count, last) for code, kind, count, last in rows}
    out = []
    for code in sorted(of):
        for kind in EvidenceKind:
            count, last = found.get((code, kind.value), (0, None))
            out.append(KindSeen(agency=code, kind=kind, deliveries=count, of=of[code], last_us=last))
    return out


def _newest(agency: str | None, sender: str | None, most: int) -> Select[int]:
    """Ids of the newest deliveries, along an index."""
    le = schema.letter.c
    if sender is not None:
        sent = select(le.id).where(le.agency == sender).order_by(le.id.desc()).limit(most).subquery()
        return select(_d.id).join(sent, sent.c.id == _d.letter_id)
    came = (
        select(_d.id)
        .where(_d.agency == agency, _d.kind == DeliveryKind.LETTER.value, _d.grade >= int(Grade.RELAYED))
        .order_by(_d.letter_id.desc())
        .limit(most)
        .subquery()
    )
    return select(came.c.id)


def _id_at(us: int) -> int:
    """The lowest id that a record made at that moment can have."""
    return max(us // 1000 - IdSource.EPOCH_MS, 0) << 22
