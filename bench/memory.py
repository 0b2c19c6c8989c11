"""Memory under load: ``python -m bench.memory``. Two scenes, each on a gateway of its own.

1. 200 connections are open, and over 20 of them come letters of 20 MB at the same time: all but their last
   megabyte is given, then all end at once and are relayed.
2. A circular: one letter of 10 MB to an agency's 110 others, each with a server of its own.

What counts is memory in use with the pages of mapped files in it, shared pages once; the sum of what each
process maps stands beside it. A few small letters with an attachment go before each scene, so that the
processes that read such letters are there. It ends with one line of JSON, and with status 1 when the first
scene needs more than 300 MB, the second more than three copies of the letter above what the gateway needed
before, or a letter is lost.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from bench.latency import letter
from bench.process import Memory, watched
from bench.relay import RECIPIENT, SENDER
from bench.sinking import RunningSink, running_sink
from bench.wasl import furnished
from tests.servers.place import Place
from tests.servers.wasl import serving

CONNECTIONS, LARGE, SIZE = 200, 20, 20_000_000
CIRCULAR, AGENCIES = 10_000_000, 110
LIMIT = 300_000_000
WARM = 3  # letters before each scene
_CHUNK = 65536


class Client:
    """One SMTP connection that can stop in the middle of a letter."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def greet(self) -> None:
        """Connect and say hello."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self.answer()
        await self.say("EHLO client.mof.gov.example")

    async def answer(self) -> str:
        """Read one reply; its last line."""
        while (line := await self.reader.readline())[3:4] == b"-":
            pass
        return line.decode()

    async def say(self, command: str) -> str:
        """Send a command; the reply. A refusal raises RuntimeError."""
        self.writer.write(command.encode() + b"\r\n")
        reply = await self.answer()
        if reply[:1] not in ("2", "3"):
            raise RuntimeError(f"{command}: {reply}")
        return reply

    async def envelope(self, recipients: list[str]) -> None:
        """MAIL to DATA."""
        await self.say(f"MAIL FROM:<{SENDER}>")
        for recipient in recipients:
            await self.say(f"RCPT TO:<{recipient}>")
        await self.say("DATA")

    async def give(self, octets: bytes) -> None:
        """Send octets no faster than they are taken."""
        for start in range(0, len(octets), _CHUNK):
            self.writer.write(octets[start : start + _CHUNK])
            await self.writer.drain()

    async def end(self) -> None:
        """The final dot and its answer."""
        await self.say(".")


async def warm_up(port: int) -> None:
    """Letters that are read in rooms of their own, one after the other."""
    client = Client(port)
    await client.greet()
    for number in range(WARM):
        head, text = letter(number, 70_000).split(b"\r\n\r\n", 1)
        await client.envelope([RECIPIENT])
        name = b'Content-Disposition: attachment; filename="warm.txt"'
        await client.give(head + b"\r\n" + name + b"\r\n\r\n" + text)
        await client.end()
    client.writer.close()


async def large_letters(port: int) -> None:
    """200 connections; 20 of them give a letter each, and all end together."""
    clients = [Client(port) for _ in range(CONNECTIONS)]
    for client in clients:
        await client.greet()
    octets = letter(0, SIZE)  # one copy here: the load generator must not be what runs out of memory
    head, body = octets.split(b"\r\n\r\n", 1)

    async def most(number: int, client: Client) -> None:
        await client.envelope([RECIPIENT])
        own = head.replace(b"Message-ID: <", b"Message-ID: <%d." % number)
        await client.give(own + b"\r\n\r\n")
        await client.give(body[:-1_000_000])

    async def rest(client: Client) -> None:
        await client.give(body[-1_000_000:])
        await client.end()

    await asyncio.gather(*(most(n, client) for n, client in enumerate(clients[:LARGE])))
    await asyncio.gather(*(rest(client) for client in clients[:LARGE]))
    for client in clients:
        client.writer.close()


async def circular(port: int) -> None:
    """One letter to all other agencies."""
    client = Client(port)
    await client.greet()
    await client.envelope([RECIPIENT, *(f"diwan@r{n:03d}.gov.example" for n in range(1, AGENCIES))])
    await client.give(letter(0, CIRCULAR))
    await client.end()
    client.writer.close()


def _letters(sink: RunningSink, expected: int) -> tuple[Memory, bool]:
    with Place("bm") as at, serving(furnished(at / "house", sink.port)) as server:
        uvloop.run(warm_up(server.relay))
        with watched(server.child.pid) as memory:
            uvloop.run(large_letters(server.relay))
            sunk = sink.expect(expected + WARM, seconds=120)
        return memory, sunk.letters == expected + WARM and not sunk.duplicates


def _circular(sink: RunningSink) -> tuple[Memory, bool]:
    with Place("bm") as at, serving(furnished(at / "house", sink.port, receivers=AGENCIES)) as server:
        sink.reset()
        uvloop.run(warm_up(server.relay))
        sink.expect(WARM, seconds=20)
        sink.reset()
        with watched(server.child.pid) as memory:
            uvloop.run(circular(server.relay))
            # One Message-ID goes to all: the first counts as a letter, the others as its repeats.
            for _ in range(600):
                sunk = sink.expect(AGENCIES, seconds=0.2)
                if sunk.duplicates == AGENCIES - 1:
                    break
        return memory, sunk.letters == 1 and sunk.duplicates == AGENCIES - 1


def main() -> int:
    with running_sink() as sink:
        load, whole = _letters(sink, LARGE)
        many, sent = _circular(sink)
    copies = (many.used - many.first) / CIRCULAR
    megabyte = 1_000_000
    print(f"{CONNECTIONS} connections, {LARGE} letters of {SIZE // megabyte} MB in flight:")
    print(f"  {load.used / megabyte:,.0f} MB at most ({load.anonymous / megabyte:,.0f} MB of it no file's)")
    print(f"  {load.resident / megabyte:,.0f} MB with shared pages counted in each process")
    print(f"  {load.first / megabyte:,.0f} MB before; all letters arrived once: {whole}")
    print(f"circular of {CIRCULAR // megabyte} MB to {AGENCIES} agencies:")
    print(f"  {many.used / megabyte:,.0f} MB at most, {many.first / megabyte:,.0f} MB before,")
    print(f"  so {copies:.1f} copies of it in memory")
    print(f"  every agency got it: {sent}")
    good = whole and sent and load.used <= LIMIT and copies <= 3
    print(
        json.dumps(
            {
                "peak_mb": round(load.used / megabyte),
                "idle_mb": round(load.first / megabyte),
                "circular_copies": round(copies, 1),
            }
        )
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
