"""What the listeners of a process hold at this moment: connections by address and account, octets in flight.

One :class:`Tally` may be shared by several listeners, so that the caps hold over all doors together. It only
counts; who compares with which limit is in ``gateway/smtp_server.py``. Runs in one event loop, needs no lock.
"""

from __future__ import annotations

import ipaddress
from collections import Counter


class Tally:
    """Counts that go up and down again; a count of zero leaves no entry behind."""

    def __init__(self) -> None:
        self.connections = 0
        self.octets = 0  # content received of letters that are not answered yet
        self.by_address: Counter[str] = Counter()
        self.by_account: Counter[str] = Counter()

    def enter(self, address: str) -> None:
        self.connections += 1
        self.by_address[address] += 1

    def leave(self, address: str) -> None:
        self.connections -= 1
        _less(self.by_address, address)

    def sign_in(self, account: str) -> None:
        self.by_account[account] += 1

    def sign_out(self, account: str) -> None:
        _less(self.by_account, account)


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def plain_address(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket, in its own form; others as they are, without zone."""
    if ":" not in host:
        return host
    host = host.partition("%")[0]
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return str(mapped) if mapped is not None else host


def address_group(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 host commonly owns."""
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, 64), strict=False))
