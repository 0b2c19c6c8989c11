"""Asking a watched mailbox whether Wasl can look into it: sign in, open each folder read-only, leave.

For ``wasl check``: blocking, some seconds at most; every failure is an answer in words, never an exception.
"""

from __future__ import annotations

import asyncio
import difflib

from gateway.hop_probe import Probe, context
from gateway.imap_watch_client import Unwilling, WatchClient, WatchError, connect, folders, tls_words
from policies.watch import Watch

TIMEOUT_S = 20.0


def probe_watch(watch: Watch) -> Probe:
    """Sign in with the service account and open every folder."""
    try:
        return asyncio.run(_probe(watch))
    except TimeoutError:
        return Probe(error="it does not answer")
    except WatchError as error:
        return Probe(error=str(error))
    except (OSError, ValueError) as error:
        return Probe(error=tls_words(error))


async def _probe(watch: Watch) -> Probe:
    async with asyncio.timeout(TIMEOUT_S):
        client = await connect(watch, context(watch.verify, watch.ca))
        try:
            missing = [name for name, _ in watch.folders if not await _opens(client, name)]
            if missing:
                there = await folders(client)
                return Probe(error="; ".join(_missing(name, there) for name in missing))
            notes = []
            if "IDLE" not in client.capabilities:
                notes.append("it offers no IDLE: changes are seen at the interval watch.poll")
            if not {"CONDSTORE", "QRESYNC"} & client.capabilities:
                notes.append("it offers no CONDSTORE: the flags of all letters are read at every look")
            return Probe(notes=tuple(notes), offers=frozenset(client.capabilities))
        finally:
            client.close()


async def _opens(client: WatchClient, name: str) -> bool:
    try:
        await client.examine(name)
    except Unwilling:
        return False
    return True


def _missing(name: str, there: list[str]) -> str:
    near = difflib.get_close_matches(name, there, 1)
    return f"folder {name} cannot be opened{f' (is it {near[0]}?)' if near else ''}"
