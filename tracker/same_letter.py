"""Whether a transaction was seen before, or is half of a letter (promise 1).

A *repeat* has the same agency, envelope and octets within a day; a *half* is a letter that its server
split: same agency, author, Message-ID and digest within a day. Both are found by :func:`known_by`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, select, text

from tracker import schema
from tracker.acceptance import Acceptance, Accepted
from tracker.model import LetterKind
from tracker.prepared import PreparedIn

SAME_LETTER_US = 24 * 3600 * 1_000_000

HalfKey = tuple[str | None, str, str | None, bytes]


def half_key(a: Acceptance) -> HalfKey | None:
    if a.kind is not LetterKind.LETTER or a.digest is None or not a.message_id:
        return None
    return a.agency, a.author.casefold(), a.message_id, a.digest


def known_by(a: Acceptance, envelope: bytes) -> bytes:
    """What the record finds a letter by.

    One that may come in parts: the digest of its body and its author's own fields, without the trace. Any
    other: its ``envelope_digest``, which no other has.
    """
    return envelope if half_key(a) is None or a.digest is None else a.digest


@dataclass(slots=True)
class Known:
    """What the record holds of the transactions of one group."""

    repeats: dict[bytes, Accepted] = field(default_factory=dict)  # by envelope_digest
    halves: dict[HalfKey, tuple[int, str | None]] = field(default_factory=dict)  # id and number


_s, _l = schema.submission.c, schema.letter.c
# Statements of the hot path are made once: building and keying one costs more than running it.
_KNOWN = PreparedIn(
    lambda digests: (
        select(
            _l.id, _l.kind, _l.number, _l.agency, _l.author, _l.message_id, _l.digest, _l.accepted_us,
            _s.envelope_digest,
        )
        .outerjoin(
            schema.submission,
            (_s.letter_id == _l.id) & _s.envelope_digest.in_(digests) & (_s.at_us > bindparam("since")),
        )
        .where(_l.digest.in_(digests), _l.accepted_us > bindparam("before"))
    )
)  # fmt: skip


# Two keys, so that it meets no lock of another kind: the ledger's is of one, a node's has another first key.
_LOCKS = text(
    "SELECT pg_advisory_xact_lock(7237103, one) "
    "FROM (SELECT unnest(CAST(:keys AS int[])) AS one ORDER BY 1) sorted"
)


def lock_digests(conn: Connection, digests: Sequence[bytes]) -> None:
    """PostgreSQL: have another node that accepts one of these wait, and find it then. In sorted order."""
    if digests:
        keys = sorted({int.from_bytes(digest[:4], "big", signed=True) for digest in digests})
        conn.execute(_LOCKS, {"keys": keys})


def find_known(conn: Connection, payloads: Sequence[Acceptance], digests: Sequence[bytes]) -> Known:
    """Repeats and halves among these, of which ``digests`` are the envelopes'."""
    since = min(a.at_us for a in payloads) - SAME_LETTER_US
    # A transaction joins a letter of the day before, and may be repeated a day after that.
    bounds = {"since": since, "before": since - SAME_LETTER_US}
    asked = {known_by(a, digest): None for a, digest in zip(payloads, digests, strict=True)}
    known = Known()
    for row in _KNOWN.all(conn, [*(asked | dict.fromkeys(digests))], bounds):
        letter_id, kind, number, agency, author, message_id, digest, accepted_us, envelope = row
        if kind == LetterKind.LETTER.value and accepted_us > since:
            known.halves[agency, author.casefold(), message_id, bytes(digest)] = letter_id, number
        if envelope is not None:
            known.repeats[bytes(envelope)] = Accepted(letter_id=letter_id, number=number, repeat=True)
    return known
