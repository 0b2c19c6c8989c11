"""The connections to one next hop, used again letter after letter.

A connection that died while it was idle shows it only on use. The letter is then tried again on a
fresh connection, once, if and only if the final dot was not sent (RFC 5321 §6.1: what was ended with
the dot may have been delivered). The last connection used is the first to be used again, so that those
which are not needed grow old and are closed with QUIT.

An opportunistic hop whose TLS handshake fails is tried one level down; the level is remembered for
``LEVEL_KEPT_S`` and then tried from the best again. A letter that wants encryption does not go below it: TLS
that fails puts it off, and only a hop that offers none has it returned.

How it fails: :meth:`Pool.send` gives a result for each recipient. It raises :class:`Retired` for a letter
that still waited when the pool was closed, and CancelledError, of the kind
:class:`gateway.outgoing.CutOff` when the hop may have the letter.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from gateway.content import Content
from gateway.outgoing import CutOff, Outcome, Outgoing, Result, Stage, Timeouts
from gateway.smtp_client import HopError, Session, TlsLevel, tls_levels
from gateway.transaction import cannot_carry
from policies.directory import NextHop
from tracker.reply import Reply

LEVEL_KEPT_S = 3600.0
_EVERYTHING = {"8BITMIME": "", "SMTPUTF8": "", "REQUIRETLS": ""}  # refusals that need no hop to be asked


class Retired(Exception):
    """The pool was closed before the letter's turn came: nothing of it was sent."""


class Pool:
    """Connections to ``hop``; one pool per event loop. ``hostname`` is our name in EHLO."""

    def __init__(
        self,
        hop: NextHop,
        *,
        hostname: str,
        times: Timeouts | None = None,
        max_idle_s: float = 30.0,
        max_messages: int = 200,
        plain_auth_on_loopback: bool = False,
    ) -> None:
        self.hop = hop
        self._hostname = hostname
        self._times = times or Timeouts()
        self._max_idle_s = max_idle_s
        self._max_messages = max_messages
        self._plain_auth_on_loopback = plain_auth_on_loopback
        self._slots = asyncio.Semaphore(max(1, hop.max_connections))
        self._idle: list[Session] = []  # the last one used is last
        self._busy: set[Session] = set()
        self._farewells: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._level = 0
        self._level_until = 0.0
        self._closed = False
        self._changed = asyncio.Event()  # something ended

    @property
    def idle(self) -> int:
        """Open connections without a letter."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections with a letter under way."""
        return len(self._busy)

    async def send(self, mail: Outgoing) -> Outcome:
        """Hand one letter to the hop; waits for a free connection.

        Recipients that the hop finds too many for one transaction (452, RFC 5321 §4.5.3.1.10) are
        sent in further ones as long as each takes some.
        """
        if not mail.recipients:
            raise ValueError("a letter without recipients")
        content = await Content.of(mail.pieces, mail.paired)
        if content.fault is not None:
            refused = cannot_carry(mail, content, _EVERYTHING, None)
            return self._all(mail, Result(refused, Stage.LOCAL))
        outcome = await self._once(mail, content)
        while True:
            rest = [
                i
                for i, result in enumerate(outcome.results)
                if result.stage is Stage.RCPT and result.reply is not None and result.reply.code == 452
            ]
            if not rest or not any(result.accepted for result in outcome.results):
                return outcome
            fewer = replace(mail, recipients=tuple(mail.recipients[i] for i in rest))
            try:
                more = await self._once(fewer, content)
            except Retired:
                return outcome  # those who were too many are put off
            except asyncio.CancelledError as cut:
                raise CutOff from cut  # the others have it
            if not any(result.accepted or result.in_doubt for result in more.results):
                return outcome
            results = list(outcome.results)
            for i, result in zip(rest, more.results, strict=True):
                results[i] = result
            outcome = replace(
                more, results=tuple(results), transcript=f"{outcome.transcript}\n{more.transcript}"
            )

    async def close(self, grace_s: float = 5.0) -> None:
        """Say QUIT on what is idle, let the busy end within ``grace_s`` seconds, then cut off."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            self._farewell(self._idle.pop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._busy or self._farewells:
                    self._changed.clear()
                    await self._changed.wait()
        for session in list(self._busy):
            session.abort()
        for task in list(self._farewells):
            task.cancel()
        if self._farewells:
            await asyncio.wait(list(self._farewells))

    async def _once(self, mail: Outgoing, content: Content) -> Outcome:
        tls = mail.require_tls or mail.requiretls
        async with self._slots:
            if self._closed:
                raise Retired
            session = self._reuse(tls)
            if session is not None:
                outcome = await self._on(session, mail, content)
                if not session.lost_early:
                    return outcome
            try:
                session = await self._open(tls)
            except HopError as error:
                if tls and error.tls_failed and self.hop.tls == "opportunistic":
                    put_off = Reply.of(451, "4.7.10", f"Encryption is asked for and failed: {error.why}")
                    return self._all(mail, Result(put_off, Stage.LOCAL, why=error.why))
                return self._all(mail, Result(error.reply, error.stage, why=error.why))
            return await self._on(session, mail, content)

    async def _on(self, session: Session, mail: Outgoing, content: Content) -> Outcome:
        self._busy.add(session)
        try:
            outcome = await session.send(mail, content)
        finally:
            self._busy.discard(session)
            self._changed.set()
        if session.usable:
            if self._closed or session.used >= self._max_messages or self._max_idle_s <= 0:
                self._farewell(session)
            else:
                loop = asyncio.get_running_loop()
                session.idle_since = loop.time()
                self._idle.append(session)
                if self._reaper is None:
                    self._reaper = loop.call_later(self._max_idle_s, self._reap)
        return outcome

    def _reuse(self, tls: bool) -> Session | None:
        self._idle = [session for session in self._idle if session.usable]
        for session in reversed(self._idle):
            if session.tls is not None or not tls:
                self._idle.remove(session)
                return session
        return None

    def _reap(self) -> None:
        """Close what has been idle too long; come again when the next will have been."""
        loop = asyncio.get_running_loop()
        self._reaper = None
        oldest = loop.time() - self._max_idle_s
        keep: list[Session] = []
        for session in self._idle:
            if not session.usable:
                continue
            if session.idle_since <= oldest + 0.001:
                self._farewell(session)
            else:
                keep.append(session)
        self._idle = keep
        if keep:
            self._reaper = loop.call_later(
                max(0.01, keep[0].idle_since + self._max_idle_s - loop.time()), self._reap
            )

    def _farewell(self, session: Session) -> None:
        task = asyncio.get_running_loop().create_task(session.quit())
        self._farewells.add(task)  # a task without a reference may be collected while it waits
        task.add_done_callback(self._said_farewell)

    def _said_farewell(self, task: asyncio.Task[None]) -> None:
        self._farewells.discard(task)
        self._changed.set()

    async def _open(self, tls: bool) -> Session:
        loop = asyncio.get_running_loop()
        levels = tls_levels(self.hop)
        if tls and len(levels) > 1:
            levels = levels[:-1]  # not without TLS
        known = loop.time() < self._level_until and self._level < len(levels)
        first = self._level if known else 0
        for index in range(first, len(levels)):
            try:
                session = await Session.open(
                    self.hop,
                    hostname=self._hostname,
                    times=self._times,
                    level=levels[index],
                    plain_auth_on_loopback=self._plain_auth_on_loopback,
                )
            except HopError as error:
                if not error.tls_failed or index == len(levels) - 1:
                    raise
                continue
            if index != first or (index and loop.time() >= self._level_until):
                self._level, self._level_until = index, loop.time() + LEVEL_KEPT_S
            return session
        raise AssertionError(TlsLevel.PLAIN)  # tls_levels() is never empty

    def _all(self, mail: Outgoing, result: Result) -> Outcome:
        text = f"{result.stage}: {result.told}"
        if result.why and result.reply is not None:
            text += f" ({result.why})"
        return Outcome(
            results=(result,) * len(mail.recipients),
            peer=f"{self.hop.host}:{self.hop.port}",
            tls=None,
            transcript=text,
        )
