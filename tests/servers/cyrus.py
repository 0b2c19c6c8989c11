"""Cyrus IMAP, unpacked beside the host's own server: another reading of the same standards.

Debian's packages conflict with nothing once they are only unpacked (:mod:`tests.servers.packages`). It asks a
socket of ours whether a password is right, as it would ask saslauthd: every address exists and has the
password of :data:`tests.servers.dovecot.PASSWORD`. How it fails: :class:`ServerFailed` with what it wrote.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.dovecot import PASSWORD
from tests.servers.packages import unpacked
from tests.servers.place import Child, Place, answers, free_port, own_place, program

# Libraries that a host may lack, by what the loader calls them; `make setup` installs them.
_LIBRARIES = {"libpcreposix.so.3": "libpcre3", "libxapian.so.30": "libxapian30", "libical.so.3": "libical3"}
_PROGRAMS = {"cyrus-common": ("master", "ctl_cyrusdb"), "cyrus-imapd": ("imapd",)}

_IMAPD = """\
configdirectory: {at}/conf
partition-default: {at}/spool
defaultpartition: default
cyrus_user: {user}
cyrus_group: {group}
servername: cyrus.example
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {at}/mux
sasl_mech_list: PLAIN LOGIN
allowplaintext: yes
virtdomains: userid
unixhierarchysep: yes
altnamespace: yes
autocreate_quota: 0
expunge_mode: immediate
proc_path: {at}/conf/proc
mboxname_lockpath: {at}/conf/lock
idlesocket: {at}/conf/socket/idle
"""
_MASTER = """\
START {{
  recover cmd="{at}/bin/ctl_cyrusdb -r -C {at}/imapd.conf"
}}
SERVICES {{
  imap cmd="{at}/bin/imapd -C {at}/imapd.conf" listen="127.0.0.1:{port}" prefork=1
}}
EVENTS {{
}}
"""


@dataclass(frozen=True, kw_only=True)
class Cyrus:
    """A running Cyrus."""

    place: Place
    child: Child
    imap_port: int


@contextmanager
def cyrus(place: Place | None = None) -> Iterator[Cyrus]:
    """Start Cyrus (under a second)."""
    with own_place("cy", place) as at:
        user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (str(os.geteuid()), str(os.getegid()))
        for name in ("conf", "conf/proc", "conf/lock", "conf/socket", "spool"):
            at.folder(name, owner=user)
        folder = at.folder("bin")
        for package, names in _PROGRAMS.items():
            for name in names:
                shutil.copy(unpacked(package) / "usr/lib/cyrus/bin" / name, folder)
        for library in (unpacked("cyrus-common") / "usr/lib").rglob("libcyrus*.so.0"):
            shutil.copy(library, folder)
        env = {"LD_LIBRARY_PATH": str(folder)}
        _complete(folder, env)
        port = free_port()
        at.write("imapd.conf", _IMAPD.format(at=at.path, user=user, group=group))
        at.write("cyrus.conf", _MASTER.format(at=at.path, port=port))
        command: list[str | Path] = [folder / "master", "-C", at / "imapd.conf", "-M", at / "cyrus.conf"]
        command += ["-p", at / "pid"]
        with (
            _passwords(at / "mux"),
            Child(command, log=at / "cyrus.out", env=env, orphaned=signal.SIGKILL, grace=0.5) as child,
        ):
            child.ready(lambda: answers(port), "Cyrus")
            yield Cyrus(place=at, child=child, imap_port=port)


def _complete(folder: Path, env: dict[str, str]) -> None:
    """Put libraries beside the programs that the host does not have."""
    said = subprocess.run(
        [program("ldd"), folder / "imapd", folder / "master"],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    ).stdout
    for name in sorted(set(re.findall(r"(\S+) => not found", said))):
        if name in _LIBRARIES:
            for found in unpacked(_LIBRARIES[name]).rglob("*.so.*"):
                shutil.copy(found, folder)


@contextmanager
def _passwords(path: Path) -> Iterator[None]:
    """What saslauthd would be: user, password, service and realm come with their lengths; OK or NO goes."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o777)
    listening.listen(50)

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as words:
                said = [words.read(struct.unpack("!H", words.read(2))[0]) for _ in range(4)]
                answer = b"OK" if said[1] == PASSWORD.encode() else b"NO"
                peer.sendall(struct.pack("!H", len(answer)) + answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(2)
