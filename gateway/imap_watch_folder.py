"""Reading one folder of a watched mailbox: what is new and what has changed since last time.

New messages are asked for two fields of their header, with PEEK, and whatever bears no ``Wasl-Letter`` is
forgotten at once. A long unread stretch is searched on the server, and its answer is believed only when it
agrees with the newest messages read by ourselves. Changes: by CONDSTORE (RFC 7162) where there is one, else
by asking for the flags of our own letters.

Fails: raises :class:`gateway.imap_watch_client.WatchError`; the position stays where it was noted last.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.imap_watch_client import Hostile, Unwilling, WatchClient
from gateway.imap_watch_desk import WatchDesk
from gateway.imap_watch_words import Answer, number, pairs, uid_ranges, uid_set
from tracker.field_value import message_id
from tracker.header import scan
from tracker.sighting import Place, Seen, Sighting
from tracker.watch_positions import Position

BATCH = 300  # messages whose header is asked for at a time
GAP = 5_000  # a longer unread stretch is searched by the server
SAMPLE = 200  # messages by which its search is tried
WINDOW = 50_000  # UIDs that are asked about at a time
SEARCH_S = 300.0
PERSIST_S = 60.0
ITEMS = "(UID FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)]<0.4096>)"
_MAX_UID = (1 << 32) - 1


class FolderReader:
    """One folder over one connection. :meth:`open`, then :meth:`catch_up` as often as something stirs."""

    def __init__(self, client: WatchClient, desk: WatchDesk, place: Place) -> None:
        self.place = place
        self._client = client
        self._desk = desk
        self._position = Position(uidvalidity=0, uidnext=1)
        self._next = 1  # the lowest UID not looked at; the kept position waits for ``_later``
        self._later: set[int] = set()  # UIDs to be looked at again: their attempt is still under way
        self._here: frozenset[int] = frozenset()
        self._whole = False  # the flags of all our letters are to be asked for
        self._kept_at = 0.0
        self._stale = False  # the position in the record is behind
        self._gone: list[tuple[int, int]] = []  # what was told to have vanished, last time
        self._server_next: int | None = None  # UIDNEXT and HIGHESTMODSEQ when the folder was opened
        self._fresh: int | None = None

    @property
    def waits(self) -> bool:
        """True when something must be looked at again soon though nothing stirs."""
        return bool(self._later)

    async def open(self) -> None:
        """EXAMINE the folder and find the place where reading goes on."""
        if self._stale and self._next > 1:
            await self._keep()
        codes = await self._client.examine(self.place.folder)
        validity = number(codes.get("UIDVALIDITY"), _MAX_UID)
        if validity is None:
            raise Hostile(f"folder {self.place.folder} has no UIDVALIDITY")
        highest = number(codes.get("HIGHESTMODSEQ")) or None
        self._server_next = number(codes.get("UIDNEXT"), _MAX_UID)
        known = await self._desk.position(self.place)
        if known is not None and known.uidvalidity == validity:
            # Without a count on one side, all flags are compared once and the count begins anew.
            self._whole = highest is None or known.modseq is None or known.modseq > highest
            self._position = replace(known, modseq=highest) if self._whole else known
            self._fresh = highest
        else:
            if known is not None:
                self._here = await self._desk.restart(self.place)
            self._whole = False
            self._position = Position(uidvalidity=validity, uidnext=1, modseq=highest)
            self._fresh = highest
            self._stale = True
        self._next = self._position.uidnext
        self._later.clear()

    async def catch_up(self) -> None:
        """Note all that is new or changed."""
        self._client.stirred.clear()
        following, self._server_next = self._server_next, None
        if self._client.exists and (following is None or following > self._next):
            await self._new(following)
        if self._later:
            await self._again()
        await self._changes()
        if self._stale and (time.monotonic() - self._kept_at > PERSIST_S or not self._kept_at):
            await self._keep()

    # What is new.

    async def _new(self, following: int | None) -> None:
        """Read what lies above; ``following`` is the folder's UIDNEXT where it is known."""
        if following is not None and following - self._next > GAP and self._client.exists > SAMPLE:
            await self._stretch(following)
        while following is not None and following - self._next > WINDOW:
            await self._batches(await self._search(f"UID {self._next}:{self._next + WINDOW - 1}"))
            await self._arrived([], self._next + WINDOW)
        while uids := [uid for uid in await self._search(f"UID {self._next}:*") if uid >= self._next]:
            await self._batches(uids)

    async def _batches(self, uids: Sequence[int]) -> None:
        for i in range(0, len(uids), BATCH):
            part = uids[i : i + BATCH]
            await self._arrived(await self._read(uid_set(part)), part[-1] + 1)

    async def _stretch(self, end: int) -> None:
        """Read a long stretch by the server's search, if that can be believed, else by ourselves."""
        newest: list[Seen] = []
        first = max(1, self._client.exists - SAMPLE + 1)
        await self._fetch(f"{first}:{self._client.exists}", ITEMS, newest, uid=False)
        letters = {one.uid for one in newest if one.uid >= self._next}
        try:
            found = await self._search(f'UID {self._next}:{end} HEADER Wasl-Letter ""')
        except Unwilling:
            found = []
        # No letter among the newest tries nothing: then an empty answer is tried by a field that all have.
        if (not found or not letters <= set(found)) and (letters or not await self._searches()):
            return
        await self._batches([uid for uid in found if self._next <= uid < end])
        await self._arrived([], end)

    async def _searches(self) -> bool:
        """True when the server's search finds fields by name: every message has a From."""
        last = await self._search(f"{self._client.exists}")
        if not last:
            return False
        try:
            return await self._search(f'UID {last[-1]} HEADER From ""') == last[-1:]
        except Unwilling:
            return False

    async def _again(self) -> None:
        uids = sorted(self._later)
        self._later.clear()
        for i in range(0, len(uids), BATCH):
            await self._arrived(await self._read(uid_set(uids[i : i + BATCH])), self._next)

    async def _arrived(self, seen: Sequence[Seen], following: int) -> None:
        self._next = max(self._next, following)
        self._stale = True
        if seen:
            sightings, later = await self._desk.arrived(self.place, seen, self._here)
            self._later.update(later)
            if sightings:
                await self._keep(sightings)

    async def _read(self, uids: str) -> list[Seen]:
        out: list[Seen] = []
        await self._fetch(uids, ITEMS, out)
        return sorted(out, key=lambda one: one.uid)

    async def _fetch(self, which: str, items: str, out: list[Seen], uid: bool = True) -> None:
        def take(said: Answer) -> None:
            if said.kind == "FETCH" and (one := claim(pairs(said))) is not None:
                out.append(one)

        await self._client.run("FETCH", which, items, uid=uid, take=take)

    async def _search(self, criteria: str) -> list[int]:
        out: list[int] = []

        def take(said: Answer) -> None:
            if said.kind == "SEARCH":
                for word in said.pieces[0].split():
                    found = number(word, _MAX_UID)
                    if found is None:
                        break  # (MODSEQ …)
                    out.append(found)

        await self._client.run("SEARCH", criteria, uid=True, take=take, seconds=SEARCH_S)
        return sorted(set(out))

    # What has changed.

    async def _changes(self) -> None:
        since = self._position.modseq
        if since is None or self._whole:
            await self._compare()
            self._whole = False
            return
        end = min(self._next, _MAX_UID)
        step = max(WINDOW, end // 100)
        gone = " VANISHED" if "QRESYNC" in self._client.capabilities else ""
        highest = since
        for low in range(1, end, step):
            last = "*" if end <= step else str(min(low + step - 1, end))
            flags: dict[int, frozenset[str]] = {}
            ranges: list[tuple[int, int]] = []
            top = await self._since(f"{low}:{last}", since, gone, flags, ranges)
            highest = max(highest, top)
            if ranges and ranges != self._gone:
                await self._desk.vanished(self.place, ranges)
                self._gone = ranges
            if flags and (sightings := await self._desk.changed(self.place, flags)):
                await self._keep(sightings)
        if end > step:  # what changed in one window while another was read is asked for again
            highest = since
        # The count that the folder had when it was opened: all changes up to there have been told now.
        highest, self._fresh = max(highest, self._fresh or 0), None
        if highest != since:
            self._position = replace(self._position, modseq=highest)
            self._stale = True

    async def _since(
        self,
        uids: str,
        modseq: int,
        gone: str,
        flags: dict[int, frozenset[str]],
        ranges: list[tuple[int, int]],
    ) -> int:
        """Fill in what has changed since; returns the highest count among it."""
        highest = modseq
        limit = self._next

        def take(said: Answer) -> None:
            nonlocal highest
            if said.kind == "VANISHED":
                ranges.extend(uid_ranges(said.pieces[0].split()[-1]))
            elif said.kind == "FETCH":
                items = pairs(said)
                uid = number(items.get("UID"), _MAX_UID)
                count = items.get("MODSEQ")
                if isinstance(count, list) and count:
                    highest = max(highest, number(count[0]) or 0)
                if uid is not None and uid < limit and (found := _flags(items)) is not None:
                    flags[uid] = frozenset(self.place.kept(found).split())

        if self._client.exists or gone:
            how = f"(CHANGEDSINCE {modseq}{gone})"
            await self._client.run("FETCH", uids, "(UID FLAGS)", how, uid=True, take=take)
        return highest

    async def _compare(self) -> None:
        """Ask for the flags of all our letters here; those that are not there are forgotten."""
        after = 0
        while uids := await self._desk.page(self.place, after, BATCH):
            after = uids[-1]
            flags: dict[int, frozenset[str]] = {}

            def take(said: Answer, into: dict[int, frozenset[str]] = flags) -> None:
                if said.kind == "FETCH":
                    items = pairs(said)
                    uid = number(items.get("UID"), _MAX_UID)
                    if uid is not None and (found := _flags(items)) is not None:
                        into[uid] = found

            if self._client.exists:
                await self._client.run("FETCH", uid_set(uids), "(UID FLAGS)", uid=True, take=take)
            missing = [(uid, uid) for uid in uids if uid not in flags]
            if missing:
                await self._desk.vanished(self.place, missing)
            present = {uid: flags[uid] for uid in uids if uid in flags}
            if present and (sightings := await self._desk.changed(self.place, present)):
                await self._keep(sightings)

    async def _keep(self, sightings: Sequence[Sighting] = ()) -> None:
        following = min(self._later, default=self._next)
        self._position = replace(self._position, uidnext=min(following, self._next))
        await self._desk.keep(self.place, self._position, sightings)
        self._kept_at = time.monotonic()
        self._stale = bool(self._later)


def claim(items: dict[str, Any]) -> Seen | None:
    """A message that claims to be a letter, from the items of its FETCH; None for any other."""
    uid, head, flags = number(items.get("UID"), _MAX_UID), items.get("BODY"), _flags(items)
    if uid is None or flags is None or not isinstance(head, bytes) or not head.strip():
        return None
    headers = scan(head)
    numbers, ids = headers.all("wasl-letter"), headers.all("message-id")
    if len(numbers) != 1 or len(ids) != 1:
        return None
    text = bytes(numbers[0]).decode("ascii", "replace").strip()
    known = message_id(bytes(ids[0]))
    if not text or known is None:
        return None
    arrived = items.get("INTERNALDATE")
    return Seen(
        uid=uid,
        number=text,
        message_id=known,
        flags=flags,
        arrived=arrived.decode("ascii", "replace")[:40] if isinstance(arrived, bytes) else "",
    )


def _flags(items: dict[str, Any]) -> frozenset[str] | None:
    found = items.get("FLAGS")
    if not isinstance(found, list):
        return None
    return frozenset(f.decode("ascii", "replace") for f in found[:200] if isinstance(f, bytes))
