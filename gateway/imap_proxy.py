"""The doors to the mailboxes: ports 143 and 993, the caps over them, and their orderly end.

RFC 3501 and RFC 9051; STARTTLS on the one, TLS from the first octet on the other (RFC 8314). A connection is
a dialogue of Wasl's own until the login (:mod:`gateway.imap_login`), then two sockets with a session between
them (:mod:`gateway.imap_session`): no task and no buffer while it idles. Caps are looked at before TLS
begins, and half-done handshakes count.

Fails: ``listen`` raises OSError when the address cannot be had. ``stop`` says BYE and ends at once: an IMAP
client connects again by itself. What a client or a server does ends its own session at most.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from gateway import metrics
from gateway.failures import Failures
from gateway.imap_login import Dialogue, Door, Gone, Visitor
from gateway.imap_observer import Observer, Sight
from gateway.imap_session import ImapSession
from gateway.imap_upstream import Entered
from gateway.imap_wire import ALONE, Wire
from gateway.imap_witness import Witness
from gateway.settings_imap import Imap
from gateway.tally import Tally, address_group, plain_address
from policies.directory import Directory
from tracker.mailbox_visit import Visit
from tracker.model import now_us

log = logging.getLogger("wasl.imap")

_SWEEP_S = 1.0
_PEOPLE_PER_ADDRESS = 10
_HANDSHAKE_S = 30.0


class ImapProxy:
    """All IMAP doors of a process. Make it inside the running event loop."""

    def __init__(
        self,
        settings: Imap,
        directory: Callable[[], Directory],
        witness: Witness | None,
        hostname: str,
    ) -> None:
        """``witness`` takes what is seen; without one nothing is looked at."""
        self._settings = settings
        self._directory = directory
        self._witness = witness if settings.observe else None
        self._hostname = hostname
        self._loop = asyncio.get_running_loop()
        self._tally = Tally()
        window = settings.failure_window.total_seconds()
        self._by_account = Failures(settings.failures, window)
        # Many people may share one address: it is allowed more.
        self._by_address = Failures(settings.failures * _PEOPLE_PER_ADDRESS, window)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialogues: dict[asyncio.Task[None], Wire] = {}
        self._sessions: dict[ImapSession, str] = {}  # -> what its address counts as
        self._asking: set[ImapSession] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None, *, implicit: bool, backlog: int = 512
    ) -> list[tuple[str, int]]:
        """Listen on every address of ``host``; returns them. Raises OSError."""
        _more_descriptors()
        if tls is not None:
            tls.num_tickets = 0  # a session that lasts for days needs none, and each costs memory
        door = Door(
            directory=self._directory,
            keeper=self,
            hostname=self._hostname,
            tls=tls,
            clear_login=self._settings.clear_login,
            domain=self._settings.domain,
            login_timeout_s=self._settings.login_timeout.total_seconds(),
            upstream_timeout_s=self._settings.upstream_timeout.total_seconds(),
        )

        def accept() -> _Caller:
            return _Caller(self, door, implicit=implicit)

        server = await self._loop.create_server(accept, host, port, backlog=backlog)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        return [sock.getsockname()[:2] for sock in server.sockets]

    async def stop(self, grace_s: float = 1.0) -> None:
        """Say BYE to everybody and end."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task, wire in list(self._dialogues.items()):
            wire.write(b"* BYE The gateway is stopping\r\n")
            task.cancel()
        for session in list(self._sessions):
            session.say_bye(b"The gateway is stopping")
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()

    # A connection until it is a session.

    def came(self, wire: Wire, door: Door, *, implicit: bool) -> None:
        peer = plain_address(wire.address()[0])
        counted_as = address_group(peer)
        full = (
            self._tally.connections >= self._settings.connections
            or self._tally.by_address[counted_as] >= self._settings.connections_per_address
        )
        if full:
            log.warning("IMAP connection of %s: too many", peer)
            if not implicit:
                wire.write(b"* BYE [LIMIT] Too many connections, please try again later\r\n")
            wire.close()
            return
        wire.stop(ALONE)  # until somebody reads
        self._tally.enter(counted_as)
        self._empty.clear()
        metrics.IMAP_SESSIONS.set(self._tally.connections)
        task = self._loop.create_task(self._attend(wire, door, counted_as, implicit=implicit))
        self._tasks.add(task)
        self._dialogues[task] = wire
        task.add_done_callback(self._attended)

    def _attended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._dialogues.pop(task, None)

    async def _attend(self, wire: Wire, door: Door, counted_as: str, *, implicit: bool) -> None:
        lives = False
        try:
            if implicit and door.tls is not None:
                await wire.start_tls(door.tls, server_side=True, timeout_s=_HANDSHAKE_S)
            visitor, entered, ahead = await Dialogue(wire, door, secured=implicit).run()
            lives = self._begin(wire, visitor, entered, ahead, counted_as)
        except (Gone, OSError, EOFError, TimeoutError):
            pass
        except Exception:
            log.exception("an IMAP dialogue is ended by a fault")
        finally:
            if not lives:
                wire.close()
                self._leave(counted_as)

    def _begin(self, wire: Wire, visitor: Visitor, entered: Entered, ahead: bytes, counted_as: str) -> bool:
        server = "{}:{}".format(*entered.wire.address())
        observer = None
        who = [visitor]
        if self._witness is not None:
            witness = self._witness

            def told(sight: Sight) -> None:
                witness.saw(_visit(who[0], sight, server))

            observer = Observer(told)

        def identify(client: str) -> None:
            who[0] = replace(who[0], client=client)

        session = ImapSession(wire, entered.wire, self, observer, self._settings.line, identify)
        self._sessions[session] = counted_as
        session.start(ahead, entered.ahead)
        return True

    def _leave(self, counted_as: str) -> None:
        self._tally.leave(counted_as)
        if not self._tally.connections:
            self._empty.set()
        metrics.IMAP_SESSIONS.set(self._tally.connections)

    # What sessions tell.

    def ended(self, session: ImapSession) -> None:
        counted_as = self._sessions.pop(session, None)
        self._asking.discard(session)
        if counted_as is not None:
            self._leave(counted_as)

    def asking(self, session: ImapSession, begun: bool) -> None:
        if begun:
            self._asking.add(session)
        else:
            self._asking.discard(session)

    def off(self) -> None:
        metrics.IMAP_UNWATCHED.inc()

    def _sweep(self) -> None:
        for session in list(self._asking):
            session.look_at_clock()
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    # Failed logins.

    def may_try(self, account: str, peer: str) -> bool:
        now = time.monotonic()
        group = address_group(peer)
        if self._by_account.too_many(f"{account} {group}", now) or self._by_address.too_many(group, now):
            metrics.IMAP_LOGINS.labels("throttled").inc()
            return False
        return True

    def begins(self, account: str, peer: str) -> float:
        now = time.monotonic()
        group = address_group(peer)
        self._by_account.add(f"{account} {group}", now)
        self._by_address.add(group, now)
        metrics.IMAP_LOGINS.labels("tried").inc()
        return now

    def spared(self, account: str, peer: str, attempt: float) -> None:
        group = address_group(peer)
        self._by_account.take_back(f"{account} {group}", attempt)
        self._by_address.take_back(group, attempt)
        metrics.IMAP_LOGINS.labels("no verdict").inc()

    def entered(self, account: str, peer: str, attempt: float) -> None:
        group = address_group(peer)
        self._by_account.clear(f"{account} {group}")
        self._by_address.take_back(group, attempt)
        metrics.IMAP_LOGINS.labels("right").inc()


class _Caller(Wire):
    """A client's wire, which tells the proxy that it is there."""

    __slots__ = ("_begins",)

    def __init__(self, proxy: ImapProxy, door: Door, *, implicit: bool) -> None:
        super().__init__()
        self._begins: tuple[ImapProxy, Door, bool] | None = (proxy, door, implicit)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._begins is not None:
            (proxy, door, implicit), self._begins = self._begins, None
            proxy.came(self, door, implicit=implicit)


def _visit(visitor: Visitor, sight: Sight, server: str) -> Visit:
    return Visit(
        agency=visitor.agency,
        account=visitor.account,
        mailbox=visitor.mailbox,
        client=visitor.client,
        peer=visitor.peer,
        server=server,
        number=sight.letter.number,
        message_id=sight.letter.message_id,
        what=sight.what,
        value=sight.value,
        folder=sight.folder,
        at_us=now_us(),
    )


def _more_descriptors() -> None:
    """A session takes two; the soft limit of most systems is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
