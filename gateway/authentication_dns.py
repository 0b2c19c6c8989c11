"""Names asked for while a letter is at the door: asynchronous, bounded, remembered.

Each letter has its own :class:`Lookups` with one deadline for all that it asks; what is not answered by
then raises :class:`Unanswered`, which the checks report as ``temperror`` (RFC 7208 §2.6.6, RFC 8601
§2.7). Answers are remembered for their time to live within limits, failures for seconds, and
letters that ask the same at one time ask once. When name servers keep silent several times running
the resolver rests: everything is unanswered at once until a try after the rest is answered. Nothing
else is raised, whatever a name server sends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from gateway.setting_values import Endpoint

_log = logging.getLogger("wasl.intake")

MOST_PENDING = 256  # questions under way at one time
MOST_A_LETTER = 100  # questions of one letter
MOST_ANSWERS = 50  # records of one answer that are looked at
LEAST_TTL, MOST_TTL = 5.0, 3600.0  # seconds an answer is remembered
EMPTY_TTL = 60.0  # the same for a name or type that is not there
FAILED_TTL = 5.0  # the same for a failure
SILENCES = 4  # time-outs without any answer between them, then the resolver rests
REST = 15.0  # seconds

Records = tuple[Any, ...]


class Unanswered(Exception):
    """No answer in time, or none that can be used; the message says which, in ASCII."""


class Names:
    """The name servers of one process. Make it inside the running loop."""

    def __init__(self, servers: Sequence[Endpoint], timeout_s: float, remembered: int = 10_000) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout_s
        self._remembered = remembered
        self._loop = asyncio.get_running_loop()
        self._known: OrderedDict[tuple[str, str], tuple[float, Records | None]] = OrderedDict()
        self._pending: dict[tuple[str, str], asyncio.Task[Records | None]] = {}
        self._resolver: Any = None
        self._opening: asyncio.Future[Any] | None = None
        self._silences = 0
        self._rests_until = 0.0

    def lookups(self, timeout_s: float) -> Lookups:
        """The questions of one letter, answered within ``timeout_s`` in all."""
        return Lookups(self, time.monotonic() + timeout_s)

    async def ask(self, name: str, kind: str, until: float) -> Records:
        """The records of a name (A-labels, no final dot); empty when there are none. :class:`Unanswered`."""
        key = name, kind
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None:
            if known[0] > now:
                return _usable(known[1])
            del self._known[key]
        task = self._pending.get(key)
        if task is None:
            if now < self._rests_until:
                raise Unanswered("no name server answers")
            if len(self._pending) >= MOST_PENDING:
                raise Unanswered("too many questions to name servers")
            if self._rests_until:  # one question finds out whether the rest is over
                self._rests_until = now + REST
            task = self._pending[key] = self._loop.create_task(self._asked(key))
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        await asyncio.wait({task}, timeout=max(0.0, until - now))
        if not task.done():
            raise Unanswered("no name server answered in time")
        return _usable(None if task.cancelled() else task.result())

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._pending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _asked(self, key: tuple[str, str]) -> Records | None:
        """Ask a name server; None when that failed."""
        try:
            records, ttl = await self._resolve(*key)
        except Exception as error:  # whatever a name server sent, and whatever the library made of it
            if not isinstance(error, _expected()):
                _log.warning("asking for %s %s failed: %r", key[1], key[0][:100], error)
            records, ttl = None, FAILED_TTL
        self._known[key] = time.monotonic() + ttl, records
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return records

    async def _resolve(self, name: str, kind: str) -> tuple[Records, float]:
        try:
            resolver = self._resolver or await self._opened()
        except Exception:
            self._silent()
            raise
        import dns.exception
        import dns.name
        import dns.resolver

        try:  # by labels, so that no character of a hostile name has a meaning of its own
            question = dns.name.Name([*(label.encode("utf-8") for label in name.split(".")), b""])
        except dns.exception.DNSException:
            return (), MOST_TTL  # no such name can exist
        try:
            answer = await resolver.resolve(question, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            self._answered()
            return (), EMPTY_TTL
        except dns.exception.Timeout:
            self._silent()
            raise
        except dns.resolver.NoNameservers:
            self._answered()  # by a refusal or a failure: it is there
            raise
        self._answered()
        if answer.rrset is None:
            return (), EMPTY_TTL
        ttl = min(MOST_TTL, max(LEAST_TTL, float(answer.chaining_result.minimum_ttl)))
        return tuple([_plain(record, kind) for record in list(answer.rrset)[:MOST_ANSWERS]]), ttl

    async def _opened(self) -> Any:
        """The resolver; its library takes a tenth of a second to load, which is done in a thread, once."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = self._loop.run_in_executor(None, self._open)
        self._resolver = await asyncio.shield(self._opening)
        return self._resolver

    def _open(self) -> Any:
        import dns.asyncresolver

        made = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            made.nameservers = [server.host for server in self._servers]
            made.nameserver_ports = {server.host: server.port for server in self._servers}
        made.lifetime = self._timeout
        made.timeout = max(0.2, self._timeout / 3)  # a lost packet, or one server of several that is silent
        made.cache = None
        made.use_edns(0, 0, 1232)
        return made

    def _answered(self) -> None:
        if self._rests_until:
            _log.info("name servers answer again")
        self._silences, self._rests_until = 0, 0.0

    def _silent(self) -> None:
        self._silences += 1
        if self._silences < SILENCES:
            return
        if not self._rests_until:
            _log.warning("no name server answers: checks of what comes in say temperror until one does")
        self._rests_until = time.monotonic() + REST


class Lookups:
    """The questions of one letter: a deadline and a number that they may not pass."""

    def __init__(self, names: Names, until: float) -> None:
        self._names = names
        self._until = until
        self._left = MOST_A_LETTER

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """The texts of a name, each joined of its strings. :class:`Unanswered`."""
        return await self._ask(name, "TXT")

    async def addresses(self, name: str, version: int) -> tuple[str, ...]:
        """The IPv4 or IPv6 addresses of a name. :class:`Unanswered`."""
        return await self._ask(name, "AAAA" if version == 6 else "A")

    async def exchanges(self, name: str) -> tuple[str, ...]:
        """The mail exchanges of a name, best first. :class:`Unanswered`."""
        return tuple(host for _, host in sorted(await self._ask(name, "MX")))

    async def names_of(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[str, ...]:
        """The names that the reverse zone gives an address. :class:`Unanswered`."""
        return await self._ask(ip.reverse_pointer, "PTR")

    async def _ask(self, name: str, kind: str) -> Records:
        self._left -= 1
        if self._left < 0:
            raise Unanswered("too many questions for one letter")
        return await self._names.ask(name.lower(), kind, self._until)


def _usable(records: Records | None) -> Records:
    if records is None:
        raise Unanswered("the name servers gave no usable answer")
    return records


def _expected() -> tuple[type[BaseException], ...]:
    """What goes wrong with names every day."""
    import dns.exception

    return (dns.exception.DNSException, OSError, EOFError)


def _plain(record: Any, kind: str) -> Any:
    match kind:
        case "TXT":
            return b"".join(record.strings)
        case "MX":
            return record.preference, _name(record.exchange)
        case "PTR":
            return _name(record.target)
        case _:
            return str(record.address)


def _name(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower()
