"""Looking for one letter in a mailbox: what the relay asks before it sends again what is in doubt.

A connection of its own, read-only, through the watched folders. Found means that the message with this
number and Message-ID lies there. Not found proves nothing about the server's own queue: the letter is then
sent again, as it would be without a look.

Fails: never; a server that cannot be asked gives an answer of None with the reason.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

from gateway.imap_watch_client import Unwilling, WatchClient, WatchError, connect
from gateway.imap_watch_folder import ITEMS, claim
from gateway.imap_watch_words import Answer, Unspeakable, number, pairs, quoted, uid_set
from gateway.mailbox_look import Look, Sought
from policies.watch import Watch
from tracker.sighting import Seen

NEWEST = 200  # messages that are read when the server's search names none


async def search(
    watches: Sequence[Watch], sought: Sought, context: Callable[[Watch], ssl.SSLContext], seconds: float
) -> Look:
    """Look through these mailboxes, for so long at most."""
    why = ""
    try:
        async with asyncio.timeout(seconds):
            for watch in watches:
                try:
                    found = await _mailbox(watch, sought, context(watch))
                except (WatchError, OSError, ValueError) as error:
                    why = str(error)
                    continue
                if found is not None:
                    return found
    except TimeoutError:
        why = f"no answer in {seconds:.0f} s"
    if why:
        return Look(found=None, detail={"why": why})
    return Look(found=False, detail={"mailbox": [w.key for w in watches]})


async def _mailbox(watch: Watch, sought: Sought, context: ssl.SSLContext) -> Look | None:
    client = await connect(watch, context)
    try:
        missing = ""
        for folder, _ in watch.folders:
            try:
                await client.examine(folder)
            except Unwilling as error:
                missing = f"folder {folder}: {error}"
                continue
            uid = await _folder(client, sought)
            if uid is not None:
                where = {"mailbox": watch.key, "folder": folder, "uid": uid, "server": watch.host}
                return Look(found=True, detail=where)
        if missing:
            raise Unwilling(missing)
        return None
    finally:
        client.close()


async def _folder(client: WatchClient, sought: Sought) -> int | None:
    if not client.exists:
        return None
    candidates: list[int] = []

    def take(said: Answer) -> None:
        if said.kind == "SEARCH":
            candidates.extend(uid for w in said.pieces[0].split()[:1000] if (uid := number(w)) is not None)

    try:
        criteria = f"HEADER Message-ID {quoted(sought.message_id)}"
        await client.run("SEARCH", criteria, uid=True, take=take)
    except (Unwilling, Unspeakable):
        candidates.clear()
    if candidates:
        found = await _fetch(client, uid_set(sorted(candidates)[-NEWEST:]), sought, uid=True)
        if found is not None:
            return found
    newest = f"{max(1, client.exists - NEWEST + 1)}:{client.exists}"
    return await _fetch(client, newest, sought, uid=False)


async def _fetch(client: WatchClient, which: str, sought: Sought, uid: bool) -> int | None:
    seen: list[Seen] = []

    def take(said: Answer) -> None:
        if said.kind == "FETCH" and (one := claim(pairs(said))) is not None:
            seen.append(one)

    await client.run("FETCH", which, ITEMS, uid=uid, take=take)
    for one in seen:
        if (one.number, one.message_id) == (sought.number, sought.message_id):
            return one.uid
    return None
