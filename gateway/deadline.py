"""The end of a process that does not end by itself: a stop that hangs on failing storage is cut off.

All that was promised is on stable storage, so that ending at once is as safe as a kill; what was under way is
found by the next life. A thread of its own counts, whatever the loop does. The exit status is 1.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

_log = logging.getLogger("wasl.serve")


class Deadline:
    """Begun when the gateway is told to stop, cancelled when it has."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Count from now, if not from before."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """The process ends by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        _log.critical("not stopped within %.0f s: ending at once; nothing promised is lost", self._seconds)
        for stream in (sys.stderr, sys.stdout):
            stream.flush()
        os._exit(1)
