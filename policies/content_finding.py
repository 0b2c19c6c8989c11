"""What is found in one attachment, and the bounds within which it is looked for.

The readers of :mod:`policies.content` report to a :class:`Look`: the flags of the attachment, the names
of what lies in it, what is odd about it, and why something could not be decided. Bounds hold for a
whole letter: processor seconds, members, octets inflated, levels. A reader that meets one raises
:class:`Undecided`; what was found until then stays. Nothing is ever written to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from policies.content_name import MACRO_EXTENSIONS, extension, oddities, runs

MAX_NAME = 120  # characters of a member's name that are kept
MAX_NAMES = 50  # members of one attachment that are named


class Undecided(Exception):
    """Something could not be found out; ``reason`` is one word of ``AttachmentFact.undecided``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Bounds:
    """What one letter may cost: processor seconds of this thread, members, octets inflated, levels, names."""

    seconds: float = 1.5
    members: int = 20_000
    inflated: int = 128 << 20
    depth: int = 4
    names: int = 200
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = time.thread_time() + self.seconds

    def check(self) -> None:
        """Raise :class:`Undecided` once the time is over."""
        if time.thread_time() > self._deadline:
            raise Undecided("timeout")

    def count(self, members: int) -> None:
        """Charge members of an archive before they are looked at."""
        self.members -= members
        if self.members < 0:
            raise Undecided("count")

    def inflate(self, octets: int) -> None:
        """Charge octets that were inflated."""
        self.inflated -= octets
        if self.inflated < 0:
            raise Undecided("too large")
        self.check()


class Look:
    """One attachment while it is looked at. ``examine`` is what looks at a member."""

    __slots__ = (
        "_depth",
        "_examine",
        "archive",
        "bounds",
        "encrypted",
        "executable",
        "macros",
        "members",
        "odd",
        "signed",
        "undecided",
    )

    def __init__(self, bounds: Bounds, examine: Callable[[bytes, str, Look], None]) -> None:
        self.bounds = bounds
        self._examine = examine
        self._depth = 0
        self.encrypted = self.signed = self.macros = self.executable = self.archive = False
        self.members: list[str] = []
        self.odd: dict[str, None] = {}
        self.undecided = ""

    def doubt(self, reason: str) -> None:
        """Something stays undecided; the first reason is kept."""
        self.undecided = self.undecided or reason

    def named(self, name: str) -> None:
        """A member called ``name``, whatever is in it."""
        if len(self.members) < MAX_NAMES and self.bounds.names > 0:
            self.members.append(name[:MAX_NAME])
            self.bounds.names -= 1
        for odd in oddities(name, path_is_odd=False):
            self.odd[odd] = None
        last = extension(name)
        if runs(last):
            self.executable = True
        elif last in MACRO_EXTENSIONS:
            self.macros = True

    def inside(self, name: str, content: bytes) -> None:
        """Look at what lies in this one."""
        self.below(lambda: self._examine(content, name, self))

    def below(self, step: Callable[[], None]) -> None:
        """Take a step one level deeper, unless that is too deep."""
        if self._depth >= self.bounds.depth:
            self.doubt("nested")
            return
        self._depth += 1
        try:
            self.apart(step)
        finally:
            self._depth -= 1

    def apart(self, step: Callable[[], None]) -> None:
        """Look at one of several things: what cannot be decided of it leaves the others to be looked at."""
        try:
            self.bounds.check()
            step()
        except Undecided as undecided:
            self.doubt(undecided.reason)
            if undecided.reason == "timeout":
                raise
