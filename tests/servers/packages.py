"""Debian packages unpacked into a folder of the checkout, for programs that cannot be installed side by side.

Mail servers conflict as packages, and the tests never remove what the host has. ``apt-get download`` and
``dpkg -x`` need no root and run no maintainer script. ``make setup`` fills the folder, so that the tests
themselves need no network.

How it fails: :class:`ServerFailed` with what apt said.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers.place import ServerFailed

CACHE = Path(__file__).parents[2] / ".cache" / "packages"


def unpacked(package: str) -> Path:
    """The folder that holds the files of a Debian package as they would lie under ``/``."""
    target = CACHE / package
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(prefix="wasl-deb-", dir="/tmp") as text:
            folder = Path(text)
            folder.chmod(0o777)  # apt fetches as a user of its own
            got = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True)
            files = list(folder.glob("*.deb"))
            if got.returncode or len(files) != 1:
                raise ServerFailed(f"apt-get download {package}: {got.stderr.strip()}; run `make setup`")
            half = CACHE / f"{package}.{os.getpid()}"
            subprocess.run(["dpkg", "-x", files[0], half], check=True, capture_output=True)
            half.rename(target)
    return target


def borrowed(package: str, pattern: str, into: Path) -> Path:
    """Copy the one file that matches ``pattern`` in a package into a place where other users may run it.

    The checkout may lie in a folder closed to them. Set-uid bits stay behind.
    """
    found = [path for path in sorted(unpacked(package).glob(pattern)) if path.is_file()]
    if not found:
        raise ServerFailed(f"{package} holds no {pattern}")
    target = into / found[0].name
    shutil.copyfile(found[0], target)
    target.chmod(0o755)
    return target
