"""The commands of ``wasl``, one file a noun. Importing this package imports no part of the gateway itself."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands import (
    agency,
    backup,
    check,
    files,
    followup,
    hold,
    init,
    keys,
    ledger,
    letter,
    letter_register,
    policy,
    queue,
    reload,
    restore,
    serve,
    user,
    watch,
)

app = typer.Typer(
    name="wasl",
    help="Wasl (وصل): makes official letters between agencies traceable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from gateway.version import version

        typer.echo(f"wasl {version()}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Wasl (وصل): makes official letters between agencies traceable."""


app.command("init")(init.init)
app.command("check")(check.check)
app.command("serve")(serve.serve)
app.command("reload")(reload.reload)
app.add_typer(agency.app, name="agency")
app.add_typer(keys.app, name="keys")
app.add_typer(user.app, name="user")
app.add_typer(letter.app, name="letter")
letter.app.command("register")(letter_register.register)
letter.app.command("refer")(letter_register.refer)
letter.app.command("progress")(letter_register.progress)
letter.app.command("return")(letter_register.return_)
letter.app.command("close")(letter_register.close)
app.add_typer(queue.app, name="queue")
app.add_typer(watch.app, name="watch")
app.add_typer(hold.app, name="hold")
app.add_typer(followup.app, name="followup")
app.add_typer(policy.app, name="policy")
app.add_typer(ledger.app, name="ledger")
app.command("inspect")(files.inspect)
app.command("verify", context_settings={"ignore_unknown_options": True})(files.verify)
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
