"""Wasl as it is measured: recording, archive, ledger, tag, RSA-2048 and Ed25519 signature, on SQLite.

Made by ``wasl init`` and run by ``wasl serve``, with the settings as they come, except that receipts to the
author are off (the peer sends none; with them each letter would be two messages) and so is the dashboard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.relay import RelayUnderTest
from tests.servers.place import Place
from tests.servers.wasl import House, new_house, serving

_EVENTS = ("accepted", "relayed", "delivered", "late", "failed", "read", "processed")


def furnished(folder: Path, sink_port: int, *, receipts: bool = False, receivers: int = 1) -> House:
    """A gateway whose agency MOF writes from the loopback; MOH's server is the sink.

    With more ``receivers`` there are further agencies ``R001`` (``r001.gov.example``) and so on, same sink.
    """
    house, _ = new_house(folder)
    house.set("receipts", **{event: receipts and event != "relayed" for event in _EVENTS})
    house.set("dashboard", enabled=False)
    house.set("metrics", enabled=False)
    house.set("limits", connections_per_address=1000)
    hop = f"next_hop: {{host: 127.0.0.1, port: {sink_port}, tls: none, max_connections: 20}}\n"
    house.agency(
        "MOF",
        "code: MOF\nname_ar: وزارة المالية\nname_en: Ministry of Finance\n"
        f"domains: [mof.gov.example]\nnetworks: [127.0.0.0/8]\n{hop}",
    )
    house.agency(
        "MOH",
        f"code: MOH\nname_ar: وزارة الصحة\nname_en: Ministry of Health\ndomains: [moh.gov.example]\n{hop}",
    )
    for number in range(1, receivers):
        code = f"R{number:03d}"
        names = f"name_ar: جهة {number}\nname_en: Agency {number}\ndomains: [{code.lower()}.gov.example]\n"
        house.agency(code, f"code: {code}\n{names}{hop}")
    house.keys("MOF")
    return house


@contextmanager
def running_wasl(
    sink_port: int, *, preload: Mapping[str, str] | None = None, receipts: bool = False
) -> Iterator[RelayUnderTest]:
    """Start Wasl between the load and the sink."""
    with Place("bw") as at:
        house = furnished(at / "house", sink_port, receipts=receipts)
        with serving(house, env=preload) as server:
            yield RelayUnderTest(name="Wasl", port=server.relay, pid=server.child.pid)
