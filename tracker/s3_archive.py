"""The archive in an S3-compatible object store, for gateways of several nodes; same calls as Archive.

An object is put whole and only if its key is free (``If-None-Match: *``), so that it is written once; the
store's 200 is its word that the object is durable. Messages are spooled on the node's own disk while they
are read; nothing there outlives its process.

How it fails: as :mod:`tracker.archive` does. A put whose answer was lost is tried again and then finds its
own object, which counts as stored when the content is the same. What a failed group had put is deleted. A
store that does not answer is an :class:`ArchiveError` after ``patience_s`` or a little more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from tracker.archive import ArchiveConflict, ArchiveMissing, checked_key, key_for
from tracker.spool import MEMORY_LIMIT, ArchiveError, ArchiveFull, Octets, Spool, SpoolArea

_LANES = 16  # requests under way at once
_FULL = ("InsufficientStorage", "QuotaExceeded", "StorageFull", " 507 ")  # as Ceph, MinIO and others say it


class S3Archive:
    """Objects in ``bucket`` under ``prefix``; spool files in ``scratch`` on the local disk."""

    key_for = staticmethod(key_for)

    def __init__(
        self,
        bucket: str,
        *,
        scratch: Path,
        prefix: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        memory_limit: int = MEMORY_LIMIT,
        patience_s: float = 20.0,
    ) -> None:
        self._memory_limit = memory_limit
        self._area = SpoolArea(scratch)
        self._area.sweep()
        given = {
            "endpoint": endpoint,
            "region": region or "us-east-1",
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        self._store = S3Store(
            bucket,
            prefix=prefix,
            config={name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
            client_options={
                "allow_http": (endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=min(5.0, patience_s)),
                "timeout": timedelta(seconds=patience_s),
            },
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=patience_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )
        self._pool = ThreadPoolExecutor(_LANES, thread_name_prefix="archive")

    def spool(self) -> Spool:
        """A spool for one incoming message."""
        return Spool(self._area, self._memory_limit)

    def store(self, items: Sequence[tuple[str, Octets]]) -> None:
        """Put every item under its key; all of them, or none and an error (as ``Archive.store``)."""
        for key, _ in items:
            checked_key(key)
        made: list[str] = []
        puts = [self._pool.submit(self._put, key, octets, made) for key, octets in items]
        wait(puts)
        try:
            for put in puts:
                put.result()
        except OSError:
            for key in made:
                with suppress(BaseError, FileNotFoundError):
                    obstore.delete(self._store, key)
            raise

    def begin(self, items: Sequence[tuple[str, Octets]]) -> Callable[[], None]:
        """All of :meth:`store`: no lock of a database is to wait for a network; nothing is left to do."""
        self.store(items)
        return lambda: None

    @property
    def slow(self) -> bool:
        """Always: it is at the other end of a network."""
        return True

    slow_sync = slow

    def open(self, key: str) -> Octets:
        """The object under ``key``; raises :class:`ArchiveMissing` or :class:`ArchiveError`."""
        checked_key(key)
        try:
            found = obstore.get(self._store, key)
            if found.meta["size"] <= self._memory_limit:
                return Octets(memory=bytes(found.bytes()))
            spool = self.spool()
            for chunk in found.stream():
                spool.write(bytes(chunk))
            return spool.finish()
        except FileNotFoundError as error:
            raise ArchiveMissing(errno.ENOENT, "no such object", key) from error
        except BaseError as error:
            raise _failure(error, key) from error

    def path_of(self, key: str) -> Path | None:
        """None: an object here is no file."""
        return None

    def delete(self, key: str) -> None:
        """Remove an object for good (disposal); raises :class:`ArchiveMissing`."""
        checked_key(key)
        try:
            obstore.head(self._store, key)  # S3 itself deletes what is not there without a word
            obstore.delete(self._store, key)
        except FileNotFoundError as error:
            raise ArchiveMissing(errno.ENOENT, "no such object", key) from error
        except BaseError as error:
            raise _failure(error, key) from error

    def keys(self, after: str = "") -> Iterator[str]:
        """All keys, in the order of time; only those that come ``after`` one, or after a part of one."""
        try:
            for page in obstore.list(self._store, offset=after or None):
                for item in page:
                    yield item["path"]
        except BaseError as error:
            raise _failure(error, "") from error

    def free_bytes(self) -> int:
        """Octets left for spool files on the local disk; the object store does not tell its own."""
        at = self._area.root
        while not at.exists():
            at = at.parent
        space = os.statvfs(at)
        return space.f_bavail * space.f_frsize

    def close(self) -> None:
        """End the workers and remove this process's spool folder."""
        self._pool.shutdown()
        self._area.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, key: str, octets: Octets, made: list[str]) -> None:
        content = octets.memory if octets.memory is not None else octets.path
        assert content is not None
        try:
            obstore.put(self._store, key, content, mode="create", use_multipart=False)
        except AlreadyExistsError as error:
            there = self.open(key)
            if there.sha256 != octets.sha256:
                raise ArchiveConflict(errno.EEXIST, "another content has this key", key) from error
            there.discard()
        except BaseError as error:
            raise _failure(error, key) from error
        else:
            made.append(key)


def _failure(error: BaseError, key: str) -> ArchiveError:
    text = str(error)
    if any(sign in text for sign in _FULL):
        return ArchiveFull(errno.ENOSPC, "the object store is full", key)
    first = text.splitlines()[0] if text else type(error).__name__
    return ArchiveError(errno.EIO, first[:300], key)
