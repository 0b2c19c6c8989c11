"""Reading directory, policy and the ledger's key again, while the gateway runs.

Asked for by SIGHUP, by ``wasl reload`` or by a file that changed and is quiet since. What is broken is
refused whole and leaves the last good one in force (promise 7): its faults are logged, and told who asked.
DKIM keys are read by the signing room when their files change; no process that reads mail holds one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

from gateway import metrics
from gateway.ledger_rotation import take_over
from gateway.opening import ledger_key
from gateway.policy_watch import PolicyWatch
from gateway.settings import Settings
from gateway.submission import PasswordCheck
from gateway.trouble import Trouble
from policies.directory import DirectoryFile
from policies.faults import Fault
from tracker.outage import Outage
from tracker.record import Record

_log = logging.getLogger("wasl.serve")

WATCH_S = 1.0  # between two looks at the files of directory and policy


class Reload:
    """The files of one running gateway."""

    def __init__(
        self,
        settings: Settings,
        record: Record,
        directory: DirectoryFile,
        policy: PolicyWatch,
        passwords: PasswordCheck,
    ) -> None:
        self._settings = settings
        self._record = record
        self._directory = directory
        self._policy = policy
        self._passwords = passwords
        self._asked = asyncio.Event()
        self._one = asyncio.Lock()
        self._unquiet = False  # the directory's files had changed at the last look
        self._outage = Outage(_log, "directory and policy could not be read again")

    def ask(self) -> None:
        """Have everything read again soon (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), WATCH_S)
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                if asked or await loop.run_in_executor(None, self._changed):
                    await self.read()
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)

    async def read(self, by: str = "", note: str = "") -> list[Fault]:
        """Read all of it again; the faults of what was refused."""
        async with self._one:
            faults = await asyncio.get_running_loop().run_in_executor(None, self._read_files, by, note)
        self._passwords.forget()  # an account's server may be another one now
        metrics.CONFIG_FAULTS.set(len(faults))
        for fault in faults:
            _log.error("%s", fault)
        if faults:
            _log.error("%d faults: what was in force stays in force", len(faults))
        else:
            _log.info("directory of %d agencies in force", len(self._directory.current))
        return faults

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The control socket's ``reload``: what was read, what is in force, and every fault."""
        faults = await self.read(str(request.get("person") or ""), str(request.get("note") or ""))
        return {
            "faults": [str(fault) for fault in faults],
            "agencies": len(self._directory.current),
            "directory": self._directory.current.version,
            "policy": {"version": self._policy.current.version, "waiting": self._policy.waiting},
            "ledger_key": str(self._record.ledger.key.vkey),
        }

    async def rotate_ledger(self, request: dict[str, Any]) -> dict[str, Any]:
        """The control socket's ``rotate-ledger``: a new key signs from now on."""
        loop = asyncio.get_running_loop()
        fresh = Path(str(request["file"]))
        async with self._one:
            key = await loop.run_in_executor(None, take_over, self._record, self._settings, fresh)
        person = str(request.get("person") or "somebody")
        _log.warning("the ledger is signed by the new key %s, by %s", key.vkey.keyid.hex(), person)
        return {"key": str(key.vkey)}

    def _changed(self) -> bool:
        self._policy.follow()
        unquiet, self._unquiet = self._unquiet, self._directory.changed()
        changed = self._settings.policy.watch and self._policy.changed()
        return changed or (unquiet and self._unquiet)

    def _read_files(self, by: str, note: str) -> list[Fault]:
        faults = [*self._directory.reload()]
        faults += self._policy.read(self._directory.current, by=by, note=note)
        try:
            self._record.sign_with(ledger_key(self._settings))
        except Trouble as error:
            faults.append(Fault(file=str(self._settings.ledger.key), message=str(error)))
        return faults
