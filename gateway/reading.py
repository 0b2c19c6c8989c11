"""The reading of one letter: its facts, and the digests by which it is known again.

A small letter of one text, or of a text and its HTML, is read on the loop; any other has its content read
in a room (:mod:`gateway.reading_room`). What could not be read there to the end is a fact of its own, and
policy decides (default: hold). Raises OSError when no room can be opened: the letter is put off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

from gateway.authentication_results import Result
from gateway.forwarding import Passage
from gateway.reading_room import ContentReader
from policies.content_letter import MAX_SIMPLE, Content, has_pgp_in_text, plain
from policies.facts import Facts, Surroundings, compute
from tracker.archive import Octets
from tracker.cited_number import Citation, citations, cited
from tracker.header import Headers, own_digest
from tracker.mime import digests
from tracker.model import Connection, Envelope, now_us

_FIRST = Passage()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in a letter, once."""

    headers: Headers
    facts: Facts
    shown: frozenset[str]  # keys of the addresses in To and Cc
    digest: bytes | None
    parts: tuple[bytes, ...]
    results: tuple[Result, ...] = ()  # of our own checks
    cites: tuple[Citation, ...] = ()  # letters that subject and first lines refer to
    passage: Passage = _FIRST  # how it has been here before


class LetterReader:
    """Reads letters. ``passage`` tells how a letter has been here before; it may ask the record."""

    def __init__(
        self, rooms: ContentReader, executor: Executor, passage: Callable[[Headers, Envelope], Passage]
    ) -> None:
        self._rooms = rooms
        self._executor = executor
        self._passage = passage
        self._loop = asyncio.get_running_loop()

    async def read(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        headers: Headers,
        around: Surroundings,
        needs: Iterable[str] = (),
    ) -> Reading:
        """Everything that is read in a letter; ``needs``: the header fields that rules ask for."""
        view = octets.view()
        structure = plain(view, headers) if octets.size <= MAX_SIMPLE else None
        content = Content()
        if structure is None:
            content = await self._rooms.read(octets, conn.agency or conn.peer)
        passage = _FIRST
        if "wasl-instance" in headers:
            passage = await self._loop.run_in_executor(self._executor, self._passage, headers, envelope)
        facts = compute(
            headers,
            octets.size,
            envelope,
            conn,
            around,
            looped=passage.looped,
            attachments=content.attachments,
            undecidable=content.undecidable,
            needs=needs,
            pgp=content.pgp if structure is None else has_pgp_in_text(view, headers),
            at_us=now_us(),
        )
        shown = frozenset(
            [
                box.address.key
                for name in ("to", "cc")
                for box in headers.addresses(name)
                if box.address is not None
            ]
        )
        if facts.submitter is None:
            return Reading(headers, facts, shown, None, (), passage=passage)
        if structure is not None:
            made = digests(view, structure, paired=octets.paired)
            parts = ((made.text,) if made.text else ()) + tuple([p.sha256 for p in made.parts])
            cites = citations(facts.subject) + cited(view, structure)
            return Reading(headers, facts, shown, own_digest(view, headers), parts, (), cites, passage)
        own = content.own
        if own is None:  # cut off; this one is linear in the size, whatever the structure
            own = await self._loop.run_in_executor(self._executor, own_digest, view, headers)
        parts = ((content.text,) if content.text else ()) + content.parts
        cites = citations(facts.subject) + content.cites
        return Reading(headers, facts, shown, own, parts, (), cites, passage)
