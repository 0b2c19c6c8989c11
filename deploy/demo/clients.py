"""Sending with the programs that people have: swaks, msmtp and curl, over TLS and with a password.

``postfix`` is swaks handing the letter to the agency's own Postfix, which relays it to the gateway, as the
clients of an agency do that keeps its own submission server. The certificate of the servers is checked.

How it fails: :class:`ClientFailed` carries the dialogue when a program neither delivered nor was refused.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.agencies import PASSWORD
from deploy.demo.letters import Letter
from tests.servers.place import program


class ClientFailed(RuntimeError):
    """A client program did not do what it was asked, and no refusal explains it."""


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Where letters are handed in, and the authority that vouches for the certificate there."""

    submission: int  # STARTTLS
    submissions: int  # TLS from the first octet
    imaps: int  # mailboxes, TLS from the first octet
    postfix: dict[str, int]  # submission port of an agency's own server, by domain
    authority: Path


_REPLY = re.compile(r"\b([45]\d\d) (\d\.\d{1,3}\.\d{1,3})\b")


def send(letter: Letter, file: Path, doors: Doors) -> str:
    """Hand in the letter whose octets are in ``file``; empty, or code and status of the refusal."""
    command = _COMMANDS[letter.client](letter, file, doors)
    octets = file.read_bytes() if letter.client == "msmtp" else b""
    returned, said = _run(command, octets)
    if returned == 0:
        return ""
    refused = _REPLY.search(said)
    if refused is None:
        raise ClientFailed(f"{letter.client} ended with {returned}:\n{said[-3000:]}")
    return f"{refused[1]} {refused[2]}"


def hand_in(port: int, doors: Doors, file: Path, account: str, sender: str, *to: str) -> None:
    """Hand in any other message by swaks; :class:`ClientFailed` when it is not taken."""
    returned, said = _run(_swaks_to(port, doors, file, account, sender, *to))
    if returned:
        raise ClientFailed(f"{file.name} was not taken:\n{said[-3000:]}")


def _run(command: list[str], octets: bytes = b"") -> tuple[int, str]:
    done = subprocess.run(command, input=octets, capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def _swaks(letter: Letter, file: Path, doors: Doors) -> list[str]:
    who = (letter.signs_in_as, letter.envelope_sender, *letter.recipients)
    return _swaks_to(doors.submission, doors, file, *who)


def _postfix(letter: Letter, file: Path, doors: Doors) -> list[str]:
    who = (letter.signs_in_as, letter.envelope_sender, *letter.recipients)
    return _swaks_to(doors.postfix[letter.signs_in_as.rpartition("@")[2]], doors, file, *who)


def _swaks_to(port: int, doors: Doors, file: Path, account: str, sender: str, *to: str) -> list[str]:
    return [
        program("swaks"),
        *("--server", "127.0.0.1", "--port", str(port), "--ehlo", "desk.gov.example"),
        *("--tls", "--tls-verify", "--tls-ca-path", str(doors.authority)),
        *("--auth", "PLAIN", "--auth-user", account, "--auth-password", PASSWORD),
        *("--from", sender, "--to", ",".join(to)),
        *("--data", f"@{file}", "--suppress-data"),
    ]


def _msmtp(letter: Letter, file: Path, doors: Doors) -> list[str]:
    return [
        program("msmtp"),
        *("--host=127.0.0.1", f"--port={doors.submissions}", "--domain=desk.gov.example"),
        *("--tls=on", "--tls-starttls=off", f"--tls-trust-file={doors.authority}"),
        *("--auth=plain", f"--user={letter.signs_in_as}", f"--passwordeval=echo {PASSWORD}"),
        *(f"--from={letter.envelope_sender}", "--keepbcc=on", "--", *letter.recipients),
    ]


def _curl(letter: Letter, file: Path, doors: Doors) -> list[str]:
    return [
        program("curl"),
        *("--silent", "--show-error", "--verbose", "--ssl-reqd", "--cacert", str(doors.authority)),
        *("--url", f"smtp://127.0.0.1:{doors.submission}/desk.gov.example"),
        *("--user", f"{letter.signs_in_as}:{PASSWORD}", "--mail-from", letter.envelope_sender),
        *(word for address in letter.recipients for word in ("--mail-rcpt", address)),
        *("--upload-file", str(file)),
    ]


_COMMANDS = {"swaks": _swaks, "postfix": _postfix, "msmtp": _msmtp, "curl": _curl}
