"""Rate limits: how many letters a mailbox, an agency or a pair of agencies has sent within a window.

:class:`PolicyState` is the one thing beside the facts that a decision may hang on. It lives in memory,
counts by the times that stand in the facts and not by a clock, and so gives the same answers when
recorded letters are led past it again in their order (``wasl policy replay``). The window slides in
steps of a sixteenth: what was taken counts at least a whole window long and at most one step more.
Nothing is written down: after a start, and on each node, counting begins anew.
"""

from __future__ import annotations

from collections import deque

STEPS = 16  # of a window
MAX_KEYS = 50_000  # mailboxes and pairs that are counted at one time; the idle ones go first


class PolicyState:
    """Sliding counters by key. Not for several threads at once."""

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}

    def take(self, key: str, limit: int, window_us: int, at_us: int, count: int = 1) -> bool:
        """True, and counted, when ``count`` more keep ``key`` within ``limit`` a window.

        False, and nothing counted, when they would not: who tries again while over the limit does not
        lengthen the wait. A time before the last one counts as the last one (clocks are set back).
        """
        counter = self._counters.get(key)
        if counter is None:
            if len(self._counters) >= MAX_KEYS:
                self._forget()
            counter = self._counters[key] = _Counter()
        return counter.take(limit, window_us, at_us, count)

    def copy(self) -> PolicyState:
        """An independent state that has counted the same."""
        made = PolicyState()
        made._counters = {key: counter.copy() for key, counter in self._counters.items()}
        return made

    def __len__(self) -> int:
        return len(self._counters)

    def _forget(self) -> None:
        """Drop the half that was idle longest; ties by name, so that it is the same everywhere."""
        kept = sorted(self._counters.items(), key=lambda item: (-item[1].last_us, item[0]))
        self._counters = dict(kept[: MAX_KEYS // 2])


class _Counter:
    __slots__ = ("_steps", "_total", "last_us")

    def __init__(self) -> None:
        self._steps: deque[tuple[int, int]] = deque()  # (number of the step, taken in it)
        self._total = 0
        self.last_us = 0

    def take(self, limit: int, window_us: int, at_us: int, count: int) -> bool:
        self.last_us = at_us = max(at_us, self.last_us)
        step = at_us // max(1, window_us // STEPS)
        while self._steps and self._steps[0][0] < step - STEPS:
            self._total -= self._steps.popleft()[1]
        if self._total + count > limit:
            return False
        self._total += count
        if self._steps and self._steps[-1][0] == step:
            self._steps[-1] = (step, self._steps[-1][1] + count)
        else:
            self._steps.append((step, count))
        return True

    def copy(self) -> _Counter:
        made = _Counter()
        made._steps, made._total, made.last_us = self._steps.copy(), self._total, self.last_us
        return made
