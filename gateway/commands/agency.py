"""``wasl agency``: the agencies of the directory. The files stay the truth; commands only add files."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import (
    Config,
    Json,
    UnusedConfig,
    check_settings,
    load_settings,
    put_json,
    say,
    table,
    warn,
)
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from policies.agency import Agency

app = typer.Typer(no_args_is_help=True, help="Agencies: add, list, show, check, evidence, import, password.")

Code = Annotated[str, typer.Argument(metavar="CODE", help="Code of the agency, such as MOF.")]
NextHop = Annotated[
    str | None,
    typer.Option(
        "--next-hop",
        "--next-hop-template",
        metavar="URL",
        help="Its mail server: smtp://mail.mof.gov.example:25, lmtp://127.0.0.1:24 or smtps://…",
    ),
]
NextHopTemplate = Annotated[
    str | None,
    typer.Option(
        "--next-hop-template",
        metavar="URL",
        help="smtp://mail.{domain}:25, lmtp://127.0.0.1:24 or smtps://…; {code}, {code_lower} and {domain} "
        "are filled in.",
    ),
]


def _json(a: Agency) -> dict[str, object]:
    return {
        "code": a.code,
        "name_ar": a.name_ar,
        "name_en": a.name_en,
        "domains": list(a.domains),
        "mode": a.mode.value,
        "registry": str(a.registry) if a.registry is not None else None,
        "next_hop": _hop_text(a),
        "outbound": f"{a.outbound.host}:{a.outbound.port}" if a.outbound is not None else None,
        "networks": [str(net) for net in a.networks],
        "sign_in": f"{a.sign_in.kind}://{a.sign_in.host}:{a.sign_in.port}" if a.sign_in is not None else None,
        "dkim": [f"{key.selector}._domainkey.{key.domain}" for key in a.dkim],
        "file": f"{a.file}:{a.line}",
    }


def _hop_text(a: Agency) -> str | None:
    hop = a.next_hop
    return f"{hop.protocol}://{hop.host}:{hop.port}" if hop is not None else None


@app.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """List the agencies."""
    from gateway.opening import open_directory

    directory = open_directory(load_settings(config)).current
    if as_json:
        for a in directory:
            put_json(_json(a))
        return
    rows = [
        (a.code, a.mode.value, ", ".join(a.domains), _hop_text(a) or "not connected", a.name_ar, a.name_en)
        for a in directory
    ]
    table(("code", "mode", "domains", "next hop", "name", "English name"), rows)


@app.command()
def show(code: Code, config: Config = None, as_json: Json = False) -> None:
    """Show one agency."""
    from gateway.opening import open_directory

    found = open_directory(load_settings(config)).current.agency(code.upper())
    if found is None:
        raise Trouble(f"there is no agency {code}: see `wasl agency list`")
    if as_json:
        put_json(_json(found))
        return
    for key, value in _json(found).items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        say(f"{key:<10} {'' if shown is None else shown}")


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Check the directory's files; every fault with file and line."""
    from gateway.opening import open_directory

    directory = open_directory(load_settings(config)).current
    for fault in directory.warnings:
        if as_json:
            put_json({"level": "warning"} | fault.to_json())
        else:
            warn(f"warning: {fault}")
    if as_json:
        put_json({"agencies": len(directory), "version": directory.version})
    else:
        say(f"{len(directory)} agencies, version {directory.version}: no faults")


@app.command()
def evidence(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="Only this agency, such as MOF.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Letters of so many days.")] = 90,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell which kinds of evidence each agency's servers and clients really gave, as the record has it.

    What an agency never gave says nothing when it is missing.
    """
    from gateway.commands.console import json_of
    from gateway.commands.reading import clock, reading
    from tracker.evidence_kinds import evidence_kinds
    from tracker.model import now_us

    settings = load_settings(config)
    since = now_us() - days * 86_400_000_000
    with reading(settings) as conn:
        found = evidence_kinds(conn, since, code.upper() if code else None)
    if as_json:
        for one in found:
            put_json(json_of(one))
        return
    rows = [
        (
            one.agency,
            one.kind.value,
            one.deliveries,
            one.of,
            f"{one.share:.0%}",
            clock(one.last_us, settings) if one.last_us is not None else "never",
        )
        for one in found
    ]
    table(("agency", "evidence", "letters", "of", "share", "last seen"), rows, right=(2, 3, 4))


@app.command()
def add(
    code: Code,
    domain: Annotated[list[str], typer.Option(help="A mail domain; several times for several.")],
    name_ar: Annotated[str, typer.Option(help="Arabic name.")],
    name_en: Annotated[str, typer.Option(help="English name.")],
    next_hop: NextHop = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Address or network of its servers, several times for several.")
    ] = None,
    registry: Annotated[str | None, typer.Option(help="Mailbox of the registry office (الديوان).")] = None,
    config: Config = None,
) -> None:
    """Add an agency as a file of its own; refused when the directory would not be good with it."""
    from gateway.agency_files import AgencyRow, write_agencies

    row = AgencyRow(
        code=code.upper(),
        name_ar=name_ar,
        name_en=name_en,
        domains=domain,
        networks=list(network or ()),
        registry=registry,
    )
    made = write_agencies(load_settings(config).directory.path, [row], next_hop, _reserved(config))
    say(f"{made[0]}: written")


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Columns: code, name_ar, name_en, domain.")
    ],
    next_hop: NextHopTemplate = None,
    mode: Annotated[str | None, typer.Option(help="active, shadow or off, for all of them.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out agencies that are there already.")
    ] = False,
    config: Config = None,
) -> None:
    """Import agencies from a CSV file, all of them or none; one YAML file each.

    Further columns may be: registry, network, domains and networks (several, separated by spaces).
    """
    from gateway.agency_files import read_csv, write_agencies
    from gateway.opening import open_directory
    from policies.faults import ConfigFaults

    settings = load_settings(config)
    rows = read_csv(file, mode)
    if skip_existing:
        try:
            known = {a.code for a in open_directory(settings).current}
        except ConfigFaults:
            if settings.directory.path.exists():
                raise
            known = set()
        rows = [row for row in rows if row.code not in known]
    made = write_agencies(settings.directory.path, rows, next_hop, _reserved(config))
    say(f"{len(made)} agencies written to {settings.directory.path}")
    if made and next_hop is None:
        warn("they have no next_hop yet: letters to them are refused (see --next-hop-template)")


@app.command()
def password(
    from_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    config: UnusedConfig = None,
) -> None:
    """Hash a password with which an agency's server signs in on the relay port (credentials:)."""
    from policies.agency import hash_password

    check_settings(config)
    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
    else:
        text = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != text:
            raise Trouble("the two passwords differ")
    if len(text) < 12:
        raise Trouble("a password has at least 12 characters")
    say(hash_password(text))


def _reserved(config: Path | None) -> tuple[str, ...]:
    return (load_settings(config).gateway.domain,)
