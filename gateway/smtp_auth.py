"""AUTH PLAIN and AUTH LOGIN (RFC 4954, RFC 4616), only ever under TLS and never within a transaction.

Credentials go to the desk and nowhere else: no log line and no exception text holds one.

How it fails: 501 for what cannot be read, 535 for what is wrong, after a pause; too many of those end the
session. What the desk cannot tell just now is its own 4xx.
"""

from __future__ import annotations

import asyncio
import binascii
import re
from base64 import b64decode

from aiosmtpd.smtp import syntax

from gateway.smtp_path import Refused
from gateway.smtp_replies import (
    AUTHENTICATED,
    BAD_BASE64,
    BAD_CREDENTIALS,
    HELO_FIRST,
    NESTED,
    TLS_FOR_AUTH,
    TOO_MANY_ERRORS,
    reply_octets,
)
from gateway.smtp_session import SmtpSession
from gateway.smtp_wire import UNSYNCHRONISED, Cut, LongLine
from tracker.model import Connection
from tracker.reply import Reply

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class SmtpAuth(SmtpSession):
    """A session that can be signed in to."""

    @syntax("AUTH mechanism [initial-response]")
    async def smtp_AUTH(self, arg: str) -> None:
        assert self.session is not None
        mechanism, _, initial = arg.partition(" ")
        if not self.listener.offer_auth:
            self._answer(Reply.of(502, "5.5.1", "Authentication is not offered"))
        elif not self.secured:
            self._answer(TLS_FOR_AUTH)
        elif not self.session.extended_smtp:
            self._answer(HELO_FIRST)
        elif self.session.authenticated:
            self._answer(Reply.of(503, "5.5.1", "Already authenticated"))
        elif self.transaction is not None:
            self._answer(NESTED)
        elif self.input_waits:
            raise Cut(UNSYNCHRONISED)
        elif mechanism.upper() == "PLAIN":
            await self._sign_in(await self._plain(initial))
        elif mechanism.upper() == "LOGIN":
            await self._sign_in(await self._login(initial))
        else:
            self._answer(Reply.of(504, "5.5.4", "Unrecognised authentication mechanism"))

    async def _plain(self, initial: str) -> tuple[str, str]:
        """RFC 4616: ``authzid NUL authcid NUL password``; acting for another is not offered."""
        octets = await self._challenge(b"334 ") if not initial else _base64(initial.encode("utf-8"))
        parts = octets.split(b"\0")
        if len(parts) != 3:
            raise Refused(Reply.of(501, "5.5.2", "Malformed PLAIN message"))
        if parts[0] and parts[0] != parts[1]:
            raise Refused(BAD_CREDENTIALS)
        return _text(parts[1]), _text(parts[2])

    async def _login(self, initial: str) -> tuple[str, str]:
        user = await self._challenge(b"334 VXNlcm5hbWU6") if not initial else _base64(initial.encode("utf-8"))
        return _text(user), _text(await self._challenge(b"334 UGFzc3dvcmQ6"))

    async def _challenge(self, challenge: bytes) -> bytes:
        self.say(challenge)
        try:
            line = await self.next_line(self.limits.auth_line, self.loop.time() + self.limits.command_time)
        except LongLine:
            raise Refused(Reply.of(500, "5.5.6", "Authentication line too long")) from None
        if self.input_waits:
            raise Cut(UNSYNCHRONISED)
        if line == b"*":
            raise Refused(Reply.of(501, "5.7.0", "Authentication cancelled"))
        return _base64(line)

    async def _sign_in(self, credentials: tuple[str, str]) -> None:
        user, password = credentials
        if not user or not password or _CONTROLS.search(user) or _CONTROLS.search(password):
            answer: Connection | Reply = BAD_CREDENTIALS
        else:
            answer = await self.desk.sign_in(self.conn, user, password)
        if isinstance(answer, Reply):
            if answer.permanent:
                self.auth_failures += 1
                await asyncio.sleep(self.limits.auth_delay)
            self._answer(answer)
            if self.auth_failures >= self.limits.auth_failures:
                raise Cut(TOO_MANY_ERRORS)
            return
        if answer.account is not None:  # a relay's credential is nobody's account
            account = answer.account.casefold()
            if self.listener.tally.by_account[account] >= self.limits.connections_per_account:
                raise Cut(Reply.of(421, "4.7.0", "Too many sessions of this account"))
            self.listener.tally.sign_in(account)
            self.account_counted = account
        self.conn = answer
        assert self.session is not None
        self.session.authenticated = True
        self.say(reply_octets(AUTHENTICATED))


def _base64(octets: bytes) -> bytes:
    if octets == b"=":  # RFC 4954 §4: an empty initial response
        return b""
    try:
        return b64decode(octets, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(BAD_BASE64) from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Reply.of(501, "5.5.2", "Credentials are not UTF-8")) from None
