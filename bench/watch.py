"""The IMAP watch: ``python -m bench.watch [--mailboxes 200] [--messages 10000] [--letters 20] [--tls]``.

A server of our own, in a process of its own, plays that many mailboxes with CONDSTORE, QRESYNC and IDLE; the
watch runs in this one with a record in a temporary folder. Measured: resident memory of this process with
every mailbox read and at rest, processor time of the first reading, and from a flag's change at the server
to its evidence being told to the dashboard. It ends with one line of JSON, and with status 1 above 400 MB,
above 2 s, or when a letter was not found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvloop
from sqlalchemy import func, select

from tests.servers.certificates import Authority

LIMIT_BYTES, LIMIT_S = 400_000_000, 2.0
ZONE = "Asia/Amman"


# The server's side.


@dataclass(slots=True)
class Box:
    """One mailbox: messages 1 to ``messages``, some of them letters, flags where they differ."""

    index: int
    messages: int
    letters: int
    modseq: int = 1
    flags: dict[int, tuple[str, int]] = field(default_factory=dict)
    idle: list[asyncio.StreamWriter] = field(default_factory=list)

    def letter(self, uid: int) -> int | None:
        """The running number of the letter at ``uid``."""
        step = self.messages // self.letters
        place = uid // step
        return self.index * self.letters + place if uid % step == 0 and place <= self.letters else None

    def item(self, uid: int, head: bool) -> bytes:
        words, modseq = self.flags.get(uid, ("", 1))
        out = f"* {uid} FETCH (UID {uid} FLAGS ({words}) MODSEQ ({modseq})"
        if head:
            k = self.letter(uid)
            year = datetime.now(ZoneInfo(ZONE)).year
            text = "\r\n"
            if k is not None:
                text = f"Wasl-Letter: MOF/{year}/{k:06d}\r\nMessage-ID: <{k}@mof.gov.example>\r\n\r\n"
            out += (
                ' INTERNALDATE "22-Nov-2026 10:00:00 +0000" '
                f"BODY[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)]<0> {{{len(text)}}}\r\n{text}"
            )
        return (out + ")\r\n").encode()


def numbers(text: str, last: int) -> list[int]:
    out: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        a = last if low == "*" else int(low)
        b = last if high == "*" else int(high or a)
        out += range(min(a, b), min(max(a, b), last) + 1)
    return out


class Played:
    """All mailboxes of the server."""

    def __init__(self, mailboxes: int, messages: int, letters: int) -> None:
        self.boxes = [Box(i, messages, letters) for i in range(mailboxes)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await self.session(reader, writer)

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its greeting to its end."""
        box = self.boxes[0]
        writer.write(b"* OK played\r\n")
        tag = ""
        while line := (await reader.readline()).decode():
            words = line.rstrip("\r\n")
            if words == "DONE":
                box.idle.remove(writer)
                writer.write(f"{tag} OK done\r\n".encode())
                continue
            tag, _, command = words.partition(" ")
            if (found := re.match(r'LOGIN "box(\d+)@', command)) is not None:
                box = self.boxes[int(found[1])]
            if command == "IDLE":
                box.idle.append(writer)
                writer.write(b"+ idling\r\n")
                continue
            for out in self.answer(box, command):
                writer.write(out)
            await writer.drain()
            writer.write(f"{tag} OK done\r\n".encode())
        if writer in box.idle:
            box.idle.remove(writer)

    def answer(self, box: Box, command: str) -> list[bytes]:
        if command == "CAPABILITY":
            return [b"* CAPABILITY IMAP4rev1 IDLE ENABLE CONDSTORE QRESYNC\r\n"]
        if command.startswith("LIST"):
            return [b'* LIST (\\Noselect) "/" ""\r\n']
        if command.startswith("EXAMINE"):
            lines = [f"* {box.messages} EXISTS", "* OK [UIDVALIDITY 7] ok"]
            lines += [f"* OK [UIDNEXT {box.messages + 1}] ok", f"* OK [HIGHESTMODSEQ {box.modseq}] ok"]
            return [f"{line}\r\n".encode() for line in lines]
        if command.startswith("UID SEARCH"):
            text = re.search(r"UID ([\d:*]+)", command.removeprefix("UID SEARCH"))
            uids = numbers(text[1] if text else "1:*", box.messages)
            if "Wasl-Letter" in command:
                uids = [uid for uid in uids if box.letter(uid) is not None]
            return [f"* SEARCH {' '.join(map(str, uids))}\r\n".encode()]
        if (since := re.search(r"FETCH (\S+) .*CHANGEDSINCE (\d+)", command)) is not None:
            changed = [uid for uid, (_, modseq) in box.flags.items() if modseq > int(since[2])]
            return [box.item(uid, False) for uid in changed]
        if (fetch := re.search(r"FETCH (\S+)", command)) is not None:
            return [box.item(uid, "HEADER" in command) for uid in numbers(fetch[1], box.messages)]
        if (seen := re.match(r"XSEEN (\d+) (\d+)", command)) is not None:
            other, uid = self.boxes[int(seen[1])], int(seen[2])
            other.modseq += 1
            other.flags[uid] = "\\Seen", other.modseq
            for writer in other.idle:
                writer.write(other.item(uid, False))
        return []


async def play(args: argparse.Namespace) -> None:
    context = None
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(args.serve) / "localhost.crt", Path(args.serve) / "localhost.key")
    played = Played(args.mailboxes, args.messages, args.letters)
    server = await asyncio.start_server(played.serve, "127.0.0.1", 0, ssl=context, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The watch's side.


def resident() -> int:
    """Octets of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def measure(args: argparse.Namespace, port: int, folder: Path, ca: Path | None) -> dict[str, Any]:
    from gateway.imap_watch_mailbox import Pace
    from policies.watch import Meaning
    from tests.wire import watch_house
    from tracker import schema
    from tracker.model import now_us
    from tracker.noting import Note
    from tracker.states import Event

    before = resident()
    with watch_house.record_at(f"sqlite:///{folder / 'wasl.db'}", folder) as record:
        names = [f"box{i}@moh.gov.example" for i in range(args.mailboxes)]
        total = args.mailboxes * args.letters

        def post_all() -> None:
            with ThreadPoolExecutor(32) as pool:
                # In order: the letter's running number says in which mailbox it lies.
                for k in range(1, total + 1):
                    to = names[(k - 1) // args.letters]
                    watch_house.post(record, to, sent=False, message_id=f"<{k}@mof.gov.example>")
                ids = [c.delivery_id for c in watch_house.claim_all(record)]
                notes = [Note(delivery_id=i, event=Event.RELAYED, at_us=now_us(), source="smtp") for i in ids]
                list(pool.map(record.note, notes))

        await asyncio.to_thread(post_all)
        watches = [
            watch_house.watch_of(
                port,
                name,
                host="localhost" if ca else "127.0.0.1",
                tls="implicit" if ca else "none",
                ca=ca,
                folders=(("INBOX", Meaning.ARRIVAL),),
            )
            for name in names
        ]
        furnished = resident()
        e = schema.evidence.c

        def found() -> int:
            with record.read() as conn:
                query = select(func.count()).where(e.source == "imap", e.event == Event.DELIVERED.value)
                return int(conn.scalar(query) or 0)

        listener = record.subscribe()
        began, cpu = time.monotonic(), time.process_time()
        pace = Pace(idle_s=600, poll_s=30, connections=1)
        async with watch_house.house(record, *watches, pace=pace) as house:
            await house.wait(lambda: found() >= total, "all letters to be found", 600)

            def at_rest() -> bool:
                return all(box.state == "watching" for box in house.watch._boxes.values())

            await house.wait(at_rest, "every mailbox to be at rest", 60)
            took, cpu = time.monotonic() - began, time.process_time() - cpu
            reader, writer = await asyncio.open_connection(
                "localhost" if ca else "127.0.0.1",
                port,
                ssl=ssl.create_default_context(cafile=str(ca)) if ca else None,
            )
            await reader.readline()
            latencies = []
            for i in range(min(args.mailboxes, 50)):
                while not listener.empty():
                    listener.get()
                uid = args.messages // args.letters
                start = time.monotonic()
                writer.write(f"a XSEEN {i} {uid}\r\n".encode())
                await reader.readline()
                await asyncio.to_thread(listener.get, True, 10)
                latencies.append(time.monotonic() - start)
            writer.close()
            after = resident()
            return {
                "mailboxes": args.mailboxes,
                "messages": args.messages,
                "letters": total,
                "found": found(),
                "tls": bool(ca),
                "resident": after,
                "per_mailbox": (after - furnished) // args.mailboxes,
                "before": before,
                "furnished": furnished,
                "first_reading_s": round(took, 2),
                "first_reading_cpu_s": round(cpu, 2),
                "flag_median_s": round(statistics.median(latencies), 4),
                "flag_worst_s": round(max(latencies), 4),
            }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.watch")
    parser.add_argument("--mailboxes", type=int, default=200)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--letters", type=int, default=20, help="of them, in each mailbox")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(play(args))
        return 0
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        authority = Authority(folder)
        authority.issue("localhost")
        command = [sys.executable, "-m", "bench.watch", "--serve", root]
        for name in ("mailboxes", "messages", "letters"):
            command += [f"--{name}", str(getattr(args, name))]
        with subprocess.Popen(
            command + (["--tls"] if args.tls else []), stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                result = uvloop.run(measure(args, port, folder, authority.file if args.tls else None))
            finally:
                server.kill()
    print(json.dumps(result))
    good = result["resident"] < LIMIT_BYTES and result["flag_worst_s"] < LIMIT_S
    return 0 if good and result["found"] == result["letters"] else 1


if __name__ == "__main__":
    sys.exit(main())
