"""``wasl inspect`` and ``wasl verify``: what stands in a file, and what of it is proven.

Neither needs settings, a database or a network. ``verify`` trusts the public keys of a gateway whose settings
are named, and of no other that happens to be near.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.console import Json, UnusedConfig, check_settings, load_settings


def inspect(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Message files; - is standard input.")],
    config: UnusedConfig = None,
    as_json: Json = False,
) -> None:
    """Show what Wasl reads in message files: kind, ids, attachments, reports. Never fails on any file."""
    from gateway.inspect import run

    check_settings(config)
    raise typer.Exit(run(files, as_json=as_json))


def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Letters, receipts, bundles: .eml, .zip, proof.txt.")
    ],
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Public key of the log, or a file of such keys.")
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="Language of the answer: en or ar.")] = "en",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Settings of a gateway whose public keys are trusted too; none when it is not given.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check letters and receipts offline, from the public key alone."""
    from tracker.verify import main

    arguments = [str(file) for file in files]
    for one in key or ():
        arguments += ["--key", one]
    if config is not None:
        from gateway.opening import ledger_key

        for vkey in ledger_key(load_settings(config)).vkeys:
            arguments += ["--key", str(vkey)]
    arguments += ["--lang", lang] if lang in ("en", "ar") else []
    if lang not in ("en", "ar"):
        raise typer.BadParameter("en or ar", param_hint="--lang")
    raise typer.Exit(main(["--json", *arguments] if as_json else arguments))
