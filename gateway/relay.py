"""The relay: claims what is due, hands it to the next hop, notes what came of it. Claim, do, note.

1. ``take`` gets claims, from :meth:`Relay.run` (what the record says is due) or straight from intake
   (a letter just accepted, its attempt registered in the accepting transaction).
2. Claims of one mail transaction for one next hop travel together where they may (DESIGN §9).
3. :mod:`gateway.composer` computes what is sent; :mod:`gateway.next_hops` sends it.
4. Each recipient's answer becomes one note. A note that the database cannot take is kept and tried
   again; if the process dies first, the next claim finds an open attempt and records it as in doubt.
5. An error that nobody foresaw holds the delivery where a person sees it; the mail loop goes on.

A next hop that cannot be reached is left alone for a while, so that its letters do not fill the relay.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway import maillog, metrics
from gateway.budget import Budget
from gateway.composer import Composer, Sending
from gateway.crossing import Crossing
from gateway.mailbox_look import Look, Sought
from gateway.next_hops import NextHops
from gateway.outgoing import OUTWARD, CutOff, Outcome, Stage
from gateway.retry import RetrySchedule
from gateway.steady_clock import SteadyClock
from policies.directory import Directory, NextHop
from tracker.attempt_lease import Lease, counter_s
from tracker.claims import Claim, Want, renew
from tracker.doubtful import give_back
from tracker.model import DeliveryKind, now_us
from tracker.noting import AttemptEnd, NoSuchDelivery, Note
from tracker.outage import Outage, in_a_line
from tracker.reply import Reply
from tracker.states import Event, UnknownMove

_log = logging.getLogger("wasl.relay")

TOGETHER = 100  # recipients in one transaction
HELD = 64 * 1024 * 1024  # octets of letters being sent, or waiting for it in memory
SMALL = 65_536  # octets: what is smaller needs no share of the budget
_RETURN_S = 3.0  # a stop waits no longer for a record that is away
_MOMENT_S = 0.005  # after which what was taken is begun, whatever the wire does
APART = 5  # up to so many recipients at a hop each get a return address of their own (DESIGN §9)

_UNREACHED = frozenset({Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.STARTTLS, Stage.AUTH})
_NO_HOP = Reply.of(451, "4.3.5", "No next hop is configured for this recipient")
_UNREADABLE = Reply.of(451, "4.3.0", "The letter cannot be read now")


@dataclass(slots=True)
class _Sick:
    """A next hop that could not be reached: left alone until, and how long the last rest was.

    On the clock that only counts on: one set back by days would leave the hop alone for days.
    """

    until: float  # seconds of time.monotonic
    rest_s: float


class Relay:
    """One relay of one process. ``owner`` is ``NODE/LIFE``: leases are held in that name."""

    def __init__(
        self,
        crossing: Crossing,
        directory: Callable[[], Directory],
        composer: Composer,
        pools: NextHops,
        schedule: RetrySchedule,
        *,
        owner: str,
        lease_s: float,
        most: int = 1000,
        most_per_hop: int = 200,
        look_for: Callable[[Sought], Awaitable[Look]] | None = None,
    ) -> None:
        self._look_for = look_for
        self._crossing = crossing
        self._record = crossing.record
        self._directory = directory
        self._composer = composer
        self._pools = pools
        self._schedule = schedule
        self.owner = owner
        self._lease_us = int(lease_s * 1_000_000)
        self._most = most
        self._most_per_hop = most_per_hop
        self._in_flight = 0
        self._taken: dict[int, float] = {}  # deliveries under way: when their lease was last prolonged
        self._handed = 0  # octets of letters that were handed over and are still in memory
        self._budget = Budget(HELD)
        self._by_hop: Counter[str] = Counter()
        self._sick: dict[str, _Sick] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: list[list[Claim]] = []  # taken, and to be begun in a moment
        self._beginning: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()
        self._more = False  # the last look found as much as was asked for
        self._stopping = False
        self._stopped = False  # nothing is begun any more
        self._unsent: list[int] = []  # attempts that :meth:`stop` cut off before anything was handed over
        self._clock = SteadyClock()
        self._asked: asyncio.Future[list[Claim]] | None = None  # of the record: what is due
        self._looked_us = 1 << 62  # when the record was last asked for what is due
        self._unclaimed = Outage(_log, "what is due cannot be claimed")
        self._unnoted = Outage(_log, "what came of attempts is not noted yet")

    @property
    def has_room(self) -> bool:
        """True when a letter just accepted may be handed over at once."""
        return not self._stopping and self._in_flight < self._most // 2 and self._handed < HELD

    def lease(self) -> Lease:
        """A lease to ask for now: by a clock that believes no jump, or all would be lost at once."""
        return Lease(length_us=self._lease_us, now_us=self._clock.now_us(), asked_s=counter_s())

    def may_take(self, hop: str) -> bool:
        """True when that next hop is neither resting nor full."""
        return self._by_hop[hop] < self._most_per_hop and hop not in self._sick

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    def take(self, claims: Sequence[Claim]) -> None:
        """Send these, in tasks of their own, which begin with the next :meth:`begin` or in a moment.

        So the answers to the clients whose letters these are go out first.
        """
        if self._stopped:
            self._unsent += [claim.attempt_id for claim in claims]
            return
        now = time.monotonic()
        for batch in _batches(claims):
            self._in_flight += len(batch)
            self._taken.update((claim.delivery_id, now) for claim in batch)
            self._by_hop[batch[0].hop] += len(batch)
            self._handed += _in_memory(batch)
            self._ready.append(batch)
        metrics.IN_FLIGHT.set(self._in_flight)
        if self._ready and self._beginning is None:
            self._beginning = asyncio.get_running_loop().call_later(_MOMENT_S, self._begin)

    def begin(self) -> None:
        """Begin what was taken: this process has nothing to do until the record has written something."""
        if self._ready:
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
        ready, self._ready = self._ready, []
        for batch in ready:
            task = asyncio.create_task(self._deliver(batch))
            self._tasks.add(task)  # a task that nobody holds may be collected while it waits
            task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Claim and send until :meth:`stop`."""
        while not self._stopping:
            self._woken.clear()
            if not await self._renew():
                await asyncio.sleep(1)
                continue
            if self._stopping:
                return
            now = now_us()
            for name in [n for n, sick in self._sick.items() if sick.until <= time.monotonic()]:
                del self._sick[name]
            full = tuple(self._sick) + tuple(
                n for n, count in self._by_hop.items() if count >= self._most_per_hop
            )
            room = min(self._most - self._in_flight, self._most_per_hop)
            claims: list[Claim] = []
            if room > 0:
                # In a new life, and whenever the clock was set back: see what it put off while it was ahead.
                set_back = now < self._looked_us
                want = Want(
                    owner=self.owner,
                    limit=room,
                    now_us=now,
                    lease=self.lease(),
                    full_hops=tuple(sorted(set(full))),
                    latest_us=self._schedule.latest_us(now) if set_back else None,
                    silence_us=self._schedule.silence_us,
                )
                try:
                    self._asked = self._crossing.at_record(self._record.claim_desk, want)
                    claims = await self._asked
                except Exception as error:
                    self._unclaimed.failed(error)
                    await asyncio.sleep(1)
                    continue
                finally:
                    self._asked = None
                self._unclaimed.over()
                self._looked_us = now
                self.take(claims)
                self._more = len(claims) >= room // 2
            if self._more and self._in_flight < self._most // 2:
                continue
            try:
                await asyncio.wait_for(self._woken.wait(), timeout=1)
            except TimeoutError:
                continue

    async def _renew(self) -> bool:
        """Keep what is under way ours: behind a slow next hop a letter may wait longer than a lease lasts.

        False when the record could not be asked: nothing may be claimed then, or what is ours seems lost.
        """
        now = time.monotonic()
        before = now - self._lease_us / 3e6
        if not self._taken or next(iter(self._taken.values())) > before:
            return True
        old = [one for one, at in self._taken.items() if at <= before]
        lease = self.lease()
        try:
            await self._crossing.write(lambda conn: renew(conn, self.owner, old, lease))
        except Exception as error:
            self._unclaimed.failed(error)
            return False
        for one in old:
            if self._taken.pop(one, None) is not None:
                self._taken[one] = now  # the oldest stay first
        return True

    async def stop(self, grace_s: float) -> None:
        """Take nothing more; let what is under way finish for up to ``grace_s`` seconds."""
        self._stopping = True
        self._woken.set()
        end = time.monotonic() + grace_s
        if self._asked is not None:
            await asyncio.wait({self._asked}, timeout=grace_s)
            await asyncio.sleep(0)  # run() takes what it was given
        self._begin()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=max(0.0, end - time.monotonic()))
        self._stopped = True
        if self._beginning is not None:
            self._beginning.cancel()
        self._unsent += [claim.attempt_id for batch in self._ready for claim in batch]
        self._ready.clear()
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)
        await self._return_unsent()
        await self._pools.close()

    async def _return_unsent(self) -> None:
        """Queue again what was cut off before its final dot: nobody has it, so nothing is in doubt."""
        unsent, self._unsent = self._unsent, []
        if not unsent:
            return
        try:
            writing = self._crossing.write(lambda conn: give_back(conn, unsent))
            _, given = await asyncio.wait_for(writing, _RETURN_S)
        except Exception as error:
            _log.warning("%d attempts that were not made stay open: %s", len(unsent), in_a_line(error))
            return
        _log.info("deliveries not begun that are queued again: %d", given)

    async def _deliver(self, batch: list[Claim]) -> None:
        hop_name = batch[0].hop
        left = batch
        known = False  # what came of it
        try:
            hop = self._directory().hop(hop_name)
            notes, left = await self._found(batch)
            if hop is None:
                notes += self._deferred(left, _NO_HOP)
            elif left and left[0].parcel.size <= SMALL:
                notes += await self._attempt(left, hop)
            elif left:
                async with self._budget.take(left[0].parcel.size):
                    notes += await self._attempt(left, hop)
            known = True
            await self._write(notes)
        except asyncio.CancelledError as cut:
            if not known and not isinstance(cut, CutOff):
                self._unsent += [claim.attempt_id for claim in batch]
            raise
        except Exception as error:
            _log.exception("delivery of %s failed unforeseen; held", batch[0].parcel.wire_id)
            detail = {"why": f"unforeseen error while sending: {type(error).__name__}"}
            await self._write(
                [
                    Note(
                        delivery_id=c.delivery_id,
                        event=Event.HELD,
                        at_us=now_us(),
                        detail=detail,
                        attempt=AttemptEnd(attempt_id=c.attempt_id, reply="451 4.3.0 unforeseen error"),
                    )
                    for c in left
                ]
            )
        finally:
            self._in_flight -= len(batch)
            for claim in batch:
                self._taken.pop(claim.delivery_id, None)
            self._by_hop[hop_name] -= len(batch)
            self._handed -= _in_memory(batch)
            if not self._by_hop[hop_name]:
                del self._by_hop[hop_name]
            if self._more and self._in_flight < self._most // 2:
                self._woken.set()

    async def _found(self, batch: list[Claim]) -> tuple[list[Note], list[Claim]]:
        """What is in doubt is looked for in the mailbox first (DESIGN §6, promise 1): notes of what is there,
        and the claims that are left to send."""
        if self._look_for is None or not any(c.in_doubt for c in batch):
            return [], batch
        notes: list[Note] = []
        left: list[Claim] = []
        for claim in batch:
            parcel = claim.parcel
            number, message_id = parcel.number, parcel.message_id
            if not (claim.in_doubt and claim.tag and claim.agency and number and message_id):
                left.append(claim)
                continue
            sought = Sought(
                agency=claim.agency, number=number, message_id=message_id, recipient=claim.recipient
            )
            look = await self._look_for(sought)
            if not look.found:
                left.append(claim)
                continue
            end = AttemptEnd(
                attempt_id=claim.attempt_id, reply="250 2.1.5 found in the mailbox, not sent again"
            )
            detail = {"hop": claim.hop, "why": "an earlier attempt had delivered it"} | look.detail
            notes.append(_note(claim, Event.DELIVERED, now_us(), "imap", "", detail, end))
            self._found_line(claim)
        return notes, left

    def _found_line(self, claim: Claim) -> None:
        metrics.DELIVERIES.labels("found").inc()
        maillog.outgoing(
            wire_id=claim.parcel.wire_id,
            recipient=str(claim.recipient),
            peer="none",
            delay_s=(now_us() - claim.parcel.at_us) / 1e6,
            dsn="2.1.5",
            status="sent",
            text="an earlier attempt in doubt had delivered it: found in the mailbox",
            private=False,
            number=claim.parcel.number,
        )

    async def _attempt(self, batch: list[Claim], hop: NextHop) -> list[Note]:
        try:
            sending = await self._composer.compose(batch, hop)
        except OSError as error:
            _log.error("the octets of %s cannot be read: %s", batch[0].parcel.wire_id, error)
            return self._deferred(batch, _UNREADABLE)
        try:
            outcome = await self._pools.send(hop, sending.outgoing)
        finally:
            sending.close()
        self._judge(hop, outcome)
        notes: list[Note] = []
        for index, claim in enumerate(batch):
            notes += self._notes(claim, hop, sending, outcome, index)
        return notes

    def _judge(self, hop: NextHop, outcome: Outcome) -> None:
        """Let a next hop rest that could not even be reached."""
        if any(r.stage not in _UNREACHED for r in outcome.results):
            self._sick.pop(hop.name, None)
            return
        before = self._sick.get(hop.name)
        rest = min((before.rest_s if before else 5.0) * 1.5, 120.0)
        self._sick[hop.name] = _Sick(time.monotonic() + rest * random.uniform(0.8, 1.2), rest)

    def _notes(
        self, claim: Claim, hop: NextHop, sending: Sending, outcome: Outcome, index: int
    ) -> list[Note]:
        at = now_us()
        result = outcome.results[index]
        told = result.told
        end = AttemptEnd(
            attempt_id=claim.attempt_id,
            peer=outcome.peer,
            tls=str(outcome.tls) if outcome.tls else None,
            reply=str(told),
            transcript=outcome.transcript_for(index),
            edit=sending.edit,
        )
        detail: dict[str, object] = {
            "hop": hop.name,
            "peer": outcome.peer,
            "tls": end.tls,
            "reply": end.reply,
            "stage": result.stage.value,
            "hop_dsn": outcome.dsn,
        }
        source = hop.protocol
        if result.accepted:
            event = Event.DELIVERED if hop.is_final else Event.RELAYED
            metrics.DELIVERY_SECONDS.observe((at - claim.parcel.at_us) / 1e6)
            self._line(claim, outcome.peer, "sent", told)
            return [_note(claim, event, at, source, outcome.peer, detail, end)]
        if result.permanent:
            self._line(claim, outcome.peer, "bounced", told)
            return [_note(claim, Event.FAILED, at, source, outcome.peer, detail, end)]
        if self._schedule.gives_up(claim.expires_us, claim.tried_us, at):
            self._line(claim, outcome.peer, "expired", told)
            detail |= {"expired": True, "status": "5.4.7"}
            return [_note(claim, Event.FAILED, at, "timer", outcome.peer, detail, end)]
        event = Event.IN_DOUBT if result.in_doubt else Event.ATTEMPTED
        self._line(claim, outcome.peer, "in-doubt" if result.in_doubt else "deferred", told)
        next_us = self._next_us(claim, at)
        notes = [_note(claim, event, at, source, outcome.peer, detail, end, next_us)]
        return notes + self._late(claim, at, next_us, end.reply)

    def _deferred(self, batch: list[Claim], reply: Reply) -> list[Note]:
        """Notes of what could not even be tried."""
        notes: list[Note] = []
        at = now_us()
        for claim in batch:
            end = AttemptEnd(attempt_id=claim.attempt_id, reply=str(reply))
            detail: dict[str, object] = {"hop": claim.hop, "reply": str(reply)}
            if self._schedule.gives_up(claim.expires_us, claim.tried_us, at):
                self._line(claim, "none", "expired", reply)
                detail |= {"expired": True, "status": "5.4.7"}
                notes.append(_note(claim, Event.FAILED, at, "timer", "", detail, end))
                continue
            self._line(claim, "none", "deferred", reply)
            next_us = self._next_us(claim, at)
            notes.append(_note(claim, Event.ATTEMPTED, at, "wasl", "", detail, end, next_us))
            notes += self._late(claim, at, next_us, end.reply)
        return notes

    def _next_us(self, claim: Claim, at: int) -> int:
        moments = [claim.expires_us]
        if claim.warned_us is None:
            moments.append(self._schedule.warns_us(claim.parcel.at_us))
        return self._schedule.next_us(claim.attempts, at, *moments)

    def _late(self, claim: Claim, at: int, next_us: int, reply: str) -> list[Note]:
        if claim.warned_us is not None or not self._schedule.is_late(claim.parcel.at_us, at):
            return []
        detail = {"hop": claim.hop, "reply": reply, "attempts": claim.attempts, "until_us": claim.expires_us}
        return [
            Note(
                delivery_id=claim.delivery_id,
                event=Event.LATE,
                at_us=at,
                source="timer",
                detail=detail,
                next_us=next_us,
            )
        ]

    def _line(self, claim: Claim, peer: str, status: str, told: Reply) -> None:
        metrics.DELIVERIES.labels(status).inc()
        klass = {"sent": "2.0.0", "bounced": "5.0.0"}.get(status, "4.0.0")
        maillog.outgoing(
            wire_id=claim.parcel.wire_id,
            recipient=str(claim.recipient),
            peer=peer,
            delay_s=(now_us() - claim.parcel.at_us) / 1e6,
            dsn="5.4.7" if status == "expired" else str(told.status or klass),
            status=status,
            text=str(told),
            private=claim.kind is DeliveryKind.PASS,
            number=claim.parcel.number,
        )

    async def _write(self, notes: list[Note]) -> None:
        """Note what happened; while the database is away, keep it and try again."""
        pause = 0.5
        while notes:
            desk, crossing = self._record.note_desk, self._crossing
            written = [crossing.at_record(desk, note) for note in notes]
            answers: list[object] = []
            for one in written:
                try:
                    answers.append(await one)
                except Exception as error:
                    answers.append(error)
            left: list[Note] = []
            for note, answer in zip(notes, answers, strict=True):
                if isinstance(answer, UnknownMove | NoSuchDelivery):
                    _log.warning("%s of delivery %s came too late: %s", note.event, note.delivery_id, answer)
                elif isinstance(answer, BaseException):
                    left.append(note)
                    self._unnoted.failed(answer)
            notes = left
            if notes:
                if self._stopping:
                    return  # the open attempt tells the next life that the end is in doubt
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30)


def _note(
    claim: Claim,
    event: Event,
    at: int,
    source: str,
    reporter: str,
    detail: dict[str, object],
    end: AttemptEnd,
    next_us: int | None = None,
) -> Note:
    return Note(
        delivery_id=claim.delivery_id,
        event=event,
        at_us=at,
        source=source,
        reporter=reporter,
        detail=detail,
        attempt=end,
        next_us=next_us,
    )


def _in_memory(batch: list[Claim]) -> int:
    octets = batch[0].parcel.octets
    return octets.size if octets is not None else 0


def _batches(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Claims that travel in one transaction: same octets, same hop, the same demands, one return address."""
    groups: dict[tuple[int, str, DeliveryKind, bool, bool, bool, str], list[Claim]] = {}
    for c in claims:
        outward = c.parcel.facts.get(OUTWARD)
        wants = repr(outward.get(c.recipient.key)) if outward else ""
        key = (c.parcel.submission_id, c.hop, c.kind, c.tag, c.subject_tag, c.require_tls, wants)
        groups.setdefault(key, []).append(c)
    out: list[list[Claim]] = []
    for group in groups.values():
        if group[0].tag and len(group) <= APART:
            out += [[claim] for claim in group]
        else:
            out += [group[i : i + TOGETHER] for i in range(0, len(group), TOGETHER)]
    return out
