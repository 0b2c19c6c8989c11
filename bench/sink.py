"""The sink of the benchmark: takes letters as fast as it can and knows each of them by its Message-ID.

A process of its own on uvloop. ``python -m bench.sink PORT`` reads commands from standard input, one a line,
and answers each with one line of JSON: ``expect N SECONDS`` answers when N different letters
have come since the last ``reset`` (or the time is over), ``reset`` forgets. A letter that comes twice counts
once and is reported as a duplicate. Mail from the null sender (receipts, DSNs) is counted apart.

How it fails: a line that is no command ends it with status 2; time over shows as ``letters`` below N.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from typing import cast

import uvloop

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\r\n[ \t]+)?([^\r\n]+)", re.I | re.M)
_HEAD = 65536  # octets looked through for the Message-ID
_HELLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 SIZE 0\r\n"


class Tally:
    """What came since the last reset. Times are of the monotonic clock, which processes share, in ns."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seen: set[bytes] = set()
        self.duplicates = 0
        self.nameless = 0
        self.automatic = 0
        self.octets = 0
        self.sessions = 0
        self.first = 0
        self.last = 0
        self.target = 0
        self.reached: asyncio.Event = asyncio.Event()

    def take(self, message_id: bytes | None, automatic: bool, octets: int) -> None:
        """Count one letter."""
        if automatic:
            self.automatic += 1
            return
        if message_id is None:
            self.nameless += 1
            return
        if message_id in self.seen:
            self.duplicates += 1
            return
        self.seen.add(message_id)
        self.octets += octets
        self.last = time.monotonic_ns()
        self.first = self.first or self.last
        if len(self.seen) == self.target:
            self.reached.set()

    def as_json(self) -> str:
        """The tally as one line."""
        return json.dumps(
            {
                "letters": len(self.seen),
                "duplicates": self.duplicates,
                "nameless": self.nameless,
                "automatic": self.automatic,
                "octets": self.octets,
                "sessions": self.sessions,
                "first_ns": self.first,
                "last_ns": self.last,
            }
        )


class Session(asyncio.Protocol):
    """One connection. Commands may be pipelined; only CRLF.CRLF ends DATA."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.tally.sessions += 1
        self.line = b""
        self.in_data = False
        self.automatic = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        while data:
            data = self.letter(data) if self.in_data else self.commands(data)

    def commands(self, data: bytes) -> bytes:
        """Answer whole lines; returns what follows a DATA."""
        answers: list[bytes] = []
        buffer = self.line + data
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            verb = buffer[start : start + 4].upper()
            if verb == b"MAIL":
                self.automatic = buffer[start : start + 12].upper() == b"MAIL FROM:<>"
            start_of_line, start = start, end + 1
            if verb == b"DATA":
                self.transport.write(b"".join([*answers, b"354 go on\r\n"]))
                self.in_data = True
                self.tail = b"\r\n"  # so that a letter may begin with the final dot
                self.head = bytearray()
                self.octets = 0
                self.line = b""
                return buffer[start:]
            if verb == b"EHLO":
                answers.append(_HELLO)
            elif verb == b"QUIT":
                answers.append(b"221 bye\r\n")
                self.transport.write(b"".join(answers))
                self.transport.close()
                return b""
            elif verb in (b"MAIL", b"RCPT", b"RSET", b"NOOP", b"HELO"):
                answers.append(b"250 OK\r\n")
            else:
                answers.append(b"502 " + buffer[start_of_line : start_of_line + 4] + b"\r\n")
        self.line = buffer[start:]
        if answers:
            self.transport.write(b"".join(answers))
        return b""

    def letter(self, data: bytes) -> bytes:
        """Take octets of a letter; returns what follows its end."""
        seam = self.tail + data[:4]
        at = seam.find(b"\r\n.\r\n")
        if at >= 0:
            end = at + 5 - len(self.tail)
        else:
            at = data.find(b"\r\n.\r\n")
            end = at + 5 if at >= 0 else -1
        if end < 0:
            if len(self.head) < _HEAD:
                self.head += data
            self.octets += len(data)
            self.tail = (self.tail + data[-4:])[-4:]
            return b""
        if len(self.head) < _HEAD:
            self.head += data[:end]
        self.octets += end
        found = _MESSAGE_ID.search(self.head, 0, _HEAD)
        self.tally.take(found[1] if found else None, self.automatic, self.octets)
        self.transport.write(b"250 OK\r\n")
        self.in_data = False
        return data[end:]


async def _serve(port: int) -> int:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(tally), "127.0.0.1", port, backlog=1000)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := (await lines.readline()).split():
        match line:
            case [b"reset"]:
                tally.reset()
            case [b"expect", count, seconds]:
                tally.target = int(count)
                if len(tally.seen) < tally.target:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(tally.reached.wait(), float(seconds))
            case _:
                return 2
        print(tally.as_json(), flush=True)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve(int(sys.argv[1]))))
