"""One gateway for all tests of a session that leave it as they found it (see gateway_front.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.sink import smtp_sink
from tests.servers.wasl import wasl
from tests.wire.gateway_front import (
    AGENCIES,
    MAILBOXES,
    MOF,
    OUTBOUND,
    RELAY_PASSWORD,
    Front,
    gateway_front,
    hop,
)
from tests.wire.wire_letters import letter, return_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.wire.dashboard_house import House, Served


@pytest.fixture(scope="session")
def front(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, dovecot_server: Dovecot
) -> Iterator[Front]:
    """A gateway with a sink behind each agency and Dovecot behind one; MOF's people have its password."""
    hashed = wasl("agency", "password", "--password-stdin", words=f"{RELAY_PASSWORD}\n").strip()
    credential = f'credentials: [{{username: mof-relay, password_hash: "{hashed}"}}]\n'
    with (
        smtp_sink(keywords=("ENHANCEDSTATUSCODES",)) as old,
        smtp_sink(lmtp=True) as box,
        smtp_sink() as out,
        smtp_sink() as world,
    ):
        outbound = f"outbound: {{host: 127.0.0.1, port: {world.port}, tls: none}}\n"
        with gateway_front(
            tmp_path_factory.mktemp("front"),
            authority,
            people=dovecot_server,
            agencies=(replace(MOF, more=credential), *AGENCIES[1:], OUTBOUND, MAILBOXES),
            sinks={"OLD": old, "BOX": box, "OUT": out, "OUT:outbound": world},
            hops={"OUT": hop(out.port) + outbound, "MBX": hop(dovecot_server.lmtp_port, "lmtp")},
            sections={"relay": {"retry": ["1s"], "warn_after": "4s", "give_up_after": "9s"}},
        ) as running:
            yield running


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs a test's coroutine on each of the two event loops, two minutes at most."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def drive(main: Callable[[], Awaitable[Any]]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(120):
                return await main()

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return drive


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The letters and people of tests of the dashboard; files whose pages show more have one of their own."""
    from tests.wire.dashboard_house import House

    built = House.build(tmp_path_factory.mktemp("house"))
    yield built
    built.close()


@pytest.fixture(scope="module")
def url(house: Served) -> Iterator[str]:
    """Where the dashboard of the file's house is served."""
    from tests.wire.dashboard_house import serve

    with serve(house) as base:
        yield base


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of one file: while it runs no other test's event loop could."""
    from tests.wire.chromium import running

    with running() as browser:
        yield browser


@pytest.fixture
def sent(front: Front) -> tuple[str, str]:
    """A letter that is at MOH's server: its Message-ID and the return address of the copy."""
    octets, message_id = letter()
    front.accept(octets, "diwan@moh.gov.example")
    back = return_address(front.arrived("MOH", message_id)[0])
    front.wait_standing(message_id, "diwan@moh.gov.example", "sent", 2, "open")
    return message_id, back
