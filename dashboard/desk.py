"""What the dashboard is given by whoever starts it: the record to read, one way to write, names.

The dashboard opens no mail connection and knows no other part of the gateway; everything that it
needs stands here, so that a test gives it an engine and the supervisor the running record.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from dashboard.policy_desk import PolicyDesk
from tracker.access import Viewer
from tracker.filing import Filed, Filing
from tracker.hold_desk import Decided
from tracker.holds import Act
from tracker.integrity import Content
from tracker.link_work import Linked, LinkJudgement
from tracker.store import Connection, Engine
from tracker.verify_code import VerifyCodes

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyName:
    """An agency's code and its names in both languages."""

    code: str
    ar: str
    en: str

    def in_(self, language: str) -> str:
        return (self.ar if language == "ar" else self.en) or self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """``base_url`` is how people reach the pages; ``secure`` when that is https."""

    base_url: str
    zone: ZoneInfo
    gateway_name: str
    secure: bool = True
    language: str = "ar"  # of those who have not chosen
    idle_seconds: int = 2 * 3600  # an idle session ends after this


class Write(Protocol):
    """Runs a function of a connection inside the writer's next transaction and returns its result."""

    def __call__(self, fn: Callable[[Connection], T], /) -> T: ...


class DecideHolds(Protocol):
    """Records what a person decides about held letters; durable on return. What is barred says why."""

    def __call__(self, ids: Sequence[int], person: Viewer, act: Act, note: str, /) -> Sequence[Decided]: ...


class Remind(Protocol):
    """Reminds the registries that have a letter and owe something; to which mailboxes, or to none today."""

    def __call__(self, letter_id: int, person: str, /) -> Sequence[str]: ...


class RegisterActs(Protocol):
    """What a registry does with letters that its agency received; durable on return."""

    def assigns(self, agency: str, /) -> bool:
        """True when the gateway gives that agency's incoming numbers."""

    def file(self, filings: Sequence[Filing], /) -> Sequence[Filed]:
        """Do these; how assigned numbers look is filled in. What is barred says why."""

    def judge(self, word: LinkJudgement, /) -> Linked:
        """A person's word on a proposed link."""

    def address(self, letter_id: int, agency: str, /) -> str:
        """Where command mails about the letter go; empty when there is no such address."""


class Changes(Protocol):
    """Who tells which letters changed in this process (``tracker.record.Record``)."""

    def subscribe(self) -> queue.SimpleQueue[int]: ...

    def unsubscribe(self, listener: queue.SimpleQueue[int], /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardDesk:
    """Everything that the pages stand on."""

    engine: Engine  # for reading
    write: Write
    next_id: Callable[[], int]
    changes: Changes
    agencies: Callable[[], Sequence[AgencyName]]
    name: Callable[[str], AgencyName]  # of a code; an unknown one is named by itself
    open_content: Callable[[str], Content]  # by archive key; raises OSError
    settings: DashboardSettings
    policy: PolicyDesk | None = None  # None: no pages of policy
    register: RegisterActs | None = None  # None: the register is shown and nothing is done here
    decide_holds: DecideHolds | None = None  # None: holds are shown and nothing is decided here
    remind: Remind | None = None  # None: nobody is reminded by hand
    verify: VerifyCodes | None = None  # None: no page where anybody checks a letter
