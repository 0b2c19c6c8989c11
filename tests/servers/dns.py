"""A name server of the tests' own, for SPF, DKIM and DMARC records, and for how lookups fail.

It answers over UDP and TCP from a table; a name that is not in it does not exist (NXDOMAIN). A name can
also be made to answer SERVFAIL, or not at all, which is how a resolver's time-out is tried.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.servers.place import free_port

SILENT = "silent"
SERVFAIL = "servfail"


@dataclass(kw_only=True)
class NameServer:
    """A running name server. ``asked`` lists what it was asked, as (name, type)."""

    host: str
    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)
    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, kind: str, *values: str) -> None:
        """Add records: ``add("mof.example", "TXT", "v=spf1 ip4:127.0.0.1 -all")``; long texts are split."""
        if kind == "TXT":
            parts = [[v[i : i + 250] for i in range(0, len(v), 250)] for v in values]
            values = tuple(" ".join('"' + p.replace('"', r"\"") + '"' for p in part) for part in parts)
        self.records.setdefault((_plain(name), kind), []).extend(values)

    def fail(self, name: str, how: str) -> None:
        """Make a name answer ``SERVFAIL`` or be ``SILENT``."""
        self.faults[_plain(name)] = how

    def answer(self, wire: bytes) -> bytes | None:
        """The reply to one query; None to keep silent."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = _plain(question.name.to_text()), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query, recursion_available=True)
        match self.faults.get(name):
            case "silent":
                return None
            case "servfail":
                reply.set_rcode(dns.rcode.SERVFAIL)
                return reply.to_wire()
        reply.flags |= dns.flags.AA
        if found := self.records.get((name, kind)):
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire(max_size=65_535)


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


@contextmanager
def name_server(host: str = "127.0.0.1", port: int | None = None) -> Iterator[NameServer]:
    """Run a name server in threads. Programs that know only port 53 get a loopback address of their own."""
    server = NameServer(host=host, port=port or free_port(host))

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            if (reply := server.answer(wire)) is not None:
                if len(reply) > 1232:  # what EDNS resolvers ask for: truncated, the client comes again by TCP
                    short = dns.message.make_response(dns.message.from_wire(wire))
                    short.flags |= dns.flags.TC
                    reply = short.to_wire()
                sock.sendto(reply, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while len(head := self.rfile.read(2)) == 2:
                if (reply := server.answer(self.rfile.read(struct.unpack("!H", head)[0]))) is not None:
                    self.wfile.write(struct.pack("!H", len(reply)) + reply)

    class UdpServer(socketserver.ThreadingUDPServer):
        daemon_threads = True

    class TcpServer(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        address_family = socket.AF_INET

    with UdpServer((server.host, server.port), Udp) as udp, TcpServer((server.host, server.port), Tcp) as tcp:
        threads = [threading.Thread(target=s.serve_forever, args=(0.05,), daemon=True) for s in (udp, tcp)]
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            udp.shutdown()
            tcp.shutdown()
            for thread in threads:
                thread.join()
