"""Command mails: by what a registry writes to a letter's own address it is registered, referred, closed.

Taken is only what a person wrote whom the receiving agency's entry names (``registry``, ``registrars``) and
who proved who he is: signed in at the submission port under that address, or through that agency's own server
with it as sender and author. It is kept as durably as a letter before anything is done. The answer, what was
done and what was not, goes back into the thread with a null sender, so that nothing answers it in turn.

Not taken, and left to be treated like any words to that address: what is automatic, what another agency's
people write, what is no command as a whole. What an entitled person meant as a command and cannot be read is
answered with how to write it, and goes no further. Who is of the right agency and may not act is told so;
nobody is told more than ``MOST_ANSWERS`` times an hour. Raises what the record raises: the peer then gets
4xx, sends again, and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from gateway import metrics
from gateway.command_answer import Done, answer
from gateway.command_words import Command, Doubt, commands, doubt
from gateway.crossing import Crossing
from gateway.inbound import Inbound
from gateway.own_mail import OwnMail, OwnPost
from gateway.reading import Reading
from gateway.registry import shapes, tell
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath
from policies.author import AuthorKind
from policies.directory import Agency, Directory
from policies.facts import Facts, SenderKind
from policies.rates import PolicyState
from tracker import matching
from tracker.acceptance import Acceptance, Accepted
from tracker.access import Role, Viewer
from tracker.archive import Octets
from tracker.filing import Filed, Filing
from tracker.first_lines import first_lines
from tracker.header import Headers
from tracker.incoming import acted_by, thread_of
from tracker.mime import Limits, walk
from tracker.model import (
    Address,
    AddressError,
    Connection,
    Door,
    Envelope,
    LetterKind,
    id_text,
    now_us,
)
from tracker.notice import GatewayIdentity

_log = logging.getLogger("wasl.registry")

MAX_SIZE = 1_000_000  # octets: a command needs no attachments
MOST_ANSWERS = 60  # an hour to one mailbox
_HOUR_US = 3_600_000_000
_WALK = Limits(depth=10, parts=50, passes=4, seconds=0.5)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A mail that is a command of somebody at the receiving agency."""

    who: Address
    name: str
    agency: Agency
    sent: Sequence[matching.Sent]
    commands: tuple[Command, ...]
    proven: bool  # one agency's server, or a signed-in account
    back: Address  # the letter's address
    doubt: tuple[Doubt, str] | None = None  # what was meant as a command, and is none


class CommandMail:
    """Takes command mails. One per process."""

    def __init__(
        self,
        crossing: Crossing,
        directory: Callable[[], Directory],
        inbound: Inbound,
        reverse_path: ReversePath,
        gateway: GatewayIdentity,
        shape: str,
        schedule: RetrySchedule,
        post: OwnPost,
        executor: Executor,
    ) -> None:
        self._crossing = crossing
        self._record = crossing.record
        self._directory = directory
        self._inbound = inbound
        self._reverse_path = reverse_path
        self._gateway = gateway
        self._shape = shape
        self._schedule = schedule
        self._post = post
        self._executor = executor
        self._rates = PolicyState()
        self._loop = asyncio.get_running_loop()

    async def take(
        self, conn: Connection, envelope: Envelope, octets: Octets, reading: Reading, to: Sequence[Address]
    ) -> str | None:
        """The id of a command mail that was taken; None for what is none."""
        if len(to) != 1 or octets.size > MAX_SIZE or not _by_hand(reading):
            return None
        asked = await self._loop.run_in_executor(
            self._executor, self._asked, conn, envelope, octets, reading, to[0]
        )
        if asked is None:
            return None
        at = now_us()
        acceptance = Acceptance(
            submission_id=self._record.ids.next(),
            kind=LetterKind.REPORT,
            peer=conn,
            envelope=envelope,
            octets=octets,
            at_us=at,
            expires_us=self._schedule.expires_us(at),
            deliveries=(),
            agency=asked.agency.code,
            author=str(asked.who),
            message_id=reading.facts.message_id,
            subject=reading.facts.subject[:500],
            receipt_for=asked.sent[0].letter_id,
            facts={"v": 1, "report": "command"},
        )
        accepted: Accepted = await self._crossing.at_record(self._record.accept_desk, acceptance)
        report = id_text(accepted.letter_id)
        if accepted.repeat and await self._loop.run_in_executor(self._executor, self._known, asked, report):
            return report
        done = await self._act(asked, conn, octets, report, at)
        metrics.REPORTS.labels("command", "yes" if any(d.taken for d in done) else "no").inc()
        await self._answer(asked, reading.facts, done)
        return report

    def _asked(
        self, conn: Connection, envelope: Envelope, octets: Octets, reading: Reading, to: Address
    ) -> _Asked | None:
        facts = reading.facts
        token = self._reverse_path.parse(to)
        agency = self._directory().agency(facts.submitter) if facts.submitter else None
        if token is None or agency is None:
            return None
        try:
            who = Address.parse(facts.author)
        except AddressError:
            return None
        if who.key != envelope.sender.key:
            return None
        sent = [one for one in self._inbound.sent([token]) if one.agency == agency.code]
        if not sent:
            return None
        # Through a server it must be one agency's own, and not that of several who share it.
        signed_in = conn.door is Door.SUBMISSION
        proven = facts.author_is_account if signed_in else len(facts.submitters) == 1
        text = _text(octets, reading.headers)
        found, meant = commands(text, facts.subject), None
        if not found:
            # Of others it is their words, and the author's to read.
            meant = doubt(text, facts.subject) if proven and agency.entitled(who) else None
            if meant is None:
                return None
        return _Asked(who, facts.author_name, agency, sent, found, proven, to, meant)

    def _known(self, asked: _Asked, report: str) -> bool:
        with self._record.read() as conn:
            return acted_by(conn, asked.sent[0].letter_id, report)

    async def _act(
        self, asked: _Asked, conn: Connection, octets: Octets, report: str, at_us: int
    ) -> list[Done]:
        """Do what is asked, one after the other; who may not act does nothing."""
        if not asked.proven or not asked.agency.entitled(asked.who):
            _log.info("a command for %s by %s was not taken", asked.agency.code, asked.who)
            return [Done(one, None, proven=asked.proven) for one in asked.commands]
        person = Viewer(account=asked.who.key, role=Role.REGISTRY, agency=asked.agency.code)
        known = shapes(self._directory(), self._shape)
        done: list[Done] = []
        for one in asked.commands:
            filing = Filing(
                letter_id=asked.sent[0].letter_id,
                agency=asked.agency.code,
                deed=one.deed,
                at_us=at_us,
                person=person,
                name=asked.name or str(asked.who),
                where="mail",
                shape=known.get(asked.agency.code),
                number=one.number,
                to=one.to,
                purpose=one.purpose,
                remark=one.remark,
                text=one.text,
                detail={"report": report, "sha256": octets.sha256.hex(), "peer": conn.peer},
            )
            filed: Filed = await self._crossing.at_record(self._record.registry_desk, filing)
            tell(filing, filed)
            if filed.bar is None:
                self._record.announce([filed])
            done.append(Done(one, filed))
        return done

    async def _answer(self, asked: _Asked, facts: Facts, done: Sequence[Done]) -> None:
        """Tell what was done, into the thread, where there is a way to the agency."""
        if asked.agency.next_hop is None:
            return
        at = now_us()
        if not self._rates.take(f"command {asked.who.key}", MOST_ANSWERS, _HOUR_US, at, 1):
            _log.warning("%s is told no more of its commands within this hour", asked.who)
            return
        thread = await self._loop.run_in_executor(self._executor, self._thread, asked, facts)
        message = answer(
            self._gateway, asked.who, asked.back, asked.sent[0].number, thread, facts, done, at, asked.doubt
        )
        mail = OwnMail(message=message, to=((asked.who, asked.agency.code),), about=asked.sent[0].letter_id)
        await self._post.accept(mail, at)

    def _thread(self, asked: _Asked, facts: Facts) -> tuple[str, ...]:
        """Message-IDs: the letter's, then those that the command refers to."""
        with self._record.read() as conn:
            first = thread_of(conn, asked.sent[0].letter_id)
        return tuple(dict.fromkeys([*((first,) if first else ()), *facts.references]))


def _by_hand(reading: Reading) -> bool:
    """A person of the agency that hands it in wrote it, as far as the message says."""
    facts = reading.facts
    return (
        not facts.automatic
        and not reading.passage.letters  # a copy that somebody sent on
        and facts.submitter is not None
        and facts.sender_kind is SenderKind.OWN
        and facts.author_kind is AuthorKind.OWN
        and not facts.header_faults
    )


def _text(octets: Octets, headers: Headers) -> str:
    view = octets.view()
    return first_lines(view, walk(view, headers, _WALK))
