"""Sending one letter to a play of :mod:`tests.wire.scripted`, on each of the two event loops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from gateway.hop_pool import Pool
from gateway.smtp_client import Outcome, Outgoing, OutRecipient, Stage, Timeouts
from policies.directory import NextHop
from tests.wire.scripted import Play, serving
from tracker.model import Address

LETTER = b"From: a@mof.example\r\nSubject: x\r\n\r\nbody\r\n"
PATIENT = Timeouts(
    connect=60, greeting=60, hello=60, tls=60, mail=60, data=60, block=60, final=60, quit=0.3
)  # nothing of what is tried runs out of time


def short_at(*stages: str) -> Timeouts:
    """Of all stages only these end soon."""
    return replace(PATIENT, **dict.fromkeys(stages, 0.3))


Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def hop(port: int, **more: Any) -> NextHop:
    return NextHop(**({"name": "MOH", "host": "127.0.0.1", "port": port, "tls": "none"} | more))


def mail(*to: str, octets: bytes = LETTER, **more: Any) -> Outgoing:
    recipients = tuple(OutRecipient(address=Address.parse(one)) for one in to or ("r1@moh.example",))
    return Outgoing(sender=Address.parse("a@mof.example"), recipients=recipients, pieces=[octets], **more)


def pool(port: int, times: Timeouts = PATIENT, **more: Any) -> Pool:
    own = {
        k: more.pop(k) for k in list(more) if k in ("max_idle_s", "max_messages", "plain_auth_on_loopback")
    }
    return Pool(hop(port, **more), hostname="wasl.example", times=times, **own)


async def one(
    play: Play, letter: Outgoing | None = None, *, times: Timeouts = PATIENT, **more: Any
) -> Outcome:
    """Send one letter to a play and close."""
    async with serving(play) as server:
        connections = pool(server.port, times, **more)
        outcome = await connections.send(letter or mail())
        await connections.close(0.2)
    return outcome


def short(outcome: Outcome) -> list[tuple[int | None, Stage, bool]]:
    return [(r.reply.code if r.reply else None, r.stage, r.in_doubt) for r in outcome.results]


TWO = ("r1@moh.example", "r2@moh.example")
THREE = (*TWO, "r3@moh.example")
