"""``python -m bench.imap``: the IMAP proxy against the server behind it, in the same run and in turn.

Waits of one client for NOOP, FETCH and STORE; FETCH of 10 KB messages over 20 connections and of a large
mailbox over one; CPU time of the proxy for each command; memory of idle sessions, plain and with TLS on both
sides. Proxy and servers are processes of their own. Only ratios within one run mean anything.

How it fails: a mailbox that comes back otherwise than it went in ends the run with an assertion.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import imaplib
import json
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from policies.agency import Agency, ImapServer
from policies.directory import Directory
from tests.servers.certificates import Authority
from tests.servers.dovecot import Tls, dovecot
from tests.servers.place import Place

DOMAIN = "moh.gov.example"
USER = f"bench@{DOMAIN}"


class Nobody:
    """Takes what observers see and forgets it."""

    def saw(self, visit: object) -> None:
        pass


def _proxy(upstream: ImapServer, tls: Tls | None, pipe: Connection) -> None:
    """The process of the proxy: tells its port, then answers each question with CPU seconds and memory."""
    import uvloop

    from gateway.imap_proxy import ImapProxy
    from gateway.settings_imap import Imap

    async def main() -> None:
        agency = Agency(code="MOH", name_ar="", name_en="", domains=(DOMAIN,), imap=(upstream,))
        directory = Directory((agency,))
        settings = Imap(clear_login=True, connections=20_000, connections_per_address=20_000)
        proxy = ImapProxy(settings, lambda: directory, Nobody(), "wasl.example")  # type: ignore[arg-type]
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
        ((_, port),) = await proxy.listen("127.0.0.1", 0, context, implicit=tls is not None)
        pipe.send(port)
        loop = asyncio.get_running_loop()
        while (asked := await loop.run_in_executor(None, pipe.recv)) is not None:
            if asked == "memory":
                gc.collect()
            pipe.send((time.process_time(), _resident()))
        await proxy.stop()

    uvloop.run(main())


def _resident() -> int:
    """Octets of this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _idle_server(tls: Tls | None, pipe: Connection) -> None:
    """A server whose sessions cost it little: it lets everybody in and says no more."""
    import uvloop

    class Session(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            transport.write(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE] hi\r\n")  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            for line in data.splitlines():
                tag, _, command = line.partition(b" ")
                idle = command.startswith(b"IDLE")
                self.transport.write(
                    b"+ idling\r\n" if idle else tag + b" OK [CAPABILITY IMAP4rev1 IDLE] done\r\n"
                )

    async def main() -> None:
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
        server = await asyncio.get_running_loop().create_server(
            Session, "127.0.0.1", 0, ssl=context, backlog=1000
        )
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    uvloop.run(main())


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[int, Connection]]:
    """A process of its own that tells its port first and ends when it is sent None."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=target, args=(*arguments, theirs), daemon=True
    )
    child.start()
    try:
        yield ours.recv(), ours
    finally:
        ours.send(None)
        child.join(5)
        if child.is_alive():
            child.kill()


def ask(pipe: Connection, what: str = "time") -> tuple[float, int]:
    pipe.send(what)
    answer: tuple[float, int] = pipe.recv()
    return answer


class Client:
    """As fast as Python goes: it sends a command and reads until its tag."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read(b"\r\n")
        self.do(f"LOGIN {USER} secret".encode())
        self.do(b"SELECT INBOX")

    def read(self, until: bytes) -> int:
        count, tail = 0, b""
        while until not in tail:
            data = self.sock.recv(262_144)
            assert data, "the connection ended"
            count += len(data)
            tail = tail[-40:] + data[-4096:]
        return count

    def do(self, command: bytes) -> int:
        """Octets of the answer."""
        self.sock.sendall(b"zz " + command + b"\r\n")
        return self.read(b"zz OK ")


def waits(port: int, command: bytes, count: int) -> float:
    """Median µs of one command."""
    client = Client(port)
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        client.do(command)
        taken.append(time.perf_counter() - begun)
    client.sock.close()
    return statistics.median(taken) * 1e6


def rate(port: int, command: bytes, count: int, connections: int) -> float:
    """Commands a second over so many connections."""
    clients = [Client(port) for _ in range(connections)]
    barrier = threading.Barrier(connections + 1)

    def work(client: Client) -> None:
        barrier.wait()
        for _ in range(count // connections):
            client.do(command)
        barrier.wait()

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    barrier.wait()
    taken = time.perf_counter() - begun
    for thread, client in zip(threads, clients, strict=True):
        thread.join()
        client.sock.close()
    return count / taken


def fill(port: int, messages: int) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login(USER, "secret")
        for n in range(messages):
            text = f"Subject: {n}\r\nMessage-ID: <{n}@x.example>\r\n\r\n" + "0123456789abcdef\r\n" * 560
            client.append("INBOX", "", "", text.encode())


def wire(rounds: int, share: float) -> dict[str, float]:
    """Waits, rates and CPU, direct and through the proxy in turn."""
    found: dict[str, list[float]] = {}
    messages = 500
    with dovecot() as server:
        fill(server.imap_port, messages)
        upstream = ImapServer(host="127.0.0.1", port=server.imap_port, tls="none")
        with process(_proxy, upstream, None) as (port, pipe):
            count = int(2000 * share)
            for _ in range(rounds):
                for name, command in (
                    ("noop", b"NOOP"),
                    ("fetch_flags", b"FETCH 1:20 (UID FLAGS)"),
                    ("fetch_10k", b"UID FETCH 7 (BODY.PEEK[])"),
                    ("store", b"UID STORE 8 +FLAGS.SILENT (\\Flagged)"),
                ):
                    direct = waits(server.imap_port, command, count)
                    cpu = ask(pipe)[0]
                    through = waits(port, command, count)
                    found.setdefault(f"{name}_direct_us", []).append(direct)
                    found.setdefault(f"{name}_added_us", []).append(through - direct)
                    found.setdefault(f"{name}_cpu_us", []).append((ask(pipe)[0] - cpu) / count * 1e6)
                for name, command, much, connections in (
                    ("fetch_10k_c20", b"UID FETCH 7 (BODY.PEEK[])", count, 20),
                    ("fetch_all_c1", b"UID FETCH 1:* (FLAGS BODY.PEEK[])", max(4, count // 100), 1),
                    ("flags_all_c1", b"UID FETCH 1:* (FLAGS)", max(10, count // 10), 1),
                ):
                    direct = rate(server.imap_port, command, much, connections)
                    through = rate(port, command, much, connections)
                    found.setdefault(f"{name}_direct", []).append(direct)
                    found.setdefault(f"{name}_ratio", []).append(through / direct)
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


def memory(sessions: int, tls: bool) -> float:
    """Octets of one idle session, in IDLE after a login."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with Place("bi") as place:
        authority = Authority(place.path)
        certificate = authority.issue("127.0.0.1", "localhost") if tls else None
        with process(_idle_server, certificate) as (server, _):
            upstream = ImapServer(
                host="127.0.0.1",
                port=server,
                tls="implicit" if tls else "none",
                ca=authority.file if tls else None,
            )
            with process(_proxy, upstream, certificate) as (port, pipe):
                context = authority.client() if tls else None
                held = [_idler(port, context) for _ in range(20)]  # what the first ones cost is no matter
                _, before = ask(pipe, "memory")
                held += [_idler(port, context) for _ in range(sessions)]
                _, after = ask(pipe, "memory")
                for sock in held:
                    sock.close()
    return (after - before) / sessions


def _idler(port: int, context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname="localhost")
    sock.recv(1000)
    for line, end in (
        (f"a LOGIN {USER} secret", b"a OK"),
        ("b SELECT INBOX", b"b OK"),
        ("c IDLE", b"+"),
    ):
        sock.sendall(line.encode() + b"\r\n")
        said = b""
        while end not in said:
            more = sock.recv(4096)
            assert more, "the connection ended"
            said += more
    return sock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.imap", description="The IMAP proxy and Dovecot.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the commands of a full run (1.0)")
    parser.add_argument("--sessions", type=int, default=1000, help="idle sessions whose memory is measured")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    found: dict[str, float] = {
        "idle_plain_octets": round(memory(arguments.sessions, tls=False)),
        "idle_tls_octets": round(memory(max(100, arguments.sessions // 4), tls=True)),
    }
    found |= wire(arguments.rounds, arguments.share)
    for name, value in found.items():
        print(f"{name:28} {value:12,.2f}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
