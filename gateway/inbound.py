"""What comes back to the gateway's own return addresses: reports become evidence, words go on.

1. The message is kept first: archive and record, as durably as a letter (kind ``report``).
2. A DSN, MDN or bounce is matched to its delivery by the address it came to (:mod:`tracker.matching`)
   and noted; what proves nothing goes to the worklist with its reason.
3. An out-of-office answer, or a refusal that calls itself a read receipt, is noted and, like a person's
   own words, forwarded to the author.
A repeat of the same report adds what was not noted yet and nothing else; of read receipts, which a client
may make anew each time it shows a letter, one that tells what is known is not even kept. Raises what the
record raises: the peer then gets 4xx and sends again, and nothing is noted twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from weakref import WeakValueDictionary

from gateway import metrics
from gateway.crossing import Crossing
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath, Token, TokenKind
from policies.directory import Directory
from tracker import kind as reading_of
from tracker import matching, worklist
from tracker.acceptance import Acceptance, Accepted, DeliveryDraft
from tracker.archive import Octets
from tracker.header import Headers
from tracker.kind import Kind, Reading
from tracker.model import (
    Address,
    AddressError,
    Connection,
    DeliveryKind,
    Envelope,
    LetterKind,
    Recipient,
    id_text,
    now_us,
)
from tracker.noting import Note

_log = logging.getLogger("wasl.inbound")


class Inbound:
    """Takes what came to return addresses. One per process."""

    def __init__(
        self,
        crossing: Crossing,
        reverse_path: ReversePath,
        directory: Callable[[], Directory],
        schedule: RetrySchedule,
        executor: Executor,
    ) -> None:
        self._crossing = crossing
        self._record = crossing.record
        self._reverse_path = reverse_path
        self._directory = directory
        self._schedule = schedule
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def take(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        headers: Headers,
        addresses: Sequence[Address],
        agencies: tuple[str, ...],
    ) -> str:
        """Keep and note one message for these return addresses; returns its id for the reply.

        ``agencies``: those whose server hands it in, several where they share one.
        """
        # Other recipients of the same transaction have an acceptance of their own: one of theirs with the
        # same envelope would be taken for a repeat of this one.
        to = frozenset(addresses)
        envelope = replace(envelope, recipients=tuple(r for r in envelope.recipients if r.address in to))
        view = octets.view()
        reading: Reading = await self._loop.run_in_executor(self._executor, reading_of.read, view)
        tokens = [t for a in addresses if (t := self._reverse_path.parse(a)) is not None]
        sent = await self._loop.run_in_executor(self._executor, self.sent, tokens)
        origin = self._origin(conn, octets, headers, agencies)
        # What two copies of a receipt would tell at one time is told once: the second waits for the first.
        turn = self._turns.setdefault(sent[0].letter_id if sent else 0, asyncio.Lock())
        async with turn:
            notes, strays = await self._loop.run_in_executor(
                self._executor, self._meaning, reading, sent, origin, headers, envelope
            )
            if reading.kind is Kind.MDN and sent and not notes and not strays:
                _log.info("a read receipt from [%s] tells nothing new", conn.peer)
                metrics.REPORTS.labels(reading.kind.value, "known").inc()
                return id_text(self._record.ids.next())
            return await self._keep(conn, envelope, octets, headers, reading, sent, origin, notes, strays)

    async def _keep(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        headers: Headers,
        reading: Reading,
        sent: Sequence[matching.Sent],
        origin: matching.Origin,
        notes: list[Note],
        strays: list[matching.Stray],
    ) -> str:
        refused = any(told.refusal is not None for told in reading.dispositions)
        forward = refused or reading.kind in (Kind.LETTER, Kind.AUTO_REPLY, Kind.UNPARSEABLE)
        drafts = self._forwards(sent) if forward else ()
        at = origin.at_us
        acceptance = Acceptance(
            submission_id=self._record.ids.next(),
            kind=LetterKind.PASS if drafts else LetterKind.REPORT,
            peer=conn,
            envelope=envelope,
            octets=octets,
            at_us=at,
            expires_us=self._schedule.expires_us(at),
            deliveries=drafts,
            agency=conn.agency,
            message_id=headers.message_id,
            subject=(headers.text("subject") or "")[:500] if not drafts else "",
            receipt_for=sent[0].letter_id if sent else None,
            facts={"v": 1, "report": reading.kind.value},
        )
        accepted: Accepted = await self._crossing.at_record(self._record.accept_desk, acceptance)
        report = id_text(accepted.letter_id)
        known: matching.Told = await self._known(sent, report) if accepted.repeat else matching.Told()
        for note in notes:
            if (note.delivery_id, note.event.value) not in known.events:
                told = replace(note, detail={"report": report, **note.detail})
                await self._crossing.at_record(self._record.note_desk, told)
        if strays and not known.unclear:
            strays = [replace(stray, detail={"report": report, **stray.detail}) for stray in strays]
            items = self._unclear(reading, strays, sent, headers, envelope, acceptance)
            await self._crossing.write(lambda conn: worklist.add(conn, items))
        metrics.REPORTS.labels(reading.kind.value, "yes" if notes else "no").inc()
        return report

    def sent(self, tokens: Sequence[Token]) -> list[matching.Sent]:
        """The deliveries that return addresses name; asks the record."""
        with self._record.read() as conn:
            found: list[matching.Sent] = []
            for token in tokens:
                if token.kind is TokenKind.DELIVERY:
                    found += matching.by_delivery(conn, token.id)
                else:
                    found += [s for s in matching.by_letter(conn, token.id) if token.is_hop(s.hop)]
        return list({s.delivery_id: s for s in found}.values())

    def _meaning(
        self,
        reading: Reading,
        sent: Sequence[matching.Sent],
        origin: matching.Origin,
        headers: Headers,
        envelope: Envelope,
    ) -> tuple[list[Note], list[matching.Stray]]:
        if not sent:
            return [], [matching.Stray(reason="its letter is no longer in the record", detail={})]
        if reading.kind is Kind.MDN:
            return self._read(reading, sent, origin)
        if reading.kind in (Kind.DSN, Kind.BOUNCE):
            if not reading.reports:
                return [], [matching.Stray(reason="a report that names no recipient", detail={})]
            return matching.from_reports(sent, reading.reports, origin, bounce=reading.kind is Kind.BOUNCE)
        if reading.dispositions:  # said in words, to be read by a person
            return self._read(reading, sent, origin)[0], []
        if reading.kind is Kind.AUTO_REPLY:
            boxes = headers.addresses("from")
            sender = boxes[0].spec if boxes else str(envelope.sender)
            return matching.from_auto_reply(sent, sender, origin), []
        return [], []

    def _read(
        self, reading: Reading, sent: Sequence[matching.Sent], origin: matching.Origin
    ) -> tuple[list[Note], list[matching.Stray]]:
        """What a read receipt proves that the record does not have yet."""
        with self._record.read() as conn:
            named = matching.recipients(conn, sent[0].letter_id, False)
            notes, strays = matching.from_dispositions(sent, reading.dispositions, origin, named)
            return matching.news(conn, notes, strays, sent[0].letter_id)

    def _origin(
        self, conn: Connection, octets: Octets, headers: Headers, agencies: tuple[str, ...]
    ) -> matching.Origin:
        boxes = headers.addresses("from")
        author = boxes[0].address if len(boxes) == 1 and headers.count("from") == 1 else None
        home = None
        if author is not None:
            directory, host = self._directory(), author.host
            while home is None and "." in host:  # a server may write under its own name: mail.moh.gov.example
                home = directory.by_domain(host)
                host = host.partition(".")[2]
        return matching.Origin(
            agencies=agencies,
            peer=conn.peer,
            at_us=now_us(),
            sha256=octets.sha256.hex(),
            author=str(author) if author is not None else "",
            author_agency=home.code if home is not None else None,
            account=conn.account,
        )

    def _forwards(self, sent: Sequence[matching.Sent]) -> tuple[DeliveryDraft, ...]:
        """The authors to whom a person's words, or an out-of-office answer, go on."""
        drafts: dict[str, DeliveryDraft] = {}
        for one in sent:
            try:
                author = Address.parse(one.sender)
            except AddressError:
                continue
            home = self._directory().by_domain(author.host)
            if home is not None:
                drafts[author.key] = DeliveryDraft(
                    recipient=Recipient(address=author, notify="NEVER"),
                    kind=DeliveryKind.PASS,
                    agency=home.code,
                    hop=home.code,
                )
        return tuple(drafts.values())

    async def _known(self, sent: Sequence[matching.Sent], report: str) -> matching.Told:
        ids = sorted({s.letter_id for s in sent})
        known: matching.Told = await self._crossing.write(
            lambda conn: matching.already_noted(conn, ids, report)
        )
        return known

    def _unclear(
        self,
        reading: Reading,
        strays: Sequence[matching.Stray],
        sent: Sequence[matching.Sent],
        headers: Headers,
        envelope: Envelope,
        acceptance: Acceptance,
    ) -> list[worklist.Unclear]:
        return [
            worklist.Unclear(
                id=self._record.ids.next(),
                at_us=acceptance.at_us,
                kind=reading.kind.value,
                reason=stray.reason,
                sender=str(envelope.sender) or (headers.text("from") or "")[:300],
                subject=(headers.text("subject") or "")[:500],
                letter_id=sent[0].letter_id if sent else None,
                archive_key=self._record.archive.key_for(acceptance.submission_id, acceptance.at_us),
                detail=stray.detail,
            )
            for stray in strays
        ]
