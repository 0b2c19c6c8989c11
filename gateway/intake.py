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
from typing import Any

from gateway import authentication_results, maillog, metrics
from gateway.authentication import Authentication, Wants
from gateway.authentication_results import Result
from gateway.budget import Budget
from gateway.crossing import Crossing
from gateway.desk import MailParams
from gateway.inbound import Inbound
from gateway.instance import Instance
from gateway.relay import Relay
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath, TokenKind
from gateway.submission import PasswordCheck
from policies.attachment import look
from policies.chain import Policy
from policies.directory import Agency, Directory
from policies.facts import Automatic, Facts, Surroundings, compute, of_envelope
from policies.verdict import Action, Kind, Verdict
from tracker import matching
from tracker.acceptance import Acceptance, Accepted, DeliveryDraft
from tracker.archive import ArchiveFull, Octets, Spool
from tracker.header import Headers, own_digest, scan
from tracker.mime import Structure, digests, walk
from tracker.model import (
    Address,
    Connection,
    DeliveryKind,
    Door,
    Envelope,
    LetterKind,
    Recipient,
    id_text,
    now_us,
)
from tracker.receipt_due import PLAIN_MAIL, ReceiptSettings, asks, changed, named
from tracker.reply import Reply
from tracker.search import fold
from tracker.states import State

_log = logging.getLogger("wasl.intake")

INLINE = 65_536  # octets; a plain letter up to this size is read on the loop, all others in a thread

READ_AT_ONCE = 32 * 1024 * 1024  # octets of large letters whose parts are decoded at one time

_FULL = Reply.of(452, "4.3.1", "Insufficient system storage")
_NO_RECORD = Reply.of(451, "4.3.0", "The record is not available, please try again later")
_WRONG = Reply.of(535, "5.7.8", "Authentication credentials invalid")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in a letter, once."""

    headers: Headers
    facts: Facts
    shown: frozenset[str]  # keys of the addresses in To and Cc
    digest: bytes | None
    parts: tuple[bytes, ...]
    results: tuple[Result, ...] = ()  # of our own checks


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """What of the settings concerns the intake."""

    domain: str
    number_shape: str
    tag_subject: bool
    receipts: ReceiptSettings
    keep_free: int  # octets
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
        authentication: Authentication | None = None,
    ) -> None:
        self._authentication = authentication
        self._crossing = crossing
        self._record = crossing.record
        self._settings = settings
        self._directory = directory
        self._policy = policy
        self._reverse_path = reverse_path
        self._instance = instance
        self._schedule = schedule
        self._passwords = passwords
        self._inbound = inbound
        self._relay = relay
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._around: Surroundings | None = None
        self._free_until = 0.0
        self._budget = Budget(READ_AT_ONCE)

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
        facts = of_envelope(conn, sender, [rcpt], self._surroundings())
        verdict = self._policy().recipient(facts, len(so_far))
        if verdict.reply is None or not verdict.refused:
            return None
        self._refused(conn, sender, str(rcpt.address), verdict.reply)
        return verdict.reply

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
        except Exception:
            _log.exception("a letter from [%s] was put off", conn.peer)
            return _NO_RECORD
        finally:
            octets.discard()  # what was stored is no longer a spool file
            metrics.ACCEPT_SECONDS.observe(time.perf_counter() - began)

    async def _letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        view = octets.view()
        headers = scan(view)
        around = self._surroundings()
        ours = envelope.sender.host == self._settings.domain  # may be a redirection: the record is asked
        if octets.size <= INLINE and not _has_structure(headers) and not ours:
            reading = self._read(conn, envelope, octets, headers, around)
        else:
            async with self._budget.take(octets.size):
                reading = await self._loop.run_in_executor(
                    self._executor, self._read, conn, envelope, octets, headers, around
                )
        policy = self._policy()
        if self._authentication is not None:
            wants = self._authentication.worth(reading.facts, headers)
            if wants is not None:
                reading = await self._checked(self._authentication, wants, conn, envelope, octets, reading)
        decision = policy.decide(reading.facts)
        answer = decision.refusal
        if answer is not None:
            self._refused(conn, envelope.sender, str(envelope.recipients[0].address), answer)
            if reading.facts.submitter is not None:
                await self._record_refusal(conn, envelope, octets, reading, decision.verdicts, policy.version)
            return answer
        wire_id = ""
        number: str | None = None
        reports = [v for v in decision.verdicts if v.kind is Kind.REPORT and not v.refused]
        if reports:
            wire_id = await self._inbound.take(
                conn, envelope, octets, reading.headers, [v.recipient.address for v in reports]
            )
        others = tuple(v for v in decision.verdicts if v not in reports)
        if any(not v.refused for v in others):
            a = self._acceptance(conn, envelope, octets, reading, others, decision.to_json(), policy.version)
            accepted: Accepted = await self._crossing.at_record(self._record.accept_desk, a)
            if accepted.claims and self._relay is not None:
                self._relay.take(accepted.claims)
            wire_id, number = id_text(a.submission_id), accepted.number
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

    def _read(
        self, conn: Connection, envelope: Envelope, octets: Octets, headers: Headers, around: Surroundings
    ) -> Reading:
        """Everything that is read in a letter; bounded, and never raises on any message."""
        view = octets.view()
        structure: Structure | None = None
        if _has_structure(headers):
            structure = walk(view, headers)
        facts = compute(
            headers,
            octets.size,
            envelope,
            conn,
            around,
            looped=self._looped(headers, envelope),
            attachments=look(view, structure) if structure is not None else (),
        )
        shown = {
            box.address.key
            for name in ("to", "cc")
            for box in headers.addresses(name)
            if box.address is not None
        }
        if facts.submitter is None:
            return Reading(headers, facts, frozenset(shown), None, ())
        made = digests(view, structure if structure is not None else walk(view, headers))
        parts = ((made.text,) if made.text else ()) + tuple(p.sha256 for p in made.parts)
        return Reading(headers, facts, frozenset(shown), own_digest(view, headers), parts)

    def _looped(self, headers: Headers, envelope: Envelope) -> bool:
        """True when the letter bears our mark, unless a mailbox redirects its copy to somebody new.

        A redirection keeps our return address as its sender (DESIGN §11); it goes in circles once it
        comes to a recipient that the letter has had already.
        """
        if "wasl-instance" not in headers or self._instance.seen(headers.all("wasl-instance")) is None:
            return False
        token = self._reverse_path.parse(envelope.sender)
        if token is None:
            return True
        with self._record.read() as conn:
            had = matching.recipients(conn, token.id, token.kind is TokenKind.DELIVERY)
        return not had or any(r.address.key in had for r in envelope.recipients)

    def _acceptance(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        reading: Reading,
        verdicts: tuple[Verdict, ...],
        decision: dict[str, Any],
        policy_version: str,
    ) -> Acceptance:
        facts = reading.facts
        at = now_us()
        kinds = {v.kind for v in verdicts if not v.refused}
        kind = (
            LetterKind.LETTER
            if Kind.LETTER in kinds
            else LetterKind.SHADOW
            if Kind.SHADOW in kinds
            else LetterKind.PASS
        )
        directory = self._directory()
        agency = directory.agency(facts.submitter) if facts.submitter else None
        letters = kind is not LetterKind.PASS
        relay = self._relay
        hand_over = relay is not None and relay.has_room and len(verdicts) <= 200
        owner = relay.owner if relay is not None and hand_over else None
        stored: dict[str, Any] = facts.to_json() if letters else {"v": 1, "hops": facts.hops}
        if reading.results:
            stored["results"] = facts.results
        if reading.results or conn.account:
            said = authentication_results.text(reading.results, conn.account)
            stored["authentication_results"] = said
        drafts = tuple(self._draft(v, reading, agency, at) for v in verdicts)
        if owner is not None and relay is not None and not all(relay.may_take(d.hop) for d in drafts):
            owner = None  # a next hop that rests or is full: the record keeps its letters until it can
        submission_id = self._record.ids.next()
        message_id = facts.message_id
        if message_id is None and kind is LetterKind.LETTER:
            message_id = f"<{id_text(submission_id)}@{self._settings.domain}>"  # RFC 6409 §8.3
        return Acceptance(
            submission_id=submission_id,
            kind=kind,
            peer=conn,
            envelope=envelope,
            octets=octets,
            at_us=at,
            expires_us=self._schedule.expires_us(at),
            deliveries=drafts,
            agency=facts.submitter,
            author=facts.author if letters else "",
            author_name=facts.author_name if letters else "",
            message_id=message_id,
            references=facts.references,
            subject_number=facts.subject_number,
            subject=facts.subject if letters else "",
            subject_fold=fold(facts.subject) if letters else "",
            digest=reading.digest,
            parts=reading.parts if letters else (),
            number_shape=self._settings.number_shape if kind is LetterKind.LETTER else None,
            facts=stored,
            decision=decision if letters else {},
            policy_version=policy_version,
            hand_to=owner,
            lease_us=relay.lease_until(at) if relay is not None else 0,
        )

    def _draft(self, v: Verdict, reading: Reading, agency: Agency | None, at: int) -> DeliveryDraft:
        facts = reading.facts
        target = v.recipient if v.redirect is None else replace(v.recipient, address=v.redirect)
        state = State.QUEUED
        reason: dict[str, Any] = {}
        if v.refused:
            state = State.REFUSED
        elif v.action is Action.HOLD:
            state = State.HELD
        if state is not State.QUEUED:
            reason = {
                "rule": v.rule,
                "reply": str(v.reply) if v.reply else "",
                "ar": v.text_ar,
                "en": v.text_en,
            }
        kind = DeliveryKind.PASS if v.kind is Kind.REPORT else v.delivery_kind
        return DeliveryDraft(
            recipient=target,
            kind=kind,
            agency=v.agency,
            hop=v.hop,
            state=state,
            bcc=bool(reading.shown) and v.recipient.address.key not in reading.shown,
            asks=self._asks(v, facts, agency),
            tag=v.tag,
            subject_tag=v.tag and (self._settings.tag_subject if v.subject_tag is None else v.subject_tag),
            sign=v.sign,
            require_tls=v.require_tls,
            reason=reason,
        )

    def _asks(self, v: Verdict, facts: Facts, agency: Agency | None) -> tuple[str, ...]:
        """The events that earn the author a receipt: policy first, then the agency, then the settings.

        An agency in shadow mode is told no more than any mail server would tell it.
        """
        followed = v.kind not in (Kind.PASS, Kind.SHADOW)
        settings = self._settings.receipts if followed else PLAIN_MAIL
        if followed and v.receipts is not None:
            settings = replace(settings, events=named(v.receipts))
        elif followed and agency is not None:
            settings = replace(settings, events=changed(settings.events, agency.receipts))
        lists = bool(facts.automatic & {Automatic.LIST, Automatic.BULK})
        others = bool(facts.automatic - {Automatic.LIST, Automatic.BULK})
        told = {
            hop_reports: asks(
                v.recipient.notify,
                settings,
                automatic=others,
                mailing_list=lists,
                null_sender=not facts.sender,
                hop_reports=hop_reports,
            )
            for hop_reports in (False, True)
        }
        # Whether the next hop will report success is known when it has answered EHLO.
        return tuple(e.value if e in told[True] else f"{e.value}?" for e in told[False])

    async def _record_refusal(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        reading: Reading,
        verdicts: tuple[Verdict, ...],
        policy_version: str,
    ) -> None:
        """The refusal of a whole letter is a record too; the client's own server tells the author."""
        decision = {"verdicts": [v.to_json() for v in verdicts]}
        a = self._acceptance(conn, envelope, octets, reading, verdicts, decision, policy_version)
        drafts = tuple(replace(d, asks=()) for d in a.deliveries)
        a = replace(
            a,
            kind=LetterKind.REFUSED,
            deliveries=drafts,
            number_shape=None,
            hand_to=None,
            author=reading.facts.author,
            author_name=reading.facts.author_name,
            subject=reading.facts.subject,
            subject_fold=fold(reading.facts.subject),
            facts=reading.facts.to_json(),
            decision=decision,
        )
        await self._crossing.at_record(self._record.accept_desk, a)

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


def _has_structure(headers: Headers) -> bool:
    """True when a letter is more than one plain text."""
    declared = (headers.raw("content-type") or b"text/plain").lstrip().lower()
    return not declared.startswith(b"text/plain") or "content-disposition" in headers
