"""What it costs to hand letters to a next hop: `python -m bench.wire_out [--json] [-n LETTERS]`.

The sink is a process of its own that checks the ends and counts, so the CPU time shown is the client's alone.
``direct`` is one letter after another on one connection; ``c=20`` keeps twenty under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from multiprocessing.connection import Connection

import uvloop

from gateway.hop_pool import Pool
from gateway.smtp_client import Outgoing, OutRecipient
from policies.directory import NextHop
from tracker.model import Address


class _Sink(asyncio.Protocol):
    """As little of an SMTP server as will do; wrong framing is answered with 554."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.tail = b""
        self.in_data = False
        transport.write(b"220 sink\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.in_data:
            self.tail = (self.tail + data)[-5:]
            if self.tail == b"\r\n.\r\n":
                self.in_data = False
                self.transport.write(b"250 2.0.0 taken\r\n")  # type: ignore[attr-defined]
            return
        self.buffer += data
        out = []
        while b"\r\n" in self.buffer and not self.in_data:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            verb = line[:4].upper()
            if verb == b"EHLO":
                out.append(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 0\r\n")
            elif verb == b"DATA":
                out.append(b"354 go on\r\n")
                self.in_data, self.tail = True, b"\r\n"
            elif verb in (b"MAIL", b"RCPT"):
                out.append(b"250 2.1.0 Ok\r\n")
            else:
                out.append(b"221 bye\r\n" if verb == b"QUIT" else b"554 what\r\n")
        self.transport.write(b"".join(out))  # type: ignore[attr-defined]


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        server.close()

    uvloop.run(main())


async def _send(
    port: int, octets: list[bytes | memoryview], letters: int, under_way: int
) -> tuple[float, float]:
    hop = NextHop(name="X", host="127.0.0.1", port=port, tls="none", max_connections=under_way)
    pool = Pool(hop, hostname="wasl.example", max_messages=1 << 30)
    mail = Outgoing(
        sender=Address.parse("wasl-mfrggzdfmztwq2lknnwg23tpobyxe43u@wasl.gov.jo"),
        recipients=(
            OutRecipient(address=Address.parse("diwan@moh.example"), notify="SUCCESS,FAILURE,DELAY"),
        ),
        pieces=octets,
        ret="HDRS",
        envid="0123456789abc",
    )

    async def some(count: int) -> None:
        for _ in range(count):
            outcome = await pool.send(mail)
            assert outcome.results[0].accepted, outcome

    await some(20)
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(some(letters // under_way) for _ in range(under_way)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await pool.close()
    done = letters // under_way * under_way
    return cpu / done * 1000, done / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "-n", type=int, default=4000, help="letters of 10 KB a run; a quarter of it at 200 KB"
    )
    asked = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    sink.start()
    table: dict[str, dict[str, float]] = {}
    try:
        port = ours.recv()
        line = b"The ministry has the honour to send the enclosed letter for action by the due date.\r\n"
        for size in (10_000, 200_000):
            body = line * (size // len(line))
            pieces: list[bytes | memoryview] = [
                b"Received: by wasl.example\r\n" * 20 + b"\r\n",
                memoryview(body),
            ]
            for under_way in (1, 20):
                letters = asked.n if size < 100_000 else asked.n // 4
                cpu, rate = uvloop.run(_send(port, pieces, letters, under_way))
                table[f"{size // 1000} KB c={under_way}"] = {"cpu_ms": round(cpu, 4), "per_s": round(rate)}
    finally:
        ours.send(None)
        sink.join(5)
        if sink.is_alive():
            sink.kill()
    if asked.json:
        print(json.dumps(table))
        return
    print(f"{'':16}{'client CPU ms':>14}{'letters/s':>12}")
    for name, row in table.items():
        print(f"{name:16}{row['cpu_ms']:>14.3f}{row['per_s']:>12.0f}")


if __name__ == "__main__":
    main()
