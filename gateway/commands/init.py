"""``wasl init``: a new gateway: settings, folders, keys, database, the first administrator."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import Json, NewConfig, new_place, parsed, put_json, say
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings

EXAMPLE = """\
# An example: copy it to mof.yaml and make it yours. Files that begin with _ are not read.
# `wasl agency add` and `wasl agency import` write such files; `wasl agency check` tells their faults.

code: MOF                           # stands in the letter number: MOF/2026/000123
name_ar: وزارة المالية
name_en: Ministry of Finance
domains: [mof.gov.example]          # exactly; subdomains are named one by one
registry: diwan@mof.gov.example     # mailbox of the registry office
mode: active                        # or shadow (record, change nothing) or off

next_hop:                           # the agency's own mail server
  host: mail.mof.gov.example
  port: 25
  protocol: smtp                    # or lmtp
  tls: required                     # none, opportunistic, required, implicit
  # ca: ca.pem                      # authorities of its certificate; the system's when left out
  # final: true                     # its 250 means that the letter is in the mailbox

# outbound: {host: out.mof.gov.example, port: 25}     # its way to the outside

networks: [10.1.0.0/24]             # its servers may use the relay port from here
# certificates: [mail.mof.gov.example]                # or with these TLS client certificates
# credentials:                                        # or with a password: `wasl agency password`
#   - {username: mof-relay, password_hash: "scrypt$..."}

# sign_in: {kind: imap, host: imap.mof.gov.example, port: 993, tls: implicit}   # its people's passwords

# dkim:                             # `wasl keys make MOF` prints these lines and the DNS records
#   - {selector: wasl202611-rsa, domain: mof.gov.example, key_file: ../secrets/dkim/...}
"""


def init(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="Folder of the new gateway. Default: that of --config, or this."
        ),
    ] = None,
    hostname: Annotated[
        str | None, typer.Option(help="Name of this machine to others. Default: what the system says.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Domain of the gateway's own addresses. Default: the host name.")
    ] = None,
    admin: Annotated[str, typer.Option(help="Name of the first administrator.")] = "admin",
    agencies: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Import agencies: code, name_ar, name_en, domain.")
    ] = None,
    next_hop: Annotated[
        str | None,
        typer.Option("--next-hop-template", metavar="URL", help="For imported agencies: see agency import."),
    ] = None,
    dkim: Annotated[
        bool, typer.Option("--dkim/--no-dkim", help="Make DKIM keys for the gateway's own domain.")
    ] = True,
    relay: Annotated[str, typer.Option(help="Where agencies' servers connect.")] = "0.0.0.0:25",
    config: NewConfig = None,
    as_json: Json = False,
) -> None:
    """Make a new gateway in DIR: settings, folders, keys, database, first administrator.

    Nothing that is there already is touched: a second run on the same folder is refused.
    """
    from gateway.agency_files import read_csv, write_agencies
    from gateway.setting_values import endpoint
    from gateway.settings_file import read_settings
    from policies.agency_entry import domain_name, host_name

    name = parsed(host_name, hostname or socket.getfqdn(), "--hostname")
    if "." not in name and domain is None:
        raise Trouble(f"this machine calls itself {name!r}: give --hostname wasl.gov.example")
    own = parsed(domain_name, domain or name, "--domain")
    parsed(endpoint, relay, "--relay")
    root, file = new_place(directory, config)
    for path in {file, root / "wasl.toml"}:
        if path.exists():
            raise Trouble(f"{path} is there already: nothing was changed")
    rows = read_csv(agencies, None) if agencies is not None else []
    for folder in (root, file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    text = _house(root, file.parent == root, name, own, relay, dkim)
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, "utf-8")
    settings = read_settings(part, {})
    imported = len(write_agencies(settings.directory.path, rows, next_hop, (own,))) if rows else 0
    # The last step: without it nothing is a gateway yet, and an init that was refused can be repeated.
    part.rename(file)
    password = _administrator(settings, admin)
    if as_json:
        put_json(
            {
                "settings": str(file),
                "admin": admin,
                "password": password,
                "agencies": imported,
                "ledger_key": _vkey(settings),
            }
        )
        return
    say(f"A new gateway in {root}")
    say()
    at = file.name if file.parent == root else str(file)
    say(f"  {at:<12}  settings, each with its default")
    say(f"  agencies/     {imported or 'no'} agencies; _example.yaml shows what a file may say")
    say("  policy/       rules")
    say("  secrets/      keys: back them up, keep them from others")
    say("  data/         database and archive")
    say()
    say(f"Administrator of the dashboard:  {admin}")
    say(f"Password, shown this once:       {password}")
    say()
    say("Public key of the ledger, to publish where others find it:")
    say(f"  {_vkey(settings)}")
    say()
    here = "" if file == Path.cwd() / "wasl.toml" else f" --config {shlex.quote(str(file))}"
    say("Next:")
    if not imported:
        say(f"  wasl agency add{here} MOF --domain … --name-ar … --name-en … --next-hop smtp://…")
    say(f"  wasl keys make{here} AGENCY --write     DKIM keys; publish the DNS records that it prints")
    say(f"  wasl check{here}")
    say(f"  wasl serve{here}")


def _house(root: Path, beside: bool, hostname: str, domain: str, relay: str, dkim: bool) -> str:
    """Make folders and keys; the text of the settings, with relative paths if it will lie ``beside`` them."""
    from gateway.opening import new_secret
    from gateway.settings_template import template, toml
    from policies.load import DEFAULT_SET
    from tracker.ledger import LedgerKey

    for folder in ("agencies", "policy"):
        (root / folder).mkdir(exist_ok=True)
    for folder in ("secrets", "data"):
        (root / folder).mkdir(mode=0o700, exist_ok=True)
    example = root / "agencies" / "_example.yaml"
    if not example.exists():
        example.write_text(EXAMPLE, "utf-8")
    if not (root / "policy" / DEFAULT_SET[0].name).exists():
        # The one that is looked for comes last: an init that was cut short begins again.
        for file in reversed(DEFAULT_SET):
            shutil.copyfile(file, root / "policy" / file.name)
    ledger = root / "secrets" / "ledger.pem"
    if not ledger.exists():
        _private(ledger, LedgerKey.make(f"{domain}/ledger").pem())
    mac = root / "secrets" / "mac.key"
    if not mac.exists():
        _private(mac, f"{new_secret()}\n".encode())
    given: dict[str, dict[str, Any]] = {
        "gateway": {"hostname": hostname, "domain": domain},
        "policy": {"path": "policy"},
    }
    if not beside:
        given["gateway"]["data_dir"] = str(root / "data")
        given["policy"]["path"] = str(root / "policy")
        given["directory"] = {"path": str(root / "agencies")}
        given["ledger"] = {"key": str(ledger)}
        given["secrets"] = {"mac": str(mac)}
    text = template(given, [{"door": "relay", "address": relay}])
    if dkim:
        text += "\n"
        for path in _dkim(root / "secrets" / "dkim", domain):
            named = toml(str(path.relative_to(root) if beside else path))
            text += f"[[dkim]]\nselector = {toml(path.stem)}\nkey_file = {named}\n\n"
    return text


def _dkim(folder: Path, domain: str) -> list[Path]:
    """The gateway's own keys, of an init that was cut short if there are any."""
    from gateway.keys import make_keys

    selector = time.strftime("wasl%Y%m")
    there = [folder / domain / f"{selector}-{kind}.pem" for kind in ("rsa", "ed")]
    if all(path.exists() for path in there):
        return there
    return [made.path for made in make_keys(folder, domain, selector)]


def _private(path: Path, octets: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(octets)
        out.flush()
        os.fsync(out.fileno())


def _administrator(settings: Settings, name: str) -> str:
    """The first account; its password."""
    from gateway.acts import perform
    from gateway.commands.user import new_password

    password = new_password()
    perform(settings, {"do": "account", "act": "add", "name": name, "password": password, "role": "admin"})
    return password


def _vkey(settings: Settings) -> str:
    from gateway.opening import ledger_key

    return str(ledger_key(settings).vkey)
