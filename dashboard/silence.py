"""What silence means, in plain words: what was asked for a letter, and what an agency is used to give.

Absence of a receipt is shown as absence (DESIGN, promise 2). Beside it stands what was asked and when, and
how often the agency's servers and clients gave such evidence of their newest letters, so that whoever follows
up knows whether its lack says anything. Pure but for the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dashboard.language import N_, Tongue
from dashboard.show import Dates
from tracker.evidence_kinds import EvidenceKind, KindSeen
from tracker.letter_page import RecipientRow
from tracker.silence import Question
from tracker.states import Event, Grade, Outcome, State

FEW = 10  # letters: of fewer nothing can be told
OFTEN, SELDOM = 0.8, 0.2

KINDS: dict[EvidenceKind, tuple[str, str]] = {
    EvidenceKind.LMTP: (N_("Mailbox at hand-over"), N_("the server's own answer was the mailbox (LMTP)")),
    EvidenceKind.DSN: (N_("Delivery report"), N_("a DSN by mail: it is in the mailbox")),
    EvidenceKind.MDN: (N_("Read receipt"), N_("an MDN by mail: it was displayed")),
    EvidenceKind.PROXY: (N_("Fetched"), N_("its clients come through the IMAP proxy")),
    EvidenceKind.WATCH: (N_("Seen in the mailbox"), N_("Wasl looks into its mailbox")),
    EvidenceKind.REGISTRY: (N_("Registry"), N_("a folder, a keyword or a person said what was done")),
}


class Matter(StrEnum):
    """What a sender wants to know."""

    DELIVERY = "delivery"
    READING = "reading"
    WORK = "work"


_TELLS: dict[Matter, tuple[EvidenceKind, ...]] = {
    Matter.DELIVERY: (EvidenceKind.LMTP, EvidenceKind.DSN, EvidenceKind.WATCH, EvidenceKind.PROXY),
    Matter.READING: (EvidenceKind.MDN,),
    Matter.WORK: (EvidenceKind.REGISTRY,),
}
_SENTENCES: dict[Matter, tuple[str, str, str, str]] = {
    # never, seldom, sometimes, nearly always
    Matter.DELIVERY: (
        N_("Its servers never confirm the mailbox: no confirmation says nothing about delivery."),
        N_("Its servers seldom confirm the mailbox: no confirmation says little about delivery."),
        N_("Its servers confirm the mailbox sometimes: no confirmation says little about delivery."),
        N_("Its servers nearly always confirm the mailbox: without a confirmation, look into it."),
    ),
    Matter.READING: (
        N_("Its clients never send read receipts: no receipt says nothing about reading."),
        N_("Its clients seldom send read receipts: no receipt says little about reading."),
        N_("Its clients send read receipts sometimes: no receipt says little about reading."),
        N_("Its clients nearly always send read receipts: without one it has probably not been opened."),
    ),
    Matter.WORK: (
        N_("Its registry never records its work here: no registration says nothing about it."),
        N_("Its registry seldom records its work here: no registration says little."),
        N_("Its registry records its work sometimes: ask when something stays without it."),
        N_("Its registry nearly always records its work: what is not registered has not been taken in."),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyHabits:
    """How often an agency gave each kind of evidence, of the newest letters that its server took."""

    agency: str
    of: int
    kinds: Mapping[EvidenceKind, KindSeen]

    def share(self, matter: Matter) -> float:
        """Of the kind that tells most about a matter."""
        return max((self.kinds[kind].share for kind in _TELLS[matter] if kind in self.kinds), default=0.0)

    @property
    def few(self) -> bool:
        return self.of < FEW

    def told(self, matter: Matter, tongue: Tongue) -> str:
        """What silence about a matter means here."""
        if self.few:
            return tongue.say("Too few letters to tell.")
        share = self.share(matter)
        step = 0 if share == 0 else 1 if share < SELDOM else 2 if share < OFTEN else 3
        return tongue.say(_SENTENCES[matter][step])

    def tone(self, kind: EvidenceKind) -> str:
        """How a cell of the table is drawn."""
        seen = self.kinds.get(kind)
        if seen is None or not seen.deliveries:
            return "none"
        return "ok" if seen.share >= OFTEN else "warn" if seen.share >= SELDOM else "soft"


def habits(kinds: Iterable[KindSeen]) -> dict[str, AgencyHabits]:
    """By agency."""
    found: dict[str, dict[EvidenceKind, KindSeen]] = {}
    for seen in kinds:
        found.setdefault(seen.agency, {})[seen.kind] = seen
    return {
        code: AgencyHabits(agency=code, of=next(iter(known.values())).of, kinds=known)
        for code, known in found.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One thing that was asked for a recipient, and what came of it. ``tone``: ok, none, soft."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """What is not known of one recipient."""

    missing: tuple[str, ...]  # "of reading"
    asked: tuple[Asking, ...]
    means: tuple[str, ...]  # what that says, of this agency


def silence_of(
    row: RecipientRow,
    question: Question | None,
    known: AgencyHabits | None,
    tongue: Tongue,
    dates: Dates,
) -> Silence | None:
    """What is not known of a recipient who has the letter; None when nothing is missing or it never left."""
    if row.state is not State.SENT or row.outcome in (Outcome.FAILED, Outcome.RETURNED, Outcome.CLOSED):
        return None
    if row.grade >= Grade.PROCESSED and row.outcome is not Outcome.REOPENED:
        return None
    say = tongue.say
    missing: list[str] = []
    asked: list[Asking] = []
    means: list[str] = []
    delivered = row.grade >= Grade.DELIVERED
    read = row.proven(Event.READ) is not None
    registered = row.grade >= Grade.REGISTERED
    if not delivered:
        missing.append(say("of the mailbox"))
        means += [known.told(Matter.DELIVERY, tongue)] if known is not None else []
    if not read and not registered:
        missing.append(say("of reading"))
        means += [known.told(Matter.READING, tongue)] if known is not None else []
    if not registered:
        missing.append(say("of registration"))
        means += [known.told(Matter.WORK, tongue)] if known is not None else []
    if not missing:
        return None
    if question is not None:
        asked = _asked(row, question, delivered, read, tongue, dates)
    return Silence(missing=tuple(missing), asked=tuple(asked), means=tuple(dict.fromkeys(means)))


def _asked(
    row: RecipientRow, question: Question, delivered: bool, read: bool, tongue: Tongue, dates: Dates
) -> list[Asking]:
    say, at = tongue.say, dates.moment(question.at_us)
    out = []
    if delivered:
        out.append(Asking(text=say("The mailbox is confirmed."), tone="ok"))
    elif question.reports:
        out.append(Asking(text=say("A delivery report (DSN) was asked for at %(at)s.", at=at), tone="soft"))
    else:
        text = say("A delivery report (DSN) could not be asked for: the server offers none.")
        out.append(Asking(text=text, tone="none"))
    if read:
        out.append(Asking(text=say("A read receipt came."), tone="ok"))
    elif question.read:
        out.append(Asking(text=say("A read receipt (MDN) was asked for at %(at)s.", at=at), tone="soft"))
    else:
        out.append(Asking(text=say("No read receipt (MDN) was asked for."), tone="none"))
    if row.proven(Event.AUTO_REPLY) is not None:
        out.append(Asking(text=say("An automatic answer came; it counts for nothing."), tone="soft"))
    if row.proven(Event.SEEN) is not None:
        out.append(Asking(text=say("A mark of the mailbox says seen; it is a hint only."), tone="soft"))
    return out
