"""Whether a transaction was seen before, or is half of a letter (promise 1).

A *repeat* has the same agency, envelope and octets within a day; a *half* is a letter that its server
split: same agency, author, Message-ID and digest within a day.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select, text

from tracker import schema
from tracker.acceptance import Acceptance, Accepted
from tracker.model import LetterKind
from tracker.prepared import PreparedIn

SAME_LETTER_US = 24 * 3600 * 1_000_000


def half_key(a: Acceptance) -> tuple[str | None, str, str | None, bytes] | None:
    if a.kind is not LetterKind.LETTER or a.digest is None or not a.message_id:
        return None
    return a.agency, a.author.casefold(), a.message_id, a.digest


_s, _l = schema.submission.c, schema.letter.c
# Statements of the hot path are made once: building and keying one costs more than running it.
_REPEATS = PreparedIn(
    lambda digests: (
        select(_s.envelope_digest, _l.id, _l.number)
        .join(schema.letter, _l.id == _s.letter_id)
        .where(_s.envelope_digest.in_(digests), _s.at_us > bindparam("since"))
    )
)
_HALVES = PreparedIn(
    lambda digests: select(
        _l.agency, _l.author, _l.message_id, _l.digest, _l.id, _l.number, _l.thread_id
    ).where(
        _l.digest.in_(digests),
        _l.accepted_us > bindparam("since"),
        _l.kind == LetterKind.LETTER.value,
    )
)


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


def find_repeats(
    conn: Connection, payloads: Sequence[Acceptance], digests: list[bytes]
) -> dict[bytes, Accepted]:
    since = min(a.at_us for a in payloads) - SAME_LETTER_US
    return {
        bytes(digest): Accepted(letter_id=letter_id, number=number, repeat=True)
        for digest, letter_id, number in _REPEATS.all(conn, digests, {"since": since})
    }


def find_halves(
    conn: Connection, payloads: Sequence[Acceptance]
) -> dict[tuple[str | None, str, str | None, bytes], tuple[int, str | None, int]]:
    wanted = [a.digest for a in payloads if half_key(a) is not None]
    if not wanted:
        return {}
    since = min(a.at_us for a in payloads) - SAME_LETTER_US
    return {
        (agency, author.casefold(), message_id, bytes(digest)): (letter_id, number, thread_id)
        for agency, author, message_id, digest, letter_id, number, thread_id in _HALVES.all(
            conn, wanted, {"since": since}
        )
    }
