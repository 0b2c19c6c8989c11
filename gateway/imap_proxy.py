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
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from gateway import metrics
from gateway.failures import Failures
from gateway.imap_fault import log_fault
from gateway.imap_login import LONGEST, Dialogue, Door, Gone, Visitor
from gateway.imap_observer import Observer, Sight
from gateway.imap_session import ImapSession
from gateway.imap_upstream import Entered
from gateway.imap_wire import Lines, Wire
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
        self._accepting: list[tuple[socket.socket, asyncio.Task[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
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
        _no_core()
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

        made = []
        for sock in await listening(host, port, backlog):
            made.append(sock.getsockname()[:2])
            task = self._loop.create_task(self._accept(sock, door, implicit=implicit))
            self._accepting.append((sock, task))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        return made

    async def stop(self, grace_s: float = 1.0) -> None:
        """Say BYE to everybody and end."""
        for sock, task in self._accepting:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            sock.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for dialogue in self._tasks:
            dialogue.cancel()
        for session in list(self._sessions):
            session.say_bye(b"The gateway is stopping")
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._empty.wait()

    # A connection until it is a session.

    async def _accept(self, sock: socket.socket, door: Door, *, implicit: bool) -> None:
        """The loop's own server would tell of a connection in TLS only after its handshake, and those that
        never finish one would count for nothing."""
        while True:
            try:
                peer, name = await self._loop.sock_accept(sock)
            except OSError as error:
                log.warning("accept: %s", error)  # out of descriptors, say
                await asyncio.sleep(_SWEEP_S)
                continue
            address = plain_address(name[0])
            counted_as = address_group(address)
            if (
                self._tally.connections >= self._settings.connections
                or self._tally.by_address[counted_as] >= self._settings.connections_per_address
            ):
                log.warning("IMAP connection of %s: too many", address)
                if not implicit:
                    with suppress(OSError):
                        peer.send(b"* BYE [LIMIT] Too many connections, please try again later\r\n")
                peer.close()
                continue
            self._tally.enter(counted_as)
            metrics.IMAP_SESSIONS.set(self._tally.connections)
            self._empty.clear()
            task = self._loop.create_task(self._attend(peer, door, counted_as, implicit=implicit))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attend(self, sock: socket.socket, door: Door, counted_as: str, *, implicit: bool) -> None:
        wire = Wire()
        lines = Lines(wire, LONGEST)
        lives = False
        try:
            await self._loop.connect_accepted_socket(
                lambda: wire,
                sock,
                ssl=door.tls if implicit else None,
                ssl_handshake_timeout=_HANDSHAKE_S if implicit else None,
            )
            visitor, entered, ahead = await Dialogue(wire, lines, door, secured=implicit).run()
            lives = True
            self._begin(wire, visitor, entered, ahead, counted_as)
        except asyncio.CancelledError:
            wire.write(b"* BYE The gateway is stopping\r\n")
        except (Gone, OSError, EOFError, TimeoutError):
            pass
        except Exception as error:
            log_fault(log, "an IMAP dialogue is ended by a fault", error)
        finally:
            if not lives:
                if wire.made:
                    wire.close()
                else:
                    sock.close()
                self._leave(counted_as)

    def _begin(self, wire: Wire, visitor: Visitor, entered: Entered, ahead: bytes, counted_as: str) -> None:
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


async def listening(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``; raises OSError."""
    made: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, proto)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(backlog)
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _no_core() -> None:
    """A process that dies must not leave other people's mail in a file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _more_descriptors() -> None:
    """A session takes two; the soft limit of most systems is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
