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


async def _answer(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            break
    if not line.startswith(wanted):
        raise Refused(line.decode("ascii", "replace").strip() or "connection closed")


async def _give(port: int, octets: bytes) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _answer(reader, b"220")
    commands = (
        (b"EHLO client.mof.gov.example", b"250"),
        (b"MAIL FROM:<%s>" % SENDER.encode(), b"250"),
        (b"RCPT TO:<%s>" % RECIPIENT.encode(), b"250"),
        (b"DATA", b"354"),
    )
    for command, wanted in commands:
        writer.write(command + b"\r\n")
        await _answer(reader, wanted)
    writer.write(octets + b".\r\n")
    await writer.drain()
    begin = time.perf_counter()
    await _answer(reader, b"250")
    waited = time.perf_counter() - begin
    writer.write(b"QUIT\r\n")
    await _answer(reader, b"221")
    writer.close()
    return waited


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
