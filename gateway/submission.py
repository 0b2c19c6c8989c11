"""Whether a client's password is right, by asking the agency's own server (DESIGN §3): Wasl keeps none.

What is kept for a few minutes, in memory only, is a keyed and salted BLAKE2b digest (RFC 7693) of a password
that the server has just confirmed, under a key that lives and dies with the process. A password that was
changed at the agency goes on working here for at most that time.

Failed sign-ins are counted per account and address, and per address over all accounts; above the limit nobody
is asked and nothing is told (``454 4.7.0``) until the oldest failures have aged. An attempt counts as failed
from its start, so that many at once are no way around.

How it fails: no verdict of the agency's server is :attr:`Outcome.UNREACHABLE`, a 454: the client tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from gateway.failures import Failures
from gateway.settings import Submission
from gateway.sign_in_dialogue import SignInUnavailable, password_is_right
from gateway.tally import address_group
from policies.agency import SignIn
from policies.directory import Directory
from tracker.model import Address, AddressError, Connection
from tracker.reply import Reply

log = logging.getLogger(__name__)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AT_ONCE = 20  # questions open at a time to one server
_PEOPLE_PER_ADDRESS = 10
_KeptAs = tuple[SignIn | None, str]  # another server in the directory is another answer
_MOST_KEPT = 100_000  # confirmed passwords


class Outcome(Enum):
    """The answer, and the SMTP reply that tells it (RFC 4954 §6)."""

    RIGHT = Reply.of(235, "2.7.0", "Authentication successful")
    WRONG = Reply.of(535, "5.7.8", "Authentication credentials invalid")
    THROTTLED = Reply.of(454, "4.7.0", "Too many failed sign-ins, please try again later")
    UNREACHABLE = Reply.of(454, "4.7.0", "Temporary authentication failure, please try again later")

    @property
    def reply(self) -> Reply:
        return self.value


class PasswordCheck:
    """Checks passwords for all doors of a process. Runs in one event loop."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        settings: Submission,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``directory`` gives the one in force at the moment of the question."""
        self._directory = directory
        self._keep_s = settings.password_cache.total_seconds()
        self._timeout_s = settings.timeout.total_seconds()
        self._clock = clock
        self._key = secrets.token_bytes(64)
        self._kept: OrderedDict[_KeptAs, tuple[bytes, bytes, float]] = OrderedDict()
        window_s = settings.failure_window.total_seconds()
        self._by_account = Failures(settings.failures, window_s)
        # Many people may share one address: it is allowed more.
        self._by_address = Failures(settings.failures * _PEOPLE_PER_ADDRESS, window_s)
        self._open: defaultdict[tuple[str, int], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_AT_ONCE)
        )

    async def sign_in(self, conn: Connection, user: str, password: str) -> Connection | Reply:
        """The connection with account and agency filled in, or the reply that refuses it.

        ``user`` is the whole address, whose domain tells the agency. An account that nobody can sign in to
        is refused in the words of a wrong password.
        """
        try:
            account = Address.parse(user)
        except AddressError:
            return Outcome.WRONG.reply
        agency = self._directory().by_domain(account.host)
        server = agency.sign_in if agency is not None else None
        outcome = await self.check(server, account, password, conn.peer)
        if outcome is not Outcome.RIGHT or agency is None:
            return outcome.reply
        return replace(conn, account=account.key, agency=agency.code)

    async def check(self, server: SignIn | None, account: Address, password: str, peer: str) -> Outcome:
        """Whether ``password`` is that of ``account`` at ``server``; ``peer`` is the client's address."""
        now = self._clock()
        address = address_group(peer)
        failed_as = f"{account.key} {address}"
        if self._by_account.too_many(failed_as, now) or self._by_address.too_many(address, now):
            log.warning("sign-in of %s from %s: too many failures", account, peer)
            return Outcome.THROTTLED
        kept_as = (server, account.key)
        if self._is_kept(kept_as, password, now):
            return Outcome.RIGHT
        self._by_account.add(failed_as, now)
        self._by_address.add(address, now)
        try:
            right = await self._ask(server, account, password)
        except SignInUnavailable as error:
            log.warning("sign-in of %s: %s", account, error)
            self._take_back(failed_as, address, now)
            return Outcome.UNREACHABLE
        except BaseException:
            self._take_back(failed_as, address, now)
            raise
        if not right:
            log.info("sign-in of %s from %s: wrong password", account, peer)
            return Outcome.WRONG
        self._by_account.clear(failed_as)
        self._by_address.take_back(address, now)
        self._keep(kept_as, password)
        return Outcome.RIGHT

    async def _ask(self, server: SignIn | None, account: Address, password: str) -> bool:
        if server is None or not password or _CONTROLS.search(password):
            return False
        async with self._open[server.host, server.port]:
            return await password_is_right(server, server.user_name(account), password, self._timeout_s)

    def forget(self) -> None:
        """Drop every remembered password, as after a change of the directory."""
        self._kept.clear()

    def _take_back(self, failed_as: str, address: str, at: float) -> None:
        self._by_account.take_back(failed_as, at)
        self._by_address.take_back(address, at)

    def _digest(self, password: str, salt: bytes) -> bytes:
        return hashlib.blake2b(password.encode(), key=self._key, salt=salt, digest_size=32).digest()

    def _is_kept(self, key: _KeptAs, password: str, now: float) -> bool:
        kept = self._kept.get(key)
        if kept is None:
            return False
        salt, digest, until = kept
        if until < now:
            del self._kept[key]
            return False
        return hmac.compare_digest(digest, self._digest(password, salt))

    def _keep(self, key: _KeptAs, password: str) -> None:
        if self._keep_s <= 0:
            return
        salt = secrets.token_bytes(16)
        now = self._clock()
        self._kept.pop(key, None)
        self._kept[key] = (salt, self._digest(password, salt), now + self._keep_s)
        # The oldest come first: what has expired goes, and so does what is too much.
        while len(self._kept) > _MOST_KEPT or next(iter(self._kept.values()))[2] < now:
            self._kept.popitem(last=False)
