"""The order of system calls around one accepted letter: what must be on stable storage before the 250.

RFC 5321 §6.1: with the 250 a server takes responsibility. ``kill -9`` cannot show a missing sync (the kernel
keeps the pages of a killed process), so the calls themselves are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.faultfs import Call, Done


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that must have ended before the next step begins."""

    name: str
    calls: Call
    match: str  # in the path, or in the octets sent


class OutOfOrder(AssertionError):
    """A step is missing, failed, or began before the one before it had ended."""


def check(done: Sequence[Done], steps: Sequence[Step]) -> list[Done]:
    """Find the steps in what was ``done``, each ended before the next began; returns the calls found.

    Raises :class:`OutOfOrder` with the name of the step. The last step is looked for first: the earliest
    call that matches it is the promise, and everything else must lie before that.
    """
    promise = next((call for call in done if _is(call, steps[-1])), None)
    if promise is None:
        raise OutOfOrder(f"{steps[-1].name}: never happened")
    found = [promise]
    for step in reversed(steps[:-1]):
        fitting = [call for call in done if _is(call, step) and call.end < found[0].begin]
        if not fitting:
            late = [call for call in done if _is(call, step)]
            following = steps[len(steps) - len(found)].name
            raise OutOfOrder(f"{step.name}: {'after' if late else 'missing before'} {following}")
        found.insert(0, fitting[-1])
    return found


def _is(call: Done, step: Step) -> bool:
    return bool(call.call & step.calls) and call.error == 0 and step.match in call.subject
