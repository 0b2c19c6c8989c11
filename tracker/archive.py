"""The archive: the exact octets of every letter, one object a letter, written once, durable on return.

Order of system calls for one object: write, fsync of the file, name (created with ``O_EXCL``, or linked
from the spool), fsync of the directory; only then does ``store`` return. Whoever names an object in the
record after that may rely on it. Where a sync takes long, those of files and directory run side by side.

How it fails: :class:`ArchiveFull` (no space, no quota) and :class:`ArchiveError` (all else) are OSErrors
with errno and file name. A failed ``store`` removes every name that it made. After a failed fsync the
pages are never trusted again: the object is removed, the data count as lost, and the sender is told to
come again. A crash leaves at worst an object that no record names.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Self

from tracker.model import id_text
from tracker.spool import (
    FOLDER,
    MEMORY_LIMIT,
    ArchiveError,
    ArchiveFull,
    Octets,
    Spool,
    SpoolArea,
    failure,
    write_all,
)

__all__ = [
    "Archive", "ArchiveConflict", "ArchiveError", "ArchiveFull", "ArchiveMissing", "Octets", "Spool",
    "key_for",
]  # fmt: skip

_LANES = 32  # syncs under way at once, on a disk where one takes longer than _SLOW_S
_SLOW_S = 0.003  # below that a busy processor looks the same
_SYNCS = 4  # the last ones, of which the quickest tells what the disk is like
_QUICK_LOT = 16  # files for each lane on a quicker disk
_GROUP = 200  # objects, and so descriptors, that are open at once
_KEY = re.compile(r"([0-9]{4})/([0-9]{4})/([0-9]{2})/([0-9A-Za-z][0-9A-Za-z._-]{0,100})")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDERS = 8  # descriptors of hours that stay open


class ArchiveMissing(ArchiveError):
    """No object has that key."""


class ArchiveConflict(ArchiveError):
    """Another content is already stored under that key; objects are written once."""


def key_for(submission_id: int, at_us: int) -> str:
    """The key of a submission's octets, ``YYYY/MMDD/HH/<id>.eml`` by the UTC hour of ``at_us``."""
    return f"{_hour(at_us // 3_600_000_000)}/{id_text(submission_id)}.eml"


@lru_cache(maxsize=64)
def _hour(hours: int) -> str:
    at = time.gmtime(hours * 3600)
    return f"{at.tm_year:04d}/{at.tm_mon:02d}{at.tm_mday:02d}/{at.tm_hour:02d}"


class Archive:
    """Objects as files below ``root``: ``root/YYYY/MMDD/HH/<id>.eml``; spool files in ``root/spool``."""

    def __init__(self, root: Path, *, memory_limit: int = MEMORY_LIMIT) -> None:
        self.root = root
        self._memory_limit = memory_limit
        self._area = SpoolArea(root / "spool")
        self._folders: dict[str, int] = {}  # descriptors of the hours in use
        self._storing = 0
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._syncs: deque[float] = deque([0.0], maxlen=_SYNCS)
        self._sync_s = 0.0  # how long one sync takes on this disk
        self._area.sweep()

    key_for = staticmethod(key_for)

    def spool(self) -> Spool:
        """A spool for one incoming message."""
        return Spool(self._area, self._memory_limit)

    def store(self, items: Sequence[tuple[str, Octets]]) -> None:
        """Make every item durable under its key; all of them, or none and an error.

        Raises :class:`ArchiveFull`, :class:`ArchiveConflict` (the key holds another content; the same
        content again is no error) or :class:`ArchiveError`. A spooled file moves, it is not copied.
        """
        for _ in self._store(items, beside=False):
            pass

    def begin(self, items: Sequence[tuple[str, Octets]]) -> Callable[[], None]:
        """The first half of :meth:`store`: writes, and has threads sync. What is returned does the rest.

        Both raise what ``store`` raises, and after an error nothing is left. Called again, it says the same.
        """
        halves = self._store(items, beside=True)
        next(halves, None)
        failed: OSError | None = None

        def finish() -> None:
            nonlocal failed
            if failed is not None:
                raise failed
            try:
                for _ in halves:
                    pass
            except OSError as error:
                failed = error
                raise

        return finish

    def _store(self, items: Sequence[tuple[str, Octets]], *, beside: bool) -> Iterator[None]:
        made: list[tuple[int, str]] = []
        stale = True
        with self._guard:
            self._storing += 1
        try:
            placed = [(*self._place_of(key), octets) for key, octets in items]
            named: set[int] = set()  # folders with new names that are not durable yet
            for at in range(0, len(placed), _GROUP):
                yield from self._place(placed[at : at + _GROUP], made, named, beside)
            for folder in named:
                os.fsync(folder)
            stale = False
        except OSError as error:
            for folder, name in made:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
            raise failure(error, error.filename or self.root) from error
        finally:
            with self._guard:
                self._storing -= 1
                if self._storing == 0 and (stale or len(self._folders) > _FOLDERS):
                    self._close_folders()  # after a failure too: a folder may have been taken away
        for key, octets in items:
            if octets.spooled:
                octets.stored_at(self.root / key)

    @property
    def slow(self) -> bool:
        """Never: a disk makes objects durable while the rows that name them are written."""
        return False

    @property
    def slow_sync(self) -> bool:
        """True where a sync takes so long that threads pay, and waiting to share one."""
        return self._sync_s > _SLOW_S

    def open(self, key: str) -> Octets:
        """The object under ``key``; raises :class:`ArchiveMissing` or :class:`ArchiveError`."""
        path = self.root / checked_key(key)
        try:
            size = path.stat().st_size
            if size <= self._memory_limit:
                return Octets(memory=path.read_bytes())
            octets = Octets(path=path, size=size)
            octets.view()
            return octets
        except FileNotFoundError as error:
            raise ArchiveMissing(errno.ENOENT, "no such object", key) from error
        except OSError as error:
            raise failure(error, key) from error

    def path_of(self, key: str) -> Path | None:
        """The file of an object, for another process of this machine; it may not be there."""
        return self.root / key

    def delete(self, key: str) -> None:
        """Remove an object for good (disposal), durably; raises :class:`ArchiveMissing`."""
        path = self.root / checked_key(key)
        try:
            path.unlink()
            _sync_folder(path.parent)
        except FileNotFoundError as error:
            raise ArchiveMissing(errno.ENOENT, "no such object", key) from error
        except OSError as error:
            raise failure(error, key) from error

    def keys(self, after: str = "") -> Iterator[str]:
        """All keys, in the order of time; only those that come ``after`` one, or after a part of one."""
        for year in _listed(self.root):
            if len(year) == 4 and year.isdecimal() and year >= after[:4]:
                for day in _listed(self.root / year):
                    for hour in _listed(self.root / year / day):
                        folder = f"{year}/{day}/{hour}/"
                        if folder < after[: len(folder)]:
                            continue
                        for name in _listed(self.root / year / day / hour):
                            if (key := f"{folder}{name}") > after:
                                yield key

    def free_bytes(self) -> int:
        """Octets that this process may still write to the file system of the archive."""
        at = self.root
        while not at.exists():
            at = at.parent
        space = os.statvfs(at)
        return space.f_bavail * space.f_frsize

    def close(self) -> None:
        """Close what is cached and remove this process's spool folder."""
        with self._guard:
            self._close_folders()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self._area.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place_of(self, key: str) -> tuple[int, str]:
        folder, _, name = checked_key(key).rpartition("/")
        fd = self._folders.get(folder)
        return (fd if fd is not None else self._folder(folder)), name

    def _folder(self, folder: str) -> int:
        """A descriptor of the folder, which is made if need be.

        Each folder's name is synced in the one above once per process: another process that made it
        may not have come so far.
        """
        with self._guard:
            if folder not in self._folders:
                path = self.root / folder
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                for above in path.parents:
                    _sync_folder(above)
                    if above == self.root.parent:
                        break
                self._folders[folder] = os.open(path, FOLDER)
            return self._folders[folder]

    def _close_folders(self) -> None:
        for fd in self._folders.values():
            os.close(fd)
        self._folders.clear()

    def _place(
        self,
        placed: Sequence[tuple[int, str, Octets]],
        made: list[tuple[int, str]],
        named: set[int],
        beside: bool,
    ) -> Iterator[None]:
        """Write or link objects and sync their content; adds the folders whose names are to be synced yet.

        Where a sync takes long, names made before are synced beside the content: either alone is nothing,
        and nobody refers to an object before both are durable. With ``beside`` threads do all the syncs, and
        it yields once they are under way.
        """
        files: list[int] = []
        moved: dict[int, tuple[int, str, Octets]] = {}  # spool files, each to be linked once
        folders: set[int] = set()
        try:
            for folder, name, octets in placed:
                if octets.lost:
                    raise ArchiveError(errno.EIO, "the content was lost when its sync failed", name)
                if octets.spooled and octets.descriptor() not in moved:
                    moved[octets.descriptor()] = folder, name, octets
                    continue
                fd = _create(folder, name, octets, made)
                if fd is not None:
                    files.append(fd)
                    for chunk in octets.chunks(1 << 20):
                        write_all(fd, chunk)
                    if len(placed) > 1:
                        # Begin to write it out: the first sync then commits what is known of them all.
                        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if self.slow_sync:
                folders = {folder for folder, _, octets in placed if octets.memory is not None}
            syncs = _Syncs([*files, *moved, *folders], self._lanes(len(files)), self._threads, beside)
            try:
                if beside:
                    yield
            finally:  # a descriptor is not closed under a running sync
                try:
                    syncs.finish()
                except OSError:
                    for _, _, octets in moved.values():
                        octets.lost = True
                    raise
            if files or moved:
                self._learn(syncs.each_s())
        finally:
            for fd in files:
                os.close(fd)
        for folder, name, octets in moved.values():
            _link(folder, name, octets, made)
        linked = {folder for folder, _, _ in moved.values()}
        named |= {folder for folder, _, _ in placed} - (folders - linked)

    def _lanes(self, count: int) -> int:
        """How many syncs at once: on a quick disk another thread costs more than it saves."""
        return min(count + 1, _LANES) if self.slow_sync else 1 + count // _QUICK_LOT

    def _threads(self) -> ThreadPoolExecutor:
        with self._guard:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_LANES, thread_name_prefix="archive")
            return self._pool

    def _learn(self, each_s: float) -> None:
        """What one sync took. One slow sync may be a busy processor; a slow disk is slow each time."""
        self._syncs.append(each_s)
        self._sync_s = min(self._syncs)


class _Syncs:
    """Syncs of files side by side: the file system then commits many of them at once.

    The caller is one of the ``lanes``, unless all go ``beside``; ``finish`` raises what a sync raised.
    """

    def __init__(
        self, files: Sequence[int], lanes: int, threads: Callable[[], ThreadPoolExecutor], beside: bool
    ) -> None:
        self._files = files
        self._lanes = max(min(lanes, len(files)), 1)
        self._own = not beside
        self._begun = time.monotonic()
        self._took = 0.0
        rest = range(1 if self._own else 0, self._lanes)
        self._others = [threads().submit(self._lane, first) for first in rest]

    def _lane(self, first: int) -> None:
        for fd in self._files[first :: self._lanes]:
            os.fsync(fd)
        self._took = max(self._took, time.monotonic() - self._begun)

    def finish(self) -> None:
        try:
            if self._own:
                self._lane(0)
        finally:
            wait(self._others)
        for other in self._others:
            other.result()

    def each_s(self) -> float:
        """Seconds that one took."""
        return self._took / -(-len(self._files) // self._lanes)


def checked_key(key: str) -> str:
    """``key`` itself when it has the form of one; raises ValueError."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"not an archive key: {key!r}")
    return key


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _create(folder: int, name: str, octets: Octets, made: list[tuple[int, str]]) -> int | None:
    """A new object, open for writing; None when it is there already with the same content."""
    try:
        fd = os.open(name, _CREATE, 0o600, dir_fd=folder)
    except FileExistsError:
        _must_be_same(folder, name, octets)
        return None
    made.append((folder, name))
    return fd


def _link(folder: int, name: str, octets: Octets, made: list[tuple[int, str]]) -> None:
    assert octets.path is not None
    try:
        os.link(octets.path, name, dst_dir_fd=folder)
    except FileExistsError:
        _must_be_same(folder, name, octets)
    else:
        made.append((folder, name))


def _must_be_same(folder: int, name: str, octets: Octets) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != octets.sha256:
            raise ArchiveConflict(errno.EEXIST, "another content has this key", name)
        os.fsync(fd)  # whoever wrote it may not have come so far
