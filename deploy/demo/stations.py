"""What people do with the sample letters once they are there, each as soon as its letter has come so far.

The answer of the first letter's addressee, the approval of the held one, a fetch by curl, a read receipt, a
number in the incoming register, a move to a folder: one :class:`Act` each. :func:`exchange` looks at the
letters again and again and does what can be done, until all is as it should be or the time is over.

How it fails: as the programs do, see ``readers.py``; what differs afterwards is for ``outcome.py`` to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.demo import readers
from deploy.demo.agencies import PLANNING, REGISTRY, Agency
from deploy.demo.clients import Doors, send
from deploy.demo.house import Gateway
from deploy.demo.letters import Letter, answer
from deploy.demo.outcome import Found, look


@dataclass(frozen=True, kw_only=True)
class Act:
    """What somebody does about a letter that is for ``address``."""

    key: str
    address: str
    what: str  # for the table
    do: Callable[[Found], str | None]  # returns what was not as it should be
    when_held: bool = False  # else when it is in the mailbox

    def ready(self, one: Found) -> bool:
        """True when the letter is where it must be for this."""
        fate = one.fates.get(self.address)
        if self.when_held:
            return fate is not None and fate.state == "held" and not one.copies
        return self.address in one.copies and fate is not None and fate.state == "sent"


class Exchange:
    """The sample letters on their way."""

    def __init__(self, gateway: Gateway, agencies: list[Agency], where: Doors, folder: Path) -> None:
        self.found: list[Found] = []
        self.faults: list[str] = []
        self._gateway = gateway
        self._agencies = {a.sample.code: a for a in agencies}
        self._where = where
        self._folder = folder
        self._left = self._acts()

    def hand_in(self, letter: Letter) -> None:
        """Send a letter with its own program."""
        file = self._folder / f"{letter.key}.eml"
        file.write_bytes(letter.octets())
        self.found.append(Found(letter=letter, refusal=send(letter, file, self._where)))

    def settle(self, timeout: float) -> None:
        """Look and act until everything is as it should be, for ``timeout`` seconds at most."""
        end = time.monotonic() + timeout
        while True:
            look(self._gateway, list(self._agencies.values()), self.found)
            by_key = {one.letter.key: one for one in self.found}
            for act in [a for a in self._left if a.ready(by_key[a.key])]:
                self._left.remove(act)
                one = by_key[act.key]
                one.done[act.address] = act.what
                fault = act.do(one)
                self.faults += [f"{act.key}: {fault}"] if fault else []
            ready = not self._left and all(one.as_it_should() for one in self.found)
            if ready or time.monotonic() > end:
                break
            time.sleep(0.5)
        self.faults += [f"{act.key}: nobody could do this: {act.what}" for act in self._left]

    def _acts(self) -> list[Act]:
        plans, rana = "plans@mop.gov.example", "rana@moh.gov.example"
        health = self._agencies["MOH"]
        return [
            Act(key="locked", address=rana, what="released by two", do=self._approve, when_held=True),
            Act(
                key="budget",
                address=REGISTRY,
                what="answered",
                do=lambda one: self.hand_in(
                    answer(f"[{one.number}] {one.letter.subject}", one.letter.message_id)
                ),
            ),
            Act(key="grant", address=rana, what="fetched by curl", do=partial(self._fetch, rana)),
            Act(
                key="through-postfix",
                address=plans,
                what="confirmed reading",
                do=lambda one: readers.confirm(
                    self._where, PLANNING.person("plans"), one.copies[plans], self._folder / "read.eml"
                ),
            ),
            Act(
                key="urgent",
                address="diwan@mop.gov.example",
                what="registered",
                do=lambda one: readers.register(self._gateway, one.number, "diwan.mopic"),
            ),
            Act(
                key="circular",
                address=REGISTRY,
                what="moved to منجز",
                do=lambda one: readers.move(health, REGISTRY, one.letter.message_id, "منجز"),
            ),
        ]

    def _approve(self, one: Found) -> str:
        return readers.approve(self._gateway, one.number, "diwan.mof", "compliance")

    def _fetch(self, person: str, one: Found) -> str:
        got = readers.fetch(self._where, person, one.letter.message_id)
        return "" if got == one.copies[person] else "through Wasl the letter's octets are not the mailbox's"
