"""Following up: reminders, escalation, expiry and the daily digests (policies/followup.py has the plan).

A worker of the role ``upkeep``. Each look, every ``every_s`` seconds, of the one node that holds the lease:

1. Which steps of which letters are due now, by plan, calendar and what was done before.
2. They are claimed: a row for each, once and for ever, with its evidence (:mod:`tracker.followups`).
3. Mail is made of what is claimed and accepted as an ordinary outgoing message with a null reverse-path,
   which settles the rows in the same transaction; what was answered meanwhile is passed over.

Nothing is held in memory: after a kill the next look goes on where this one ended, and a clock that was set
back finds its steps done. Errors of the record are logged and tried again at the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from gateway import metrics
from gateway.crossing import Crossing
from gateway.followup_mail import FollowUpMail, Made
from gateway.followup_plan import FollowUpPlan, asked_for
from gateway.own_mail import OwnMail, OwnPost
from policies.chain import Policy
from policies.directory import Directory
from tracker import followups, lease
from tracker.followups import Claimed, DueMail, Lot
from tracker.model import now_us
from tracker.notice import GatewayIdentity
from tracker.outage import Outage

_log = logging.getLogger("wasl.followup")

LEASE = "followup"
LEASE_US = 120_000_000
AT_ONCE = 200  # claims in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpSettings:
    """What of the settings concerns follow-up."""

    gateway: GatewayIdentity
    base_url: str  # of the dashboard; "" for none
    every_s: float = 30.0


class FollowUpClock:
    """The worker. One per process."""

    def __init__(
        self,
        crossing: Crossing,
        settings: FollowUpSettings,
        directory: Callable[[], Directory],
        policy: Callable[[], Policy],
        post: OwnPost,
        executor: Executor,
        owner: str,
        now: Callable[[], int] = now_us,
    ) -> None:
        """``owner`` is ``node/incarnation``; ``now`` tells microseconds of UTC."""
        self._crossing = crossing
        self._record = crossing.record
        self._settings = settings
        self._directory = directory
        self._post = post
        self._executor = executor
        self._owner = owner
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._plan = FollowUpPlan(directory, policy)
        self._mail = FollowUpMail(settings.gateway, settings.base_url, directory, policy)
        self._asked = asyncio.Event()
        self._outage = Outage(_log, "letters cannot be followed up")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)
            try:
                await asyncio.wait_for(self._asked.wait(), self._settings.every_s)
            except TimeoutError:
                continue
            self._asked.clear()

    def wake(self) -> None:
        """Look now."""
        self._asked.set()

    def remind(self, letter_id: int, person: str) -> list[str]:
        """Remind by hand: to which mailboxes; called in a worker thread. Empty: nobody can be, today.

        The mail goes out as all of follow-up's does, in office hours.
        """
        at = self._now()
        with self._record.read() as conn:
            rows = followups.remindable(conn, letter_id)
        claims = asked_for(rows, self._directory(), self._policy(), person, at)
        if not claims:
            return []
        claimed = self._record.follow_up(Lot(at_us=at, steps=tuple(claims)))
        self._loop.call_soon_threadsafe(self.wake)
        return [to for claim in claimed.steps for to in claim.recipients]

    async def close(self) -> None:
        """Let another node go on."""
        try:
            await self._crossing.write(lambda conn: lease.release(conn, LEASE, self._owner))
        except Exception as error:
            _log.warning("the lease of follow-up runs on: %s", error)

    async def look(self) -> int:
        """Take what is due and send its mail; returns how many messages that made."""
        at = self._now()
        held = await self._crossing.write(lambda conn: lease.take(conn, LEASE, self._owner, at, LEASE_US))
        if not held:
            return 0
        lot = await self._loop.run_in_executor(self._executor, self._due, at)
        for part in _parts(lot):
            claimed: Claimed = await self._crossing.at_record(self._record.followup_desk, part)
            self._record.announce(claimed.steps)
            for step in claimed.steps:
                if step.taken:
                    metrics.FOLLOWUPS.labels(step.kind.value).inc()
        return await self._send(at)

    async def _send(self, at: int) -> int:
        """Make and hand in the mail of what is claimed."""
        sent = 0
        made, vain = await self._loop.run_in_executor(self._executor, self._compose, at)
        if vain:
            await self._crossing.write(lambda conn: followups.pass_over(conn, [one.id for one in vain]))
        for one in made:
            sent += await self._accept(one, at)
        return sent

    def _due(self, at: int) -> Lot:
        with self._record.read() as conn:
            return self._plan.due(conn, at)

    def _compose(self, at: int) -> tuple[list[Made], list[DueMail]]:
        with self._record.read() as conn:
            return self._mail.made(conn, at)

    async def _accept(self, made: Made, at: int) -> bool:
        """Hand in one message; False when another node's stands."""
        ways = tuple((to, made.hops[to.key]) for to in made.to)
        mail = OwnMail(message=made.message, to=ways, about=made.about, followups=made.ids)
        accepted = await self._post.accept(mail, at)
        if accepted.repeat:
            return False
        _log.info("%s to %s", made.kind.value, ", ".join(str(to) for to in made.to))
        return True


def _parts(lot: Lot) -> Sequence[Lot]:
    """A lot in pieces that no transaction is too long for."""
    parts = [
        Lot(at_us=lot.at_us, steps=lot.steps[first : first + AT_ONCE])
        for first in range(0, len(lot.steps), AT_ONCE)
    ]
    return [*parts, *([Lot(at_us=lot.at_us, digests=lot.digests)] if lot.digests else [])]
