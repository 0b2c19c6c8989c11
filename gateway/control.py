"""The running gateway's own socket: how the command line writes while it runs (one writer).

A UNIX socket in the data directory, mode 0600; one JSON object a line each way:
``{"do": "queue", "act": "hold", "names": ["…"], "person": "root"}`` → ``{"ok": true, …}`` or
``{"ok": false, "error": "…"}``. Bad requests are answered, never raised; only the owner can connect.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.trouble import Trouble

_log = logging.getLogger("wasl.control")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

LINE = 4 * 1024 * 1024  # octets of one request or answer


class NotRunning(RuntimeError):
    """No gateway listens on this data directory."""


class Refused(RuntimeError):
    """The gateway answered with an error; the message is its."""


def path_of(data_dir: Path) -> Path:
    """Where the socket of a data directory is."""
    return data_dir / "control.sock"


def ask(data_dir: Path, request: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    """Send one request to the running gateway; raises :class:`NotRunning` or :class:`Refused`."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(path_of(data_dir)))
        except OSError as error:
            raise NotRunning(f"no gateway runs on {data_dir}") from error
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as answers:
            line = answers.readline(LINE)
    if not line:
        raise Refused("the gateway closed the connection without an answer: see its log")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise Refused(str(answer.get("error", "refused")))
    return answer


class ControlServer:
    """Serves requests by their ``do``."""

    def __init__(self, data_dir: Path, handlers: dict[str, Handler]) -> None:
        self._path = path_of(data_dir)
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)  # of a life that was killed; the data lock is ours
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LINE)
        finally:
            os.umask(old)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line), ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond all bounds
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["do"]]
        except (ValueError, KeyError, TypeError):
            known = ", ".join(sorted(self._handlers))
            return {"ok": False, "error": f"not understood; this gateway can: {known}"}
        try:
            return {"ok": True} | await handler(request)
        except (ValueError, Trouble) as error:
            return {"ok": False, "error": str(error)}  # words for the person who asked
        except Exception as error:
            _log.exception("control request %r failed", request.get("do"))
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
