"""``wasl keys``: DKIM keys of the agencies, the record to publish, secrets of the gateway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.console import Config, Json, load_settings, put_json, say, warn

app = typer.Typer(no_args_is_help=True, help="DKIM keys and secrets.")


@app.command()
def make(
    agency: Annotated[str, typer.Argument(metavar="AGENCY", help="Code, such as MOF; `-` for the gateway.")],
    selector: Annotated[
        str | None, typer.Option(help="Name of the keys. Default: wasl and the present year and month.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the private keys go. Default: secrets/dkim beside the settings."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make an RSA-2048 and an Ed25519 key for each domain of an agency; print the DNS records.

    Private keys stay on this machine. Publish the records, put the lines under dkim: into the
    agency's file, and `wasl check` tells when the DNS agrees.
    """
    from gateway.keys import make_keys, record_name, record_value
    from gateway.opening import open_directory

    settings = load_settings(config)
    home = folder or settings.secrets.mac.parent / "dkim"
    name = selector or time.strftime("wasl%Y%m")
    if agency == "-":
        domains: tuple[str, ...] = (settings.gateway.domain,)
    else:
        directory = open_directory(settings).current
        found = directory.agency(agency.upper())
        if found is None:
            raise ValueError(f"there is no agency {agency}: see `wasl agency list`")
        domains = found.domains
    for domain in domains:
        made = make_keys(home, domain, name)
        for file in made:
            if as_json:
                put_json(
                    {
                        "domain": domain,
                        "selector": file.key.selector,
                        "file": str(file.path),
                        "name": record_name(file.key),
                        "value": record_value(file.key),
                    }
                )
            else:
                say(file.dns_record)
        if not as_json:
            _tell(agency, domain, made[0].key.selector, made[1].key.selector, made[0].path, made[1].path)


def _tell(agency: str, domain: str, rsa: str, ed: str, rsa_file: Path, ed_file: Path) -> None:
    """The lines for the configuration, to standard error: standard output is a piece of a zone file."""
    if agency == "-":
        warn("; put this into wasl.toml:")
        for selector, file in ((rsa, rsa_file), (ed, ed_file)):
            warn(f'[[dkim]]\nselector = "{selector}"\nkey_file = "{file.absolute()}"')
        return
    warn(f"; put this into the file of {agency}:")
    warn("dkim:")
    for selector, file in ((rsa, rsa_file), (ed, ed_file)):
        warn(f"  - {{selector: {selector}, domain: {domain}, key_file: {file.absolute()}}}")


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
        raise ValueError(f"there is no agency {agency}: see `wasl agency list`")
    for own in settings.dkim if agency is None else ():
        key = SigningKey.load(own.key_file, domain=settings.gateway.domain, selector=own.selector)
        say(dns_record(key))
    for one in directory:
        if agency is None or one.code == agency.upper():
            for entry in one.dkim:
                say(dns_record(SigningKey.load(entry.key_file, domain=entry.domain, selector=entry.selector)))


@app.command()
def secret(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that secrets.mac names.")],
) -> None:
    """Put a new secret of the return addresses in front of those in a file (made if it is not there).

    The first one makes addresses, all recognise them: delete an old one when no report can come any more.
    """
    import os

    from gateway.opening import new_secret

    old = file.read_text("ascii") if file.exists() else ""
    fresh = file.with_name(f".{file.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(f"{new_secret()}\n{old}")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    say(f"{file}: {len(old.split()) + 1} secrets, the first one is new")
