"""The intake: what comes over the wire becomes facts, a decision and a record (DESIGN §4, 1 to 5).

It is the desk behind the SMTP listeners. Who the peer is: a client certificate, a network, a
credential or an account of an agency. Who may send what to whom is policy's to say, recipient by
recipient in session and again over the whole letter. Nothing is promised before
``tracker.record`` has it on stable storage; a full disk answers 452, an absent database 451, and a
refusal of the whole letter is recorded as well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

from gateway import authentication_results, maillog, metrics
from gateway.authentication import Authentication, Wants
from gateway.command_mail import CommandMail
from gateway.crossing import Crossing
from gateway.desk import MailParams
from gateway.drafting import Drafting, DraftSettings, Read
from gateway.forwarding import Passages, forwarded
from gateway.inbound import Inbound
from gateway.instance import Instance
from gateway.read_wish import read_wish
from gateway.reading import LetterReader, Reading
from gateway.reading_room import ContentReader
from gateway.refusals import Refusals, with_page
from gateway.relay import Relay
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath
from gateway.submission import PasswordCheck
from policies.chain import Policy
from policies.directory import Agency, Directory
from policies.facts import Answered, Facts, SenderKind, Surroundings, of_envelope
from policies.rates import PolicyState
from policies.verdict import Decision, Kind, Verdict
from tracker import answering
from tracker.acceptance import Accepted
from tracker.archive import ArchiveFull, Octets, Spool
from tracker.cited_number import Citation, number_parts, numbers
from tracker.header import scan
from tracker.model import (
    Address,
    Connection,
    Door,
    Envelope,
    LetterKind,
    LetterNumber,
    Recipient,
    id_text,
    now_us,
)
from tracker.noting import NoSuchDelivery
from tracker.outage import in_a_line, is_outage
from tracker.receipt_due import ReceiptSettings
from tracker.reply import Reply
from tracker.states import UnknownMove

_log = logging.getLogger("wasl.intake")

_FULL = Reply.of(452, "4.3.1", "Insufficient system storage")
_NO_RECORD = Reply.of(451, "4.3.0", "The record is not available, please try again later")
_WRONG = Reply.of(535, "5.7.8", "Authentication credentials invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """What of the settings concerns the intake."""

    domain: str
    number_shape: str
    tag_subject: bool
    receipts: ReceiptSettings
    keep_free: int  # octets
    ask_read: str = "always"
    base_url: str = ""  # of the pages with the texts of refusals; "" for none
    postmaster: Address | None = None


class Intake:
    """The desk of one process."""

    def __init__(
        self,
        crossing: Crossing,
        settings: IntakeSettings,
        directory: Callable[[], Directory],
        policy: Callable[[], Policy],
        reverse_path: ReversePath,
        instance: Instance,
        schedule: RetrySchedule,
        passwords: PasswordCheck,
        inbound: Inbound,
        relay: Relay | None,
        executor: Executor,
        rooms: ContentReader,
        authentication: Authentication | None = None,
        refusals: Refusals | None = None,
        commands: CommandMail | None = None,
    ) -> None:
        self._commands = commands
        self._refusals = refusals if refusals is not None else Refusals()
        self._rates = PolicyState()
        self._drafting = Drafting(
            crossing.record.ids,
            DraftSettings(
                domain=settings.domain,
                number_shape=settings.number_shape,
                tag_subject=settings.tag_subject,
                receipts=settings.receipts,
                ask_read=settings.ask_read,
            ),
            directory,
            schedule,
            relay,
        )
        self._authentication = authentication
        self._crossing = crossing
        self._record = crossing.record
        self._settings = settings
        self._directory = directory
        self._policy = policy
        self._reverse_path = reverse_path
        self._passages = Passages(crossing.record, instance, reverse_path)
        self._passwords = passwords
        self._inbound = inbound
        self._relay = relay
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._around: Surroundings | None = None
        self._free_until = 0.0
        self._reader = LetterReader(rooms, executor, self._passages.of)

    # Who the peer is.

    async def connected(self, conn: Connection) -> Connection | Reply:
        """A certificate or a network that only one agency has proves the agency of a relay."""
        if conn.door is not Door.RELAY:
            return conn
        agencies: tuple[Agency, ...] = ()
        directory = self._directory()
        if conn.tls is not None and conn.tls.verified:
            agencies = directory.by_certificate(conn.tls.peer_names)
        if not agencies:
            agencies = directory.by_network(conn.peer)
        return replace(conn, agency=agencies[0].code) if len(agencies) == 1 else conn

    async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
        """An account of an agency on submission, an agency's relay credential on the relay port."""
        if conn.door is Door.RELAY:
            found = self._directory().by_credential(user)
            if found is None:
                return _WRONG
            agency, credential = found
            right = await self._loop.run_in_executor(self._executor, credential.check, password)
            return replace(conn, agency=agency.code) if right else _WRONG
        return await self._passwords.sign_in(conn, user, password)

    # What it may do, while the session lasts.

    async def sender(self, conn: Connection, sender: Address, params: MailParams) -> Reply | None:
        """Nothing is refused before a recipient is known: the verdict hangs on both."""
        return None

    async def recipient(
        self, conn: Connection, sender: Address, so_far: tuple[Recipient, ...], rcpt: Recipient
    ) -> Reply | None:
        """What policy can already say of one recipient."""
        facts = of_envelope(conn, sender, [rcpt], self._surroundings(), now_us())
        verdict = self._policy().recipient(facts, len(so_far))
        if verdict.reply is None or not verdict.refused:
            return None
        self._refused(conn, sender, str(rcpt.address), verdict.reply)
        if facts.submitter is not None:
            self._refusals.count(facts.submitter, verdict.rule, str(verdict.reply))
        return with_page(verdict.reply, verdict.rule, self._settings.base_url)

    def spool(self) -> Spool:
        """A place for a letter; raises :class:`ArchiveFull` when the disk is nearly full."""
        now = time.monotonic()
        if now >= self._free_until:
            free = self._record.archive.free_bytes()
            metrics.FREE_BYTES.set(free)
            if free < self._settings.keep_free:
                raise ArchiveFull(28, f"only {free} octets are free where the archive is")
            self._free_until = now + 1
        return self._record.archive.spool()

    # The letter.

    async def letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        """Read, decide, record; the reply is the promise."""
        began = time.perf_counter()
        try:
            return await self._letter(conn, envelope, octets)
        except ArchiveFull as error:
            _log.error("a letter from [%s] was put off: %s", conn.peer, error)
            return _FULL
        except Exception as error:
            trace = None if is_outage(error) else error
            _log.error("a letter from [%s] was put off: %s", conn.peer, in_a_line(error), exc_info=trace)
            return _NO_RECORD
        finally:
            octets.discard()  # what was stored is no longer a spool file
            metrics.ACCEPT_SECONDS.observe(time.perf_counter() - began)

    async def _letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        view = octets.view()
        headers = scan(view)
        around = self._surroundings()
        policy = self._policy()
        needs = policy.needs_fields
        reading = await self._reader.read(conn, envelope, octets, headers, around, needs)
        if self._authentication is not None:
            wants = self._authentication.worth(reading.facts, headers, policy)
            if wants is not None:
                reading = await self._checked(self._authentication, wants, conn, envelope, octets, reading)
        reading = await self._with_answered(reading)
        decision = policy.decide(reading.facts, self._rates)
        answer = decision.refusal
        if answer is not None:
            self._refused(conn, envelope.sender, str(envelope.recipients[0].address), answer)
            if reading.facts.submitter is not None:
                await self._record_refusal(conn, envelope, octets, reading, decision, policy)
            return with_page(answer, decision.refused_by, self._settings.base_url)
        wire_id = ""
        number: str | None = None
        reports = [v for v in decision.verdicts if v.kind is Kind.REPORT and not v.refused]
        if reports and self._commands is not None:
            to = [v.recipient.address for v in reports]
            wire_id = await self._commands.take(conn, envelope, octets, reading, to) or ""
        if reports and not wire_id:
            wire_id = await self._inbound.take(
                conn,
                envelope,
                octets,
                reading.headers,
                [v.recipient.address for v in reports],
                reading.facts.submitters,
            )
        others = tuple(v for v in decision.verdicts if v not in reports)
        if others and all(v.refused for v in others):
            await self._record_refusal(conn, envelope, octets, reading, decision, policy, others)
        elif others:
            read = self._read_beside(reading, conn)
            a = self._drafting.acceptance(
                conn, envelope, octets, reading.facts, read, decision, policy, others
            )
            written = self._crossing.at_record(self._record.accept_desk, a)
            if self._relay is not None:
                self._relay.begin()  # others are sent while this one is written
            accepted: Accepted = await written
            if accepted.claims and self._relay is not None:
                self._relay.take(accepted.claims)
            wire_id, number = id_text(a.submission_id), accepted.number
            again = reading.passage.letters or reading.facts.sender_kind is SenderKind.RETURN
            if again and not accepted.repeat:
                await self._forwarded(envelope.sender, reading)
            metrics.LETTERS_ACCEPTED.labels(a.kind.value).inc()
            maillog.incoming(
                wire_id,
                conn.peer,
                str(envelope.sender),
                octets.size,
                len(a.deliveries),
                number,
                a.kind is LetterKind.PASS,
            )
        return Reply.of(250, "2.0.0", f"Ok: queued as {wire_id}{' ' + number if number else ''}")

    async def _checked(
        self,
        checks: Authentication,
        wants: Wants,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        reading: Reading,
    ) -> Reading:
        """The reading with the results of SPF, DKIM, DMARC and ARC."""
        results = await checks.check(wants, conn, envelope, reading.headers, octets, reading.facts)
        facts = replace(reading.facts, results=authentication_results.summary(results))
        return replace(reading, facts=facts, results=results)

    def _read_beside(self, reading: Reading, conn: Connection) -> Read:
        said = None
        if reading.results or conn.account:
            said = authentication_results.text(reading.results, conn.account)
        wish = read_wish(reading.headers, reading.facts, self._directory())
        return Read(reading.shown, reading.digest, reading.parts, said, wish)

    async def _record_refusal(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        reading: Reading,
        decision: Decision,
        policy: Policy,
        beside: tuple[Verdict, ...] = (),
    ) -> None:
        """The refusal of a whole letter is a record too; the client's own server tells the author."""
        read = self._read_beside(reading, conn)
        a = self._drafting.refusal(conn, envelope, octets, reading.facts, read, decision, policy, beside)
        await self._crossing.at_record(self._record.accept_desk, a)

    async def _with_answered(self, reading: Reading) -> Reading:
        """The reading with the letter that this one answers, if the record knows it.

        Asked only when something is referred to, in a thread: a plain letter does not wait for it.
        """
        facts = reading.facts
        if facts.submitter is None or not (facts.references or facts.subject_number or reading.cites):
            return reading
        facts = self._named(facts, reading.cites)
        named = (facts.subject_number or "", *facts.text_numbers)
        found = await self._loop.run_in_executor(
            self._executor, self._answered, facts.references, named, facts.submitter or ""
        )
        return replace(reading, facts=facts if found is None else replace(facts, answered=found))

    def _named(self, facts: Facts, cites: tuple[Citation, ...]) -> Facts:
        """The facts with the numbers that the letter refers to, in the shape in which we give them."""
        shape, subject = self._settings.number_shape, facts.subject_number
        exact = number_parts(subject) if subject else None
        if exact is not None and exact.code:
            subject = LetterNumber.shape(shape, exact.code, exact.year, exact.seq).text
        if not cites:
            return facts if subject == facts.subject_number else replace(facts, subject_number=subject)
        addressed = list(dict.fromkeys(r.agency for r in facts.recipients if r.agency is not None))
        named = numbers(cites, shape, facts.submitter, addressed)
        return replace(facts, subject_number=subject, text_numbers=named)

    def _answered(
        self, references: tuple[str, ...], numbers: tuple[str, ...], agency: str
    ) -> Answered | None:
        with self._record.read() as conn:
            found = answering.letter_answered(conn, references, numbers, agency)
        if found is None:
            return None
        return Answered(
            letter_id=found.id,
            number=found.number or "",
            agency=found.agency or "",
            classification=found.classification,
            urgency=found.urgency,
            due_us=found.due_us,
        )

    async def _forwarded(self, sender: Address, reading: Reading) -> None:
        """A mailbox or a list sent a letter on: that, and by which agency, is said on the letter."""
        facts = reading.facts
        if facts.submitter is None:
            return
        token = self._reverse_path.parse(sender)
        asked = (
            partial(self._inbound.sent, [token])
            if token is not None
            else partial(self._passages.sent, reading.passage, facts.submitter)
        )
        try:
            sent = await self._loop.run_in_executor(self._executor, asked)
            note = forwarded(sent, facts, now_us())
            if note is not None:
                await self._crossing.at_record(self._record.note_desk, note)
        except (NoSuchDelivery, UnknownMove):
            _log.info("what was forwarded is no longer in the record")
        except Exception:  # the copy itself is recorded, and its 250 due
            _log.exception("that a letter was forwarded could not be noted")

    def _refused(self, conn: Connection, sender: Address, recipient: str, reply: Reply) -> None:
        metrics.REFUSED.labels(str(reply.status or reply.code)).inc()
        maillog.refused(conn.peer, str(sender), recipient, str(reply), conn.helo)

    def _surroundings(self) -> Surroundings:
        directory = self._directory()
        if self._around is None or self._around.directory is not directory:
            self._around = Surroundings(
                directory=directory,
                domain=self._settings.domain,
                is_return=lambda address: self._reverse_path.parse(address) is not None,
                postmaster=self._settings.postmaster,
            )
        return self._around
