"""The HTTP side of a running gateway: the dashboard, ``/metrics`` and ``/healthz``, by uvicorn.

The dashboard gets the record to read and one way to write; metrics and health have a listener of
their own for the monitoring network. ``/healthz`` answers 200 while the record can be read and
written, else 503 with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dashboard.app import make_app
from dashboard.desk import AgencyName, DashboardDesk, DashboardSettings
from gateway.followup import FollowUpClock
from gateway.holding import decide
from gateway.policy_watch import PolicyWatch
from gateway.registry import RegistryActs
from gateway.retry import RetrySchedule
from gateway.reverse_path import ReversePath
from gateway.setting_values import Endpoint
from gateway.settings import Settings
from gateway.web_policy import PolicyPages
from policies.directory import DirectoryFile
from tracker.access import Viewer
from tracker.hold_desk import Decided, Decision
from tracker.holds import Act
from tracker.integrity import Content
from tracker.model import now_us
from tracker.record import Record
from tracker.verify_code import VerifyCodes

_log = logging.getLogger("wasl.web")


class Served(Protocol):
    """What the pages are made from, of a running gateway (:class:`gateway.serve.Gateway`)."""

    settings: Settings
    roles: tuple[str, ...]
    addresses: list[tuple[str, str, int]]
    record: Record
    directory: DirectoryFile
    policy: PolicyWatch
    schedule: RetrySchedule
    followup: FollowUpClock
    codes: VerifyCodes
    reverse_path: ReversePath


class WebServers:
    """Starts and stops the HTTP listeners of a gateway."""

    def __init__(self, gateway: Served) -> None:
        self._gateway = gateway
        self._pages: FastAPI | None = None
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(self) -> None:
        settings = self._gateway.settings
        if settings.metrics.enabled:
            await self._serve("metrics", self._monitoring(), settings.metrics.listen)
        if settings.dashboard.enabled and "dashboard" in self._gateway.roles:
            section = settings.dashboard
            extra: dict[str, Any] = {}
            if section.certificate is not None and section.key is not None:
                extra = {"ssl_certfile": str(section.certificate), "ssl_keyfile": str(section.key)}
            self._pages = make_app(self._desk())
            await self._serve("dashboard", self._pages, section.listen, **extra)

    async def stop(self) -> None:
        if self._pages is not None:
            self._pages.state.replays.stop_all()
            self._pages.state.trial_room.close()
            self._pages.state.hub.stop()  # live pages never end by themselves
        for server, _ in self._servers:
            server.should_exit = True
            server.force_exit = True
        for _, task in self._servers:
            try:
                await asyncio.wait_for(task, 10)
            except TimeoutError:
                _log.warning("an HTTP listener did not stop in time")

    async def _serve(self, name: str, app: Any, listen: Endpoint, **extra: Any) -> None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((listen.host, listen.port))
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"{name} on {listen}: {error.strerror}") from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            loop="none",
            timeout_graceful_shutdown=3,
            **extra,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(_quiet(server, sock), name=name)
        self._servers.append((server, task))
        host, port = sock.getsockname()[:2]
        self._gateway.addresses.append((name, host, port))

    def _desk(self) -> DashboardDesk:
        gateway, settings, record = self._gateway, self._gateway.settings, self._gateway.record

        def names() -> list[AgencyName]:
            return [AgencyName(code=a.code, ar=a.name_ar, en=a.name_en) for a in gateway.directory.current]

        def name(code: str) -> AgencyName:
            agency = gateway.directory.current.agency(code)
            if agency is None:
                return AgencyName(code=code, ar=code, en=code)
            return AgencyName(code=code, ar=agency.name_ar, en=agency.name_en)

        def content(key: str) -> Content:
            return record.archive.open(key)

        def decide_holds(ids: Sequence[int], person: Viewer, act: Act, note: str, /) -> Sequence[Decided]:
            at = now_us()
            expires = gateway.schedule.expires_us(at)
            return decide(
                record,
                [
                    Decision(hold_id=i, person=person, act=act, at_us=at, expires_us=expires, note=note)
                    for i in ids
                ],
            )

        return DashboardDesk(
            engine=record.store.reader,
            write=record.write,
            next_id=record.ids.next,
            changes=record,
            agencies=names,
            name=name,
            open_content=content,
            decide_holds=decide_holds,
            remind=gateway.followup.remind,
            verify=gateway.codes if settings.dashboard.verify else None,
            register=RegistryActs(
                record,
                lambda: gateway.directory.current,
                settings.numbers.incoming,
                gateway.reverse_path.address_for,
            ),
            policy=PolicyPages(gateway.policy, two_persons=settings.policy.second_person),
            settings=DashboardSettings(
                base_url=settings.base_url,
                zone=ZoneInfo(settings.gateway.zone),
                gateway_name=settings.gateway.title_ar,
                secure=urlsplit(settings.base_url).scheme == "https",
                language=settings.dashboard.language,
                idle_seconds=int(settings.dashboard.session.total_seconds()),
            ),
        )

    def _monitoring(self) -> Starlette:
        record = self._gateway.record

        def numbers(request: Request) -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        def health(request: Request) -> Response:
            try:
                record.healthy()
            except Exception as error:
                return JSONResponse({"ok": False, "why": str(error)}, status_code=503)
            faults = [str(f) for f in (*self._gateway.directory.faults, *self._gateway.policy.faults)]
            return JSONResponse({"ok": True, "config_faults": faults})

        return Starlette(routes=[Route("/metrics", numbers), Route("/healthz", health)])


async def _quiet(server: uvicorn.Server, sock: socket.socket) -> None:
    """uvicorn would take the signals over while it serves; the gateway's own handlers stay."""
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    await server.serve(sockets=[sock])
