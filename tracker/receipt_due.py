"""Which news earns the author a receipt by mail: pure decisions, asked before anything is composed.

STANDARDS
    RFC 3461 §4.1 and §6 (NOTIFY), RFC 3834 §2 (never answer automatic mail), RFC 6109 (which receipts
    registered mail has).

An explicit NOTIFY governs delivery status notifications exactly: SUCCESS brings ``delivered``, or
``relayed`` when the next hop will issue none itself; FAILURE brings ``refused``, ``failed`` and
``cancelled``; DELAY brings ``held`` and ``late``. NEVER brings nothing at all for that recipient, no
plain notice either. Without NOTIFY the settings decide. Nothing is sent to a null sender, for
automatic mail, or to a list; since receipts themselves have a null sender and are marked as
automatic, a receipt never earns a receipt. Never raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tracker.notice import ACTIONS, Action, Kind, RecipientFacts
from tracker.states import Event

_NOTIFY = {
    Action.FAILED: "FAILURE",
    Action.DELAYED: "DELAY",
    Action.DELIVERED: "SUCCESS",
    Action.RELAYED: "SUCCESS",
}

DEFAULT_EVENTS = frozenset(
    {
        Event.SUBMITTED,
        Event.REFUSED,
        Event.HELD,
        Event.DELIVERED,
        Event.LATE,
        Event.FAILED,
        Event.CANCELLED,
        Event.READ,
        Event.REGISTERED,
        Event.RETURNED,
        Event.PROCESSED,
    }
)
"""Informs and does not flood: relay and referral are on the dashboard."""

NAMES = {
    "accepted": frozenset({Event.SUBMITTED}),
    "relayed": frozenset({Event.RELAYED}),
    "delivered": frozenset({Event.DELIVERED}),
    "late": frozenset({Event.LATE, Event.HELD}),
    "failed": frozenset({Event.FAILED, Event.CANCELLED, Event.REFUSED}),
    "read": frozenset({Event.READ}),
    "registered": frozenset({Event.REGISTERED}),
    "referred": frozenset({Event.REFERRED}),
    "processed": frozenset({Event.PROCESSED, Event.RETURNED}),
}
"""What settings, agencies and policies call the events."""

PLAIN_MAIL_EVENTS = frozenset({Event.REFUSED, Event.HELD, Event.LATE, Event.FAILED, Event.CANCELLED})
"""What any mail server tells of mail that is no letter, and that a rule holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSettings:
    """What the settings and the policy say of receipts by mail."""

    events: frozenset[Event] = DEFAULT_EVENTS
    gather_above: int = 5  # recipients: then good news is gathered into a digest


PLAIN_MAIL = ReceiptSettings(events=PLAIN_MAIL_EVENTS)


def named(names: Iterable[str]) -> frozenset[Event]:
    """The events that a policy's ``receipts: [accepted, failed]`` means; KeyError for another word."""
    return frozenset(event for name in names for event in NAMES[name])


def changed(events: frozenset[Event], wanted: Iterable[tuple[str, bool]]) -> frozenset[Event]:
    """``events`` with what is ``wanted`` otherwise: the name of some and whether they are due."""
    for name, due in wanted:
        events = events | NAMES[name] if due else events - NAMES[name]
    return events


def due_for(
    event: Event,
    notify: str | None,
    settings: ReceiptSettings,
    *,
    automatic: bool,
    mailing_list: bool,
    null_sender: bool,
    hop_reports: bool = False,
) -> bool:
    """True when ``event`` earns the author of a mail with this NOTIFY a receipt.

    ``hop_reports``: the next hop offered DSN, so success will be reported from beyond it and a
    relay is no end of the matter (RFC 3461 §6.2.2).
    """
    if null_sender or automatic or mailing_list or Kind.of(event) is None:
        return False
    asked = wishes(notify)
    if "NEVER" in asked:
        return False
    action = ACTIONS.get(event)
    if not asked or action is None:
        return event in settings.events
    if action is Action.RELAYED and hop_reports:
        return False
    return _NOTIFY[action] in asked


@lru_cache(maxsize=512)
def asks(
    notify: str | None,
    settings: ReceiptSettings,
    *,
    automatic: bool,
    mailing_list: bool,
    null_sender: bool,
    hop_reports: bool = False,
) -> tuple[Event, ...]:
    """Every event that would earn a receipt, in the order of the events' table: kept with the delivery."""
    return tuple(
        event
        for event in Event
        if due_for(
            event,
            notify,
            settings,
            automatic=automatic,
            mailing_list=mailing_list,
            null_sender=null_sender,
            hop_reports=hop_reports,
        )
    )


def wishes(notify: str | None) -> frozenset[str]:
    """The keywords of a NOTIFY parameter (RFC 3461 §4.1); empty when there was none or it is no such list."""
    if notify is None:
        return frozenset()
    words = frozenset(word.strip().upper() for word in notify.split(","))
    return words & {"NEVER", "SUCCESS", "FAILURE", "DELAY"}


def gathered(event: Event, recipients: int, settings: ReceiptSettings) -> bool:
    """True when news of ``event`` waits for the digest of a letter with that many recipients.

    What somebody has to act on (a refusal, a failure, a delay, a return) never waits.
    """
    urgent = ACTIONS.get(event) in (Action.FAILED, Action.DELAYED) or event is Event.RETURNED
    return recipients > settings.gather_above and not urgent and event is not Event.SUBMITTED


def bundles(facts: Iterable[RecipientFacts], *, digest: bool) -> list[tuple[Kind, Sequence[RecipientFacts]]]:
    """What is due at one moment for one letter, as few messages as can be: one a kind, or one digest.

    Events that are never announced are left out. Read receipts stay single, since a disposition
    report speaks of one recipient (RFC 8098 §3).
    """
    by_kind: dict[Kind, list[RecipientFacts]] = {}
    for fact in facts:
        kind = Kind.of(fact.event)
        if kind is not None:
            by_kind.setdefault(kind, []).append(fact)
    if digest and sum(map(len, by_kind.values())) > 1:
        return [(Kind.DIGEST, tuple(fact for found in by_kind.values() for fact in found))]
    out: list[tuple[Kind, Sequence[RecipientFacts]]] = []
    for kind, found in by_kind.items():
        out += [(kind, (fact,)) for fact in found] if kind is Kind.READ else [(kind, tuple(found))]
    return out
