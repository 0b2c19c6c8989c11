"""Names asked of a real name server: what is remembered, what is given up, and how it rests."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import SimpleNamespace

import pytest

from gateway import authentication_dns
from gateway.authentication_dns import Names, Unanswered
from gateway.authentication_spf import check_host
from gateway.setting_values import Endpoint
from tests.servers.dns import SERVFAIL, SILENT, NameServer, name_server
from tests.servers.place import free_port


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server() as running:
        yield running


def using(
    work: Callable[[Names], Awaitable[None]],
    *servers: NameServer | int,
    timeout_s: float = 20.0,
    remembered: int = 100,
) -> None:
    """Run ``work`` with the names of these servers."""
    places = [Endpoint("127.0.0.1", s) if isinstance(s, int) else Endpoint(s.host, s.port) for s in servers]

    async def run(places: Sequence[Endpoint]) -> None:
        names = Names(places, timeout_s, remembered)
        try:
            await work(names)
        finally:
            await names.close()

    asyncio.run(run(places))


async def unanswered(asked: Awaitable[object]) -> str:
    with pytest.raises(Unanswered) as caught:
        await asked
    return str(caught.value)


def test_every_kind_of_record(server: NameServer) -> None:
    server.add("a.example", "TXT", "x" * 3000, "second")
    server.add("a.example", "A", "192.0.2.1", "192.0.2.2")
    server.add("a.example", "AAAA", "2001:db8::1")
    server.add("a.example", "MX", "20 far.example.", "10 near.example.")
    server.add("1.2.0.192.in-addr.arpa", "PTR", "A.example.")

    async def work(names: Names) -> None:
        asked = names.lookups(60)
        assert sorted(await asked.txt("A.EXAMPLE")) == [b"second", b"x" * 3000]  # too long for UDP
        assert sorted(await asked.addresses("a.example", 4)) == ["192.0.2.1", "192.0.2.2"]
        assert await asked.addresses("a.example", 6) == ("2001:db8::1",)
        assert await asked.exchanges("a.example") == ("near.example", "far.example")
        assert await asked.names_of(ipaddress.ip_address("192.0.2.1")) == ("a.example",)
        assert await asked.txt("nobody.example") == ()
        assert await asked.addresses("1.2.0.192.in-addr.arpa", 4) == ()  # there, but without addresses
        before = len(server.asked)
        assert sorted(await asked.txt("a.example")) == [b"second", b"x" * 3000]
        assert await asked.txt("nobody.example") == ()
        assert len(server.asked) == before  # remembered

    using(work, server)


def test_hostile_names_are_names(server: NameServer) -> None:
    async def work(names: Names) -> None:
        asked = names.lookups(60)
        for name in (
            "",
            ".",
            "a..b",
            "a" * 64 + ".example",
            "x." * 130 + "example",
            'a\\"b .example',
            "\x00.example",
            "é.example",
        ):
            assert await asked.txt(name) == ()

    using(work, server)


def test_letters_that_ask_the_same_ask_once(server: NameServer) -> None:
    server.add("a.example", "TXT", "text")

    async def work(names: Names) -> None:
        answers = await asyncio.gather(*(names.lookups(60).txt("a.example") for _ in range(50)))
        assert set(answers) == {(b"text",)}
        assert len(server.asked) == 1

    using(work, server)


def test_memory_is_bounded(server: NameServer) -> None:
    async def work(names: Names) -> None:
        for i in range(30):
            await names.lookups(60).txt(f"n{i}.example")
        assert len(names._known) == 10

    using(work, server, remembered=10)


def test_a_deadline_holds_and_silence_is_not_asked_again_at_once(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fail("silent.example", SILENT)
    server.fail("broken.example", SERVFAIL)

    monkeypatch.setattr(authentication_dns, "FAILED_TTL", 600.0)

    async def work(names: Names) -> None:
        assert "in time" in await unanswered(names.lookups(0.1).txt("silent.example"))
        assert "no usable answer" in await unanswered(names.lookups(60).txt("silent.example"))
        before = len(server.asked)
        await unanswered(names.lookups(5).txt("silent.example"))
        await unanswered(names.lookups(5).txt("broken.example"))
        await unanswered(names.lookups(5).txt("broken.example"))
        assert len(server.asked) - before <= 2  # a server that fails is tried once more, then left

    using(work, server, timeout_s=1.5)


def test_one_letter_asks_only_so_much(server: NameServer) -> None:
    async def work(names: Names) -> None:
        asked = names.lookups(5)
        for i in range(authentication_dns.MOST_A_LETTER):
            await asked.txt(f"n{i % 3}.example")
        assert "too many" in await unanswered(asked.txt("a.example"))

    using(work, server)


def test_name_servers_that_are_gone_delay_only_a_few_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some silences everything is unanswered at once, until one answers again."""
    monkeypatch.setattr(authentication_dns, "FAILED_TTL", 0.0)
    now = [1000.0]
    monkeypatch.setattr(authentication_dns, "time", SimpleNamespace(monotonic=lambda: now[0]))
    port = free_port("127.0.0.1")

    async def work(names: Names) -> None:
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", port))
            for i in range(authentication_dns.SILENCES):
                await unanswered(names.lookups(60).txt(f"n{i}.example"))
            for i in range(100):
                assert "no name server answers" in await unanswered(names.lookups(5).txt(f"m{i}.example"))
        with name_server(port=port) as server:
            server.add("a.example", "TXT", "text")
            now[0] += authentication_dns.REST
            names._resolver.lifetime = names._resolver.timeout = 20.0
            assert await names.lookups(60).txt("a.example") == (b"text",)
            assert await names.lookups(60).txt("b.example") == ()

    using(work, port, timeout_s=0.2)


def test_nobody_at_the_port_and_a_second_server(server: NameServer) -> None:
    server.add("a.example", "TXT", "text")
    closed = free_port("127.0.0.1")

    async def alone(names: Names) -> None:
        await unanswered(names.lookups(60).txt("a.example"))

    using(alone, closed, timeout_s=1.0)

    async def work(names: Names) -> None:
        assert (
            await check_host(names.lookups(60), "192.0.2.1", "a.example", "x@a.example", "h")
        ).result == "none"
        server.add("s.example", "TXT", "v=spf1 a:h.example -all")
        server.add("h.example", "A", "192.0.2.1")
        assert (
            await check_host(names.lookups(60), "192.0.2.1", "s.example", "x@s.example", "h")
        ).result == "pass"

    using(work, server)
