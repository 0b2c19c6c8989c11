"""How fast letters come in over the wire alone: the SMTP listener with a desk that keeps nothing.

``python bench/wire_in.py [--size N] [--connections N] [--messages N] [--profile]`` starts the listener in a
process of its own on uvloop, runs Postfix's smtp-source against it (a new connection for each message unless
``--keep``), and prints letters per second and the CPU time that the listener spent on each letter.

How it fails: without smtp-source (Debian: postfix) it says so and ends with status 2.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from gateway.desk import MailParams, WireLimits
from gateway.smtp_listener import SmtpListener
from tracker.archive import Archive, Octets, Spool
from tracker.model import Address, Connection, Door, Envelope, Recipient
from tracker.reply import Reply


class NullDesk:
    """Takes every letter and forgets it."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.letters = 0
        self.octets = 0
        self.taken = Reply.of(250, "2.0.0", "Taken")

    async def connected(self, conn: Connection) -> Connection | Reply:
        return conn

    async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
        return Reply.of(535, "5.7.8", "No accounts here")

    async def sender(self, conn: Connection, sender: Address, params: MailParams) -> Reply | None:
        return None

    async def recipient(
        self, conn: Connection, sender: Address, so_far: tuple[Recipient, ...], rcpt: Recipient
    ) -> Reply | None:
        return None

    def spool(self) -> Spool:
        return self.archive.spool()

    async def letter(self, conn: Connection, envelope: Envelope, octets: Octets) -> Reply:
        self.letters += 1
        self.octets += octets.size
        octets.discard()
        return self.taken


async def serve(pipe: Pipe, profile: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = NullDesk(Archive(Path(folder)))
        listener = SmtpListener(desk, Door.RELAY, WireLimits(), hostname="bench.example")
        (address,) = await listener.start("127.0.0.1")
        pipe.send(address[1])
        before = resource.getrusage(resource.RUSAGE_SELF)
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.add_reader(pipe.fileno(), done.set_result, None)
        if profile:
            import cProfile
            import pstats

            with cProfile.Profile() as watch:
                await done
            pstats.Stats(watch).sort_stats("tottime").print_stats(40)
        else:
            await done
        loop.remove_reader(pipe.fileno())
        await listener.stop(1)
        used = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send(
            (
                desk.letters,
                desk.octets,
                (used.ru_utime - before.ru_utime, used.ru_stime - before.ru_stime),
                used.ru_maxrss // 1024,
            )
        )


def child(pipe: Pipe, profile: bool) -> None:
    uvloop.run(serve(pipe, profile))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--keep", action="store_true", help="several messages on one connection")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    source = shutil.which("smtp-source", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if source is None:
        print("smtp-source is not installed (Debian: apt install postfix)", file=sys.stderr)
        return 2
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=child, args=(theirs, args.profile))
    server.start()
    port = ours.recv()
    command = [source, "-4", "-s", str(args.connections), "-m", str(args.messages), "-l", str(args.size)]
    if args.keep:
        command.append("-d")
    command += ["-f", "a@mof.example", "-t", "b@moh.example", f"127.0.0.1:{port}"]
    began = time.perf_counter()
    status = subprocess.run(command).returncode
    took = time.perf_counter() - began
    ours.send(None)
    letters, octets, cpu, memory = ours.recv()
    server.join()
    print(
        f"{letters} letters of {octets // max(letters, 1)} octets, {args.connections} connections: "
        f"{letters / took:.0f}/s, {sum(cpu) / max(letters, 1) * 1e3:.3f} ms CPU each "
        f"({cpu[1] / max(letters, 1) * 1e3:.3f} in the kernel), {memory} MB at most"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
