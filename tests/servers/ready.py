"""``wasl`` at the terminal, loaded once and forked for each command: a process of its own, without its start.

Of what a command costs nine tenths are the loading of its modules, the same each time. One process of the
tests loads them and waits; for each command it forks, and the child does with its arguments, environment,
folder and three files what the console script would do. A command that is looked at as a process (killed,
traced, started under a shim) is started in the ordinary way instead.

How it fails: the command's own words and exit status; :class:`ServerFailed` when the process is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

from tests.servers.place import ServerFailed

ROOT = Path(__file__).parents[2]


def run(
    arguments: Sequence[str | Path], *, words: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``wasl`` with these arguments; ``words`` is its standard input, ``env`` its whole environment."""
    request = {"args": [str(a) for a in arguments], "env": dict(env or os.environ), "cwd": str(Path.cwd())}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as given,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as err,
        socket.socket(socket.AF_UNIX) as asked,
    ):
        given.write(words)
        given.flush()
        given.seek(0)
        asked.connect(_ready())
        socket.send_fds(asked, [b"3"], [one.fileno() for one in (given, out, err)])
        asked.sendall(json.dumps(request).encode())
        asked.shutdown(socket.SHUT_WR)
        status = asked.makefile().read()
        if not status:
            raise ServerFailed(f"wasl {' '.join(request['args'])}: its process is gone")
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(request["args"], int(status), out.read(), err.read())


_lock = threading.Lock()


def _ready() -> str:
    """Where the loaded process listens; it ends with this one."""
    with _lock:
        return _started()


@cache
def _started() -> str:
    ours, theirs = os.pipe()
    address = f"\0wasl-ready-{os.getpid()}-{time.monotonic_ns()}"  # of the kernel's own names: no file
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.ready", address[1:], str(theirs)],
        cwd=ROOT,
        pass_fds=[theirs],
        stdin=subprocess.PIPE,  # its end is ours
    )
    os.close(theirs)
    atexit.register(child.wait)
    assert child.stdin is not None
    atexit.register(child.stdin.close)
    if os.read(ours, 1) != b"!":
        raise ServerFailed("the command line could not be loaded")
    os.close(ours)
    return address


def _load() -> None:
    """What commands import when they run."""
    for name in ("gateway.commands", "tracker", "policies"):
        package = importlib.import_module(name)
        for found in pkgutil.iter_modules(package.__path__, f"{name}."):
            if not found.ispkg and found.name != "tracker.room_work":
                importlib.import_module(found.name)
    for name in ("gateway.settings", "alembic.command", "sqlalchemy.dialects.sqlite", "psycopg"):
        importlib.import_module(name)


def _main(name: str, told: int) -> None:
    """Fork for each request; returns in the child that is to run the command."""
    _load()
    gc.collect()
    gc.freeze()  # what is shared stays shared
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\0" + name)
    listening.listen(64)
    os.write(told, b"!")
    os.close(told)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        ready, _, _ = select.select([0, listening], [], [])
        if 0 in ready:
            os._exit(0)
        peer, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            if _handled(peer):
                return
        peer.close()


def _handled(peer: socket.socket) -> bool:
    """Read a request; true in the process that is to become the command, the other one waits for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(peer, 1, 3)
    request = json.loads(b"".join(iter(lambda: peer.recv(65536), b"")))
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        peer.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    peer.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["wasl", *request["args"]]
    sys.modules["__main__"].__package__ = None  # by its name, not as a module, usage is told
    return True


def _become() -> NoReturn:
    """What the console script and the end of an interpreter do, but for taking down all that was loaded."""
    from gateway.cli import main

    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else end.code is not None
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            file.flush()
    os._exit(status)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
    _become()
