"""The audit of the whole store: everything the ledger says is computed again (LEDGER.md 7).

Entries are read in order and hashed; their tiles, roots and checkpoints are rebuilt beside the stored ones;
each evidence row must open its entry; each archived message must have the digest that was sealed. Where two
rows contradict each other, a third decides which one to name: the signed root between an entry and its tile,
the sealed commitment between an object and its submission.

Nothing is written and little is held in memory. What it finds is a list of :class:`Misfit`, each naming one
row; it raises only what the database itself raises. Disposed letters (the salt is gone) are counted: their
entries stay in the tree, and nobody can open them any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Row, func, select

from tracker import schema
from tracker.archive import ArchiveError, ArchiveMissing, Octets
from tracker.audit_entries import EntryAudit, Signed, chunks, differs_from_entry, log_size, members_of
from tracker.ledger import LedgerKey
from tracker.misfit import Misfit, StoreAudit
from tracker.verify import Unproven, Vkey, commit, open_checkpoint

__all__ = ["Misfit", "Objects", "StoreAudit", "audit_store", "verify_store"]

_BATCH = 1000
_entry = schema.ledger_entry.c
_evidence = schema.evidence.c
_submission = schema.submission.c


class Objects(Protocol):
    """The one call of an archive that an audit needs."""

    def open(self, key: str) -> Octets: ...


def verify_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] = (),
) -> list[Misfit]:
    """The rows that do not fit; see :func:`audit_store`."""
    return audit_store(conn, archive, key, progress, kept=kept).misfits


def audit_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] = (),
) -> StoreAudit:
    """Compute everything again. ``progress(done, total)`` is called now and then.

    ``key`` is the log's, or all that it ever had. ``kept`` are checkpoints that somebody kept elsewhere: the
    log must begin with them, too. Use a connection in one read transaction; what is appended meanwhile is
    left to the next audit.
    """
    keys = key.vkeys if isinstance(key, LedgerKey) else [key] if isinstance(key, Vkey) else list(key)
    return _Audit(conn, archive, keys, progress or (lambda done, total: None)).run(kept)


class _Audit:
    def __init__(
        self,
        conn: Connection,
        archive: Objects,
        keys: Sequence[Vkey],
        progress: Callable[[int, int], None],
    ) -> None:
        self.conn = conn
        self.archive = archive
        self.keys = keys
        self.progress = progress
        self.seen = StoreAudit()
        self.done = 0
        self.total = 0

    def step(self, count: int) -> None:
        self.done += count
        self.progress(min(self.done, self.total), self.total)

    def run(self, kept: Sequence[str]) -> StoreAudit:
        signed = [*self._checkpoints(), *self._kept(kept)]
        size = log_size(self.conn)
        last = self.conn.execute(select(func.max(_submission.id))).scalar() or 0
        submissions = self.conn.execute(select(func.count()).select_from(schema.submission)).scalar() or 0
        self.total = size + submissions
        self.progress(0, self.total)
        EntryAudit(self.conn, size, self.seen, self.step).run(signed)
        self._evidence_without_entry()
        for rows in self._submissions(last):
            self._objects(rows)
            self.step(len(rows))
        self.progress(self.total, self.total)
        return self.seen

    # checkpoints

    def _checkpoints(self) -> Iterator[Signed]:
        c = schema.checkpoint.c
        for size, root, note in self.conn.execute(select(c.size, c.root, c.note).order_by(c.size)).all():
            self.seen.checkpoints += 1
            good = True
            try:
                head = open_checkpoint(note, self.keys)
                if (head.size, head.root) != (size, bytes(root)):
                    raise Unproven("the note says another size or root")
            except Unproven as error:
                good = False
                self.seen.misfit("checkpoint", size, f"a note signed by the log's key: {error}")
            yield Signed(size, bytes(root), "checkpoint", str(size), good)

    def _kept(self, notes: Sequence[str]) -> Iterator[Signed]:
        for number, note in enumerate(notes, 1):
            try:
                head = open_checkpoint(note, self.keys)
            except Unproven as error:
                self.seen.misfit("kept checkpoint", number, f"a note signed by the log's key: {error}")
            else:
                yield Signed(head.size, head.root, "kept checkpoint", str(number), True)

    # evidence that the log does not hold

    def _evidence_without_entry(self) -> None:
        pending = schema.ledger_pending
        rows = self.conn.execute(
            select(schema.evidence, pending.c.entry)
            .outerjoin(schema.ledger_entry, _entry.evidence_id == _evidence.id)
            .outerjoin(pending, pending.c.evidence_id == _evidence.id)
            .where(_entry.seq.is_(None))
            .order_by(_evidence.id)
        )
        for row in rows:
            if row.entry is None:
                self.seen.misfit("evidence", row.id, "an entry in the ledger")
                continue
            self.seen.waiting += 1
            why = None if row.salt is None else differs_from_entry(row, bytes(row.entry))
            if why is not None:
                self.seen.misfit("evidence", row.id, f"what its waiting entry sealed: {why}")
        twice = (
            select(_entry.evidence_id)
            .where(_entry.evidence_id.is_not(None))
            .group_by(_entry.evidence_id)
            .having(func.count() > 1)
        )
        for seq, evidence_id in self.conn.execute(
            select(func.max(_entry.seq), _entry.evidence_id)
            .where(_entry.evidence_id.in_(twice))
            .group_by(_entry.evidence_id)
        ):
            self.seen.misfit("ledger_entry", seq, f"one entry only for evidence {evidence_id}")

    # archived messages

    def _submissions(self, last: int) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
        after = -1
        while True:
            rows = self.conn.execute(
                select(_submission.id, _submission.letter_id, _submission.sha256, _submission.archive_key)
                .where(_submission.id > after, _submission.id <= last)
                .order_by(_submission.id)
                .limit(_BATCH)
            ).all()
            if not rows:
                return
            yield rows
            after = rows[-1].id

    def _objects(self, rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
        seals = self._seals([row.letter_id for row in rows])
        for row in rows:
            seal = seals.get(row.letter_id, _Seals())
            stated = bytes(row.sha256)
            try:
                octets = self.archive.open(row.archive_key)
                digest = octets.sha256
                octets.close()
            except ArchiveMissing:
                if not seal.disposed or seal.salted:
                    self.seen.misfit("archive", row.archive_key, f"the message of submission {row.id}")
                continue
            except ArchiveError as error:
                self.seen.misfit("archive", row.archive_key, f"a readable object: {error}")
                continue
            self.seen.objects += 1
            if digest != stated and seal.has(digest):
                self.seen.misfit("submission", row.id, f"sha256 {digest.hex()}, as archived and sealed")
            elif digest != stated:
                self.seen.misfit("archive", row.archive_key, f"SHA-256 {stated.hex()}, found {digest.hex()}")
            elif seal.salted and not seal.has(stated):
                self.seen.misfit("submission", row.id, "a message that an entry of its letter sealed")
            for evidence_id in seal.disposed:
                self.seen.misfit("evidence", evidence_id, f"a salt: {row.archive_key} is not disposed of")

    def _seals(self, letters: Sequence[int]) -> dict[int, _Seals]:
        """By letter: what seals its messages. Letters with evidence that is named already are left out."""
        seals: dict[int, _Seals] = {}
        for chunk in chunks(sorted(set(letters))):
            for evidence_id, letter_id, salt, entry in self.conn.execute(
                select(_evidence.id, _evidence.letter_id, _evidence.salt, _entry.entry)
                .join(schema.ledger_entry, _entry.evidence_id == _evidence.id)
                .where(_evidence.letter_id.in_(chunk), _evidence.event.in_(("submitted", "refused")))
            ):
                octets = (members_of(bytes(entry)) or {}).get("octets")
                seal = seals.setdefault(letter_id, _Seals())
                if evidence_id in self.seen.blamed:
                    seal.open = False
                elif not isinstance(octets, str):
                    continue
                elif salt is None:
                    seal.disposed.append(evidence_id)
                else:
                    seal.salted.append((bytes(salt), octets))
        return {letter_id: seal for letter_id, seal in seals.items() if seal.open}


@dataclass(slots=True)
class _Seals:
    """The commitments to the messages of one letter."""

    salted: list[tuple[bytes, str]] = field(default_factory=list)
    disposed: list[int] = field(default_factory=list)  # evidence whose salt was destroyed
    open: bool = True

    def has(self, digest: bytes) -> bool:
        return any(commit(salt, digest).hex() == octets for salt, octets in self.salted)
