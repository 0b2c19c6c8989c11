"""Read what a delivery agent put into a Maildir (https://cr.yp.to/proto/maildir.html)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.servers.place import PATIENCE, wait_until

T = TypeVar("T")


class Maildir:
    """One mailbox on disk. Messages are the octets of the files, in the order of arrival."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, folder: str = "") -> list[Path]:
        """The message files of INBOX, or of the Maildir++ folder of that name (``.name``)."""
        return _still(lambda: self._files(folder))

    def messages(self, folder: str = "") -> list[bytes]:
        """The octets of each message."""
        return _still(lambda: [f.read_bytes() for f in self._files(folder)])

    def wait(self, count: int = 1, *, folder: str = "", timeout: float = PATIENCE) -> list[bytes]:
        """Wait until there are ``count`` messages at least; raises ``ServerFailed`` after ``timeout`` s."""
        wait_until(
            lambda: len(self.files(folder)) >= count,
            f"{count} message(s) in {self.path.parent.name} {folder}".rstrip(),
            timeout=timeout,
            hint=lambda: f"there are {len(self.files(folder))}",
        )
        return self.messages(folder)

    def _files(self, folder: str) -> list[Path]:
        box = self.path / f".{folder}" if folder else self.path
        found = [f for sub in ("new", "cur") if (box / sub).is_dir() for f in (box / sub).iterdir()]
        return sorted(found, key=lambda f: (f.stat().st_mtime_ns, f.name))


def _still(look: Callable[[], T]) -> T:
    """``look`` again when a file went from under it: a session moves them from ``new`` to ``cur``."""
    for _ in range(20):
        try:
            return look()
        except FileNotFoundError:
            continue
    return look()
