"""Exim: a second mail server of another family, for an agency that does not run Postfix.

Its package conflicts with Postfix, so it runs unpacked. It insists on a system user ``Debian-exim``; the
host is not given one, ``libnss_wrapper`` (a library made for such tests) shows it a private passwd file.

How it fails: Exim's main and panic log are in what :class:`ServerFailed` carries.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers.dovecot import Dovecot, Tls
from tests.servers.packages import borrowed
from tests.servers.place import (
    PATIENCE,
    Child,
    Place,
    ServerFailed,
    answers,
    free_port,
    own_place,
    read_log,
    wait_until,
)

_PASSWD = """root:x:0:0::/root:/bin/sh
nobody:x:65534:65534::/:/bin/false
Debian-exim:x:65534:65534::/:/bin/false
"""
_GROUP = "root:x:0:\nnogroup:x:65534:\nDebian-exim:x:65534:\n"
_SETTINGS = """
keep_environment = LD_PRELOAD:NSS_WRAPPER_PASSWD:NSS_WRAPPER_GROUP
exim_path = {binary}
exim_user = Debian-exim
exim_group = Debian-exim
never_users =
spool_directory = {at}/spool
log_file_path = {at}/log/%s.log
pid_file_path = {at}/spool/exim.pid
primary_hostname = {hostname}
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
host_lookup =
rfc1413_query_timeout = 0s
dsn_advertise_hosts = *
prdr_enable = true
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
{tls}
domainlist ours = {domains}
acl_smtp_rcpt = accept
acl_smtp_data = accept
check_spool_space = 0
check_spool_inodes = 0
begin routers
mailboxes:
  driver = manualroute
  domains = +ours
  route_list = * 127.0.0.1
  self = send
  transport = lmtp
gateway:
  driver = manualroute
  route_list = * {relay}
  self = send
  transport = relay
begin transports
lmtp:
  driver = smtp
  protocol = lmtp
  port = {lmtp}
  allow_localhost
  hosts_try_fastopen =
relay:
  driver = smtp
  port = {relay_port}
  interface = {bind}
  allow_localhost
  hosts_try_fastopen =
  tls_verify_certificates = {authority}
  tls_verify_hosts =
begin retry
* * F,1h,1s
"""


@dataclass(frozen=True, kw_only=True)
class Exim:
    """A running Exim."""

    place: Place
    child: Child
    port: int
    hostname: str

    def log(self) -> str:
        """All that it logged, its panics too."""
        return "".join(read_log(self.place / f"log/{name}.log", last=1_000_000) for name in ("main", "panic"))

    def queue(self) -> list[str]:
        """The identifiers of the messages that wait."""
        return [path.name[:-2] for path in (self.place / "spool/input").glob("*-H")]

    def wait_empty(self, timeout: float = PATIENCE) -> None:
        """Wait until nothing waits."""
        wait_until(lambda: not self.queue(), "an empty queue", timeout=timeout, hint=self.log)


@contextmanager
def exim(
    place: Place | None = None,
    *,
    hostname: str = "mail.moj.example",
    domains: Sequence[str],
    deliver_to: Dovecot,
    relayhost: tuple[str, int],
    tls: Tls | None = None,
    bind: str = "127.0.0.1",
) -> Iterator[Exim]:
    """Start Exim (0.1 s): mail for ``domains`` goes to Dovecot by LMTP, all other mail to ``relayhost``.

    ``bind`` is the loopback address that it relays from.
    """
    if os.geteuid() != 0:
        raise ServerFailed("Exim can only be started by root: run the tests with `make test` (it uses sudo)")
    with own_place("ex", place) as at:
        at.folder("spool", owner="nobody")
        at.folder("log", owner="nobody")
        binary = borrowed("exim4-daemon-light", "usr/sbin/exim4", at.path)
        wrapper = borrowed("libnss-wrapper", "usr/lib/*/libnss_wrapper.so", at.path)
        port = free_port()
        secure = ""
        if tls:
            key = at.write("key.pem", tls.key.read_text())
            certificate = at.write("cert.pem", tls.certificate.read_text())
            secure = f"tls_advertise_hosts = *\ntls_certificate = {certificate}\ntls_privatekey = {key}"
        conf = at.write(
            "exim.conf",
            _SETTINGS.format(
                at=at.path,
                binary=binary,
                hostname=hostname,
                port=port,
                tls=secure or "tls_advertise_hosts =",
                domains=" : ".join(domains),
                relay=relayhost[0],
                relay_port=relayhost[1],
                bind=bind,
                lmtp=deliver_to.lmtp_port,
                authority=tls.authority if tls else "system",
            ),
        )
        env = {
            "LD_PRELOAD": str(wrapper),
            "NSS_WRAPPER_PASSWD": str(at.write("passwd", _PASSWD)),
            "NSS_WRAPPER_GROUP": str(at.write("group", _GROUP)),
        }
        libraries = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
        missing = [line.split()[0] for line in libraries.splitlines() if "not found" in line]
        if missing:
            raise ServerFailed(f"Exim needs {', '.join(missing)}: run `make setup`")
        with Child([binary, "-bdf", "-q1s", "-C", conf], log=at / "exim.out", env=env, grace=2) as child:
            server = Exim(place=at, child=child, port=port, hostname=hostname)
            try:
                child.ready(lambda: answers(port), "Exim")
            except ServerFailed as fault:
                raise ServerFailed(f"{fault}\n{server.log()}") from fault
            yield server
