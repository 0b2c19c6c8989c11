"""A mailbox that redirects keeps our return address as its sender: by it we know whose copy was sent on.

The redirected copy is ordinary pass-through and takes no number; on the letter stands "forwarded by B"
(DESIGN §11). Who handed it in is the agency that the connection proves, so only a copy that was sent to that
agency can be meant. To whom it went is kept as agencies' codes only: the rest is private mail.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.facts import Facts
from tracker.matching import Sent
from tracker.noting import Note
from tracker.states import Event


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
