"""Letters held against what their acceptance sealed: do letter, submissions, deliveries and messages fit it?

Each transaction that brought a letter recipients left one record (`submitted`, or `refused` of the whole
letter), which its entry sealed: number, author, subject and Message-ID of the letter, sender, digest and
size of the submission, and the recipients, each of whom has a delivery. What a delivery's row says it has
reached is held against the evidence of that delivery. Rows that no evidence is about (pass-through, receipts)
are only asked for their message: mail that is no letter is forgotten, and leaves none.

Letters are read in lots by their ids, with all that refers to them, so that memory does not grow with the
store and a row is found whose letter is gone. Of a letter whose evidence is named, gone or disposed of only
that is compared which its other evidence opens.

How it fails: only as the database does. What does not fit is written into :class:`tracker.misfit.StoreAudit`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Row, Select, select

from tracker import schema
from tracker.archive import ArchiveMissing, Octets
from tracker.audit_rows import Rows, read_rows
from tracker.misfit import StoreAudit
from tracker.model import DeliveryKind, LetterKind
from tracker.states import MOVES, Event, Grade, Outcome

_LOT = 500  # rows of a table
_LOWEST = -(1 << 63)
_letter = schema.letter.c
_submission = schema.submission.c
_delivery = schema.delivery.c
_evidence = schema.evidence.c

_LETTER = ("number", "author", "subject", "message_id")  # sealed under the names of their columns
_SUBMISSION = ("sender", "account", "peer", "size", "policy_version")
_KINDS = {  # what a letter is, by the event that sealed it
    Event.SUBMITTED.value: (LetterKind.LETTER.value, LetterKind.SHADOW.value),
    Event.REFUSED.value: (LetterKind.REFUSED.value,),
}
_PROVEN = (DeliveryKind.LETTER.value, DeliveryKind.SHADOW.value)
_EFFECTS = {event.value: effect for event, effect in MOVES.items()}
_ENDED = {Outcome.CLOSED.value, Outcome.RETURNED.value}  # what an agency that works on it opens again

_LETTERS = select(
    _letter.id, _letter.kind, _letter.agency, _letter.year, _letter.seq, _letter.accepted_us,
    *(_letter[name] for name in _LETTER),
)  # fmt: skip
_SUBMISSIONS = select(
    _submission.id, _submission.letter_id, _submission.at_us, _submission.sha256, _submission.archive_key,
    *(_submission[name] for name in _SUBMISSION),
)  # fmt: skip
_DELIVERIES = select(
    _delivery.id, _delivery.letter_id, _delivery.submission_id, _delivery.kind, _delivery.recipient,
    _delivery.grade, _delivery.outcome,
)  # fmt: skip
_EVIDENCE = select(
    _evidence.id, _evidence.letter_id, _evidence.delivery_id, _evidence.event, _evidence.grade,
    _evidence.at_us, _evidence.salt.is_(None).label("disposed"),
)  # fmt: skip
_ACCEPTANCES = select(_evidence.id, _evidence.detail).where(
    _evidence.event.in_(_KINDS), _evidence.delivery_id.is_(None)
)


class Objects(Protocol):
    """The one call of an archive that an audit needs."""

    def open(self, key: str) -> Octets: ...


@dataclass(frozen=True, slots=True)
class _Seal:
    """What one acceptance sealed; nothing, when its salt was destroyed."""

    evidence_id: int
    event: str
    at_us: int
    detail: dict[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.detail.get("sha256"))


@dataclass(slots=True)
class _Told:
    """What the evidence of one delivery tells."""

    evidence_id: int
    grade: int = 0
    outcomes: set[str] = field(default_factory=set)
    known: bool = True  # every event is one of this program's

    def add(self, event: str, grade: int) -> None:
        self.grade = max(self.grade, grade)
        effect = _EFFECTS.get(event)
        self.known = self.known and effect is not None
        if effect is not None and effect.outcome is not None:
            self.outcomes.add(effect.outcome.value)
        elif event == Event.IN_PROGRESS:
            self.outcomes.add(Outcome.REOPENED.value)

    def possible(self) -> set[str]:
        """The outcomes that these events may have led to, whichever came last: the clocks of two nodes that
        noted them may differ."""
        reopened = {Outcome.REOPENED.value}
        possible = self.outcomes if self.outcomes & _ENDED else self.outcomes - reopened
        return possible or {Outcome.OPEN.value}


@dataclass(slots=True)
class _File:
    """One letter with all that refers to it."""

    row: Row[*tuple[Any, ...]] | None = None
    seals: list[_Seal] = field(default_factory=list)  # those that are opened
    disposed: list[int] = field(default_factory=list)  # acceptances whose salt was destroyed
    submissions: Rows = field(default_factory=list)
    deliveries: Rows = field(default_factory=list)
    told: dict[int, _Told] = field(default_factory=dict)  # by delivery
    evidence: int | None = None  # one that fits its entry
    unread: set[tuple[str, int]] = field(default_factory=set)  # rows that cannot be read, by table
    whole: bool = True  # False: something of it is damaged, gone or disposed of


class LetterAudit:
    """All letters, in the order of their ids."""

    def __init__(
        self, conn: Connection, archive: Objects, seen: StoreAudit, step: Callable[[int], None]
    ) -> None:
        self.conn = conn
        self.archive = archive
        self.seen = seen
        self.step = step
        self.named: set[int] = set()  # deliveries

    def run(self) -> None:
        """Read all, and name what does not fit."""
        after: int | None = _LOWEST
        while after is not None:
            bound = self._bound(after)
            files = self._files(after, bound)
            for letter_id, file in files.items():
                self._compare(letter_id, file)
            self.step(sum(len(file.submissions) for file in files.values()))
            after = bound

    # reading

    def _bound(self, after: int) -> int | None:
        """The last letter of the next lot; None for the last lot."""
        ends = []
        for column in (_letter.id, _submission.letter_id, _delivery.letter_id, _evidence.letter_id):
            nth = select(column).where(column > after).order_by(column).offset(_LOT - 1).limit(1)
            end = self.conn.execute(nth).scalar()
            if isinstance(end, int):
                ends.append(end)
        return min(ends, default=None)

    def _files(self, after: int, bound: int | None) -> dict[int, _File]:
        files: dict[int, _File] = defaultdict(_File)

        def rows(statement: Select[Any], place: Column[Any]) -> Rows:
            asked = statement.where(place > after)
            return self._read(asked if bound is None else asked.where(place <= bound), place, files)

        # Evidence is read after deliveries: what is noted meanwhile is borne out.
        details = {row.id: row.detail for row in rows(_ACCEPTANCES, _evidence.letter_id)}
        for row in rows(_LETTERS, _letter.id):
            files[row.id].row = row
        for row in rows(_SUBMISSIONS, _submission.letter_id):
            files[row.letter_id].submissions.append(row)
        for row in rows(_DELIVERIES, _delivery.letter_id):
            files[row.letter_id].deliveries.append(row)
        for row in rows(_EVIDENCE, _evidence.letter_id):
            self._evidence(files[row.letter_id], row, details)
        return files

    def _read(self, statement: Select[Any], place: Column[Any], files: dict[int, _File]) -> Rows:
        table = place.table
        found, bad = read_rows(self.conn, statement.order_by(table.c.id), table.c.id)
        for row_id, reason in bad.items():
            if table is not schema.evidence:  # that is named with its entry
                self.seen.misfit(table.name, row_id, f"a row that can be read: {reason}")
            letter_id = self.conn.execute(select(place).where(table.c.id == row_id)).scalar_one()
            files[letter_id].unread.add((table.name, row_id))
            files[letter_id].whole = False
        return found

    def _evidence(self, file: _File, row: Row[*tuple[Any, ...]], details: dict[int, Any]) -> None:
        accepts = row.delivery_id is None and row.event in _KINDS
        if row.id in self.seen.blamed or (accepts and row.id not in details):
            file.whole = False
        elif row.disposed:
            file.whole = False
            if accepts:
                file.disposed.append(row.id)
        else:
            file.evidence = row.id
            if accepts:
                detail = details[row.id]
                sealed = detail if isinstance(detail, dict) else {}
                file.seals.append(_Seal(row.id, row.event, row.at_us, sealed))
            elif row.delivery_id is not None:
                file.told.setdefault(row.delivery_id, _Told(row.id)).add(row.event, row.grade)

    # comparing

    def _compare(self, letter_id: int, file: _File) -> None:
        file.whole = file.whole and letter_id not in self.seen.bereft
        complete = self._submissions(letter_id, file)
        if file.row is not None:
            self._letter(file.row, file)
        elif ("letter", letter_id) not in file.unread:
            self._no_letter(letter_id, file)
        self._deliveries(letter_id, file, complete)

    def _no_letter(self, letter_id: int, file: _File) -> None:
        if not isinstance(letter_id, int):  # as SQLite takes anything
            for table, rows in (("submission", file.submissions), ("delivery", file.deliveries)):
                for row in rows:
                    self.seen.misfit(table, row.id, "the id of its letter")
            return
        if file.evidence is not None:
            by = f"that evidence {file.evidence} tells of"
        elif file.submissions:
            by = f"that submission {file.submissions[0].id} belongs to"
        elif file.deliveries:
            by = f"that delivery {file.deliveries[0].id} belongs to"
        else:
            return  # evidence that is named already
        self.seen.misfit("letter", letter_id, f"the row {by}: it is gone")

    def _letter(self, row: Row[*tuple[Any, ...]], file: _File) -> None:
        kinds = [kind for words in _KINDS.values() for kind in words]
        if not file.seals:
            if file.whole and file.deliveries and row.kind in kinds:
                self.seen.misfit("letter", row.id, "evidence of its acceptance")
            return
        first = file.seals[0]
        wrong = []
        if row.kind not in _KINDS[first.event]:
            wrong.append(f"kind {_KINDS[first.event][0]}")
        for name in _LETTER:
            # Halves of a letter may spell its author differently: the row has it from one of them.
            sealed = [seal.detail[name] for seal in file.seals if name in seal.detail]
            if sealed and getattr(row, name) not in sealed:
                wrong.append(_said(name, sealed[0]))
        number = first.detail.get("number")
        if isinstance(number, str):  # made of these, in a shape that the settings give
            parts = [name for name in ("agency", "year", "seq") if str(getattr(row, name)) not in number]
            wrong += [f"{name} as in {number}" for name in parts]
        if row.accepted_us not in [seal.at_us for seal in file.seals]:
            wrong.append(f"accepted_us {first.at_us}")
        if wrong:
            self.seen.misfit("letter", row.id, f"{', '.join(wrong)}, as evidence {first.evidence_id} sealed")

    def _submissions(self, letter_id: int, file: _File) -> bool:
        """Compare messages with their rows, and these with what was sealed; False: a row is gone or wrong."""
        digests = {row.id: digest for row in file.submissions if (digest := self._message(row, file))}
        seals = list(file.seals)
        loose: Rows = []
        for exact in (True, False):
            for row in file.submissions if exact else loose[:]:
                fit = [seal for seal in seals if seal.sha256 == digests.get(row.id)]
                chosen = next((seal for seal in fit if not _differs(row, seal) or not exact), None)
                if exact and chosen is None:
                    loose.append(row)
                elif chosen is not None:
                    seals.remove(chosen)
                    if not exact:
                        loose.remove(row)
                        expected = f"{_differs(row, chosen)}, as evidence {chosen.evidence_id} sealed"
                        self.seen.misfit("submission", row.id, expected)
        if not file.whole or not file.seals:
            return file.whole
        used = {row.submission_id for row in file.deliveries}
        gone = [seal for seal in seals if "sha256" in seal.detail]
        for row in loose:
            # A transaction that brought nobody new leaves no evidence: no delivery is of it.
            if gone or (row.id in used and not any(digests.get(row.id) == s.sha256 for s in file.seals)):
                gone = gone[1:]
                if row.id in digests:
                    expected = "a message that an entry of its letter sealed"
                    self.seen.misfit("submission", row.id, expected)
        for seal in gone:
            expected = f"a submission of the message that evidence {seal.evidence_id} sealed: it is gone"
            self.seen.misfit("letter", letter_id, expected)
        return not gone

    def _message(self, row: Row[*tuple[Any, ...]], file: _File) -> str | None:
        """Look at the archived message of a submission. Returns the digest that the row is to be compared by;
        None when the row is named."""
        stated = bytes(row.sha256).hex()
        sealed = {seal.sha256 for seal in file.seals}
        try:
            octets = self.archive.open(row.archive_key)
            digest = octets.sha256.hex()
            octets.close()
        except (ValueError, TypeError):
            self.seen.misfit("submission", row.id, "the key of an archived message")
            return None
        except ArchiveMissing:
            if not file.disposed or file.seals:
                self.seen.misfit("archive", row.archive_key, f"the message of submission {row.id}")
            return stated
        except OSError as error:  # ArchiveError, or what reading it raises
            self.seen.misfit("archive", row.archive_key, f"a readable object: {error}")
            return stated
        self.seen.objects += 1
        for evidence_id in file.disposed:
            self.seen.misfit("evidence", evidence_id, f"a salt: {row.archive_key} is not disposed of")
        if digest == stated:
            return stated
        if digest in sealed:
            self.seen.misfit("submission", row.id, f"sha256 {digest}, as archived and sealed")
            return digest
        self.seen.misfit("archive", row.archive_key, f"SHA-256 {stated}, found {digest}")
        return stated

    def _deliveries(self, letter_id: int, file: _File, complete: bool) -> None:
        there = {row.id for row in file.deliveries}
        gone = [
            delivery_id
            for delivery_id in file.told
            if delivery_id not in there and ("delivery", delivery_id) not in file.unread
        ]
        for delivery_id in gone:
            self._no_delivery(delivery_id, letter_id, file.told[delivery_id].evidence_id)
        if not file.whole or not file.seals:
            return
        self._recipients(letter_id, file, len(gone))
        submissions = {row.id for row in file.submissions}
        for row in file.deliveries:
            wrong = self._standing(row, file)
            if complete and row.submission_id not in submissions:
                wrong.append("a submission of its letter")
            if wrong:
                self._name(row.id, ", ".join(wrong))

    def _standing(self, row: Row[*tuple[Any, ...]], file: _File) -> list[str]:
        """What a delivery has reached, held against its evidence: notes write both, and grades never fall."""
        told = file.told.get(row.id)
        if row.kind not in _PROVEN:
            return [] if told is None else [f"kind letter: evidence {told.evidence_id} is about it"]
        accepted = any(seal.event == Event.SUBMITTED for seal in file.seals)
        proven = max(int(Grade.ACCEPTED) if accepted else 0, told.grade if told is not None else 0)
        wrong = []
        if not isinstance(row.grade, int) or row.grade > proven:
            wrong.append(f"grade {proven}: its evidence proves no more")
        elif told is not None and row.grade < told.grade:
            wrong.append(f"grade {told.grade}, as its evidence proves")
        possible = told.possible() if told is not None else {Outcome.OPEN.value}
        if row.outcome not in possible and (told is None or told.known):
            wrong.append(f"outcome {' or '.join(sorted(possible))}, as its evidence tells")
        return wrong

    def _recipients(self, letter_id: int, file: _File, gone: int) -> None:
        """Each recipient who was sealed has a delivery, and each delivery has a recipient who was."""
        sealed: Counter[str] = Counter()
        for seal in file.seals:
            listed = seal.detail.get("recipients")
            if not isinstance(listed, list):
                return
            sealed.update(map(str, listed))
        present = Counter(str(row.recipient) for row in file.deliveries)
        missing, strange = sealed - present, present - sealed
        if not missing and not strange:
            return
        by = f"as evidence {file.seals[0].evidence_id} sealed"
        if missing:
            passing = self._passing(letter_id)
            missing = Counter({to: n for to, n in missing.items() if to.casefold() not in passing})
        for row in file.deliveries:
            if strange[str(row.recipient)] > 0:
                strange[str(row.recipient)] -= 1
                gone += 1
                only = f"recipient {next(iter(missing))}" if missing.total() == 1 else "a recipient"
                self._name(row.id, f"{only}, {by}")
        if missing.total() > gone:
            for to in missing:
                self.seen.misfit("letter", letter_id, f"a delivery to {to}, {by}: it is gone")

    def _passing(self, letter_id: int) -> set[str]:
        """To whom a letter went as mail that is no letter, by the policy's decisions: that is forgotten."""
        asked = select(_submission.id, _submission.decision).where(_submission.letter_id == letter_id)
        found, bad = read_rows(self.conn, asked, _submission.id)
        for row_id, reason in bad.items():
            self.seen.misfit("submission", row_id, f"a decision that can be read: {reason}")
        passing: set[str] = set()
        for row in found:
            for verdict in _list(row.decision, "verdicts"):
                if isinstance(verdict, dict) and verdict.get("kind") not in _PROVEN:
                    named = [verdict.get(name) for name in ("to", "redirect", "mailbox")]
                    passing |= {str(one).casefold() for one in (*named, *_list(verdict, "copies"))}
        return passing

    def _no_delivery(self, delivery_id: int, letter_id: int, evidence_id: int) -> None:
        asked = select(_delivery.letter_id).where(_delivery.id == delivery_id)
        if self.conn.execute(asked).scalar() is None:
            self._name(delivery_id, f"the row that evidence {evidence_id} tells of: it is gone")
        else:
            self._name(delivery_id, f"letter_id {letter_id}, as evidence {evidence_id} sealed")

    def _name(self, delivery_id: int, expected: str) -> None:
        if delivery_id not in self.named:
            self.named.add(delivery_id)
            self.seen.misfit("delivery", delivery_id, expected)


def _differs(row: Row[*tuple[Any, ...]], seal: _Seal) -> str:
    """What of a submission is not as it was sealed."""
    wrong = [
        _said(name, seal.detail[name])
        for name in _SUBMISSION
        if name in seal.detail and seal.detail[name] != getattr(row, name)
    ]
    return ", ".join(wrong if row.at_us == seal.at_us else [*wrong, f"at_us {seal.at_us}"])


def _said(name: str, value: object) -> str:
    return f"no {name}" if value in (None, "") else f"{name} {str(value)[:200]}"


def _list(value: object, name: str) -> Iterable[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
