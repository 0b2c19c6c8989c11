"""The programs that people send letters with: the commands of swaks, curl and msmtp for one letter.

Each hands in the file of octets as it is, over STARTTLS, implicit TLS (both with a checked certificate and a
password) or in clear from an address of its own, as an agency's server does. How they fail: by their exit
status, with the dialogue in what they print.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.servers.place import program

Command = tuple[list[str | Path], bytes]  # the words, and what stands on its standard input


@dataclass(frozen=True, kw_only=True)
class Handing:
    """One letter for one recipient. ``folder`` may be written to; no ``account``: nobody signs in."""

    folder: Path
    octets: bytes
    sender: str
    recipient: str
    port: int
    ca: Path | None = None  # who vouches for the certificate; without it nothing is encrypted
    implicit: bool = False
    account: str = ""
    password: str = ""
    source: str = ""  # the address that it is sent from
    auth: str = "plain"
    dsn: bool = False  # asks for reports, where the program can

    def file(self, octets: bytes) -> Path:
        """A file with these octets."""
        path = self.folder / "letter.eml"
        path.write_bytes(octets)
        return path


def swaks(letter: Handing) -> Command:
    """swaks adds a line end before the final dot."""
    words: list[str | Path] = [program("swaks"), "--server", "127.0.0.1", "--port", str(letter.port)]
    if letter.ca is not None:
        words += ["--tls-on-connect" if letter.implicit else "--tls", "--tls-verify"]
        words += ["--tls-ca-path", letter.ca]
    if letter.account:
        words += ["--auth", letter.auth.upper(), "--auth-user", letter.account]
        words += ["--auth-password", letter.password]
    if letter.source:
        words += ["--local-interface", letter.source]
    file = letter.file(letter.octets.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))
    return [*words, "--from", letter.sender, "--to", letter.recipient, "--data", f"@{file}"], b""


def curl(letter: Handing) -> Command:
    """curl sends the octets of the file."""
    words: list[str | Path] = [program("curl"), "--silent", "--show-error"]
    if letter.ca is not None:
        words += ["--ssl-reqd", "--cacert", letter.ca]
    if letter.account:
        words += ["--user", f"{letter.account}:{letter.password}"]
    if letter.source:
        words += ["--interface", letter.source]
    scheme = "smtps" if letter.implicit else "smtp"
    words += ["--mail-from", letter.sender, "--mail-rcpt", letter.recipient]
    words += ["--upload-file", letter.file(letter.octets)]
    return [*words, f"{scheme}://127.0.0.1:{letter.port}/client.example"], b""


def msmtp(letter: Handing) -> Command:
    """msmtp takes lines as UNIX ends them, and its password from a program."""
    secret = letter.folder / "secret"
    secret.write_text(letter.password)
    lines = ["account default", "host 127.0.0.1", f"port {letter.port}", f"from {letter.sender}"]
    if letter.ca is not None:
        lines += ["tls on", f"tls_starttls {'off' if letter.implicit else 'on'}"]
        lines += [f"tls_trust_file {letter.ca}"]
    if letter.account:
        lines += [f"auth {letter.auth}", f"user {letter.account}", f"passwordeval cat {secret}"]
    if letter.source:
        lines += [f"source_ip {letter.source}"]
    if letter.dsn:
        lines += ["dsn_notify failure,delay", "dsn_return headers"]
    rc = letter.folder / "msmtprc"
    rc.write_text("".join(f"{line}\n" for line in lines))
    rc.chmod(0o600)
    return [program("msmtp"), f"--file={rc}", letter.recipient], letter.octets.replace(b"\r\n", b"\n")


CLIENTS: dict[str, Callable[[Handing], Command]] = {"swaks": swaks, "curl": curl, "msmtp": msmtp}
# A client that reads the settings of whoever runs the tests would send something else.
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def hand_in(client: str, letter: Handing) -> str:
    """Run a client to its end; what it printed. AssertionError with the dialogue when it failed."""
    words, octets = CLIENTS[client](letter)
    done = subprocess.run(words, input=octets, capture_output=True, timeout=30, env=ENVIRONMENT)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, said
    return said
