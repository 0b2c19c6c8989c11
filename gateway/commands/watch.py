"""``wasl watch``: the mailboxes that the gateway looks into, and how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import Config, Json, load_settings, put_json, table

if TYPE_CHECKING:
    from policies.watch import Watch
    from tracker.watch_lease import WatchState

app = typer.Typer(no_args_is_help=True, help="Watched mailboxes: list.")


@app.command("list")
def list_(
    agency: Annotated[str | None, typer.Option(help="Only this agency's.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the watched mailboxes with their state, when they were last read, and what is wrong.

    Exit status 1 when one of them is not being watched.
    """
    from gateway.commands.reading import clock, reading
    from gateway.opening import open_directory
    from policies.agency import Mode
    from tracker import watch_lease, watch_positions
    from tracker.model import now_us

    settings = load_settings(config)
    directory = open_directory(settings).current
    wanted = [
        (a.code, watch)
        for a in directory
        for watch in a.watches
        if a.mode is not Mode.OFF and agency in (None, a.code, a.code.lower())
    ]
    with reading(settings) as conn:
        states = watch_lease.states(conn)
        folders = watch_positions.counts(conn)
    now = now_us()
    found = [_row(code, watch, states.get(watch.key), folders, now) for code, watch in wanted]
    if as_json:
        for one in found:
            put_json(one)
    else:
        rows = [
            (
                one["agency"],
                one["mailbox"],
                one["state"],
                clock(one["seen_us"], settings) if one["seen_us"] else "never",
                sum(f["letters"] for f in one["folders"]),
                one["node"] or "",
                one["note"],
            )
            for one in found
        ]
        columns = ("agency", "mailbox", "state", "last read", "letters", "node", "what is wrong")
        table(columns, rows, right=(4,))
    raise typer.Exit(0 if all(one["state"] == "watching" for one in found) else 1)


def _row(
    code: str,
    watch: Watch,
    state: WatchState | None,
    folders: dict[tuple[str, str], tuple[int, int]],
    now_us: int,
) -> dict[str, Any]:
    held = state is not None and state.owner is not None and (state.lease_us or 0) >= now_us
    return {
        "agency": code,
        "mailbox": str(watch.mailbox),
        "server": f"{watch.host}:{watch.port}",
        "state": state.state or "connecting" if held and state is not None else "not watched",
        "note": state.note if state is not None else "",
        "node": state.owner.partition("/")[0] if held and state is not None and state.owner else None,
        "since_us": state.changed_us if state is not None else 0,
        "seen_us": state.seen_us if state is not None else 0,
        "folders": [
            {
                "folder": name,
                "means": meaning.value,
                "letters": folders.get((watch.key, name), (0, 0))[0],
                "read_us": folders.get((watch.key, name), (0, 0))[1],
            }
            for name, meaning in watch.folders
        ],
    }
