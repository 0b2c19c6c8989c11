"""The mail of follow-up: reminders in the letter's thread, words to who is told that it stays late, digests.

Made of what is claimed and not settled. A letter that was answered meanwhile is not reminded of; more
reminders to one mailbox at one time than the policy's ``gather_above`` become one mail. Reads the record,
changes nothing; what cannot be composed is logged and passed over, so that it stops nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from gateway.followup_plan import WHOLE, days_before, way
from policies.agency import Agency
from policies.calendar import Calendar
from policies.chain import Policy
from policies.directory import Directory
from tracker import board, follow_digest, reminder, waiting_list
from tracker.access import Role, Viewer
from tracker.board import Edges, Side, What
from tracker.follow_digest import Digest, Section
from tracker.followups import ASKED, DueMail, Kind, due_mail
from tracker.model import Address, AddressError, id_text
from tracker.notice import GatewayIdentity
from tracker.overview import Count
from tracker.plain_mail import PlainMail, compose
from tracker.reminder import LISTED, OwedLetter, Reminding
from tracker.store import Connection
from tracker.waiting_list import Asked, Waiting

_log = logging.getLogger("wasl.followup")

ALL = Viewer(account="wasl", role=Role.ADMIN)
WEEK = timedelta(days=7)
STALE_US = 20 * board.DAY_US  # a reminder that no mail could be made of for so long is none any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One message with the rows that it settles; ``about``: the letter, if it is one."""

    kind: Kind
    ids: tuple[int, ...]
    to: tuple[Address, ...]
    hops: dict[str, str]  # by Address.key
    message: bytes
    about: int | None


class FollowUpMail:
    """Composes, from the record and with the names of the directory."""

    def __init__(
        self,
        gateway: GatewayIdentity,
        base_url: str,
        directory: Callable[[], Directory],
        policy: Callable[[], Policy],
    ) -> None:
        self._gateway = gateway
        self._base_url = base_url
        self._directory = directory
        self._policy = policy

    def made(self, conn: Connection, at_us: int) -> tuple[list[Made], list[DueMail]]:
        """The messages of what is claimed, and what no mail is made of any more."""
        made: list[Made] = []
        vain: list[DueMail] = []
        policy = self._policy()
        stale = at_us - STALE_US
        groups: dict[tuple[Kind, tuple[str, ...], str | None], list[DueMail]] = {}
        for one in due_mail(conn):
            # Mail waits for office hours; a digest of another day is none.
            late_digest = one.kind is Kind.DIGEST and one.step != _today(policy.calendar, at_us).isoformat()
            if not one.living or late_digest or one.at_us < stale:
                vain.append(one)
            elif one.kind is Kind.DIGEST or policy.calendar.is_working(at_us):
                groups.setdefault((one.kind, one.recipients, one.agency), []).append(one)
        for (kind, recipients, code), lot in groups.items():
            to = self._addresses(recipients, code)
            each = _by_letter(lot)
            apart = kind is Kind.DIGEST or len(each) <= policy.followup.gather_above
            for part in each if apart else [lot]:
                try:
                    message = self._message(conn, kind, to, part, at_us) if to else None
                except Exception:
                    _log.exception("the mail of %s cannot be composed; set aside", part[0].subject)
                    message = None
                if message is None:
                    vain += part
                    continue
                hops = {a.key: self._way(a, code) for a in to}
                about = part[0].letter_id if len(_by_letter(part)) == 1 else None
                ids = tuple(one.id for one in part)
                made.append(Made(kind=kind, ids=ids, to=to, hops=hops, message=message, about=about))
        return made, vain

    def _addresses(self, recipients: Iterable[str], code: str | None) -> tuple[Address, ...]:
        out = []
        for word in recipients:
            try:
                to = Address.parse(word)
            except AddressError:
                continue
            if self._way(to, code):
                out.append(to)
        return tuple(out)

    def _way(self, to: Address, code: str | None) -> str:
        directory = self._directory()
        return way(to, directory, directory.agency(code) if code else None)

    def _message(
        self, conn: Connection, kind: Kind, to: tuple[Address, ...], lot: Sequence[DueMail], at_us: int
    ) -> bytes | None:
        """The octets; None when there is nothing to say."""
        if kind is Kind.DIGEST:
            told = self.digest(conn, lot[0].subject, lot[0].agency, at_us)
            return None if told.empty else self.digest_message(told, to, lot[0].subject, at_us)
        told_of = self._reminding(conn, lot, kind is Kind.ESCALATE, at_us)
        arabic, english = reminder.sheets(told_of)
        alone = lot[0] if len(_by_letter(lot)) == 1 else None
        return compose(
            PlainMail(
                gateway=self._gateway,
                to=to,
                subject=reminder.subject(told_of),
                kind="escalation" if kind is Kind.ESCALATE else "reminder",
                at_us=at_us,
                arabic=arabic,
                english=english,
                number=alone.number if alone is not None else None,
                message_id=alone.message_id if alone is not None else None,
                references=alone.references if alone is not None else (),
                seed=" ".join(id_text(one.id) for one in lot),
            )
        )

    # Reminders.

    def _reminding(self, conn: Connection, lot: Sequence[DueMail], escalated: bool, at_us: int) -> Reminding:
        policy = self._policy()
        code = lot[0].agency or ""
        agency = self._directory().agency(code)
        times = edges(policy.calendar, at_us)
        here = _by_letter(lot)
        ids = {one[0].letter_id for one in here}
        asked = Asked(what=What.ANSWER, side=Side.IN, agency=code)
        page = waiting_list.waiting(conn, ALL, asked, times, limit=2 * LISTED + len(lot))
        others = [line for line in _one_each(page.lines) if line.letter_id not in ids]
        counts = board.board(conn, ALL, Side.IN, [code], times, letters=True).rows[code]
        more = max(0, counts[What.ANSWER].value - len(here) - min(len(others), LISTED))
        return Reminding(
            letters=tuple(self._owed(_furthest(one), at_us, named=not escalated) for one in here),
            agency_ar=agency.name_ar if agency is not None else code,
            agency_en=agency.name_en if agency is not None else code,
            zone=self._gateway.zone,
            escalated=escalated,
            by_hand=any(one.step.startswith(ASKED) for one in lot),
            others=tuple(self._listed(line, at_us) for line in others[:LISTED]),
            more=more,
            board=self._link("/follow-up"),
        )

    def _owed(self, one: DueMail, at_us: int, *, named: bool) -> OwedLetter:
        """``named``: to the registry that has the letter, its subject is no secret."""
        hidden = not named and self._policy().followup.conceals(one.classification)
        return self._letter(
            one.number, "" if hidden else one.title, hidden, one.from_agency, one.accepted_us, one.due_us,
            one.grade, one.letter_id, at_us,
        )  # fmt: skip

    def _listed(self, line: Waiting, at_us: int) -> OwedLetter:
        hidden = self._policy().followup.conceals(line.classification)
        return self._letter(
            line.number, "" if hidden else line.subject, hidden, line.sender, line.accepted_us, line.due_us,
            int(line.grade), line.letter_id, at_us,
        )  # fmt: skip

    def _owing(self, line: Waiting, at_us: int) -> OwedLetter:
        """With who owes the answer."""
        agency = self._directory().agency(line.agency) if line.agency else None
        names = (agency.name_ar, agency.name_en) if agency is not None else (line.agency or "",) * 2
        return replace(self._listed(line, at_us), to_ar=names[0], to_en=names[1])

    def _letter(
        self,
        number: str | None,
        subject: str,
        hidden: bool,
        sender: str | None,
        accepted_us: int,
        due_us: int | None,
        grade: int,
        letter_id: int | None,
        at_us: int,
    ) -> OwedLetter:
        agency = self._directory().agency(sender) if sender else None
        late = due_us is not None and due_us < at_us
        return OwedLetter(
            number=number,
            subject=subject,
            concealed=hidden,
            sender_ar=agency.name_ar if agency is not None else sender or "",
            sender_en=agency.name_en if agency is not None else sender or "",
            accepted_us=accepted_us,
            due_us=due_us,
            days=_working_days(self._policy().calendar, at_us, due_us) if due_us is not None else 0,
            late=late,
            grade=grade,
            href=self._link(f"/letters/{id_text(letter_id)}") if letter_id is not None else "",
        )

    def _link(self, path: str) -> str:
        return f"{self._base_url}{path}" if self._base_url else ""

    # Digests.

    def digest(self, conn: Connection, subject: str, code: str | None, at_us: int) -> Digest:
        """What the reader of a digest is told. ``subject``: as it is claimed, whose digest it is."""
        calendar = self._policy().calendar
        today, times = _today(calendar, at_us), edges(calendar, at_us)
        since = days_before(calendar, today)
        agency = self._directory().agency(code) if code else None
        if code is None or agency is None:
            return self._whole(conn, today, times, at_us)
        own = board.board(conn, ALL, Side.IN, [code], times, letters=True).rows[code]

        def lines(what: What, most: int = LISTED) -> tuple[OwedLetter, ...]:
            asked = Asked(what=what, side=Side.IN, agency=code)
            page = waiting_list.waiting(conn, ALL, asked, times, limit=2 * most)
            return tuple(self._listed(line, at_us) for line in _one_each(page.lines)[:most])

        came = waiting_list.arrived(conn, code, calendar.at(since, 0), calendar.at(today, 0), 2 * LISTED, ALL)
        both_ends = subject.startswith(WHOLE)
        theirs = self._others(conn, agency, times) if both_ends else ()
        owed = [section.counts[What.LATE] for section in theirs]
        behind = Asked(what=What.LATE, side=Side.OUT, sender=code)
        page = waiting_list.waiting(conn, ALL, behind, times, limit=2 * LISTED) if owed else None
        return Digest(
            title_ar=agency.name_ar,
            title_en=agency.name_en,
            day=today,
            zone=self._gateway.zone,
            own=own,
            late=lines(What.LATE),
            late_count=own[What.LATE],
            due=lines(What.TODAY),
            unregistered=lines(What.REGISTRATION, 10),
            arrived=tuple(self._listed(line, at_us) for line in _one_each(came.lines)[:LISTED]),
            arrived_count=came.count,
            since=since,
            owed=tuple(self._owing(line, at_us) for line in _one_each(page.lines)[:LISTED]) if page else (),
            owed_count=Count(value=sum(c.value for c in owed), more=any(c.more for c in owed)),
            agencies=theirs,
            board=self._link("/follow-up"),
        )

    def _whole(self, conn: Connection, today: date, times: Edges, at_us: int) -> Digest:
        codes = [a.code for a in self._directory()]
        counted = board.board(conn, ALL, Side.IN, codes, times, letters=True)
        late = waiting_list.waiting(conn, ALL, Asked(what=What.LATE), times, limit=2 * LISTED)
        return Digest(
            title_ar="جميع الجهات",
            title_en="all agencies",
            day=today,
            zone=self._gateway.zone,
            late=tuple(self._owing(line, at_us) for line in _one_each(late.lines)[:LISTED]),
            late_count=counted.total(What.LATE),
            agencies=self._sections(counted),
            board=self._link("/follow-up"),
        )

    def _others(self, conn: Connection, agency: Agency, times: Edges) -> tuple[Section, ...]:
        """What other agencies owe to this one."""
        viewer = Viewer(account="wasl", role=Role.COMPLIANCE, agency=agency.code)
        return self._sections(board.board(conn, viewer, Side.OUT, (), times, letters=True))

    def _sections(self, counted: board.Board) -> tuple[Section, ...]:
        """The agencies of which there is something to say, the latest first."""
        busy = (What.LATE, What.TODAY, What.UNDELIVERED, What.DOUBT)
        sections = []
        for code, counts in counted.rows.items():
            if not any(counts[what].value for what in busy):
                continue
            agency = self._directory().agency(code)
            names = (agency.name_ar, agency.name_en) if agency is not None else (code, code)
            sections.append(Section(name_ar=names[0], name_en=names[1], counts=counts))
        return tuple(sorted(sections, key=lambda one: -one.counts[What.LATE].value))

    def digest_message(self, told: Digest, to: tuple[Address, ...], subject: str, at_us: int) -> bytes:
        """A digest as a message."""
        arabic, english = follow_digest.sheets(told)
        return compose(
            PlainMail(
                gateway=self._gateway,
                to=to,
                subject=follow_digest.subject(told),
                kind="digest",
                at_us=at_us,
                arabic=arabic,
                english=english,
                seed=f"{subject} {told.day}",
            )
        )


def _by_letter(lot: Sequence[DueMail]) -> list[list[DueMail]]:
    """The recipients of one letter together: their registry is written to once. Digests stay single."""
    found: dict[int, list[DueMail]] = {}
    for one in lot:
        found.setdefault(one.letter_id or -one.id, []).append(one)
    return list(found.values())


def _furthest(rows: Sequence[DueMail]) -> DueMail:
    """One letter at an agency: due when its first recipient owes the answer, as far as any of them has it."""
    due = min((one.due_us for one in rows if one.due_us is not None), default=None)
    return replace(rows[0], due_us=due, grade=max(one.grade for one in rows))


def _one_each(lines: Sequence[Waiting]) -> list[Waiting]:
    """Each letter of an agency once, whatever the number of its recipients there."""
    found: dict[tuple[int, str | None], Waiting] = {}
    for line in lines:
        found.setdefault((line.letter_id, line.agency), line)
    return list(found.values())


def edges(calendar: Calendar, at_us: int) -> Edges:
    """The times of the board, in the calendar's zone."""
    today = _today(calendar, at_us)
    return Edges(
        now_us=at_us,
        midnight_us=calendar.at(today + timedelta(days=1), 0),
        week_us=calendar.at(today + timedelta(days=1) + WEEK, 0),
    )


def _today(calendar: Calendar, at_us: int) -> date:
    return calendar.local(at_us).date()


def _working_days(calendar: Calendar, at_us: int, due_us: int) -> int:
    """Working days from the one to the other, negative when the due date is past; at most a year."""
    one, other = calendar.local(at_us).date(), calendar.local(due_us).date()
    first, last = min(one, other), max(one, other)
    days = sum(
        calendar.is_working_day(first + timedelta(days=n))
        for n in range(1, min((last - first).days, 400) + 1)
    )
    return days if other >= one else -days
