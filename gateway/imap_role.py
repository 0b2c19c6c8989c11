"""The role ``imap`` of ``wasl serve``: the doors to mailboxes as the settings say, and their witness.

Fails: OSError when an address cannot be had; a door without a certificate that needs one is told by the
settings' own check before.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from concurrent.futures import Executor

from gateway.crossing import Crossing
from gateway.imap_proxy import ImapProxy
from gateway.imap_witness import Witness
from gateway.settings import Listen, Settings, WireDoor
from policies.directory import Directory


class ImapRole:
    """Made and run inside the event loop."""

    def __init__(
        self, settings: Settings, crossing: Crossing, directory: Callable[[], Directory], executor: Executor
    ) -> None:
        self._settings = settings
        self._witness = Witness(crossing, executor)
        self.proxy = ImapProxy(settings.imap, directory, self._witness, settings.gateway.hostname)
        self.task = asyncio.create_task(self._witness.run(), name="imap")

    async def listen(self, context: Callable[[Listen], ssl.SSLContext | None]) -> list[tuple[str, str, int]]:
        """Open every IMAP door; door, host and port of each. ``context`` makes the TLS of one."""
        opened = []
        for entry in self._settings.listen:
            if entry.door.mailboxes:
                where = await self.proxy.listen(
                    entry.address.host,
                    entry.address.port,
                    context(entry),
                    implicit=entry.door is WireDoor.IMAPS,
                )
                opened += [(entry.door.value, host, port) for host, port in where]
        return opened

    async def stop(self, grace_s: float) -> None:
        """End the sessions, then note what they did."""
        await self.proxy.stop()
        await self._witness.stop(self.task, grace_s)
