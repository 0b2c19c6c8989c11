"""Which steps of follow-up are due: the policy's plan led over the letters whose answers are awaited.

For each distinct step of all agencies' plans the due dates are known within which it can be due now; only
deliveries in that range that have not had the step are read, along an index. Asks, and changes nothing;
raises what the database does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from policies import followup as plans
from policies.agency import Agency
from policies.calendar import Calendar
from policies.chain import Policy
from policies.directory import Directory
from policies.followup import Done, FollowUp, Step, StepKind
from tracker import followups
from tracker.followups import Awaited, DigestClaim, Kind, Lot, Remindable, StepClaim, StepRow, StepState
from tracker.model import Address
from tracker.store import Connection

PAGE = 500
MOST = 5_000  # steps of one look; the next one goes on

WHOLE = "compliance"  # whose digest is that of all agencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """A delivery whose answer is awaited, and what happens next if nothing else does."""

    delivery: Awaited
    done: tuple[StepRow, ...]
    next: Step | None
    next_us: int | None


class FollowUpPlan:
    """The plan of the policy in force, over the agencies of the directory."""

    def __init__(self, directory: Callable[[], Directory], policy: Callable[[], Policy]) -> None:
        self._directory = directory
        self._policy = policy

    def due(self, conn: Connection, at_us: int) -> Lot:
        """What is to be claimed at that time."""
        policy, directory = self._policy(), self._directory()
        if not policy.followup.enabled:
            return Lot(at_us=at_us)
        return Lot(
            at_us=at_us,
            steps=tuple(self._steps(conn, policy, directory, at_us)),
            digests=tuple(self._digests(conn, policy, directory, at_us)),
        )

    # Steps.

    def _steps(
        self, conn: Connection, policy: Policy, directory: Directory, at_us: int
    ) -> Iterator[StepClaim]:
        follow, calendar = policy.followup, policy.calendar
        agencies = {a.code: a for a in directory if follow.follows(a)}
        found: dict[int, Awaited] = {}
        for step, urgency, codes in _audiences(follow, tuple(agencies)):
            if step.kind is not StepKind.EXPIRE and not calendar.is_working(at_us):
                continue
            for one in _in_reach(conn, step, urgency, codes, follow.urgencies, calendar, at_us):
                found[one.delivery_id] = one
                if len(found) >= MOST:
                    break
        done = followups.steps_of(conn, found)
        for one in sorted(found.values(), key=lambda one: (one.due_us, one.delivery_id)):
            plan = follow.plan(one.agency, one.urgency)
            known = [_done(row) for row in done.get(one.delivery_id, ())]
            agency = agencies[one.agency]
            for taking in plans.takings(plan, one.due_us, one.accepted_us, known, at_us, calendar):
                to = self._to(taking.step, agency, one, plan)
                yield StepClaim(
                    delivery_id=one.delivery_id,
                    letter_id=one.letter_id,
                    agency=one.agency,
                    kind=Kind(taking.step.kind.value),
                    step=taking.step.key,
                    step_us=taking.step_us,
                    due_us=one.due_us,
                    recipients=to if taking.taken else (),
                    taken=taking.taken and (bool(to) or taking.step.kind is StepKind.EXPIRE),
                )

    def _to(self, step: Step, agency: Agency, one: Awaited, plan: plans.Plan) -> tuple[str, ...]:
        """Whom the step writes to: those to whom a next hop leads."""
        if step.kind is StepKind.EXPIRE:
            return ()
        if step.kind is StepKind.ESCALATE:
            wanted = plan.escalate_to
        else:
            wanted = (agency.registry or Address.recorded(one.recipient),)
        return tuple(str(to) for to in wanted if way(to, self._directory(), agency))

    def upcoming(self, conn: Connection, rows: Sequence[Awaited], at_us: int) -> list[Upcoming]:
        """What was done and what comes next for each of these."""
        policy, directory = self._policy(), self._directory()
        done = followups.steps_of(conn, [one.delivery_id for one in rows])
        out = []
        for one in rows:
            steps = tuple(done.get(one.delivery_id, ()))
            agency = directory.agency(one.agency)
            ahead = None
            if agency is not None and policy.followup.follows(agency):
                plan = policy.followup.plan(one.agency, one.urgency)
                known = [_done(row) for row in steps]
                ahead = plans.upcoming(plan, one.due_us, one.accepted_us, known, at_us, policy.calendar)
            out.append(
                Upcoming(
                    delivery=one,
                    done=steps,
                    next=ahead.step if ahead is not None else None,
                    next_us=ahead.step_us if ahead is not None else None,
                )
            )
        return out

    # Digests.

    def _digests(
        self, conn: Connection, policy: Policy, directory: Directory, at_us: int
    ) -> Iterator[DigestClaim]:
        """Digests of today that are not claimed; only on a working day, until the office closes."""
        follow, calendar = policy.followup, policy.calendar
        today = calendar.local(at_us).date()
        if not calendar.is_working_day(today) or at_us >= calendar.closing(today):
            return
        known = followups.digests_done(conn, [today.isoformat()])
        for one in self.readers(follow, directory, calendar, today):
            if one.step_us <= at_us and (one.subject, one.day) not in known:
                yield one

    def readers(
        self, follow: FollowUp, directory: Directory, calendar: Calendar, day: date
    ) -> Iterator[DigestClaim]:
        """Every digest of a day, with its readers and its time."""
        whole = follow.digest(None)
        if whole.to:
            to = tuple(str(a) for a in whole.to if way(a, directory, None))
            if to:
                yield _digest(WHOLE, None, to, day, whole.minute, calendar)
        for agency in directory:
            if not follow.follows(agency):
                continue
            terms = follow.digest(agency.code)
            registry = agency.registry
            if terms.registry and registry is not None and way(registry, directory, agency):
                to = (str(registry),)
                yield _digest(f"registry {agency.code}", agency.code, to, day, terms.minute, calendar)
            to = tuple(str(a) for a in terms.to if way(a, directory, agency))
            if to:
                yield _digest(f"{WHOLE} {agency.code}", agency.code, to, day, terms.minute, calendar)


def way(to: Address, directory: Directory, agency: Agency | None) -> str:
    """The next hop towards a mailbox: its agency's server, or the way to the outside; "" for none."""
    home = directory.by_domain(to.host)
    if home is not None:
        return home.code if home.next_hop is not None else ""
    if agency is not None and agency.outbound is not None:
        return agency.outbound.name
    if agency is None:
        return next((a.outbound.name for a in directory if a.outbound is not None), "")
    return ""


def asked_for(
    rows: Sequence[Remindable],
    directory: Directory,
    policy: Policy,
    person: str,
    at_us: int,
) -> list[StepClaim]:
    """Reminders that a person asks for, once a day for each recipient whose registry can be reminded."""
    day = policy.calendar.local(at_us).date().isoformat()
    out = []
    for row in rows:
        agency = directory.agency(row.agency)
        if agency is None or not policy.followup.follows(agency) or day in row.asked:
            continue
        to = agency.registry or Address.recorded(row.recipient)
        if way(to, directory, agency):
            out.append(
                StepClaim(
                    delivery_id=row.delivery_id,
                    letter_id=row.letter_id,
                    agency=row.agency,
                    kind=Kind.REMIND,
                    step=f"{followups.ASKED}{day}",
                    step_us=at_us,
                    due_us=row.due_us,
                    recipients=(str(to),),
                    person=person,
                )
            )
    return out


def days_before(calendar: Calendar, day: date) -> date:
    """The working day before a working day."""
    return calendar.working_day(day - timedelta(days=1))


def _digest(
    subject: str, agency: str | None, to: tuple[str, ...], day: date, minute: int, calendar: Calendar
) -> DigestClaim:
    return DigestClaim(
        subject=subject,
        day=day.isoformat(),
        agency=agency,
        recipients=to,
        step_us=calendar.at(day, minute),
    )


def _audiences(follow: FollowUp, codes: Sequence[str]) -> Iterator[tuple[Step, str | None, tuple[str, ...]]]:
    """Each distinct step with the urgency (None: any other) and the agencies whose plans have it."""
    for urgency in (None, *follow.urgencies):
        having: dict[Step, list[str]] = defaultdict(list)
        for code in codes:
            for step in follow.plan(code, urgency or "").steps:
                having[step].append(code)
        for step, who in having.items():
            yield step, urgency, tuple(who)


def _in_reach(
    conn: Connection,
    step: Step,
    urgency: str | None,
    codes: tuple[str, ...],
    named: Sequence[str],
    calendar: Calendar,
    at_us: int,
) -> Iterator[Awaited]:
    since, before = plans.reach(step, at_us, calendar)
    after = (0, 0)
    while before > since:
        rows = followups.awaited(
            conn,
            step=step.key,
            since_us=since,
            before_us=before,
            agencies=codes,
            urgency=urgency,
            other_than=named,
            after=after,
            limit=PAGE,
        )
        yield from rows
        if len(rows) < PAGE:
            return
        after = (rows[-1].due_us, rows[-1].delivery_id)


def _done(row: StepRow) -> Done:
    return Done(
        key=row.step,
        kind=StepKind(row.kind.value),
        step_us=row.step_us,
        at_us=row.at_us,
        taken=row.state is not StepState.PASSED,
    )
