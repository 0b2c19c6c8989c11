"""Holds in the running gateway: what people decide at the terminal, and the worker that watches the time.

:func:`act_on_holds` is the act behind ``wasl hold release`` and ``refuse``. Who sits at the terminal acts
as the dashboard's account of the same name, if there is one that is not disabled, so that nobody counts
twice; else as somebody who has the gateway's own files in hand, which counts as administrator and as
compliance of the whole, and as nobody a rule names otherwise.

:class:`HoldClock` releases or refuses, as the rule says, what nobody decided in time. It holds nothing in
memory: after a kill the next look finds what is due. Errors of the record are logged and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from gateway import metrics
from gateway.crossing import Crossing
from gateway.refusals import Refusals
from gateway.relay import Relay
from gateway.retry import RetrySchedule
from gateway.steady_clock import SteadyClock
from tracker import accounts, holds, queue
from tracker.access import Role, Viewer
from tracker.hold_desk import Decided, Decision, Expiry
from tracker.holds import BARS, CONSOLE, Act
from tracker.model import id_text, id_value, now_us
from tracker.outage import Outage
from tracker.record import Record
from tracker.store import Connection

_log = logging.getLogger("wasl.holding")


def console_viewer(conn: Connection, person: str) -> Viewer:
    """Who acts when ``person`` sits at the terminal."""
    name = holds.person_of(person)
    try:
        account = accounts.find(conn, name)
    except accounts.AccountError:
        account = None
    if account is not None and not account.disabled:
        return Viewer(account=f"{CONSOLE}{account.name}", role=account.role, agency=account.agency)
    return Viewer(account=f"{CONSOLE}{name}", role=Role.ADMIN)


def holds_named(conn: Connection, name: str) -> list[int]:
    """Ids of the holds meant by the id of a hold, delivery, letter or transaction, or by a number."""
    try:
        direct = holds.meant(conn, id_value(name))
    except ValueError:
        direct = None
    if direct is not None:
        return [direct]
    return holds.ids_of(conn, [delivery_id for delivery_id, _ in queue.find(conn, name)])


def act_on_holds(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act`` release or refuse, ``names``, ``person``, ``note``, ``extend_us`` → ``done``, one a hold."""
    act, at = Act(str(request["act"])), now_us()
    done: list[dict[str, Any]] = []
    wanted: list[int] = []
    with record.read() as conn:
        person = console_viewer(conn, str(request["person"]))
        for name in dict.fromkeys(str(name) for name in request["names"]):
            found = holds_named(conn, name)
            if not found:
                done.append({"hold": name, "error": "no hold of this id or number"})
            wanted += found
    decisions = [
        Decision(
            hold_id=hold_id,
            person=person,
            act=act,
            at_us=at,
            expires_us=int(request["extend_us"]),
            note=str(request.get("note") or ""),
        )
        for hold_id in dict.fromkeys(wanted)
    ]
    return {"done": done + [_told(one) for one in decide(record, decisions)]}


def decide(record: Record, decisions: Sequence[Decision]) -> list[Decided]:
    """Record decisions, count them and say them in the log."""
    done = record.decide(decisions)
    for decision, one in zip(decisions, done, strict=True):
        if one.bar is not None or one.state is None:
            continue
        metrics.HOLDS.labels(one.state.value, "person").inc()
        shown = (one.number or "mail", one.recipient, one.state, decision.person.account)
        _log.info("the hold of %s for %s is %s, by %s", *shown)
    return done


def _told(one: Decided) -> dict[str, Any]:
    return {
        "hold": id_text(one.hold_id),
        "number": one.number,
        "delivery": id_text(one.delivery_id) if one.delivery_id else "",
        "recipient": one.recipient,
        "state": one.state.value if one.state is not None else "",
        "approvals": one.given,
        "needs": one.needs,
        "error": BARS[one.bar] if one.bar is not None else "",
    }


class HoldClock:
    """Looks every few seconds for holds whose time ran out, and writes down what was refused in session."""

    def __init__(
        self,
        crossing: Crossing,
        schedule: RetrySchedule,
        relay: Relay | None,
        refusals: Refusals,
        *,
        every_s: float = 2.0,
        clock: SteadyClock | None = None,
    ) -> None:
        self._clock = clock if clock is not None else SteadyClock()
        self._crossing = crossing
        self._schedule = schedule
        self._relay = relay
        self._refusals = refusals
        self._every_s = every_s
        self._outage = Outage(_log, "holds cannot be looked at")

    async def run(self) -> None:
        """Until cancelled; what was counted by then is written by :meth:`close`."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
                await self._refusals.write(self._crossing)
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)

    async def close(self) -> None:
        """Write what was counted."""
        try:
            await self._refusals.write(self._crossing)
        except Exception as error:
            _log.error("the last refusals were not counted: %s", error)

    async def look(self) -> int:
        """Decide what is due now; returns how many holds that ended."""
        at, ended = self._clock.now_us(), 0
        record = self._crossing.record
        with_room = Expiry(at_us=at, expires_us=self._schedule.expires_us(at))
        while await asyncio.get_running_loop().run_in_executor(None, self._due, at):
            lot: list[Decided] = await self._crossing.at_record(record.hold_desk, with_room)
            ended += len(lot)
            record.announce(lot)
            for one in lot:
                metrics.HOLDS.labels("released" if one.released else "refused", "time").inc()
                _log.info("the hold of %s for %s ran out", one.number or "mail", one.recipient)
            if not lot:
                break
        if ended and self._relay is not None:
            self._relay.wake()
        return ended

    def _due(self, at_us: int) -> bool:
        """A look that writes nothing: most of the time nothing is due."""
        with self._crossing.record.read() as conn:
            return holds.any_due(conn, at_us)
