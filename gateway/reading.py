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
from gateway.reading_room import ContentReader
from policies.content_letter import MAX_SIMPLE, Content, has_pgp_in_text, plain
from policies.facts import Facts, Surroundings, compute
from tracker.archive import Octets
from tracker.cited_number import Citation, citations, cited
from tracker.header import Headers, own_digest
from tracker.mime import digests
from tracker.model import Connection, Envelope, now_us


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


class LetterReader:
    """Reads letters. ``looped`` tells whether a letter has been here before; it may ask the record."""

    def __init__(
        self, rooms: ContentReader, executor: Executor, looped: Callable[[Headers, Envelope], bool]
    ) -> None:
        self._rooms = rooms
        self._executor = executor
        self._looped = looped
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
        looped = False
        if "wasl-instance" in headers:
            looped = await self._loop.run_in_executor(self._executor, self._looped, headers, envelope)
        facts = compute(
            headers,
            octets.size,
            envelope,
            conn,
            around,
            looped=looped,
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
            return Reading(headers, facts, shown, None, ())
        if structure is not None:
            made = digests(view, structure, paired=octets.paired)
            parts = ((made.text,) if made.text else ()) + tuple([p.sha256 for p in made.parts])
            cites = citations(facts.subject) + cited(view, structure)
            return Reading(headers, facts, shown, own_digest(view, headers), parts, (), cites)
        own = content.own
        if own is None:  # cut off; this one is linear in the size, whatever the structure
            own = await self._loop.run_in_executor(self._executor, own_digest, view, headers)
        parts = ((content.text,) if content.text else ()) + content.parts
        return Reading(headers, facts, shown, own, parts, (), citations(facts.subject) + content.cites)
