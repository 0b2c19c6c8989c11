"""The archive: the exact octets of every letter, one object a letter, written once, durable on return.

A message is spooled while it is read (:class:`Spool`: memory, then a file), hashed on the way, and is then
an :class:`Octets` that nobody can change. ``Archive.store`` puts a group of them under their keys.

Order of system calls for one object: write, fsync of the file, name (created with ``O_EXCL``, or linked from
the spool), fsync of the directory; only then does ``store`` return. Whoever names an object in the record
after that may rely on it.

How it fails: :class:`ArchiveFull` (no space, no quota) and :class:`ArchiveError` (all else) are OSErrors with
errno and file name. A failed ``store`` removes every name that it made. After a failed fsync the pages are
never trusted again: the object is removed, the data count as lost, and the sender is told to come again.
A crash leaves at worst an object that no record names, or spool files, which the next process removes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

from tracker.model import id_text

MEMORY_LIMIT = 256 * 1024  # octets of a message that stay in memory before the spool goes to a file
_WORKERS = 8  # syncs under way at once: a journalling file system commits them together
_KEY = re.compile(r"([0-9]{4})/([0-9]{4})/([0-9]{2})/([0-9A-Za-z][0-9A-Za-z._-]{0,100})")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ArchiveError(OSError):
    """An object could not be stored, read or removed; ``errno`` and ``filename`` say what and where."""


class ArchiveFull(ArchiveError):
    """No space or no quota is left: try again when there is."""


class ArchiveMissing(ArchiveError):
    """No object has that key."""


class ArchiveConflict(ArchiveError):
    """Another content is already stored under that key; objects are written once."""


def _failure(error: OSError, name: object) -> ArchiveError:
    if isinstance(error, ArchiveError):
        return error
    kind = ArchiveFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ArchiveError
    return kind(error.errno or errno.EIO, error.strerror or str(error), str(name))


def key_for(submission_id: int, at_us: int) -> str:
    """The key of a submission's octets, ``YYYY/MMDD/HH/<id>.eml`` by the UTC hour of ``at_us``."""
    at = time.gmtime(at_us // 1_000_000)
    hour = f"{at.tm_year:04d}/{at.tm_mon:02d}{at.tm_mday:02d}/{at.tm_hour:02d}"
    return f"{hour}/{id_text(submission_id)}.eml"


class Octets:
    """Finished message content that never changes: in ``memory``, or in the file at ``path``.

    ``size`` counts octets; ``sha256`` is their digest (of an opened object it is computed when first asked).
    """

    __slots__ = ("_fd", "_map", "_owned", "_sha256", "memory", "path", "size")

    def __init__(
        self,
        *,
        memory: bytes | None = None,
        path: Path | None = None,
        fd: int | None = None,
        size: int = 0,
        sha256: bytes | None = None,
        owned: bool = False,
    ) -> None:
        self.memory = memory
        self.path = path
        self.size = len(memory) if memory is not None else size
        self._sha256 = sha256
        # The descriptor that wrote the file stays open until the file is synced: a write-back error is
        # only sure to be reported to who held it open meanwhile.
        self._fd = fd
        self._map: mmap.mmap | None = None
        self._owned = owned

    @classmethod
    def of(cls, data: bytes) -> Octets:
        """Content that is already in memory."""
        return cls(memory=data, sha256=hashlib.sha256(data).digest())

    @property
    def sha256(self) -> bytes:
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.view()).digest()
        return self._sha256

    def view(self) -> bytes | mmap.mmap:
        """The whole content as a buffer, without a copy; the same object each time until ``close``."""
        if self.memory is not None:
            return self.memory
        if self._map is None:
            assert self.path is not None
            fd = self._fd if self._fd is not None else os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._map = mmap.mmap(fd, self.size, access=mmap.ACCESS_READ)
            except OSError as error:
                raise _failure(error, self.path) from error
            finally:
                if self._fd is None:
                    os.close(fd)
        return self._map

    def chunks(self, n: int = 65536) -> Iterator[bytes]:
        """The content in pieces of ``n`` octets."""
        view = self.view()
        for start in range(0, self.size, n):
            yield view[start : start + n]

    def close(self) -> None:
        """Release the map and the descriptor; ``view`` may be asked again while the file is there."""
        if self._map is not None:
            with suppress(BufferError):  # somebody still holds a slice: the map goes when that does
                self._map.close()
            self._map = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def discard(self) -> None:
        """Drop content that was not stored: closes it and removes its spool file. Idempotent."""
        self.close()
        if self._owned and self.path is not None:
            self._owned = False
            with suppress(OSError):
                self.path.unlink()

    def stored_at(self, path: Path | None) -> None:
        """The archive says: this content is now the object at ``path`` and no longer a spool file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._owned and self.path is not None:
            self._owned = False
            with suppress(OSError):  # a name in the spool that stays is removed by the next process
                self.path.unlink()
            self.path = path

    def __del__(self) -> None:
        if self._fd is not None or self._owned:
            self.discard()

    def __repr__(self) -> str:
        return f"Octets({self.size} octets{f' at {self.path}' if self.path else ''})"


class SpoolArea:
    """A process's own folder for spool files, under ``root``; made when first needed.

    The folder is locked while its process lives. Folders that nobody holds belong to dead processes and
    are removed: what they hold was never acknowledged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own: Path | None = None
        self._lock: int | None = None
        self._count = 0
        self._guard = threading.Lock()

    def sweep(self) -> int:
        """Remove the folders of dead processes; returns how many. Nothing to sweep is no error."""
        try:
            gate = self._gate()
        except OSError:
            return 0
        try:
            return self._sweep()
        finally:
            os.close(gate)

    def file(self) -> tuple[Path, int]:
        """A new spool file: its path, and a descriptor open for reading and writing."""
        with self._guard:
            if self._own is None:
                self._claim()
            assert self._own is not None
            self._count += 1
            path = self._own / f"{self._count}"
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Remove this process's folder."""
        with self._guard:
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)
                self._own = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _gate(self) -> int:
        # Claiming and sweeping exclude one another, or a folder could be swept before it is locked.
        fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def _claim(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        gate = self._gate()
        try:
            self._sweep()
            own = self.root / f"{os.getpid()}-{secrets.token_hex(4)}"
            own.mkdir(mode=0o700)
            self._lock = os.open(own, _DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._own = own
        finally:
            os.close(gate)

    def _sweep(self) -> int:
        removed = 0
        for folder in self.root.iterdir():
            if not folder.is_dir() or folder.is_symlink():
                continue
            fd = os.open(folder, _DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
            finally:
                os.close(fd)
        return removed


class Spool:
    """Takes the octets of one message as they come, hashing on the way; ``finish`` once, or ``discard``."""

    __slots__ = ("_area", "_chunks", "_fd", "_limit", "_path", "_sha", "size")

    def __init__(self, area: SpoolArea, memory_limit: int = MEMORY_LIMIT) -> None:
        self.size = 0
        self._area = area
        self._limit = memory_limit
        self._chunks: list[bytes] = []
        self._sha = hashlib.sha256()
        self._fd: int | None = None
        self._path: Path | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add octets; raises :class:`ArchiveFull` or :class:`ArchiveError`, the spool is then gone."""
        size = self.size + len(data)
        self._sha.update(data)
        if self._fd is None:
            if size <= self._limit:
                self._chunks.append(bytes(data))
                self.size = size
                return
            self._spill()
        self._put(data)
        self.size = size

    def finish(self) -> Octets:
        """The content, as written so far; the spool is not used again."""
        digest = self._sha.digest()
        if self._fd is None:
            octets = Octets(memory=b"".join(self._chunks), sha256=digest)
        else:
            octets = Octets(path=self._path, fd=self._fd, size=self.size, sha256=digest, owned=True)
        self._fd, self._path, self._chunks = None, None, []
        return octets

    def discard(self) -> None:
        """Forget what was written. Idempotent."""
        self._chunks = []
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            self._path = None

    def __del__(self) -> None:
        self.discard()

    def _spill(self) -> None:
        try:
            self._path, self._fd = self._area.file()
        except OSError as error:
            self.discard()
            raise _failure(error, self._area.root) from error
        for chunk in self._chunks:
            self._put(chunk)
        self._chunks = []

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        assert self._fd is not None
        try:
            write_all(self._fd, data)
        except OSError as error:
            path = self._path
            self.discard()
            raise _failure(error, path) from error


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``: a nearly full disk takes a part of it first and fails on the next call."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


class Archive:
    """Objects as files below ``root``: ``root/YYYY/MMDD/HH/<id>.eml``; spool files in ``root/spool``."""

    def __init__(self, root: Path, *, memory_limit: int = MEMORY_LIMIT) -> None:
        self.root = root
        self._memory_limit = memory_limit
        self._area = SpoolArea(root / "spool")
        self._folders: dict[str, int] = {}
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
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
        made: list[tuple[int, str]] = []
        try:
            placed = [(*self._place_of(key), octets) for key, octets in items]
            if len(placed) > 2:
                self._place_many(placed, made)
            else:
                for folder, name, octets in placed:
                    _place(folder, name, octets, made)
            for folder in {folder for folder, _, _ in placed}:
                os.fsync(folder)
        except OSError as error:
            for folder, name in made:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
            raise _failure(error, error.filename or self.root) from error
        for key, octets in items:
            octets.stored_at(self.root / key)

    def open(self, key: str) -> Octets:
        """The object under ``key``; raises :class:`ArchiveMissing` or :class:`ArchiveError`."""
        path = self.root / _checked(key)
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
            raise _failure(error, key) from error

    def delete(self, key: str) -> None:
        """Remove an object for good (disposal), durably; raises :class:`ArchiveMissing`."""
        path = self.root / _checked(key)
        try:
            path.unlink()
            folder = os.open(path.parent, _DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileNotFoundError as error:
            raise ArchiveMissing(errno.ENOENT, "no such object", key) from error
        except OSError as error:
            raise _failure(error, key) from error

    def keys(self) -> Iterator[str]:
        """All keys, in the order of time."""
        for year in _listed(self.root):
            if len(year) == 4 and year.isdecimal():
                for day in _listed(self.root / year):
                    for hour in _listed(self.root / year / day):
                        for name in _listed(self.root / year / day / hour):
                            yield f"{year}/{day}/{hour}/{name}"

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
            for fd in self._folders.values():
                os.close(fd)
            self._folders.clear()
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None
        self._area.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place_of(self, key: str) -> tuple[int, str]:
        folder, _, name = _checked(key).rpartition("/")
        fd = self._folders.get(folder)
        return (fd if fd is not None else self._folder(folder)), name

    def _folder(self, folder: str) -> int:
        """A descriptor of the folder; made if need be, each new name synced in its parent."""
        with self._guard:
            if folder in self._folders:
                return self._folders[folder]
            path = self.root / folder
            new = []
            at = path
            while not at.is_dir():
                new.append(at)
                at = at.parent
            for at in reversed(new):
                at.mkdir(mode=0o700, exist_ok=True)
            for at in (path, *path.parents):
                if at == self.root and self.root not in new:
                    break
                parent = os.open(at.parent, _DIRECTORY)
                try:
                    os.fsync(parent)
                finally:
                    os.close(parent)
                if at == self.root:
                    break
            self._folders[folder] = fd = os.open(path, _DIRECTORY)
            return fd

    def _place_many(self, placed: list[tuple[int, str, Octets]], made: list[tuple[int, str]]) -> None:
        with self._guard:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="archive")
        lanes = min(_WORKERS, len(placed))

        def lane(first: int) -> None:
            for folder, name, octets in placed[first::lanes]:
                _place(folder, name, octets, made)

        futures = [self._pool.submit(lane, first) for first in range(1, lanes)]
        failures: list[BaseException | None] = []
        try:
            lane(0)
        except OSError as error:
            failures.append(error)
        # Every lane has ended before anything is cleaned up.
        failures.extend(future.exception() for future in futures)
        for failure in failures:
            if failure is not None:
                raise failure


def _checked(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"not an archive key: {key!r}")
    return key


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _place(folder: int, name: str, octets: Octets, made: list[tuple[int, str]]) -> None:
    """Write or link one object and sync its content; its name is durable once the folder is synced."""
    if octets.memory is None:
        _link(folder, name, octets, made)
        return
    try:
        fd = os.open(name, _CREATE, 0o600, dir_fd=folder)
    except FileExistsError:
        _must_be_same(folder, name, octets)
        return
    made.append((folder, name))
    try:
        write_all(fd, octets.memory)
        os.fsync(fd)
    finally:
        os.close(fd)


def _link(folder: int, name: str, octets: Octets, made: list[tuple[int, str]]) -> None:
    assert octets.path is not None
    if octets._fd is not None:
        os.fsync(octets._fd)
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
