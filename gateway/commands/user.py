"""``wasl user``: the accounts of the dashboard."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from gateway.commands.console import Config, Json, json_of, load_settings, person, put_json, say, table
from gateway.trouble import Trouble

app = typer.Typer(no_args_is_help=True, help="Accounts of the dashboard.")

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else


def new_password() -> str:
    """20 characters, about 99 bits, in groups that can be read out on the telephone."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input instead of making one."),
]


def _password(from_stdin: bool) -> tuple[str, bool]:
    """The password and whether it was made here and has to be shown."""
    if not from_stdin:
        return new_password(), True
    text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise Trouble("no password on standard input")
    return text, False


def _done(answer: dict[str, Any], what: str, password: str | None, as_json: bool) -> None:
    account = answer["account"]
    if as_json:
        put_json(account | ({"password": password} if password is not None else {}))
        return
    say(f"{account['name']}: {what}")
    if password is not None:
        say(f"password: {password}")
        say("It is shown this once and has to be changed at the first sign-in.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name to sign in with.")],
    role: Annotated[str, typer.Option(help="admin, compliance, registry or viewer.")] = "viewer",
    agency: Annotated[
        str | None, typer.Option(help="Code of the agency; required for registry and viewer.")
    ] = None,
    display: Annotated[str, typer.Option(help="Name of the person.")] = "",
    language: Annotated[str, typer.Option(help="ar or en.")] = "ar",
    password_stdin: FromStdin = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add an account; a password is made and shown once."""
    from gateway.acts import perform
    from gateway.opening import open_directory
    from tracker.access import Role

    if role not in [r.value for r in Role]:
        raise typer.BadParameter(f"one of {', '.join(Role)}", param_hint="--role")
    if language not in ("ar", "en"):
        raise typer.BadParameter("ar or en", param_hint="--language")
    settings = load_settings(config)
    if agency is not None:
        agency = agency.upper()
        if open_directory(settings).current.agency(agency) is None:
            raise Trouble(f"there is no agency {agency}: see `wasl agency list`")
    password, made = _password(password_stdin)
    request = {
        "do": "account",
        "act": "add",
        "name": name,
        "password": password,
        "role": role,
        "agency": agency,
        "display": display,
        "language": language,
        "person": person(),
    }
    _done(perform(settings, request), "added", password if made else None, as_json)


@app.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """List the accounts."""
    from gateway.opening import open_store
    from tracker.accounts import everyone

    store = open_store(load_settings(config))
    try:
        with store.reader.connect() as conn:
            found = everyone(conn)
    finally:
        store.close()
    if as_json:
        for one in found:
            put_json(json_of(one))
        return
    rows = [
        (
            a.name,
            a.display,
            a.role.value,
            a.agency or "all",
            a.language,
            "disabled" if a.disabled else "active",
        )
        for a in found
    ]
    table(("name", "person", "role", "agency", "language", "state"), rows)


@app.command()
def reset(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    password_stdin: FromStdin = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Give an account a new password, shown once; its sessions end."""
    from gateway.acts import perform

    password, made = _password(password_stdin)
    request = {"do": "account", "act": "reset", "name": name, "password": password, "person": person()}
    answer = perform(load_settings(config), request)
    _done(answer, "new password", password if made else None, as_json)


@app.command()
def disable(
    name: Annotated[str, typer.Argument(metavar="NAME")], config: Config = None, as_json: Json = False
) -> None:
    """Switch an account off; its sessions end at once."""
    _switch(name, "disable", "disabled", config, as_json)


@app.command()
def enable(
    name: Annotated[str, typer.Argument(metavar="NAME")], config: Config = None, as_json: Json = False
) -> None:
    """Switch an account on again."""
    _switch(name, "enable", "enabled", config, as_json)


def _switch(name: str, act: str, what: str, config: Config, as_json: bool) -> None:
    from gateway.acts import perform

    request = {"do": "account", "act": act, "name": name, "person": person()}
    _done(perform(load_settings(config), request), what, None, as_json)
