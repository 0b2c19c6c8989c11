"""Does one letter still match its ledger entries and its digest? Looked at each time it is shown.

For every evidence row the commitment in its ledger entry (``record`` of LEDGER.md) is computed
again from the row and its salt, and for an acceptance the one to the octets; the archived octets
are hashed again unless they are large. That shows a row or an object that was changed behind the
gateway's back. That the log itself was not rewritten is for ``wasl ledger verify``, not for a page.

Never raises on bad rows: what cannot be read does not match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import Connection, Row, select

from tracker.ledger import EvidenceRow, record_bytes
from tracker.schema import evidence, ledger_entry, submission

LARGE = 8 << 20  # octets; larger content is hashed on demand only
MAX_ROWS = 3_000


class Content(Protocol):
    """Archived octets as ``tracker.archive`` opens them."""

    @property
    def size(self) -> int: ...

    def chunks(self, n: int = 65536) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class Finding(StrEnum):
    INTACT = "intact"  # all that could be compared matches
    WAITING = "waiting"  # an entry waits for its place in the ledger
    DIFFERS = "differs"  # something does not match: see ``misfits``


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """What does not match: ``content``, ``content-missing``, ``evidence`` or ``commitment``."""

    what: str
    row_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    finding: Finding
    rows: int  # evidence rows compared with their entries
    content_checked: bool  # False: too large, or nobody to open the archive
    misfits: tuple[Misfit, ...]


def check(
    conn: Connection,
    letter_id: int,
    open_content: Callable[[str], Content] | None,
    *,
    only: Container[int] | None = None,
    large: int = LARGE,
) -> Integrity:
    """Compare the letter's rows and octets with the ledger; ``large`` in octets.

    ``only`` names the rows that the viewer may see: the number of the others would tell of them.
    """
    misfits: list[Misfit] = []
    carried = conn.execute(
        select(submission.c.id, submission.c.size, submission.c.sha256, submission.c.archive_key).where(
            submission.c.letter_id == letter_id
        )
    ).all()
    digests = {row.sha256 for row in carried}
    rows = conn.execute(
        select(evidence, ledger_entry.c.entry)
        .outerjoin(ledger_entry, ledger_entry.c.evidence_id == evidence.c.id)
        .where(evidence.c.letter_id == letter_id)
        .order_by(evidence.c.id)
        .limit(MAX_ROWS)
    ).all()
    if only is not None:
        rows = [row for row in rows if row.id in only]
    compared = 0
    for row in rows:
        if row.entry is None or row.salt is None:
            continue
        compared += 1
        what = _misfit(row, digests)
        if what is not None:
            misfits.append(Misfit(what=what, row_id=row.id))
    checked = open_content is not None and bool(carried)
    for sent in carried:
        if open_content is None or sent.size > large:
            checked = False
        elif (what := _content_misfit(open_content, sent.archive_key, sent.sha256)) is not None:
            misfits.append(Misfit(what=what, row_id=sent.id))
    waiting = any(row.entry is None for row in rows) or not rows
    finding = Finding.DIFFERS if misfits else Finding.WAITING if waiting else Finding.INTACT
    return Integrity(finding=finding, rows=compared, content_checked=checked, misfits=tuple(misfits))


def _misfit(row: Row[Any], digests: set[bytes]) -> str | None:
    prefix = bytes([len(row.salt)]) + row.salt
    try:
        entry = json.loads(row.entry)
        told = record_bytes(
            EvidenceRow(
                id=row.id,
                letter_id=row.letter_id,
                delivery_id=row.delivery_id,
                event=row.event,
                grade=row.grade,
                at_us=row.at_us,
                noted_us=row.noted_us,
                source=row.source,
                reporter=row.reporter,
                detail=row.detail,
                salt=row.salt,
            )
        )
        if entry["record"] != hashlib.sha256(prefix + told).hexdigest():
            return "evidence"
        octets = entry.get("octets")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "evidence"
    if octets is None:
        return None
    known = {hashlib.sha256(prefix + digest).hexdigest() for digest in digests}
    return None if octets in known else "commitment"


def _content_misfit(open_content: Callable[[str], Content], key: str, digest: bytes) -> str | None:
    try:
        content = open_content(key)
    except OSError:
        return "content-missing"
    try:
        found = hashlib.sha256()
        for chunk in content.chunks():
            found.update(chunk)
    except OSError:
        return "content-missing"
    finally:
        content.close()
    return None if found.digest() == digest else "content"
