"""The audit of the whole store: everything the ledger says is computed again (LEDGER.md 7).

Entries are read in order and hashed; their tiles, roots and checkpoints are rebuilt beside the stored ones;
each evidence row must open its entry; each archived message must have the digest that was sealed, and letter,
submissions and deliveries must be as their evidence tells (:mod:`tracker.audit_letters`). Where two rows
contradict each other, a third decides which one to name: the signed root between an entry and its tile,
the sealed commitment between an object and its submission.

Nothing is written and little is held in memory. What it finds is a list of :class:`Misfit`, each naming one
row, also one whose cells cannot be read; it raises only what the database itself raises. Disposed letters
(the salt is gone) are counted: their entries stay in the tree, and nobody can open them any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sqlalchemy import Connection, func, select

from tracker import schema
from tracker.audit_entries import EntryAudit, Signed, differs_from_entry, log_size
from tracker.audit_letters import LetterAudit, Objects
from tracker.audit_rows import read_rows
from tracker.ledger import LedgerKey
from tracker.misfit import Misfit, StoreAudit
from tracker.verify import Head, Unproven, Vkey, open_checkpoint

__all__ = ["Misfit", "Objects", "StoreAudit", "audit_store", "verify_store"]

_BATCH = 1000
_GAPS = 100_000  # entries that are missing and named each; what lies farther off is named as a whole
_entry = schema.ledger_entry.c
_evidence = schema.evidence.c
_pending = schema.ledger_pending.c


def verify_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] | Mapping[str, str] = (),
) -> list[Misfit]:
    """The rows that do not fit; see :func:`audit_store`."""
    return audit_store(conn, archive, key, progress, kept=kept).misfits


def audit_store(
    conn: Connection,
    archive: Objects,
    key: LedgerKey | Vkey | Sequence[Vkey],
    progress: Callable[[int, int], None] | None = None,
    *,
    kept: Sequence[str] | Mapping[str, str] = (),
) -> StoreAudit:
    """Compute everything again. ``progress(done, total)`` is called now and then.

    ``key`` is the log's, or all that it ever had. ``kept`` are checkpoints that somebody kept elsewhere, by
    number or by a name of each: the log must begin with them, too. Use a connection in one read transaction;
    what is appended meanwhile is left to the next audit.
    """
    keys = key.vkeys if isinstance(key, LedgerKey) else [key] if isinstance(key, Vkey) else list(key)
    named = kept if isinstance(kept, Mapping) else {str(n): note for n, note in enumerate(kept, 1)}
    return _Audit(conn, archive, keys, progress or (lambda done, total: None)).run(named)


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

    def run(self, kept: Mapping[str, str]) -> StoreAudit:
        signed = [*self._checkpoints(), *self._kept(kept)]
        size = self._size()
        submissions = self.conn.execute(select(func.count()).select_from(schema.submission)).scalar() or 0
        self.total = size + submissions
        self.progress(0, self.total)
        EntryAudit(self.conn, size, self.seen, self.step).run(signed)
        self._evidence_without_entry()
        self._entries_repeated()
        LetterAudit(self.conn, self.archive, self.seen, self.step).run()
        self.progress(self.total, self.total)
        return self.seen

    def _size(self) -> int:
        """How many places to look at; an entry that is far off all others would make it endless."""
        size = log_size(self.conn)
        count = self.conn.execute(select(func.count()).select_from(schema.ledger_entry)).scalar() or 0
        if size <= count + _GAPS:
            return size
        self.seen.misfit("ledger_entry", size - 1, f"a place in the sequence: there are {count} entries")
        last = self.conn.execute(select(func.max(_entry.seq)).where(_entry.seq < count + _GAPS)).scalar()
        return 0 if last is None else last + 1

    # checkpoints

    def _checkpoints(self) -> Iterator[Signed]:
        c = schema.checkpoint.c
        rows, bad = read_rows(self.conn, select(c.size, c.root, c.note).order_by(c.size), c.size)
        for size, reason in bad.items():
            self.seen.checkpoints += 1
            self.seen.misfit("checkpoint", size, f"a note signed by the log's key: {reason}")
        for row in rows:
            self.seen.checkpoints += 1
            root, head = bytes(row.root), self._head("checkpoint", str(row.size), row.note)
            if head is not None and (head.size, head.root) != (row.size, root):
                expected = "a note signed by the log's key: the note says another size or root"
                self.seen.misfit("checkpoint", row.size, expected)
                head = None
            yield Signed(row.size, root, "checkpoint", str(row.size), head is not None)

    def _kept(self, notes: Mapping[str, str]) -> Iterator[Signed]:
        for name, note in notes.items():
            head = self._head("kept checkpoint", name, note)
            if head is not None:
                yield Signed(head.size, head.root, "kept checkpoint", name, True)

    def _head(self, table: str, row: str, note: object) -> Head | None:
        try:
            if not isinstance(note, str):
                raise Unproven("not a checkpoint")
            return open_checkpoint(note, self.keys)
        except (Unproven, ValueError) as error:
            self.seen.misfit(table, row, f"a note signed by the log's key: {error}")
            return None

    # evidence that the log does not hold

    def _evidence_without_entry(self) -> None:
        asked = (
            select(schema.evidence)
            .outerjoin(schema.ledger_entry, _entry.evidence_id == _evidence.id)
            .where(_entry.seq.is_(None))
            .order_by(_evidence.id)
        )
        ids = asked.with_only_columns(_evidence.id, maintain_column_froms=True).limit(_BATCH)
        after = -(1 << 63)
        while lot := list(self.conn.execute(ids.where(_evidence.id > after)).scalars()):
            within = asked.where(_evidence.id > after, _evidence.id <= lot[-1])
            rows, bad = read_rows(self.conn, within, _evidence.id)
            waits = select(schema.ledger_pending).where(_pending.evidence_id.in_(lot))
            waiting, unread = read_rows(self.conn, waits, _pending.id)
            for pending_id, reason in unread.items():
                self.seen.misfit("ledger_pending", pending_id, f"an entry that can be read: {reason}")
            entries = {row.evidence_id: bytes(row.entry) for row in waiting}
            for evidence_id, reason in bad.items():
                self._blame(evidence_id, f"a row that can be read: {reason}")
            for row in rows:
                if row.id not in entries:
                    self._blame(row.id, "an entry in the ledger")
                    continue
                self.seen.waiting += 1
                why = None if row.salt is None else differs_from_entry(row, entries[row.id])
                if why is not None:
                    self._blame(row.id, f"what its waiting entry sealed: {why}")
            after = lot[-1]

    def _blame(self, evidence_id: int, expected: str) -> None:
        self.seen.misfit("evidence", evidence_id, expected)
        self.seen.blamed.add(evidence_id)

    def _entries_repeated(self) -> None:
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
