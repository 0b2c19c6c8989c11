"""Dovecot: IMAP and LMTP over Maildir, and the password service that Postfix's submission asks.

Written for the configuration languages of 2.3 (Debian 12, Ubuntu 24.04) and 2.4 (Debian 13). Every
address of the domains given exists and has the password ``PASSWORD`` unless ``mailboxes`` lists who does.
How it fails: ``dovecot`` says why in its log, which :class:`ServerFailed` carries.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.maildir import Maildir
from tests.servers.place import Child, Place, answers, free_port, own_place, program, read_log

PASSWORD = "secret"


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files of a certificate and its key, and of the authority that a client must trust (PEM)."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, kw_only=True)
class Dovecot:
    """A running Dovecot: where its ports are and where its mail lies."""

    place: Place
    child: Child
    host: str
    imap_port: int
    imaps_port: int | None
    lmtp_port: int
    auth_socket: Path  # for Postfix: smtpd_sasl_type=dovecot
    version: tuple[int, int]

    def maildir(self, address: str) -> Maildir:
        """The mailbox of ``local@domain`` on disk."""
        local, _, domain = address.lower().rpartition("@")
        return Maildir(self.place.path / "mail" / domain / local / "Maildir")

    def log(self) -> str:
        """All that Dovecot logged."""
        return read_log(self.place / "dovecot.log", last=1_000_000)

    def mailbox(self, address: str, *folders: str) -> None:
        """Make folders in a mailbox (UTF-8 names), as an agency's administrator would."""
        for folder in folders:
            subprocess.run(
                [
                    program("doveadm"),
                    "-c",
                    str(self.place / "dovecot.conf"),
                    "mailbox",
                    "create",
                    "-u",
                    address,
                    folder,
                ],
                check=True,
                capture_output=True,
            )


def _version() -> tuple[int, int]:
    said = subprocess.run(
        [program("dovecot"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    major, minor = said.split()[0].split(".")[:2]
    return int(major), int(minor)


def _owner() -> tuple[str, int, int, str]:
    """The system user that owns mail, its ids and its group's name: ``nobody`` under root, else ourselves."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return user.pw_name, user.pw_uid, user.pw_gid, grp.getgrgid(user.pw_gid).gr_name


def _settings(
    at: Place,
    host: str,
    imap: int,
    imaps: int | None,
    lmtp: int,
    tls: Tls | None,
    users: Path | None,
    version: tuple[int, int],
) -> str:
    name, uid, gid, _ = _owner()
    new = version >= (2, 4)
    home = f"{at.path}/mail/" + ("%{user | domain | lower}/%{user | username | lower}" if new else "%Ld/%Ln")
    lines = []
    if new:
        lines += ["dovecot_config_version = 2.4.0", "dovecot_storage_version = 2.4.0"]
        lines += ["mail_driver = maildir", "mail_path = ~/Maildir", f"mail_home = {home}"]
        lines += [f"mail_uid = {uid}", f"mail_gid = {gid}", "auth_allow_cleartext = yes"]
    else:
        lines += [f"mail_location = maildir:{home}/Maildir", "disable_plaintext_auth = no"]
    if os.geteuid() != 0:
        lines += [f"default_internal_user = {name}", f"default_login_user = {name}"]
        lines += [f"default_internal_group = {_owner()[3]}"]
    lines += [
        f"base_dir = {at.path}/run",
        f"state_dir = {at.path}/state",
        f"log_path = {at.path}/dovecot.log",
        "protocols = imap lmtp",
        f"listen = {host}",
        "first_valid_uid = 1",
        "auth_mechanisms = plain login",
        "auth_failure_delay = 0",
        "mail_max_userip_connections = 0",
        "default_client_limit = 2000",
        "lmtp_save_to_detail_mailbox = no",
        "recipient_delimiter = +",
        "mailbox_list_index = yes",
        "protocol imap {\n  imap_idle_notify_interval = 2 mins\n}",
    ]
    if tls:
        cert, key = ("ssl_server_cert_file", "ssl_server_key_file") if new else ("ssl_cert", "ssl_key")
        sign = "" if new else "<"
        lines += ["ssl = yes", f"{cert} = {sign}{tls.certificate}", f"{key} = {sign}{tls.key}"]
    else:
        lines += ["ssl = no"]
    lines.append(_accounts(new, home, uid, gid, users))
    secure = f"    port = {imaps or 0}\n" + ("    ssl = yes\n" if imaps else "")
    lines.append(f"""
service imap-login {{
  process_min_avail = 1
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
{secure}  }}
}}
service imap {{
  process_limit = 1024
}}
service lmtp {{
  inet_listener lmtp {{
{"    listen = " if new else "    address = "}{host}
    port = {lmtp}
  }}
}}
service auth {{
  unix_listener {at.path}/sasl {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-reader {{
    mode = 0666
  }}
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
""")
    return "\n".join(lines) + "\n"


def _accounts(new: bool, home: str, uid: int, gid: int, users: Path | None) -> str:
    fields = f"uid={uid} gid={gid} home={home}"
    if users and new:
        return f"""passdb passwd-file {{
  passwd_file_path = {users}
}}
userdb passwd-file {{
  passwd_file_path = {users}
  fields {{
    uid = {uid}
    gid = {gid}
    home = {home}
  }}
}}"""
    if users:
        return f"""passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%Lu {users}
}}
userdb {{
  driver = passwd-file
  args = username_format=%Lu {users}
  default_fields = {fields}
}}"""
    if new:
        return f"""passdb static {{
  password = {PASSWORD}
}}
userdb static {{
  static_allow_all_users = yes
  fields {{
    uid = {uid}
    gid = {gid}
    home = {home}
  }}
}}"""
    return f"""passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = allow_all_users=yes {fields}
}}"""


@contextmanager
def dovecot(
    place: Place | None = None,
    *,
    mailboxes: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    host: str = "127.0.0.1",
    trusts: str = "",
) -> Iterator[Dovecot]:
    """Start Dovecot (0.1 s). ``mailboxes`` maps address to password; without it every address exists.

    ``trusts`` are the networks that it believes the address of a client.
    """
    with own_place("dc", place) as at:
        name, _, _, _ = _owner()
        at.folder("mail", owner=name)
        at.folder("run")
        at.folder("state")
        users = None
        if mailboxes is not None:
            lines = [
                f"{address.lower()}:{{PLAIN}}{password}::::::\n" for address, password in mailboxes.items()
            ]
            users = at.write("users", "".join(lines))
        version = _version()
        imap, lmtp = free_port(host), free_port(host)
        imaps = free_port(host) if tls else None
        settings = _settings(at, host, imap, imaps, lmtp, tls, users, version)
        conf = at.write("dovecot.conf", settings + (f"login_trusted_networks = {trusts}\n" if trusts else ""))
        # Left alone, its master looks for its last children only once a second.
        command: list[str | Path] = [program("dovecot"), "-F", "-c", conf]
        with Child(command, log=at / "dovecot.out", orphaned=signal.SIGKILL, grace=0.1) as child:
            server = Dovecot(
                place=at,
                child=child,
                host=host,
                imap_port=imap,
                imaps_port=imaps,
                lmtp_port=lmtp,
                auth_socket=at / "sasl",
                version=version,
            )
            child.ready(lambda: answers(imap, host) and answers(lmtp, host), "Dovecot")
            yield server
