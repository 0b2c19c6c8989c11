"""The role ``watch`` of a gateway: starts the IMAP watch once the directory names a mailbox to look into.

Light on purpose: the IMAP client is only imported then. The relay asks :meth:`WatchRole.look_for` before
it sends again what is in doubt; where nobody can look, the answer is that it is not known. Raises nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from gateway.mailbox_look import Look, Sought
from gateway.settings_watch import WatchSection
from policies.directory import Directory

if TYPE_CHECKING:
    from gateway.crossing import Crossing
    from gateway.imap_watch import ImapWatch

LOOK_S = 2.0  # between two looks at a directory that names no mailbox


class WatchRole:
    """The watch of one gateway process."""

    def __init__(
        self,
        section: WatchSection,
        crossing: Crossing,
        directory: Callable[[], Directory],
        executor: Executor,
        owner: str,
        incoming: str = "{seq}/{year}",
    ) -> None:
        """``incoming``: how incoming numbers look where an agency has them assigned."""
        self._incoming = incoming
        self._section = section
        self._crossing = crossing
        self._directory = directory
        self._executor = executor
        self._owner = owner
        self._watch: ImapWatch | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while not any(a.watches for a in self._directory()):  # noqa: ASYNC110 - a directory tells nobody
            await asyncio.sleep(LOOK_S)
        await self._made().run()

    async def look_for(self, sought: Sought, seconds: float = 15.0) -> Look:
        """Whether a delivery in doubt lies in a mailbox that is watched."""
        if not any(a.watches for a in self._directory()):
            return Look(found=None, detail={"why": "no mailbox is watched"})
        return await self._made().look_for(sought, seconds)

    def _made(self) -> ImapWatch:
        if self._watch is None:
            from gateway.imap_watch import ImapWatch
            from gateway.imap_watch_mailbox import Pace

            section = self._section
            self._watch = ImapWatch(
                self._crossing,
                self._directory,
                self._executor,
                owner=self._owner,
                pace=Pace(
                    idle_s=section.idle.total_seconds(),
                    poll_s=section.poll.total_seconds(),
                    connections=section.connections,
                ),
                lease_s=section.lease.total_seconds(),
                incoming=self._incoming,
            )
        return self._watch
