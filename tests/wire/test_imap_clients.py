"""Real mail programs through the IMAP proxy and directly: curl, mbsync, mutt. The results are the same."""

from __future__ import annotations

import fcntl
import imaplib
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.agency import ImapServer
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import program
from tests.wire.imap_front import DOMAIN, Front, imap_front, letter, private

pytestmark = pytest.mark.servers
COUNT = 40


@pytest.fixture(scope="module")
def both(authority: Authority) -> Iterator[tuple[Front, Dovecot]]:
    """A proxy with TLS on every side in front of a Dovecot with TLS."""
    with dovecot(tls=authority.issue("127.0.0.1", "localhost")) as server:
        upstream = ImapServer(host="127.0.0.1", port=server.imap_port, tls="required", ca=authority.file)
        with imap_front([upstream], tls=authority.context("localhost", "127.0.0.1")) as front:
            yield front, server


def fill(server: Dovecot, user: str, count: int = COUNT) -> None:
    """A mailbox with letters and private mail of several sizes, put there directly."""
    with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as client:
        client.login(f"{user}@{DOMAIN}", "secret")
        for n in range(count):
            text = "text {12}\r\na OK b\r\n" * (1 + n * n % 700)
            client.append("INBOX", "(\\Seen)" if n % 3 else "", "", (private if n % 4 else letter)(n, text))
        client.create("Archive")


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, timeout=240, env={**os.environ, "HOME": str(cwd), **env}
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode("utf-8", "replace")


def on_a_terminal(command: list[str], cwd: Path) -> None:
    """Run a program that wants a terminal until it ends by itself."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {**os.environ, "HOME": str(cwd), "TERM": "xterm"}
    with subprocess.Popen(command, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        until = time.monotonic() + 240
        try:
            while process.poll() is None:
                assert time.monotonic() < until, shown[-3000:]
                if select.select([master], [], [], 0.2)[0]:
                    try:
                        shown += os.read(master, 65536)
                    except OSError:  # the terminal is gone: so is the program
                        break
        finally:
            if process.poll() is None and time.monotonic() >= until:
                process.kill()
        assert process.wait() == 0, shown[-3000:]
    os.close(master)


def test_curl(both: tuple[Front, Dovecot], authority: Authority, tmp_path: Path) -> None:
    front, server = both
    said: list[list[str]] = []
    assert server.imaps_port is not None
    for user, port in (("curl", front.tls_port), ("curled", server.imaps_port)):
        fill(server, user, 8)
        curl = [program("curl"), "-sS", "--cacert", str(authority.file), "-u", f"{user}@{DOMAIN}:secret"]
        url = f"imaps://localhost:{port}"
        mail = tmp_path / "mail.eml"
        mail.write_bytes(private(99))
        requests = [
            [f"{url}/INBOX;MAILINDEX=1"],
            [f"{url}/INBOX;UID=2;SECTION=TEXT"],
            ["-X", "EXAMINE INBOX", url],
            ["-X", "UID FETCH 1:* (FLAGS RFC822.SIZE)", f"{url}/INBOX"],
            [f"{url}/INBOX?SUBJECT%20private"],
            ["-T", str(mail), f"{url}/Archive"],
            ["-X", "UID MOVE 1 Archive", f"{url}/INBOX"],
            ["-X", "STATUS Archive (MESSAGES)", url],
        ]
        said.append([re.sub(r"\d{9,}|HIGHESTMODSEQ \d+", "N", run([*curl, *r], tmp_path)) for r in requests])
    assert said[0] == said[1]
    wanted = [("fetched", ""), ("moved", "Archive")]
    front.seen.wait(f"curl@{DOMAIN}", *wanted)


MBSYNC = """
IMAPAccount far
Host localhost
Port {port}
User {user}
Pass secret
SSLType {tls}
CertificateFile {ca}
AuthMechs {mechanism}

IMAPStore far
Account far

MaildirStore near
Path {path}/
Inbox {path}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Archive
Create Both
Expunge Both
SyncState *
"""


@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN"])
def test_mbsync(both: tuple[Front, Dovecot], authority: Authority, tmp_path: Path, mechanism: str) -> None:
    front, server = both
    assert server.imaps_port is not None
    boxes: list[dict[str, bytes]] = []
    flags: list[list[str]] = []
    for user, port, tls in (
        (f"sync{mechanism}".lower(), front.port, "STARTTLS"),
        (f"synced{mechanism}".lower(), server.imaps_port, "IMAPS"),
    ):
        fill(server, user)
        path = tmp_path / user
        path.mkdir()
        config = MBSYNC.format(
            port=port, user=f"{user}@{DOMAIN}", tls=tls, ca=authority.file, path=path, mechanism=mechanism
        )
        (path / "mbsyncrc").write_text(config)
        mbsync = [program("mbsync"), "-c", str(path / "mbsyncrc"), "-a"]
        run(mbsync, path)
        mails = sorted(p for p in (path / "INBOX").rglob("*") if p.parent.name in ("cur", "new"))
        assert len(mails) == COUNT
        # Mark one read, throw one away, put one of ours into the archive, and let the server know.
        by_subject = {_subject(p): p for p in mails}
        first, second = by_subject["private 1"], by_subject["private 2"]
        first.rename(path / "INBOX/cur" / (first.name.split(":")[0] + ":2,RS"))
        second.rename(path / "INBOX/cur" / (second.name.split(":")[0] + ":2,T"))
        (path / "Archive/new/1.mine").write_bytes(private(77))
        run(mbsync, path)
        run(mbsync, path)
        boxes.append({_subject(p): _body(p) for p in path.rglob("*") if p.parent.name in ("cur", "new")})
        with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as client:
            client.login(f"{user}@{DOMAIN}", "secret")
            client.select()
            flags.append([str(row) for row in client.fetch("1:*", "(UID FLAGS RFC822.SIZE)")[1]])
    assert boxes[0] == boxes[1] and len(boxes[0]) == COUNT
    assert flags[0] == flags[1]
    told = front.seen.told(f"sync{mechanism}@{DOMAIN}".lower())
    assert told == [("fetched", "")] * (COUNT // 4), "each letter once, nothing of the rest"


def _subject(path: Path) -> str:
    found = re.search(rb"^Subject: (.*?)\r?$", path.read_bytes(), re.MULTILINE)
    return found[1].decode() if found else ""


def _body(path: Path) -> bytes:
    return re.sub(rb"X-TUID: .*\n", b"", path.read_bytes())


def test_mutt(both: tuple[Front, Dovecot], authority: Authority, tmp_path: Path) -> None:
    front, server = both
    assert server.imaps_port is not None
    listed = []
    for user, port in (("mutt", front.tls_port), ("mutted", server.imaps_port)):
        fill(server, user, 8)
        rc = tmp_path / f"{user}.rc"
        rc.write_text(
            f'set folder="imaps://localhost:{port}"\nset spoolfile="+INBOX"\n'
            f'set imap_user="{user}@{DOMAIN}"\nset imap_pass="secret"\n'
            f'set certificate_file="{authority.file}"\nset imap_keepalive=60\n'
            "set confirmappend=no\nset quit=yes\nset delete=yes\nset move=no\nset wait_key=no\n"
            'push "<limit>~s private<enter><tag-pattern>~s private<enter>'
            "<tag-prefix><copy-message>=Archive<enter><limit>all<enter><first-entry><display-message><exit>"
            '<delete-message><flag-message><sync-mailbox><quit>"\n'
        )
        on_a_terminal([program("mutt"), "-F", str(rc)], tmp_path)
        with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as client:
            client.login(f"{user}@{DOMAIN}", "secret")
            client.select()
            rows = [client.fetch("1:*", "(UID FLAGS)")]
            client.select("Archive")
            rows.append(client.fetch("1:*", "(UID FLAGS RFC822.SIZE)"))
            listed.append(rows)
    assert listed[0] == listed[1]
    assert ("fetched", "") in front.seen.told(f"mutt@{DOMAIN}")
