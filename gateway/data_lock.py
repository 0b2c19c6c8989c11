"""One running gateway per data directory (DESIGN §8): a lock that dies with its process.

:func:`hold` raises :class:`Busy` with the other's process id. The command line asks :func:`is_held`
to know whether to write through the running gateway's socket.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class Busy(RuntimeError):
    """Another process works on this data directory."""


class DataLock:
    """The lock; held until closed or until the process ends, however it ends."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise Busy(
                f"{data_dir} is in use by process {holder or 'unknown'}: stop it first, "
                "or use another gateway.data_dir"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> DataLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_held(data_dir: Path) -> bool:
    """True when a gateway runs on this data directory."""
    try:
        DataLock(data_dir).close()
    except Busy:
        return True
    return False
