"""Postfix: an agency's own mail server, with everything an agency uses of it.

It receives for its own domains (mailboxes by LMTP to Dovecot, or Maildirs of its own), relays the rest
(``relayhost`` or a transport map, which is how an agency is connected to a gateway), offers submission with
SASL through Dovecot, and reports with DSNs (RFC 3461). There is no chroot and no DNS, and retries
come after a second instead of five minutes.

How it fails: it needs root (its daemons change user); ``master`` writes why it stopped to ``Postfix.log()``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.dovecot import Dovecot, Tls
from tests.servers.maildir import Maildir
from tests.servers.packages import unpacked
from tests.servers.place import (
    PATIENCE,
    Child,
    Place,
    ServerFailed,
    answers,
    free_port,
    own_place,
    program,
    read_log,
    wait_until,
)

_QUEUES = "active bounce corrupt defer deferred flush hold incoming saved trace"
_MAIN = """
compatibility_level = 3.6
config_directory = {at}/etc
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = {at}/log
maillog_file_prefixes = {at}
myhostname = {hostname}
mydomain = {domain}
mydestination =
inet_interfaces = {host}
inet_protocols = ipv4
smtp_bind_address = {bind}
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
biff = no
recipient_delimiter = +
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
virtual_mailbox_base = {at}/mail
virtual_minimum_uid = 1
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_transport = {delivery}
smtputf8_enable = yes
message_size_limit = 0
virtual_mailbox_limit = 0
queue_minfree = 0
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtp_connection_cache_on_demand = yes
smtp_tls_security_level = may
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
enable_long_queue_ids = yes
"""
_MASTER = """
{port} inet n - n - - smtpd
{submission} inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_sasl_auth_enable={sasl}
  -o smtpd_client_restrictions=
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where Postfix's programs are, and whom they run as."""

    commands: str | None = None  # folder; None: on the PATH
    libraries: Path | None = None  # folder to look for its shared libraries in
    settings: Mapping[str, str] = field(default_factory=dict)
    owner: str = "postfix"

    def program(self, name: str) -> str:
        """The path of one of its commands."""
        return f"{self.commands}/{name}" if self.commands else program(name)

    def env(self, config: Path) -> dict[str, str]:
        """The environment its programs need."""
        more = {"LD_LIBRARY_PATH": str(self.libraries)} if self.libraries else {}
        return {"MAIL_CONFIG": str(config), **more}


def _unpacked(at: Place) -> Installation:
    """Postfix out of its package, for a host where another mail server holds its place.

    The host has no users ``postfix`` and ``postdrop`` then; two that every Debian has stand in for them.
    """
    package = unpacked("postfix")
    for part in ("usr/lib/postfix", "usr/sbin"):
        shutil.copytree(package / part, at / part, symlinks=True, dirs_exist_ok=True)
    return Installation(
        commands=str(at / "usr/sbin"),
        libraries=at / "usr/lib/postfix",
        owner="daemon",
        settings={
            "mail_owner": "daemon",
            "setgid_group": "mail",
            "daemon_directory": str(at / "usr/lib/postfix/sbin"),
            "command_directory": str(at / "usr/sbin"),
            "shlib_directory": str(at / "usr/lib/postfix"),
            "import_environment": "MAIL_CONFIG LD_LIBRARY_PATH",
        },
    )


@dataclass(frozen=True, kw_only=True)
class Postfix:
    """A running Postfix."""

    installation: Installation
    place: Place
    child: Child
    host: str
    port: int  # relay and inbound
    submission_port: int  # SASL required
    hostname: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its configuration directory, for ``postqueue -c`` and the like."""
        return self.place / "etc"

    def log(self) -> str:
        """All that it logged."""
        return read_log(self.place / "log", last=10_000_000)

    def maildir(self, address: str) -> Maildir:
        """A mailbox that Postfix delivers to itself (``deliver_to=None``)."""
        local, _, domain = address.lower().rpartition("@")
        return Maildir(self.place.path / "mail" / domain / local)

    def run(self, name: str, *arguments: str) -> str:
        """Run one of its commands (``postqueue``, ``postsuper``, ``postfix``) on this instance."""
        done = subprocess.run(
            [self.installation.program(name), "-c", str(self.config), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **self.installation.env(self.config)},
        )
        if done.returncode:
            raise ServerFailed(f"{name} {arguments}: {done.stderr}")
        return done.stdout

    def queue(self) -> list[dict[str, Any]]:
        """What waits in its queue, as ``postqueue -j`` shows it."""
        return [json.loads(line) for line in self.run("postqueue", "-j").splitlines()]

    def wait_empty(self, timeout: float = PATIENCE) -> None:
        """Wait until its queue is empty."""
        wait_until(lambda: not self.queue(), "an empty queue", timeout=timeout, hint=self.log)

    def route(self, routes: Mapping[str, str]) -> None:
        """Replace the transport map while it runs: domain (or ``*``) to ``smtp:[host]:port``."""
        _write_routes(self.place, routes)
        self.run("postfix", "reload")


def _write(at: Place, name: str, text: str) -> Path:
    """Write a file of the configuration, and make it old.

    A file younger than two seconds makes every Postfix program that reads it wait until it is older.
    """
    path = at.write(f"etc/{name}", text)
    os.utime(path, (1, 1))
    return path


def _write_routes(at: Place, routes: Mapping[str, str]) -> None:
    _write(at, "transport", "".join(f"{domain} {target}\n" for domain, target in routes.items()))


def _folders(at: Place, owner: str) -> None:
    at.folder("queue")
    for name in _QUEUES.split():
        at.folder(f"queue/{name}", mode=0o700, owner=owner)
    at.folder("queue/private", mode=0o700, owner=owner)
    at.folder("queue/public", mode=0o710, owner=owner)
    at.folder("queue/maildrop", mode=0o730, owner=owner)
    at.folder("queue/pid")
    at.folder("data", mode=0o700, owner=owner)
    at.folder("mail", owner="nobody")
    at.folder("etc")


@contextmanager
def postfix(
    place: Place | None = None,
    *,
    hostname: str = "mail.mof.example",
    domains: Sequence[str] = (),
    mailboxes: Sequence[str] | None = None,
    deliver_to: Dovecot | None = None,
    relayhost: tuple[str, int] | None = None,
    routes: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    milter: Path | str | None = None,
    host: str = "127.0.0.1",
    bind: str = "",
    installed: bool | None = None,
    settings: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """Start Postfix (0.1 s) and stop it at the end.

    ``domains`` are its own; their mail goes to ``deliver_to`` by LMTP or else to Maildirs of its own.
    ``mailboxes`` names who exists (without it, that is Dovecot's affair). ``relayhost`` takes what
    is not its own, ``routes`` is a transport map, ``milter`` a socket, ``bind`` the loopback address it
    sends from. ``settings`` are further lines of main.cf and go last. ``installed`` is the host's own
    Postfix or the unpacked one; without it the host's is taken if it has one. ``env`` is more
    environment for ``master``.
    """
    if os.geteuid() != 0:
        raise ServerFailed(
            "Postfix can only be started by root: run the tests with `make test` (it uses sudo)"
        )
    with own_place("px", place) as at:
        has = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin") is not None
        made = Installation() if (has if installed is None else installed) else _unpacked(at)
        _folders(at, made.owner)
        port, submission = free_port(host), free_port(host)
        delivery = f"lmtp:inet:{deliver_to.host}:{deliver_to.lmtp_port}" if deliver_to else "virtual"
        main = _MAIN.format(
            at=at.path,
            hostname=hostname,
            domain=hostname.partition(".")[2],
            host=host,
            bind=bind,
            delivery=delivery,
        )
        more = {"virtual_mailbox_domains": ", ".join(domains)}
        if mailboxes is not None:
            lines = [
                f"{m.lower()} {m.lower().rpartition('@')[2]}/{m.lower().rpartition('@')[0]}/\n"
                for m in mailboxes
            ]
            more["virtual_mailbox_maps"] = f"texthash:{_write(at, 'mailboxes', ''.join(lines))}"
        elif deliver_to is None and domains:
            raise ValueError("Postfix delivers by itself only to mailboxes that are named")
        _write_routes(at, routes or {})
        more["transport_maps"] = f"texthash:{at / 'etc/transport'}"
        if relayhost:
            more["relayhost"] = f"[{relayhost[0]}]:{relayhost[1]}"
        if deliver_to:
            more |= {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": str(deliver_to.auth_socket)}
        if tls:
            more |= {"smtpd_tls_security_level": "may", "smtp_tls_CAfile": str(tls.authority)}
            more |= {"smtpd_tls_cert_file": str(tls.certificate), "smtpd_tls_key_file": str(tls.key)}
        if milter:
            more |= {"smtpd_milters": f"unix:{milter}" if isinstance(milter, Path) else milter}
            more |= {"milter_default_action": "tempfail"}
        more |= {**made.settings, **(settings or {})}
        # Postfix complains in its log about a setting that is given twice.
        main = "".join(line + "\n" for line in main.splitlines() if line.partition(" ")[0] not in more)
        _write(at, "main.cf", main + "".join(f"{key} = {value}\n" for key, value in more.items()))
        master = _MASTER.format(port=port, submission=submission, sasl="yes" if deliver_to else "no")
        _write(at, "master.cf", master)
        daemons = subprocess.run(
            [made.program("postconf"), "-h", "-c", str(at / "etc"), "daemon_directory"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **made.env(at / "etc")},
        ).stdout.strip()
        # `postfix start` spends two seconds on checks of an installation; master itself needs none of them.
        command: list[str | Path] = [f"{daemons}/master", "-s", "-c", at / "etc"]
        with Child(
            command, log=at / "master.out", env={**made.env(at / "etc"), **(env or {})}, grace=3
        ) as child:
            server = Postfix(
                installation=made,
                place=at,
                child=child,
                host=host,
                port=port,
                submission_port=submission,
                hostname=hostname,
                settings=more,
            )
            try:
                child.ready(lambda: answers(port, host), "Postfix")
            except ServerFailed as fault:
                raise ServerFailed(f"{fault}\n{server.log()}") from fault
            yield server
