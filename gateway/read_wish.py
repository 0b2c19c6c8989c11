"""The author's own wish for a read receipt: kept in the record, taken out of the copy, honoured by Wasl.

STANDARDS
    RFC 8098 §2.1 (Disposition-Notification-To); Return-Receipt-To and X-Confirm-Reading-To are what older
    programs write for it.

Who is told is the author or another mailbox of the author's agency, never a third party: a letter
cannot be made to send news of its readers elsewhere. Nothing here fails; what cannot be read is no wish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.tag import WISHES
from policies.directory import Directory
from policies.facts import Facts
from tracker.header import Headers

_MOST = 5  # addresses that are told


@dataclass(frozen=True, slots=True)
class ReadWish:
    """``asked``: the letter bears such a field; ``to``: those whom it names and who may be told."""

    asked: bool = False
    to: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"to": list(self.to)}


NO_WISH = ReadWish()


def read_wish(headers: Headers, facts: Facts, directory: Directory) -> ReadWish:
    """What the author asks for."""
    found = [name for name in WISHES if name in headers]
    if not found:
        return NO_WISH
    told: dict[str, str] = {}
    for name in found:
        for box in headers.addresses(name)[:50]:
            address = box.address
            if address is None:
                continue
            home = directory.by_domain(address.host)
            own = home is not None and home.code == facts.submitter
            if own or str(address) == facts.sender:
                told.setdefault(address.key, str(address))
    return ReadWish(asked=True, to=tuple(told.values())[:_MOST])
