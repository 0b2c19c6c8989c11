"""Mail of the gateway's own: receipts, notices, reminders, digests, answers to commands.

Each is accepted like a letter (archive, record, ledger) and goes out by the relay, with a null reverse-path
(RFC 5321 §4.5.5) and no wish for reports (RFC 3461 §4.1, NOTIFY=NEVER), so that nothing answers it and it
never earns a receipt. What it settles is settled in the transaction that accepts it: a crash neither loses
nor repeats one. The relay of this process takes it at once where it has room; else whoever claims it.

Raises what the record raises; then nothing was accepted, and who made the message makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.crossing import Crossing
from gateway.relay import Relay
from gateway.retry import RetrySchedule
from policies.directory import Directory
from tracker.acceptance import Acceptance, Accepted, DeliveryDraft
from tracker.archive import Octets
from tracker.header import scan
from tracker.model import NULL_PATH, Address, Connection, DeliveryKind, Door, Envelope, LetterKind, Recipient
from tracker.receipts import needs


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMail:
    """One message, complete, and what it settles."""

    message: bytes
    to: tuple[tuple[Address, str], ...]  # recipients, each with the next hop towards it
    about: int | None  # the letter that it speaks of, if it is one
    receipts: tuple[int, ...] = ()  # ids of receipts due
    followups: tuple[int, ...] = ()  # ids of steps of follow-up


class OwnPost:
    """Accepts mail of the gateway's own. One per process."""

    def __init__(
        self,
        crossing: Crossing,
        directory: Callable[[], Directory],
        schedule: RetrySchedule,
        relay: Relay | None,
    ) -> None:
        self._crossing = crossing
        self._record = crossing.record
        self._directory = directory
        self._schedule = schedule
        self._relay = relay

    async def accept(self, mail: OwnMail, at_us: int) -> Accepted:
        """Durable when this returns; a ``repeat`` settled nothing, another node's stands."""
        relay = self._relay
        needed = needs(mail.message)
        drafts = tuple(self._draft(to, hop) for to, hop in mail.to)
        at_once = relay is not None and relay.has_room and all(relay.may_take(d.hop) for d in drafts)
        accepted: Accepted = await self._crossing.at_record(
            self._record.accept_desk,
            Acceptance(
                submission_id=self._record.ids.next(),
                kind=LetterKind.RECEIPT,
                peer=Connection(door=Door.SELF, peer="127.0.0.1"),
                envelope=Envelope(
                    sender=NULL_PATH,
                    recipients=tuple(d.recipient for d in drafts),
                    body="8BITMIME" if needed.eightbit else "7BIT",
                    smtputf8=needed.smtputf8 or not all(to.ascii for to, _ in mail.to),
                ),
                octets=Octets.of(mail.message),
                at_us=at_us,
                expires_us=self._schedule.expires_us(at_us),
                deliveries=drafts,
                message_id=scan(mail.message).message_id,
                receipt_for=mail.about,
                receipt_ids=mail.receipts,
                followup_ids=mail.followups,
                hand_to=relay.owner if relay is not None and at_once else None,
                lease=relay.lease() if relay is not None else None,
            ),
        )
        if accepted.claims and relay is not None:
            relay.take(accepted.claims)
        return accepted

    def _draft(self, to: Address, hop: str) -> DeliveryDraft:
        home = self._directory().by_domain(to.host)
        return DeliveryDraft(
            recipient=Recipient(address=to, notify="NEVER"),
            kind=DeliveryKind.RECEIPT,
            agency=home.code if home is not None else None,
            hop=hop,
            sign=True,
        )
