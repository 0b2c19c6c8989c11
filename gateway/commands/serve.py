"""``wasl serve``: run the gateway in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands.console import Config, load_settings


def serve(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="What to run, several times; everything when left out. See below."),
    ] = None,
    config: Config = None,
) -> None:
    """Run the gateway in the foreground until it is told to stop.

    SIGTERM stops it in order, SIGHUP reads directory and policy again. Roles: smtp (listeners), relay,
    notices (receipts), dashboard, upkeep (checkpoints, reload).
    """
    settings = load_settings(config)
    from gateway.log import set_up
    from gateway.serve import ROLES
    from gateway.serve import serve as run

    for one in role or ():
        if one not in ROLES:
            raise typer.BadParameter(f"one of {', '.join(ROLES)}", param_hint="--role")
    set_up(settings.log.level, settings.log.format)
    run(settings, tuple(role) if role else ROLES)
