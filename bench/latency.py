"""How long a client waits for its 250: from the last octet of the letter to the answer.

``python -m bench.latency PORT CONNECTIONS LETTERS SIZE`` is a process of its own on uvloop: so many clients
at once, a new connection for each letter, the next one as soon as the last was answered. It prints one
line of JSON. How it fails: an answer that is not the expected one ends it with the answer and status 1.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import cast

import uvloop

from bench.relay import RECIPIENT, SENDER

_LINE = b"La de da de da, la de da de da, la de da de da de da: the words of a letter.\r\n"


def letter(number: int, size: int) -> bytes:
    """A letter of about ``size`` octets with a Message-ID of its own."""
    message_id = f"<{os.getpid()}.{number}.{time.time_ns()}@mof.gov.example>"
    fields = (
        f"From: <{SENDER}>",
        f"To: <{RECIPIENT}>",
        "Date: Sun, 22 Nov 2026 10:00:00 +0000",
        f"Message-ID: {message_id}",
        f"Subject: letter {number}",
    )
    head = "".join(f"{field}\r\n" for field in (*fields, "")).encode()
    return head + _LINE * max(1, (size - len(head)) // len(_LINE))


class Refused(RuntimeError):
    """The relay answered otherwise than it should."""


class _Client(asyncio.Protocol):
    """Gives one letter; ``done`` has the seconds between its last octet and the answer.

    Callbacks, no streams: what the client takes of the processors, the relay under test lacks.
    """

    def __init__(self, octets: bytes, done: asyncio.Future[float]) -> None:
        self._steps = iter(
            (
                (b"220", b"EHLO client.mof.gov.example\r\n"),
                (b"250", b"MAIL FROM:<%s>\r\n" % SENDER.encode()),
                (b"250", b"RCPT TO:<%s>\r\n" % RECIPIENT.encode()),
                (b"250", b"DATA\r\n"),
                (b"354", octets + b".\r\n"),
                (b"250", b"QUIT\r\n"),
                (b"221", b""),
            )
        )
        self._wanted, self._next = next(self._steps)
        self._done = done
        self._rest = b""
        self._sent = self._waited = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._answered(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(Refused("connection closed"))

    def _answered(self, line: bytes) -> None:
        if not line.startswith(self._wanted):
            if not self._done.done():
                self._done.set_exception(Refused(line.decode("ascii", "replace").strip()))
            self._transport.abort()
            return
        if self._sent and not self._waited:
            self._waited = time.perf_counter() - self._sent
        if not self._next:
            self._done.set_result(self._waited)
            self._transport.close()
            return
        self._transport.write(self._next)
        if self._wanted == b"354":
            self._sent = time.perf_counter()
        self._wanted, self._next = next(self._steps)


async def _give(port: int, octets: bytes) -> float:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[float] = loop.create_future()
    await loop.create_connection(lambda: _Client(octets, done), "127.0.0.1", port)
    return await done


async def run(port: int, connections: int, letters: int, size: int) -> list[float]:
    """Give the letters; the waits in seconds, in order of the answers."""
    numbers = iter(range(letters))
    waits: list[float] = []

    async def client() -> None:
        for number in numbers:
            waits.append(await _give(port, letter(number, size)))

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(client())
    return waits


def percentile(waits: Sequence[float], share: float) -> float:
    """The wait that ``share`` of them do not exceed."""
    return sorted(waits)[max(0, math.ceil(share * len(waits)) - 1)]


def main() -> int:
    port, connections, letters, size = map(int, sys.argv[1:])
    try:
        waits = uvloop.run(run(port, connections, letters, size))
    except ExceptionGroup as faults:
        print(faults.exceptions[0], file=sys.stderr)
        return 1
    tenths = {f"p{int(s * 100)}_ms": round(percentile(waits, s) * 1000, 2) for s in (0.5, 0.99)}
    print(json.dumps({**tenths, "max_ms": round(max(waits) * 1000, 2), "letters": len(waits)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
