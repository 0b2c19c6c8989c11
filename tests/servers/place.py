"""A folder of its own for a server, free ports on the loopback, and processes that are ended by pid.

pytest's own temporary folders are closed to other users (0700), so that ``dovenull``, ``postgres`` and
``postfix`` cannot pass through them, and their names are too long for a UNIX socket (108 octets).
``Place`` is a short folder that everyone may traverse and that goes away with its ``with`` block.

How it fails: :class:`ServerFailed` carries what the server wrote to its log, because that is the only
place where a server says why it did not start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

PATIENCE = 90.0  # seconds; what is waited for comes in one, but a machine may be busy with other things


def _ports() -> range:
    """Below the kernel's ephemeral range, where no outgoing connection takes one; a part for each worker.

    Between the choice of a port and the server that binds it a worker beside us must not choose it too.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return range(10240 + (int(worker) % 8 if worker.isdecimal() else 8) * 2400, 32000)[:2400]


_PORTS = _ports()
_given: set[int] = set()
_random = random.Random(os.urandom(8))


class ServerFailed(RuntimeError):
    """A server did not start, died, or did not do in time what the test waits for."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP and UDP port of ``host`` that nothing uses now and that this process has not given out yet."""
    for _ in range(200):
        port = _random.choice(_PORTS)
        if port in _given:
            continue
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        _given.add(port)
        return port
    raise ServerFailed("no free port found")


def wait_until(
    found: Callable[[], T],
    what: str,
    *,
    timeout: float = PATIENCE,
    pause: float = 0.01,
    hint: Callable[[], str] = str,
) -> T:
    """Ask ``found`` until it answers something true; :class:`ServerFailed` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > end:
            raise ServerFailed(f"waited {timeout:g} s for {what}\n{hint()}".rstrip())
        time.sleep(pause)
        pause = min(pause * 1.3, 0.2)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """True when something accepts TCP connections at ``host:port``."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def read_log(path: Path, last: int = 4000) -> str:
    """The end of a log file, ``last`` characters at most; empty when there is none."""
    return path.read_text(errors="replace")[-last:] if path.exists() else ""


def program(name: str, *folders: str) -> str:
    """The path of an installed program; /usr/sbin is looked into although it is on few users' PATH."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerFailed(f"{name} is not installed: run `make setup`")
    return found


_GET_FLAGS, _SET_FLAGS, _TOP_OF_TREES = 0x80086601, 0x40086602, 0x00020000  # ioctl_iflags(2): FS_TOPDIR_FL


def _spread(folder: Path) -> None:
    """Ask an ext file system to lay out what is in ``folder`` away from everything else; others do not mind.

    Without a journal, ext4 passes over the inodes of files that were removed in the last minutes, one by one,
    for each file that is made near them. A server must not pay for what another one, or a test, threw away.
    The file system goes by the names of the folders that are made in ``folder``: they must not repeat.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8)), sys.byteorder)
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP_OF_TREES).to_bytes(8, sys.byteorder))
    finally:
        os.close(fd)


class Place:
    """A short, traversable folder; removed at the end of its ``with`` block."""

    def __init__(self, name: str) -> None:
        self._whole = Path(tempfile.mkdtemp(prefix=f"wasl-{name}-", dir="/tmp"))
        self._whole.chmod(0o755)
        _spread(self._whole)
        self.path = self._whole / f"{_random.getrandbits(16):04x}"
        self.path.mkdir(mode=0o755)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def folder(self, name: str, *, mode: int = 0o755, owner: str | int | None = None) -> Path:
        """Make a folder inside; ``owner`` is only given to it when the tests run as root."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if owner is not None and os.geteuid() == 0:
            shutil.chown(path, owner)
        return path

    def write(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        """Write a configuration file inside."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def close(self) -> None:
        shutil.rmtree(self._whole, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class Child:
    """A process started in the foreground in a session of its own, ended by its pid and its group's."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop: signal.Signals = signal.SIGTERM,
        orphaned: signal.Signals | None = None,
        grace: float = 10.0,
    ) -> None:
        """Start ``command``, as ``user`` if given and the tests run as root; output goes to ``log``.

        The kernel sends ``orphaned`` (or ``stop``) to it when the test process dies, however that dies.
        """
        self.log = log
        self.stop_signal = stop
        self.grace = grace  # seconds between the request to stop and SIGKILL
        wrap = [program("setpriv"), "--pdeathsig", (orphaned or stop).name.removeprefix("SIG")]
        if user is not None and os.geteuid() == 0:
            wrap += ["--reuid", user, "--regid", user, "--init-groups"]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*wrap, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **env} if env else None,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ready(self, found: Callable[[], object], what: str, *, timeout: float = PATIENCE) -> None:
        """Wait until ``found`` is true; :class:`ServerFailed` with the log if the process ends before."""

        def check() -> bool:
            if not self.alive:
                raise ServerFailed(f"{what} ended with {self.process.returncode}\n{read_log(self.log)}")
            return bool(found())

        wait_until(check, what, timeout=timeout, hint=lambda: read_log(self.log))

    def kill(self) -> None:
        """End it at once, as a power cut of the process would (SIGKILL), with all of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """Ask it to stop, wait, and kill what is left of its group; returns its exit status."""
        if self.alive:
            self.process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.grace)
        self.kill()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.end()


@contextlib.contextmanager
def own_place(name: str, place: Place | None) -> Iterator[Place]:
    """``place`` if the caller has one (and keeps it), else a new one for the time of the block."""
    if place is not None:
        yield place
    else:
        with Place(name) as new:
            yield new
