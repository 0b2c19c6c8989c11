"""Receipts to authors: what is due is composed and becomes an ordinary outgoing message (DESIGN §4, 10).

Claim, do, note again: the record says what is due, :mod:`tracker.receipts` composes, and the message
is accepted in the same transaction that settles the receipt, so that a crash neither loses nor
repeats one. A receipt that carries a proof waits for its checkpoint, which is signed here when one
is needed. Receipts go out with a null reverse-path and never earn a receipt.

How it fails: while the record or the archive cannot be read, what is due stays due. A letter whose octets
stay unreadable for ``UNREADABLE_US``, or are gone, is told of without its header. What cannot be composed
for another reason is set aside, which the log says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from gateway import metrics
from gateway.crossing import Crossing
from gateway.own_mail import OwnMail, OwnPost
from policies.chain import Policy
from policies.directory import Agency, Directory
from tracker import due_receipts, rule_notice
from tracker.archive import ArchiveMissing
from tracker.due_receipts import NOTIFY, Bundle, DeliveryRow, DueReceipt, LetterRow
from tracker.evidence_record import Evidence, evidence_file, evidence_record
from tracker.header import scan
from tracker.ledger import EvidenceRow, Ledger, opening, proof_text
from tracker.model import Address, AddressError, DeliveryKind, now_us
from tracker.notice import GatewayIdentity, Kind, LetterFacts, Notice, RecipientFacts
from tracker.outage import Outage, in_a_line, is_outage
from tracker.receipt_due import ReceiptSettings
from tracker.receipts import compose
from tracker.reply import EnhancedStatus, Reply, ReplyError
from tracker.rule_notice import RuleNotice, RuleTold
from tracker.states import Event, Grade
from tracker.store_errors import refused

_log = logging.getLogger("wasl.notices")

UNREADABLE_US = 3_600_000_000  # how long a receipt waits for the octets of its letter
RETURNED = 1_000_000  # octets: a larger letter comes back as its header only, whatever RET said
_HEAD = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSettings:
    """What of the settings concerns receipts."""

    gateway: GatewayIdentity
    receipts: ReceiptSettings
    digest_us: int
    pause_s: float = 0.5
    code: Callable[[str], str] = lambda number: ""  # of a letter's number, for the verify page


@dataclass(frozen=True, slots=True)
class _Made:
    bundle: Bundle
    to: tuple[Address, ...]
    message: bytes


class Notices:
    """The worker that sends receipts. One per process."""

    def __init__(
        self,
        crossing: Crossing,
        settings: NoticeSettings,
        directory: Callable[[], Directory],
        post: OwnPost,
        executor: Executor,
        policy: Callable[[], Policy] | None = None,
    ) -> None:
        self._policy = policy
        self._crossing = crossing
        self._record = crossing.record
        self._settings = settings
        self._directory = directory
        self._post = post
        self._executor = executor
        self._ledger = Ledger(crossing.record.ledger.key)  # to read proofs with; the record signs
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._outage = Outage(_log, "receipts cannot be sent")
        self._unread = Outage(_log, "letters that receipts tell of cannot be read")

    async def run(self) -> None:
        """Send what is due until :meth:`stop`."""
        while not self._stopping.is_set():
            busy = False
            try:
                busy = await self.send_due() > 0
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)
            if not busy:
                try:
                    await asyncio.wait_for(self._stopping.wait(), self._settings.pause_s)
                except TimeoutError:
                    continue

    def stop(self) -> None:
        self._stopping.set()

    async def send_due(self) -> int:
        """Compose and accept one lot; returns how many messages that made.

        One that the record does not take keeps none of the others back; its error is raised after them.
        """
        if await self._loop.run_in_executor(self._executor, self._uncovered):
            await self._crossing.write(self._record.sign_head)
        made, hopeless = await self._loop.run_in_executor(self._executor, self._compose_due)
        if hopeless:
            await self._crossing.write(lambda conn: due_receipts.drop(conn, hopeless))
        first: Exception | None = None
        for item in made:
            try:
                await self._accept(item)
            except Exception as error:
                if is_outage(error) and not refused(error):
                    raise
                first = first or error
        if first is not None:
            raise first
        return len(made)

    async def _accept(self, item: _Made) -> None:
        letter, receipts = item.bundle.letter, item.bundle.receipts
        mail = OwnMail(
            message=item.message,
            to=tuple((to, self._way(to, letter.agency)) for to in item.to),
            about=letter.id,
            receipts=tuple(r.id for r in receipts),
        )
        await self._post.accept(mail, now_us())
        for receipt in receipts:
            metrics.RECEIPTS.labels(receipt.kind).inc()

    def _uncovered(self) -> bool:
        with self._record.read() as conn:
            return due_receipts.uncovered(conn)

    def _compose_due(self) -> tuple[list[_Made], list[DueReceipt]]:
        made: list[_Made] = []
        hopeless: list[DueReceipt] = []
        with self._record.read() as conn:
            bundles = due_receipts.due(
                conn, now_us(), settings=self._settings.receipts, digest_us=self._settings.digest_us
            )
            for bundle in bundles:
                told = bundle.receipts[0]
                to = self._addresses(bundle)
                if not to:
                    _log.warning("nobody can be told of %s: no way to %r", told.kind, told.recipient)
                    hopeless += bundle.receipts
                    continue
                try:
                    if told.kind == NOTIFY:
                        made.append(_Made(bundle, to, self._rule_notice(conn, bundle, to)))
                        continue
                    notice = self._notice(bundle, to)
                    evidence, proof = self._proof(conn, bundle, notice)
                    made.append(_Made(bundle, to, compose(replace(notice, evidence=evidence, proof=proof))))
                except OSError as error:  # of the archive: what is due stays due, and others go out
                    self._unread.failed(error)
                except Exception as error:
                    if is_outage(error):
                        raise
                    _log.exception("the receipt %s cannot be composed; set aside", bundle.receipts[0].id)
                    hopeless += bundle.receipts
        return made, hopeless

    def _addresses(self, bundle: Bundle) -> tuple[Address, ...]:
        """Whom to tell: those to whom a next hop leads.

        The author's own wish says who gets read receipts, unless policy names others for all of them.
        """
        out: list[Address] = []
        told, letter = bundle.receipts[0], bundle.letter
        wished = told.kind == Event.READ.value and letter.read_to and told.recipient == letter.sender
        for word in letter.read_to if wished else told.recipient.split(" "):
            try:
                to = Address.parse(word)
            except AddressError:
                continue
            if self._way(to, bundle.letter.agency):
                out.append(to)
        return tuple(out)

    def _rule_notice(self, conn: Any, bundle: Bundle, to: tuple[Address, ...]) -> bytes:
        """The mail to those whom a rule wants told."""
        letter = bundle.letter
        applied = due_receipts.applied(conn, letter.id)
        policy = self._policy() if self._policy is not None else None
        rules: list[RuleTold] = []
        for name in applied.rules:
            rule = policy.rule(name) if policy is not None else None
            if rule is None or rule.effect.notify:  # one that is gone by now may have been it
                rules.append(RuleTold(id=name, ar=rule.ar if rule else "", en=rule.en if rule else ""))
        return rule_notice.compose(
            RuleNotice(
                gateway=self._settings.gateway,
                to=to,
                rules=tuple(rules),
                number=letter.number,
                author=letter.author or letter.sender,
                subject=letter.subject,
                recipients=applied.recipients,
                at_us=letter.accepted_us,
            )
        )

    def _way(self, to: Address, submitter: str | None) -> str:
        """The next hop towards an author; empty when there is none.

        A sender of elsewhere, whose mail an agency forwarded, is told the way that the mail came: by
        the agency's way to the outside, or else by its own server, which vouched for that sender.
        """
        directory = self._directory()
        home = directory.by_domain(to.host)
        if home is not None and home.next_hop is not None:
            return home.code
        agency = directory.agency(submitter) if submitter else None
        if agency is None:
            return ""
        return next((hop.name for hop in (agency.outbound, agency.next_hop) if hop is not None), "")

    def _notice(self, bundle: Bundle, to: tuple[Address, ...]) -> Notice:
        letter = bundle.letter
        author = to[0]
        if letter.sender and letter.sender != str(author):  # policy has others told
            author = Address.recorded(letter.sender)
        sender = self._agency(letter.agency)
        recipients: list[RecipientFacts] = []
        for receipt in bundle.receipts:
            told = [d for d in letter.deliveries if receipt.delivery_id in (0, d.id)]
            if receipt.delivery_id == 0:  # the acceptance: of whom, whatever a person has refused since
                told = [d for d in told if d.grade >= Grade.ACCEPTED and d.kind != DeliveryKind.PASS.value]
            recipients += [self._recipient(receipt, d) for d in told]
        kind = Kind.DIGEST if len(bundle.receipts) > 1 else Kind(bundle.receipts[0].kind)
        head = b""
        original: bytes | None = None
        if kind is not Kind.SUBMITTED:
            try:
                head, original = self._original(letter, kind is Kind.FAILED)
            except OSError as error:
                waited = now_us() - min(r.due_us for r in bundle.receipts)
                if not isinstance(error, ArchiveMissing) and 0 <= waited < UNREADABLE_US:
                    raise
                _log.error("a receipt goes without its letter's header: %s", in_a_line(error))
        return Notice(
            kind=kind,
            gateway=self._settings.gateway,
            letter=LetterFacts(
                author=author,
                accepted_us=letter.accepted_us,
                number=letter.number,
                subject=letter.subject,
                author_name=letter.author_name if author.key == letter.author.casefold() else "",
                agency=letter.agency or "",
                agency_ar=sender.name_ar if sender else "",
                agency_en=sender.name_en if sender else "",
                message_id=letter.message_id,
                references=letter.references,
                sha256=letter.sha256,
                envid=letter.envid,
                verify_code=self._settings.code(letter.number) if letter.number else "",
            ),
            recipients=tuple(recipients),
            at_us=max(r.at_us for r in bundle.receipts),
            original_headers=head,
            original=original,
            to=() if to == (author,) else to,
        )

    def _original(self, letter: LetterRow, failed: bool) -> tuple[bytes, bytes | None]:
        """The letter's header, and the whole where it comes back (RFC 3461 §4.3); raises OSError."""
        octets = self._record.archive.open(letter.archive_key)
        try:
            view = octets.view()
            head = bytes(view[: min(scan(view).body_start, _HEAD)])
            whole = failed and letter.ret == "FULL" and octets.size <= RETURNED
            return head, bytes(view) if whole else None
        finally:
            octets.close()

    def _recipient(self, receipt: DueReceipt, d: DeliveryRow) -> RecipientFacts:
        detail = receipt.detail
        reply = str(detail.get("reply") or detail.get("diagnostic") or d.last_reply or "")
        agency = self._agency(d.agency)
        event = Event(receipt.event)
        remote = detail.get("remote_mta") or detail.get("reporting_mta") or detail.get("peer") or ""
        # Their detail speaks of a client, not of a server that was sent to.
        quiet = event in (Event.SUBMITTED, Event.READ)
        return RecipientFacts(
            address=Address.recorded(d.recipient),
            event=event,
            at_us=receipt.at_us,
            grade=Grade(receipt.grade),
            orcpt=d.orcpt,
            agency=d.agency or "",
            agency_ar=agency.name_ar if agency else "",
            agency_en=agency.name_en if agency else "",
            status=None if quiet else _status(detail.get("status"), reply),
            reply="" if quiet else reply,
            remote_mta="" if quiet else str(remote),
            attempts=d.attempts,
            last_attempt_us=None if quiet else receipt.at_us,
            retry_until_us=d.expires_us if event in (Event.LATE, Event.HELD) else None,
            reason_ar=_reason(detail, "ar"),
            reason_en=_reason(detail, "en"),
            person=str(detail.get("person") or ""),
            incoming_number=str(detail.get("incoming_number") or ""),
            referred_to=str(detail.get("to") or "") if event is Event.REFERRED else "",
            answer_number=str(detail.get("answer") or "") if receipt.source == "answer" else "",
            disposition=_disposition(detail) if event is Event.READ else "",
            read_mode=_mode(detail) if event is Event.READ else "",
        )

    def _proof(self, conn: Any, bundle: Bundle, notice: Notice) -> tuple[bytes | None, bytes | None]:
        """evidence.json and proof.txt: the acceptance, then what the receipt tells (LEDGER.md 5)."""
        records: list[bytes] = []
        proofs: list[str] = []
        self._ledger.key = self._record.ledger.key  # which may be a new one by now
        for row, seq in due_receipts.told(conn, bundle):
            checkpoint = self._ledger.covering(conn, seq)
            if checkpoint is None:
                continue
            whole = row.delivery_id is None
            about = [d for d in bundle.letter.deliveries if whole or d.id == row.delivery_id]
            told = next((r for r in bundle.receipts if r.evidence_id == row.id), None)
            recipients = tuple(self._recipient(told or _as_told(row), d) for d in about)
            records.append(
                evidence_record(
                    Evidence(
                        id=row.id,
                        gateway=notice.gateway,
                        letter=notice.letter,
                        recipients=recipients,
                        event=Event(row.event),
                        at_us=row.at_us,
                        grade=Grade(row.grade),
                        ledger_index=seq,
                        parts=bundle.letter.parts,
                        opening=opening(row),
                    ),
                    self._record.ledger.key,
                )
            )
            proofs.append(proof_text(self._ledger.prove(conn, seq, checkpoint.size), checkpoint.note))
        if not records:
            return None, None
        return evidence_file(records), "".join(proofs).encode()

    def _agency(self, code: str | None) -> Agency | None:
        return self._directory().agency(code) if code else None


def _reason(detail: dict[str, object], language: str) -> str:
    """The rule's words, and what a person wrote beside an act: a note, a reason, a result."""
    words = [str(detail.get(key) or "").strip() for key in (language, "note", "text")]
    return " — ".join(word for word in words if word)


def _as_told(row: EvidenceRow) -> DueReceipt:
    """The acceptance, in the form in which receipts tell an event."""
    return DueReceipt(
        id=0,
        letter_id=row.letter_id,
        delivery_id=row.delivery_id or 0,
        kind=row.event,
        recipient="",
        evidence_id=row.id,
        due_us=row.at_us,
        event=row.event,
        grade=row.grade,
        at_us=row.at_us,
        source=row.source,
        reporter=row.reporter,
        detail=dict(row.detail),
        entry_seq=None,
    )


def _status(told: object, reply: str) -> EnhancedStatus | None:
    if isinstance(told, str):
        try:
            return EnhancedStatus.parse(told)
        except ReplyError:
            return None
    try:
        return Reply.parse([reply]).status
    except ReplyError:
        return None


def _mode(detail: dict[str, object]) -> str:
    mode = detail.get("mode")
    return mode if isinstance(mode, str) and mode in ("manual-action", "automatic-action") else ""


def _disposition(detail: dict[str, object]) -> str:
    """The disposition that is passed on; what the recipient's program does not say is not claimed."""
    sent = "manually" if detail.get("sending_mode") == "mdn-sent-manually" else "automatically"
    return f"{_mode(detail) or 'automatic-action'}/MDN-sent-{sent}; displayed"
