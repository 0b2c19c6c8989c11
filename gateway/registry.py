"""The registry's acts in the gateway: from the dashboard, the terminal, a mail, a watched mailbox.

All of them end in ``record.file``; here they get what the directory says of their agency (who gives its
incoming numbers) and are counted and said in the log. :func:`act_on_letters` is the act behind
``wasl letter register`` and its like: who sits at the terminal acts as the dashboard's account of the same
name, if there is one, else for whatever agency is named, having the gateway's own files in hand.

:class:`AnswerClock` does what answers do that have passed through. It holds nothing in memory: after a kill
the next look finds what is due. Errors of the record are logged and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway import metrics
from gateway.crossing import Crossing
from gateway.holding import console_viewer
from policies.directory import Directory
from tracker import link_work
from tracker.access import Role, Viewer
from tracker.filing import BARS, Deed, Filed, Filing, Purpose
from tracker.holds import person_of
from tracker.incoming import agencies_reached, first_delivery
from tracker.letter_page import find
from tracker.link_work import AnswersDue, Linked, LinkJudgement
from tracker.model import Address, id_text, now_us
from tracker.outage import Outage
from tracker.queue import letters
from tracker.record import Record
from tracker.store import Connection

_log = logging.getLogger("wasl.registry")

_EVERYTHING = Viewer(account="", role=Role.ADMIN)


def shapes(directory: Directory, shape: str) -> dict[str, str]:
    """Of the agencies whose incoming numbers the gateway assigns: how those look."""
    return {agency.code: shape for agency in directory if agency.incoming == "assigned"}


def file(record: Record, filings: Sequence[Filing]) -> list[Filed]:
    """Record acts, count them and say them in the log."""
    done = record.file(filings)
    for filing, one in zip(filings, done, strict=True):
        tell(filing, one)
    return done


def tell(filing: Filing, filed: Filed) -> None:
    """Count an act that was taken and say it in the log."""
    if filed.bar is not None:
        return
    where = filing.observed.source if filing.observed is not None else filing.where
    metrics.REGISTRY.labels(filing.deed.value, where).inc()
    who = person_of(filing.person.account) or "the registry"
    shown = (filed.agency, filed.letter or id_text(filed.letter_id), filing.deed, filed.incoming or "", who)
    _log.info("%s: %s %s %s by %s", *shown)


def act_on_letters(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act``, ``names``, ``person``, ``agency``, ``number``, ``to``, ``purpose``, ``remark``, ``text``,
    ``shapes`` → ``done``: one object a letter."""
    deed, at = Deed(str(request["act"])), now_us()
    known: Mapping[str, str] = request.get("shapes") or {}
    done: list[dict[str, Any]] = []
    filings: list[Filing] = []
    with record.read() as conn:
        person = console_viewer(conn, str(request["person"]))
        for name in dict.fromkeys(str(name) for name in request["names"]):
            ids = _letters(conn, name)
            if not ids:
                done.append(_untold(name, "no letter of this number or id"))
            for letter_id in ids:
                code, why = _agency(conn, letter_id, str(request.get("agency") or ""), person)
                if not code:
                    done.append(_untold(name, why))
                    continue
                filings.append(
                    Filing(
                        letter_id=letter_id,
                        agency=code,
                        deed=deed,
                        at_us=at,
                        person=person,
                        where="console",
                        shape=known.get(code),
                        number=str(request.get("number") or ""),
                        to=str(request.get("to") or ""),
                        purpose=Purpose(str(request.get("purpose") or Purpose.ACTION.value)),
                        remark=str(request.get("remark") or ""),
                        text=str(request.get("text") or ""),
                    )
                )
    return {"done": done + [_told(one) for one in file(record, filings)]}


def _letters(conn: Connection, name: str) -> list[int]:
    found = find(conn, _EVERYTHING, name)
    return letters(conn, name) if found is None else [found]


def _agency(conn: Connection, letter_id: int, named: str, person: Viewer) -> tuple[str, str]:
    """At which agency the act is done: the named one, the person's own, or the only one there is."""
    reached = agencies_reached(conn, letter_id)
    if named:
        code = named.upper()
        return (code, "") if code in reached else ("", f"it has not reached {code}")
    if person.agency is not None:
        return person.agency, ""
    if len(reached) == 1:
        return reached[0], ""
    return "", f"say at which agency: {', '.join(reached)}" if reached else "it has reached no agency"


def _untold(name: str, why: str) -> dict[str, Any]:
    return {"letter": name, "agency": "", "incoming": None, "stage": "", "events": [], "error": why}


def _told(one: Filed) -> dict[str, Any]:
    return {
        "letter": one.letter or id_text(one.letter_id),
        "agency": one.agency,
        "incoming": one.incoming,
        "stage": one.stage.value if one.stage is not None else "",
        "events": [event.value for event in one.events],
        "error": BARS[one.bar] if one.bar is not None else "",
    }


class RegistryActs:
    """The dashboard's way to the registry desk."""

    def __init__(
        self,
        record: Record,
        directory: Callable[[], Directory],
        shape: str,
        address_of: Callable[[int], Address],
    ) -> None:
        """``address_of`` makes the return address of a delivery."""
        self._record = record
        self._directory = directory
        self._shape = shape
        self._address_of = address_of

    def assigns(self, agency: str, /) -> bool:
        """True when the gateway gives that agency's incoming numbers."""
        return agency in shapes(self._directory(), self._shape)

    def file(self, filings: Sequence[Filing], /) -> Sequence[Filed]:
        """Do these; how assigned numbers look is filled in."""
        known = shapes(self._directory(), self._shape)
        return file(self._record, [replace(f, shape=known.get(f.agency)) for f in filings])

    def judge(self, word: LinkJudgement, /) -> Linked:
        """A person's word on a proposed link."""
        return self._record.judge(word)

    def address(self, letter_id: int, agency: str, /) -> str:
        """Where command mails about the letter go; empty where nobody may write them."""
        home = self._directory().agency(agency)
        if home is None or (home.registry is None and not home.registrars):
            return ""
        with self._record.read() as conn:
            first = first_delivery(conn, letter_id, agency)
        return str(self._address_of(first)) if first is not None else ""


class AnswerClock:
    """Looks every second for answers that have passed through."""

    def __init__(
        self, crossing: Crossing, directory: Callable[[], Directory], shape: str, *, every_s: float = 1.0
    ) -> None:
        self._crossing = crossing
        self._directory = directory
        self._shape = shape
        self._every_s = every_s
        self._outage = Outage(_log, "answers cannot be looked at")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)

    async def look(self) -> int:
        """Do what is due now; returns how many letters were answered."""
        record, answered = self._crossing.record, 0
        while await asyncio.get_running_loop().run_in_executor(None, self._due):
            due = AnswersDue(at_us=now_us(), shapes=shapes(self._directory(), self._shape))
            lot: list[Filed] = await self._crossing.at_record(record.registry_desk, due)
            record.announce(lot)
            answered += len(lot)
            if not lot:
                break  # what is left, another node has in hand
            for one in lot:
                metrics.REGISTRY.labels("answer", "answer").inc()
                _log.info("%s: %s is answered", one.agency, one.letter or id_text(one.letter_id))
        return answered

    def _due(self) -> bool:
        """A look that writes nothing: most of the time nothing is due."""
        with self._crossing.record.read() as conn:
            return link_work.any_due(conn)
