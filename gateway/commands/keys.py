"""``wasl keys``: DKIM keys of the agencies, the record to publish, secrets of the gateway."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import Config, Json, check_settings, load_settings, person, put_json, say, warn
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.keys import KeyFile

app = typer.Typer(no_args_is_help=True, help="DKIM keys and secrets.")


@app.command()
def make(
    agencies: Annotated[
        list[str], typer.Argument(metavar="AGENCY…", help="Codes, such as MOF; `all`; `-`: the gateway.")
    ],
    selector: Annotated[
        str | None, typer.Option(help="Name of the keys. Default: wasl and the present year and month.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the private keys. Default: secrets/dkim.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the keys into the agency's file, if it names none yet.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make an RSA-2048 and an Ed25519 key for each domain of an agency; print the DNS records.

    Private keys stay on this machine. Publish the records, put the lines under dkim: into the
    agency's file (or say --write), and `wasl check` tells when the DNS agrees.
    """
    from gateway.keys import make_keys, record_name, record_value
    from gateway.opening import open_directory

    settings = load_settings(config)
    home = folder or settings.secrets.mac.parent / "dkim"
    name = selector or time.strftime("wasl%Y%m")
    directory = open_directory(settings).current
    codes = [a.code for a in directory] if agencies == ["all"] else [code.upper() for code in agencies]
    for code in codes:
        if code != "-" and directory.agency(code) is None:
            raise Trouble(f"there is no agency {code}: see `wasl agency list`")
    for code in codes:
        found = directory.agency(code)
        domains = found.domains if found is not None else (settings.gateway.domain,)
        try:
            made = [file for domain in domains for file in make_keys(home, domain, name)]
        except FileExistsError as error:
            what = "make others with --selector NAME, or put these under dkim: yourself"
            raise Trouble(f"{error}: {what}") from None
        for file in made:
            if as_json:
                put_json(
                    {
                        "agency": None if found is None else code,
                        "domain": file.key.domain,
                        "selector": file.key.selector,
                        "file": str(file.path),
                        "name": record_name(file.key),
                        "value": record_value(file.key),
                    }
                )
            else:
                say(file.dns_record)
        if found is None:
            lines = _gateway_lines(made, settings.secrets.mac.parent.parent)
        else:
            lines = _agency_lines(made, (settings.directory.path.parent / found.file).parent)
        if write and found is not None and not found.dkim:
            _append(settings.directory.path, found.file, lines)
            warn(f"; written to {found.file}")
        elif not as_json:
            warn(f"; put this into {'wasl.toml' if found is None else found.file}:")
            warn(lines)


def _gateway_lines(made: list[KeyFile], base: Path) -> str:
    entries = []
    for file in made:
        entries.append(
            f'[[dkim]]\nselector = "{file.key.selector}"\nkey_file = "{_relative(file.path, base)}"'
        )
    return "\n".join(entries)


def _agency_lines(made: list[KeyFile], base: Path) -> str:
    lines = [
        f"  - {{selector: {k.key.selector}, domain: {k.key.domain}, key_file: {_relative(k.path, base)}}}"
        for k in made
    ]
    return "\n".join(["dkim:", *lines])


def _relative(path: Path, base: Path) -> str:
    """Relative to the file that will name it, so that the gateway's folder can be moved."""
    return os.path.relpath(path.absolute(), base.absolute())


def _append(folder: Path, file: str, lines: str) -> None:
    """Add ``dkim:`` to the file of one agency; taken back when the directory is not good with it."""
    from policies.directory import load_directory
    from policies.faults import ConfigFaults

    path = folder.parent / file if folder.is_dir() else folder
    old = path.read_text("utf-8")
    with path.open("a", encoding="utf-8") as out:
        out.write(f"{'' if old.endswith(chr(10)) else chr(10)}{lines}\n")
    try:
        load_directory(folder)
    except ConfigFaults:
        path.write_text(old, "utf-8")
        raise Trouble(f"{file} describes several agencies: put the lines there yourself\n{lines}") from None


@app.command()
def show(
    agency: Annotated[
        str | None, typer.Argument(metavar="[AGENCY]", help="Code; all agencies when left out.")
    ] = None,
    config: Config = None,
) -> None:
    """Print the DNS records of the keys in use."""
    from gateway.keys import dns_record
    from gateway.opening import open_directory
    from gateway.sign import SigningKey

    settings = load_settings(config)
    directory = open_directory(settings).current
    if agency is not None and directory.agency(agency.upper()) is None:
        raise Trouble(f"there is no agency {agency}: see `wasl agency list`")
    for own in settings.dkim if agency is None else ():
        key = SigningKey.load(own.key_file, domain=settings.gateway.domain, selector=own.selector)
        say(dns_record(key))
    for one in directory:
        if agency is None or one.code == agency.upper():
            for entry in one.dkim:
                say(dns_record(SigningKey.load(entry.key_file, domain=entry.domain, selector=entry.selector)))


@app.command()
def secret(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Default: the file that secrets.mac of the settings names."),
    ] = None,
    config: Config = None,
) -> None:
    """Put a new secret of the return addresses in front of those in a file (made if it is not there).

    The first one makes addresses, all recognise them: delete an old one when no report can come any more.
    """
    from gateway.keys import replace_like
    from gateway.opening import new_secret

    if file is None:
        file = load_settings(config).secrets.mac
    else:
        check_settings(config)
    old, like = "", file.parent.stat()
    mode = 0o600
    if file.exists():
        old, like = file.read_text("ascii"), file.stat()
        mode = like.st_mode & 0o777
    replace_like(file, f"{new_secret()}\n{old}".encode(), mode, like)
    say(f"{file}: {len(old.split()) + 1} secrets, the first one is new")
    say("A gateway that runs takes it when it is started again.")


@app.command("rotate-ledger")
def rotate_ledger(config: Config = None, as_json: Json = False) -> None:
    """Make a new key for the ledger; it signs from now on, and what the old one signed stays good.

    Works while the gateway runs and while it does not. Publish both public keys that it prints: receipts of
    before are verified by the old one. Of several nodes, do it on one, copy ledger.pem and ledger.keys to the
    others and run `wasl reload` there.
    """
    from gateway import control, data_lock, high_water
    from gateway.ledger_rotation import rotate, take_over
    from gateway.opening import open_record

    settings = load_settings(config)
    data_dir = settings.gateway.data_dir
    if data_lock.is_held(data_dir):
        who = person()

        def ask(fresh: Path) -> None:
            control.ask(data_dir, {"do": "rotate-ledger", "person": who, "file": str(fresh.absolute())})

        made, kept = rotate(settings, ask)
    else:
        with data_lock.DataLock(data_dir):
            record = open_record(settings)
            try:

                def take(fresh: Path) -> None:
                    take_over(record, settings, fresh)

                made, kept = rotate(settings, take)
                high_water.write(data_dir, record)
            finally:
                record.close()
                record.archive.close()
    keys = [str(vkey) for vkey in made.vkeys]
    if as_json:
        put_json({"keys": keys, "kept": str(kept)})
        return
    say("Public keys of the ledger; the first one signs from now on. Publish them all:")
    for key in keys:
        say(f"  {key}")
    warn(f"the old private key lies in {kept}: nothing needs it any more, keep it offline or destroy it")
