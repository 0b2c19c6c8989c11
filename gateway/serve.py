"""The supervisor: puts the parts together, starts the roles, keeps house, stops in order.

Roles: ``smtp`` and ``imap`` (their listeners), ``relay``, ``notices`` (receipts), ``watch`` (mailboxes that
are looked into), ``dashboard``, ``upkeep`` (checkpoints, reload, forgetting what is done). SIGTERM and
SIGINT stop: listeners answer 421, letters being committed are finished, the relay ends what it began.
SIGHUP reloads directory and policy, and so does a file of theirs that changed; a broken file leaves the
last good one in force (promise 7). Raises :class:`StartError` when it cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import high_water, metrics
from gateway.acts import ACTS, Act
from gateway.authentication import Authentication
from gateway.authentication_dns import Names
from gateway.command_mail import CommandMail
from gateway.composer import Composer
from gateway.control import ControlServer
from gateway.crossing import Crossing
from gateway.data_lock import Busy, DataLock
from gateway.deadline import Deadline
from gateway.followup import FollowUpClock, FollowUpSettings
from gateway.holding import HoldClock
from gateway.imap_role import ImapRole
from gateway.inbound import Inbound
from gateway.instance import Instance
from gateway.intake import Intake
from gateway.notices import Notices
from gateway.opening import await_room, mac_secrets, open_record, open_room, policy_limits
from gateway.own_mail import OwnPost
from gateway.part_settings import (
    checks,
    composer_identity,
    gateway_identity,
    intake_settings,
    next_hops,
    notice_settings,
    retry_schedule,
    wire_limits,
)
from gateway.policy_desk import act_on_policy
from gateway.policy_watch import PolicyWatch
from gateway.reading_room import ContentReader, memory_for
from gateway.refusals import Refusals
from gateway.registry import AnswerClock
from gateway.relay import Relay
from gateway.reload import Reload
from gateway.reverse_path import ReversePath
from gateway.settings import Listen, Settings, WireDoor
from gateway.signing_room import SigningRoom
from gateway.smtp_listener import SmtpListener
from gateway.submission import PasswordCheck
from gateway.tally import Tally
from gateway.trouble import Trouble
from gateway.upkeep import NodeKeeper, Upkeep
from gateway.watch_role import WatchRole
from policies.directory import DirectoryFile
from tracker import lasting
from tracker.model import Door
from tracker.outage import Outage
from tracker.store_errors import StoreError
from tracker.verify_code import open_codes, verify_link

if TYPE_CHECKING:
    from gateway.web import WebServers

_log = logging.getLogger("wasl.serve")

KEPT_DIRECTORY = "directory.json"  # in the data folder: the last good one
LATE_S = 10.0  # after limits.stop_grace: then a stop that hangs is cut off

ROLES = ("smtp", "imap", "relay", "notices", "watch", "dashboard", "upkeep")


class StartError(Trouble):
    """The gateway cannot start; the message says what to do."""


class Gateway:
    """One running gateway."""

    def __init__(self, settings: Settings, roles: tuple[str, ...] = ROLES) -> None:
        self.settings = settings
        self.roles = roles
        self.addresses: list[tuple[str, str, int]] = []  # door, host, port: where it listens
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._listeners: list[SmtpListener] = []
        self._imap: ImapRole | None = None
        self._broken: BaseException | None = None  # why a role ended that should not
        self._deadline = Deadline(settings.limits.stop_grace.total_seconds() + LATE_S)

    async def run(self) -> None:
        """Serve until told to stop; raises :class:`StartError`."""
        settings = self.settings
        try:
            lock = DataLock(settings.gateway.data_dir)
        except Busy as error:
            raise StartError(str(error)) from error
        with lock:
            self.record = open_record(settings, Outage(_log, "a write to the record failed").failed)
            try:
                with self.record.read() as conn:
                    high_water.check(
                        settings.gateway.data_dir, conn, self.record.ledger_reader, self.record.registers
                    )
            except high_water.Behind as error:
                self.record.close()
                raise StartError(str(error)) from error
            try:
                open_room(settings, self.record, _end_at_once)
                await self._run()
            finally:
                self.record.close()
                self.record.archive.close()
                self._deadline.cancel()
        if self._broken is not None:
            raise StartError(f"the gateway had to stop: {self._broken}")

    def stop(self) -> None:
        """Begin to stop."""
        self._deadline.begin()
        self._stop.set()

    async def _run(self) -> None:
        settings = self.settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # everything is about to be read anyway
        executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="wasl-work")
        self.directory = DirectoryFile(
            settings.directory.path, (settings.gateway.domain,), settings.gateway.data_dir / KEPT_DIRECTORY
        )
        metrics.CONFIG_FAULTS.set(len(self.directory.faults))
        for fault in self.directory.faults:
            _log.error("%s", fault)
        if self.directory.faults:
            count = len(self.directory.current)
            _log.error("the last good directory, of %d agencies, is in force", count)
        self.policy = await loop.run_in_executor(None, self._open_policy)
        self._parts(executor)
        await loop.run_in_executor(None, await_room, self.record)
        loop.add_signal_handler(signal.SIGHUP, self.reload.ask)
        self.record.drive(loop)
        if "relay" in self.roles:
            await self.room.open()
            self._start(self.relay.run(), "relay")
        if "notices" in self.roles:
            self._start(self.notices.run(), "notices")
        if "watch" in self.roles:
            self._start(self.watch.run(), "mailboxes")
        if "upkeep" in self.roles:
            self._start(self.upkeep.run(), "upkeep")
        if {"upkeep", "smtp"} & set(self.roles):
            self._start(self.hold_clock.run(), "holds")
            self._start(self.answer_clock.run(), "answers")
        if "upkeep" in self.roles:
            self._start(self.followup.run(), "follow-up")
        self._start(self.reload.run(), "reload")
        if self.record.store.dialect != "sqlite":
            self._start(NodeKeeper(self.record).run(), "node")
        control = ControlServer(settings.gateway.data_dir, self._handlers())
        await control.start()
        web = self._web()
        try:
            if web is not None:
                await web.start()
            if "smtp" in self.roles:
                await self._listen()
            if "imap" in self.roles and any(entry.door.mailboxes for entry in settings.listen):
                self._imap = ImapRole(settings, self.crossing, lambda: self.directory.current, executor)
                self._tasks.append(self._imap.task)
                self.addresses += await self._imap.listen(self._context)
            for door, host, port in self.addresses:
                _log.info("listening: %s on %s port %d", door, host, port)
            self._write_addresses()
            lasting.settle()
            _notify_systemd("READY=1")
            await self._wait()
        except OSError as error:
            raise StartError(f"cannot listen: {error}") from error
        finally:
            _notify_systemd("STOPPING=1")
            _log.info("stopping")
            self._deadline.begin()
            await control.stop()
            grace = settings.limits.stop_grace.total_seconds()
            end = time.monotonic() + grace
            if self._imap is not None:
                await self._imap.stop(grace)
            await asyncio.gather(*(listener.stop(grace) for listener in self._listeners))
            self.notices.stop()
            await self.relay.stop(max(1.0, end - time.monotonic()))
            if web is not None:
                await web.stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.hold_clock.close()
            await self.followup.close()
            await loop.run_in_executor(None, self.upkeep.mark)
            await self.names.close()
            await self.room.close()
            await self.rooms.close()
            self.record.let_go()
            executor.shutdown(wait=True)

    def _open_policy(self) -> PolicyWatch:
        section = self.settings.policy
        return PolicyWatch(
            self.record,
            section.path,
            policy_limits(self.settings),
            self.directory.current,
            second_person=section.second_person,
            data_dir=self.settings.gateway.data_dir,
        )

    def _web(self) -> WebServers | None:
        """The HTTP listeners, if there are any; what they stand on is 40 MB that others do without."""
        if not (self.settings.metrics.enabled or self.settings.dashboard.enabled):
            return None
        from gateway.web import WebServers

        return WebServers(self)

    def _parts(self, executor: ThreadPoolExecutor) -> None:
        settings = self.settings
        crossing = self.crossing = Crossing(self.record)
        macs = mac_secrets(settings.secrets.mac)
        reverse_path = self.reverse_path = ReversePath(macs, settings.gateway.domain)
        instance = Instance(macs, settings.gateway.hostname)
        schedule = self.schedule = retry_schedule(settings)
        self.codes = open_codes(self.record)

        def directory() -> Any:
            return self.directory.current

        self.room = SigningRoom()
        self.rooms = ContentReader(memory=memory_for(settings.limits.message_size))
        composer = Composer(
            composer_identity(settings, self._verify_link()),
            self.record.archive,
            directory,
            reverse_path,
            instance,
            executor,
            self.room,
        )
        self.watch = WatchRole(
            settings.watch,
            crossing,
            directory,
            executor,
            owner=f"{settings.gateway.node}/{secrets.token_hex(6)}",
            incoming=settings.numbers.incoming,
        )
        self.relay = Relay(
            crossing,
            directory,
            composer,
            next_hops(settings),
            schedule,
            owner=f"{settings.gateway.node}/{secrets.token_hex(6)}",
            lease_s=settings.relay.lease.total_seconds(),
            look_for=self.watch.look_for,
        )
        relaying = self.relay if "relay" in self.roles else None
        post = OwnPost(crossing, directory, schedule, relaying)
        self.notices = Notices(
            crossing,
            notice_settings(settings, self.codes.of),
            directory,
            post,
            executor,
            lambda: self.policy.current,
        )
        inbound = Inbound(crossing, reverse_path, directory, schedule, executor)
        numbers = settings.numbers.incoming
        commands = CommandMail(
            crossing,
            directory,
            inbound,
            reverse_path,
            gateway_identity(settings),
            numbers,
            schedule,
            post,
            executor,
        )
        self.answer_clock = AnswerClock(crossing, directory, numbers)
        self.passwords = PasswordCheck(directory, settings.submission)
        self.reload = Reload(settings, self.record, self.directory, self.policy, self.passwords)
        self.upkeep = Upkeep(settings, self.record)
        dns = settings.dns
        remembered = settings.authentication.remembered
        self.names = Names(dns.resolvers, dns.timeout.total_seconds(), remembered)
        refusals = Refusals()
        self.intake = Intake(
            crossing,
            intake_settings(settings),
            directory,
            lambda: self.policy.current,
            reverse_path,
            instance,
            schedule,
            self.passwords,
            inbound,
            relaying,
            executor,
            self.rooms,
            Authentication(checks(settings), self.names, executor),
            refusals,
            commands,
        )
        self.hold_clock = HoldClock(crossing, schedule, relaying, refusals)
        self.followup = FollowUpClock(
            crossing,
            FollowUpSettings(gateway=gateway_identity(settings), base_url=settings.base_url),
            directory,
            lambda: self.policy.current,
            post,
            executor,
            owner=f"{settings.gateway.node}/{secrets.token_hex(6)}",
        )

    def _verify_link(self) -> Callable[[str], str] | None:
        """Where the letter of a number is checked; None where letters do not say so."""
        base, codes = self.settings.verify_base, self.codes
        return (lambda number: verify_link(base, number, codes.of(number))) if base else None

    async def _listen(self) -> None:
        settings = self.settings
        tally = Tally()
        metrics.SESSIONS.set_function(lambda: tally.connections)
        limits = wire_limits(settings)
        for entry in settings.listen:
            if entry.door.mailboxes:
                continue
            relaying = entry.door is WireDoor.RELAY
            context = self._context(entry)
            listener = SmtpListener(
                self.intake,
                Door.RELAY if relaying else Door.SUBMISSION,
                limits,
                context,
                implicit=entry.door is WireDoor.SUBMISSIONS,
                require_auth=not relaying,
                hostname=settings.gateway.hostname,
                tally=tally,
            )
            for host, port in await listener.start(entry.address.host, entry.address.port):
                self.addresses.append((entry.door.value, host, port))
            self._listeners.append(listener)

    def _context(self, entry: Listen) -> ssl.SSLContext | None:
        """The TLS of one door; raises :class:`StartError` where there must be one and is none."""
        tls = self.settings.tls
        certificate, key = entry.certificate or tls.certificate, entry.key or tls.key
        relaying = entry.door is WireDoor.RELAY
        if certificate is not None and key is not None:
            return server_context(certificate, key, tls.client_ca if relaying else None)
        if relaying:
            return None
        raise StartError(f"the listener {entry.address} needs a certificate: set [tls]")

    async def _wait(self) -> None:
        """Until told to stop, or a role ended that should not."""
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({stop, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            self._broken = error = task.exception() or RuntimeError(f"the role {task.get_name()} ended")
            trace = None if isinstance(error, StoreError) else error
            _log.critical("the role %s ended; stopping: %s", task.get_name(), error, exc_info=trace)
        stop.cancel()

    def _start(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    # The control socket.

    def _handlers(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def served(name: str, act: Act) -> Any:
            async def handle(request: dict[str, Any]) -> dict[str, Any]:
                answer = await loop.run_in_executor(None, act, self.record, request)
                if name == "queue":
                    self.relay.wake()
                return answer

            return handle

        async def policy(request: dict[str, Any]) -> dict[str, Any]:
            return await loop.run_in_executor(None, act_on_policy, self.policy, request)

        async def followup(request: dict[str, Any]) -> dict[str, Any]:
            return {"mails": await self.followup.look()}

        async def status(request: dict[str, Any]) -> dict[str, Any]:
            return {"pid": os.getpid(), "roles": list(self.roles), "listen": self.addresses}

        acts = {name: served(name, act) for name, act in ACTS.items()}
        own = {
            "reload": self.reload.answer,
            "rotate-ledger": self.reload.rotate_ledger,
            "policy": policy,
            "followup": followup,
            "status": status,
        }
        return acts | own

    def _write_addresses(self) -> None:
        """Where it listens, for tools that asked for port 0."""
        lines = [f"{door} {host} {port}\n" for door, host, port in self.addresses]
        target = self.settings.gateway.data_dir / "listening"
        part = target.with_suffix(".part")
        part.write_text("".join(lines))
        part.replace(target)


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and later (RFC 8996); client certificates are asked for when there is an authority for them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{certificate}: the certificate or its key cannot be used: {error}") from error
    return context


def _end_at_once() -> None:
    """The record room died: what it had in hand is unknown, so this life ends as a kill would end it."""
    _log.critical("the record room is gone; the gateway ends at once and must be started again")
    os.kill(os.getpid(), signal.SIGKILL)


def _notify_systemd(state: str) -> None:
    """Tell systemd (sd_notify); nothing happens where there is none."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect("\0" + target[1:] if target.startswith("@") else target)
            sock.sendall(state.encode())
        except OSError as error:
            _log.warning("systemd could not be told %s: %s", state, error)


def serve(settings: Settings, roles: tuple[str, ...] = ROLES) -> None:
    """Run a gateway in this process until it is told to stop; raises :class:`StartError`."""
    import uvloop

    async def main() -> None:
        await Gateway(settings, roles).run()

    uvloop.run(main())
