"""A zone in memory that answers as :class:`gateway.authentication_dns.Lookups` does.

For checks that are tried with hundreds of made-up records; the same checks over a real name server are in
tests/wire/test_authentication.py.
"""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from gateway.authentication_dns import Lookups, Unanswered

SILENT = object()


class Zone:
    """Records by name and type; ``SILENT`` for one that no name server answers."""

    def __init__(self, records: dict[tuple[str, str], Any] | None = None) -> None:
        self.records = records or {}
        self.asked: list[tuple[str, str]] = []

    def lookups(self) -> Lookups:
        return cast(Lookups, self)

    async def _ask(self, name: str, kind: str) -> tuple[Any, ...]:
        self.asked.append((name, kind))
        found = self.records.get((name.lower(), kind), ())
        if found is SILENT:
            raise Unanswered("no name server answered in time")
        return found if isinstance(found, tuple) else (found,)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        return tuple(t if isinstance(t, bytes) else t.encode() for t in await self._ask(name, "TXT"))

    async def addresses(self, name: str, version: int) -> tuple[str, ...]:
        return await self._ask(name, "AAAA" if version == 6 else "A")

    async def exchanges(self, name: str) -> tuple[str, ...]:
        return await self._ask(name, "MX")

    async def names_of(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[str, ...]:
        return await self._ask(ip.reverse_pointer, "PTR")
