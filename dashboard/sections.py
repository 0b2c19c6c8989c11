"""The sections of the dashboard that an account has: what stands in the navigation, and who may do what.

``sections`` is what the frame of every page shows; the pages themselves ask the same functions, so that
nothing is offered that is then refused. Counts in the navigation are kept for some seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dashboard.language import N_
from tracker.access import Role, Viewer
from tracker.filing import may_file

COUNT_SECONDS = 5.0


class Count(StrEnum):
    """A number beside an entry of the navigation."""

    LATE = "late"  # answers that the viewer's agency owes late
    HOLDS = "holds"  # letters that wait for approval
    INCOMING = "incoming"  # letters that wait for the viewer's registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One entry of the navigation."""

    key: str
    href: str
    name: str  # to be translated
    count: int = 0


def may_see_policy(viewer: Viewer) -> bool:
    """Rules, and the counts of letters of all agencies that stand beside them: for those who see all."""
    return viewer.sees_all


def may_edit_policy(viewer: Viewer) -> bool:
    """Administrators of the whole."""
    return viewer.agency is None and viewer.role is Role.ADMIN


def may_see_refusals(viewer: Viewer) -> bool:
    """What was refused at the door: those who look after all agencies or after one."""
    return viewer.role in (Role.ADMIN, Role.COMPLIANCE)


def sections(viewer: Viewer, count: Callable[[Count], int], *, policy: bool) -> list[Section]:
    """What an account finds in the navigation, in order; ``policy``: there is one to be looked at here."""
    out = [Section(key="letters", href="/letters", name=N_("Letters"))]
    if viewer.agency is not None or viewer.sees_all:
        late = count(Count.LATE)
        out.append(Section(key="follow-up", href="/follow-up", name=N_("Follow-up"), count=late))
    waiting = count(Count.HOLDS)
    if waiting or viewer.role is not Role.VIEWER:
        out.append(Section(key="holds", href="/holds", name=N_("Held for approval"), count=waiting))
    if viewer.agency is not None or viewer.sees_all:
        own = viewer.agency is not None and may_file(viewer, viewer.agency)
        untaken = count(Count.INCOMING) if own else 0
        out.append(Section(key="register", href="/register", name=N_("Incoming register"), count=untaken))
    if policy and may_see_policy(viewer):
        out.append(Section(key="policy", href="/policy", name=N_("Policies")))
    elif may_see_refusals(viewer):
        out.append(Section(key="refusals", href="/refusals", name=N_("Refused at once")))
    if viewer.may_see_worklist:
        out.append(Section(key="worklist", href="/worklist", name=N_("Unmatched reports")))
    return out


@dataclass(slots=True)
class CountBook:
    """Numbers kept for some seconds: many pages ask, the answer is the same."""

    seconds: float = COUNT_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[tuple[Count, Viewer], tuple[float, int]] = field(default_factory=dict)

    def get(self, key: tuple[Count, Viewer], count: Callable[[], int]) -> int:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < self.seconds:
            return kept[1]
        value = count()
        with self._lock:
            if len(self._kept) > 2_000:
                self._kept.clear()
            self._kept[key] = (now, value)
        return value

    def forget(self) -> None:
        """After an act, so that its own answer shows the new count."""
        with self._lock:
            self._kept.clear()
