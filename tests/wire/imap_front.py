"""An IMAP proxy of the tests' own, running in a thread beside them, and what it saw.

The record is not needed to see what a session does: sights end in a list. Whole gateways stand in
tests/wire/test_imap_gateway.py.
"""

from __future__ import annotations

import asyncio
import imaplib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import uvloop

from gateway.imap_proxy import ImapProxy
from gateway.imap_witness import Witness
from gateway.settings_imap import Imap
from policies.agency import Agency, ImapServer
from policies.directory import Directory
from tests.servers.place import PATIENCE, wait_until
from tracker.mailbox_visit import Visit

T = TypeVar("T")
DOMAIN = "moh.gov.example"


class Seen:
    """Takes what the observers saw, in place of the record."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []

    def saw(self, visit: Visit) -> None:
        self.visits.append(visit)

    def told(self, account: str) -> list[tuple[str, str]]:
        return [(v.what, v.value) for v in self.visits if v.account == account]

    def wait(self, account: str, *wanted: tuple[str, str]) -> None:
        """Wait until exactly this was seen of an account."""
        found: Callable[[], bool] = lambda: self.told(account) == list(wanted)  # noqa: E731
        wait_until(found, f"{wanted}", hint=lambda: str(self.told(account)))


class Front:
    """The running proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: ImapProxy, seen: Seen) -> None:
        self.loop, self.proxy, self.seen = loop, proxy, seen
        self.port = self.tls_port = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return done.result(PATIENCE)

    def client(self, user: str = "", password: str = "secret") -> imaplib.IMAP4:
        """A client, logged in when a user is named."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=PATIENCE)
        if user:
            client.login(f"{user}@{DOMAIN}" if "@" not in user else user, password)
        return client


@contextmanager
def imap_front(
    upstreams: Sequence[ImapServer],
    *,
    tls: ssl.SSLContext | None = None,
    settings: Imap | None = None,
    agencies: Sequence[Agency] = (),
) -> Iterator[Front]:
    """Run a proxy in front of these servers of one agency; with ``tls`` on both kinds of port."""
    agency = Agency(code="MOH", name_ar="صحة", name_en="Health", domains=(DOMAIN,), imap=tuple(upstreams))
    directory = Directory((agency, *agencies))
    seen = Seen()
    loop = uvloop.new_event_loop()
    begun: Future[Front] = Future()
    stop = asyncio.Event()

    async def main() -> None:
        proxy = ImapProxy(
            settings or Imap(clear_login=True), lambda: directory, cast(Witness, seen), "wasl.gov.example"
        )
        front = Front(loop, proxy, seen)
        ((_, front.port),) = await proxy.listen("127.0.0.1", 0, tls, implicit=False)
        if tls is not None:
            ((_, front.tls_port),) = await proxy.listen("127.0.0.1", 0, tls, implicit=True)
        begun.set_result(front)
        await stop.wait()
        await proxy.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    try:
        yield begun.result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()


def letter(number: int, text: str = "Text") -> bytes:
    """A message that bears Wasl's tag."""
    return (
        f"Received: from a by b\r\nWasl-Letter: MOF/2026/{number:06d}\r\nFrom: a@mof.gov.example\r\n"
        f"Message-ID: <{number}@mof.gov.example>\r\nSubject: [MOF/2026/{number:06d}] s\r\n\r\n{text}\r\n"
    ).encode()


def private(number: int, text: str = "Secret words {5}") -> bytes:
    """A message that is nobody's business."""
    return (
        f"From: a@example.org\r\nMessage-ID: <private-{number}@example.org>\r\nSubject: private {number}\r\n"
        f"\r\n{text}\r\n"
    ).encode()
