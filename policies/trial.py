"""A message that nobody sent, made into facts: for ``wasl policy try`` and examples beside the rules.

A :class:`Handing` says who would hand it in, from whom, to whom, when, and what the outside would have found
out about it. Nothing is looked up: what a name server or the record would say is given, or is not there.
Nothing raises on any message; a sender of no agency is simply somebody from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policies.content_letter import read
from policies.facts import Answered, Facts, Surroundings, compute
from tracker.header import scan
from tracker.model import Address, Connection, Door, Envelope, Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class Handing:
    """How a message comes. ``agency``: who hands it in; None: the sender's own. ``at_us`` UTC."""

    sender: Address
    recipients: tuple[Address, ...]
    door: Door = Door.RELAY
    agency: str | None = None
    account: str | None = None
    peer: str = "127.0.0.1"
    at_us: int
    answered: Answered | None = None
    results: tuple[tuple[str, str], ...] = ()  # method and result, such as dmarc and fail


def facts_of(octets: bytes, handing: Handing, around: Surroundings, needs: Iterable[str] = ()) -> Facts:
    """The facts of the message as it would come. ``needs``: the header fields that a policy asks for."""
    headers, content = scan(octets), read(octets)
    code = handing.agency
    if code is None and not handing.sender.is_null:
        home = around.directory.by_domain(handing.sender.host)
        code = home.code if home is not None else None
    account = handing.account
    if account is None and handing.door is Door.SUBMISSION:
        account = str(handing.sender)
    return compute(
        headers,
        len(octets),
        Envelope(
            sender=handing.sender,
            recipients=tuple(Recipient(address=address) for address in handing.recipients),
        ),
        Connection(door=handing.door, peer=handing.peer, agency=code, account=account),
        around,
        attachments=content.attachments,
        undecidable=content.undecidable,
        needs=needs,
        answered=handing.answered,
        results=handing.results,
        at_us=handing.at_us,
    )
