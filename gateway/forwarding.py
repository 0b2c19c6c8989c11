"""Letters that come back: a mailbox that redirects its copy, a list that hands it on, a letter in a circle.

Known by the marks of this gateway in the header (:mod:`gateway.instance`). A redirection keeps our return
address as its sender, by which we know whose copy was sent on; a list puts its own address there.

The copy is ordinary pass-through and takes no number; on the letter stands "forwarded by B" (DESIGN §11).
Who handed it in is the agency that the connection proves, so only a copy that was sent to that agency can be
meant. To whom it went is kept as agencies' codes only: the rest is private mail.

It goes in a circle when it comes to a recipient that it has had already, or has been here :data:`MOST_PASSES`
times: of mail that only passed nothing is kept by which to tell. Fails as the record does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.instance import Instance
from gateway.reverse_path import ReversePath, TokenKind
from policies.facts import Facts
from tracker import matching
from tracker.header import Headers
from tracker.matching import Sent
from tracker.model import Envelope
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

MOST_PASSES = 5  # a letter to a list of lists, redirected at its end, has passed three times


@dataclass(frozen=True, slots=True)
class Passage:
    """What the marks in a header tell: the letters that it was here, and whether it goes in a circle."""

    letters: tuple[int, ...] = ()
    looped: bool = False


class Passages:
    """Tells of a letter how it has passed before."""

    def __init__(self, record: Record, instance: Instance, reverse_path: ReversePath) -> None:
        self._record = record
        self._instance = instance
        self._reverse_path = reverse_path

    def of(self, headers: Headers, envelope: Envelope) -> Passage:
        """Asks the record if the header bears a mark of ours."""
        letters = self._instance.seen(headers.all("wasl-instance"))
        if not letters:
            return Passage()
        if len(letters) >= MOST_PASSES:
            return Passage(letters, looped=True)
        had: set[str] = set()
        token = self._reverse_path.parse(envelope.sender)
        with self._record.read() as conn:
            if token is not None:
                had |= matching.recipients(conn, token.id, token.kind is TokenKind.DELIVERY)
            for letter in letters:
                had |= matching.recipients(conn, letter, is_delivery=False)
        return Passage(letters, looped=any(r.address.key in had for r in envelope.recipients))

    def sent(self, passage: Passage, agency: str) -> list[Sent]:
        """The copies of the newest of its letters that went to ``agency``; none of mail that only passed."""
        with self._record.read() as conn:
            for letter in sorted(passage.letters, reverse=True):
                found = matching.by_letter(conn, letter)
                if ours := [s for s in found if s.agency == agency and s.number is not None]:
                    return ours
        return []


def forwarded(sent: Sequence[Sent], facts: Facts, at_us: int) -> Note | None:
    """What is to be noted of a redirection, ``sent`` being the deliveries that its sender names.

    A return address that stands for several recipients tells the letter and the agency, not the mailbox.
    """
    ours = [s for s in sent if s.agency is not None and s.agency == facts.submitter]
    if not ours:
        return None
    to = sorted({r.agency or "outside" for r in facts.recipients})
    one = ours[0] if len(ours) == 1 else None
    return Note(
        delivery_id=one.delivery_id if one is not None else 0,
        letter_id=ours[0].letter_id if one is None else None,
        event=Event.FORWARDED,
        at_us=at_us,
        source="smtp",
        reporter=facts.peer,
        detail={"by": facts.submitter, "to": to, "peer": facts.peer},
    )
