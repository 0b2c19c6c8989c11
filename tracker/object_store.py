"""The few calls that the record asks of an archive, whether its objects are files or lie on S3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tracker.archive import Octets
from tracker.spool import Spool

_log = logging.getLogger("wasl.archive")


class ObjectStore(Protocol):
    """Write-once objects, durable before anybody names them (:class:`tracker.archive.Archive`)."""

    def key_for(self, submission_id: int, at_us: int, /) -> str: ...

    def spool(self) -> Spool: ...

    def store(self, items: Sequence[tuple[str, Octets]]) -> None: ...

    def begin(self, items: Sequence[tuple[str, Octets]]) -> Callable[[], None]: ...

    def open(self, key: str) -> Octets: ...

    def path_of(self, key: str) -> Path | None: ...

    def delete(self, key: str) -> None: ...

    def keys(self, after: str = "") -> Iterator[str]: ...

    def free_bytes(self) -> int: ...

    @property
    def slow(self) -> bool: ...  # to store takes long: others should not wait for it

    @property
    def slow_sync(self) -> bool: ...  # to make durable takes long: what comes in a moment should share it

    def close(self) -> None: ...


def remove(objects: ObjectStore, key: str) -> None:
    """Delete an object that no row names any more; one that cannot be deleted stays and harms nobody."""
    try:
        objects.delete(key)
    except OSError as error:
        _log.warning("the object %s is not needed and stays: %s", key, error)
