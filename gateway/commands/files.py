"""``wasl inspect`` and ``wasl verify``: what stands in a file, and what of it is proven.

Neither needs settings, a database or a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.console import Json


def inspect(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Message files; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Show what Wasl reads in message files: kind, ids, attachments, reports. Never fails on any file."""
    from gateway.inspect import run

    raise typer.Exit(run(files, as_json=as_json))


def verify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Letters, receipts, bundles: .eml, .zip, proof.txt.")
    ],
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Public key of the log, or a file of such keys.")
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="Language of the answer: en or ar.")] = "en",
    as_json: Json = False,
) -> None:
    """Check letters and receipts offline, from the public key alone."""
    from tracker.verify import main

    arguments = [str(file) for file in files]
    for one in key or ():
        arguments += ["--key", one]
    arguments += ["--lang", lang] if lang in ("en", "ar") else []
    if lang not in ("en", "ar"):
        raise typer.BadParameter("en or ar", param_hint="--lang")
    raise typer.Exit(main(["--json", *arguments] if as_json else arguments))
