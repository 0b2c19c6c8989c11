"""``wasl ledger``: the head of the log, proofs of single entries, and the check of all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import (
    Config,
    Json,
    json_of,
    load_settings,
    progress,
    put_json,
    say,
    table,
    warn,
)
from gateway.commands.reading import clock, reading
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from tracker.store import Connection

app = typer.Typer(no_args_is_help=True, help="The ledger: head, prove, verify, key.")


@app.command()
def head(config: Config = None, as_json: Json = False) -> None:
    """Show the size and root of the log and its latest signed checkpoint."""
    from gateway.opening import ledger_key
    from tracker.ledger import Ledger

    settings = load_settings(config)
    ledger = Ledger(ledger_key(settings))
    with reading(settings) as conn:
        present = ledger.head(conn)
        latest = ledger.latest(conn)
    if as_json:
        put_json(
            {
                "origin": settings.ledger_origin,
                "size": present.size,
                "root": present.root.hex(),
                "checkpoint": None if latest is None else json_of(latest),
            }
        )
        return
    say(f"size {present.size}")
    say(f"root {present.root.hex()}")
    if latest is None:
        say("no checkpoint yet")
    else:
        say(f"latest checkpoint, of {clock(latest.at_us, settings)}:")
        say(latest.note.rstrip("\n"))


@app.command()
def key(config: Config = None) -> None:
    """Print the public keys by which anybody can verify (C2SP vkey), the one that signs now first."""
    from gateway.opening import ledger_key

    for vkey in ledger_key(load_settings(config)).vkeys:
        say(str(vkey))


@app.command()
def prove(
    entry: Annotated[int, typer.Argument(metavar="N", min=0, help="Index of the entry.")],
    config: Config = None,
) -> None:
    """Print the proof of an entry: its octets, the hashes, the signed checkpoint (proof.txt)."""
    from gateway.opening import ledger_key
    from tracker.ledger import Ledger, proof_text

    settings = load_settings(config)
    ledger = Ledger(ledger_key(settings))
    with reading(settings) as conn:
        size = ledger.head(conn).size
        if entry >= size:
            raise Trouble(
                f"the log has {size} entries, the last one is {size - 1}" if size else "the log is empty"
            )
        covering = ledger.covering(conn, entry)
        if covering is None:
            raise Trouble(f"no checkpoint covers entry {entry} yet: try again in a moment")
        text = proof_text(ledger.prove(conn, entry, covering.size), covering.note)
    typer.echo(text, nl=False)


@app.command()
def verify(
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="A checkpoint kept elsewhere: the log must still contain it."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Recompute everything from entries and archive; name each row that does not fit."""
    from gateway.opening import ledger_key, open_archive
    from tracker.audit_ledger import audit_store

    settings = load_settings(config)
    secret = ledger_key(settings)
    archive = open_archive(settings)
    # Before the record is read, as the file may be replaced: the log is never behind what was published.
    kept = _published(settings.gateway.data_dir)
    if checkpoint is not None:
        kept["1"] = checkpoint.read_text("utf-8")
    with reading(settings) as conn, progress("verifying") as show:
        audit = audit_store(_at_one_moment(conn), archive, secret, show, kept=kept)
    misfits, size = audit.misfits, audit.entries
    if as_json:
        for one in misfits:
            put_json(json_of(one))
        put_json({"size": size, "misfits": len(misfits)})
    elif misfits:
        table(("table", "row", "expected"), [(m.table, m.row, m.expected) for m in misfits])
        warn(f"{len(misfits)} rows do not fit")
    else:
        say(f"{size} entries, all of them fit")
    raise typer.Exit(1 if misfits else 0)


def _published(data_dir: Path) -> dict[str, str]:
    """The checkpoint that the gateway keeps outside the database, by the name of its file; none on a new one.

    A file that cannot be read is an empty note, which nobody signed.
    """
    from gateway import high_water

    file = high_water.path_of(data_dir)
    try:
        note = json.loads(file.read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        note = ""
    return {} if note is None else {file.name: note if isinstance(note, str) else ""}


def _at_one_moment(conn: Connection) -> Connection:
    """The connection, on which all that is read is of one moment, while the gateway goes on writing."""
    if conn.dialect.name != "sqlite":  # whose read transaction is such anyway
        conn.execution_options(isolation_level="REPEATABLE READ")
    return conn
