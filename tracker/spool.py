"""Message content on its way into the archive: spooled while it is read, hashed once, then never changed.

A :class:`Spool` takes octets as they come, in memory up to a limit, then in a file on the archive's file
system, so that storing it later is a link and no copy. ``finish`` gives :class:`Octets`.

How it fails: :class:`ArchiveFull` and :class:`ArchiveError` on a write; the spool file is then removed.
Files of processes that died are removed by the next one (:class:`SpoolArea`): nobody was told that they
were kept.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY_LIMIT = 256 * 1024  # octets of a message that stay in memory before the spool goes to a file
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class ArchiveError(OSError):
    """An object could not be stored, read or removed; ``errno`` and ``filename`` say what and where."""


class ArchiveFull(ArchiveError):
    """No space or no quota is left: try again when there is."""


def failure(error: OSError, name: object) -> ArchiveError:
    if isinstance(error, ArchiveError):
        return error
    kind = ArchiveFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ArchiveError
    return kind(error.errno or errno.EIO, error.strerror or str(error), str(name))


class Octets:
    """Finished message content that never changes: in ``memory``, or in the file at ``path``.

    ``size`` counts octets; ``sha256`` is their digest (of an opened object it is computed when first asked).
    """

    __slots__ = ("_fd", "_map", "_owned", "_sha256", "lost", "memory", "paired", "path", "size")

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
        self.paired = False  # CR and LF only come as pairs, and no NUL comes: who wrote it has seen to that
        self.lost = False  # a sync of the spool file failed: asked again it would succeed, and mean nothing

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
                raise failure(error, self.path) from error
            finally:
                if self._fd is None:
                    os.close(fd)
        return self._map

    def chunks(self, n: int = 65536) -> Iterator[bytes]:
        """The content in pieces of ``n`` octets."""
        if self.memory is not None and self.size <= n:
            yield self.memory
            return
        view = self.view()
        for start in range(0, self.size, n):
            yield view[start : start + n]

    def close(self) -> None:
        """Release the map; ``view`` may be asked again while the file is there."""
        if self._map is not None:
            with suppress(BufferError):  # somebody still holds a slice: the map goes when that does
                self._map.close()
            self._map = None

    def discard(self) -> None:
        """Drop content that was not stored: closes it and removes its spool file. Idempotent."""
        self.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._owned and self.path is not None:
            self._owned = False
            with suppress(OSError):
                self.path.unlink()

    @property
    def spooled(self) -> bool:
        """True when the content is a spool file that the archive may take over."""
        return self._owned

    def descriptor(self) -> int:
        """Of the spool file, to sync it by. After an error there the data count as lost."""
        assert self._fd is not None
        return self._fd

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

    def __reduce__(self) -> tuple[Any, ...]:
        """To the record room: what is in memory, or what is known of an object already stored."""
        if self._owned:
            raise TypeError("a spool file belongs to the process that wrote it")
        return _octets, (self.memory, self.path, self.size, self._sha256)

    def __repr__(self) -> str:
        return f"Octets({self.size} octets{f' at {self.path}' if self.path else ''})"


def _octets(memory: bytes | None, path: Path | None, size: int, sha256: bytes | None) -> Octets:
    return Octets(memory=memory, path=path, size=size, sha256=sha256)


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
            self._lock = os.open(own, FOLDER)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._own = own
        finally:
            os.close(gate)

    def _sweep(self) -> int:
        removed = 0
        for folder in self.root.iterdir():
            if not folder.is_dir() or folder.is_symlink():
                continue
            fd = os.open(folder, FOLDER)
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
            raise failure(error, self._area.root) from error
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
            raise failure(error, path) from error


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``: a nearly full disk takes a part of it first and fails on the next call."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
