"""``wasl queue``: what waits, and what an administrator does about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands.console import (
    Config,
    Json,
    json_of,
    load_settings,
    names_from,
    person,
    put_json,
    say,
    table,
    warn,
)
from gateway.commands.reading import clock, reading

app = typer.Typer(no_args_is_help=True, help="The queue: list, show, retry, hold, release, cancel, requeue.")

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="ID…",
        help="Ids of deliveries, letters or transactions, or letter numbers; - reads standard input.",
    ),
]


@app.command("list")
def list_(
    agency: Annotated[str | None, typer.Option(help="Only to this receiving agency.")] = None,
    hop: Annotated[
        str | None, typer.Option(help="Only for this next hop, such as MOH or MOF:outbound.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="queued, sending or held.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List what has not gone out yet, the oldest first."""
    from tracker.queue_list import WAITING, waiting

    if state is not None and state not in [s.value for s in WAITING]:
        raise typer.BadParameter(f"one of {', '.join(WAITING)}", param_hint="--state")
    settings = load_settings(config)
    with reading(settings) as conn:
        found = waiting(conn, agency=agency, hop=hop, state=state, limit=limit + 1)
    more = len(found) > limit
    found = found[:limit]
    if as_json:
        for one in found:
            put_json(json_of(one))
        return
    rows = [
        (
            _id(one.id),
            one.number or "",
            one.state.value,
            clock(one.accepted_us, settings),
            one.sender or "<>",
            one.recipient,
            one.hop,
            one.attempts,
            clock(one.next_us, settings) if one.state.value == "queued" else "",
            one.last_reply or "",
        )
        for one in found
    ]
    columns = (
        "id",
        "number",
        "state",
        "accepted",
        "sender",
        "recipient",
        "hop",
        "tries",
        "next",
        "last answer",
    )
    table(columns, rows, right=(7,))
    if more:
        warn(f"more than {limit}: see --limit")


@app.command()
def show(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Show deliveries with their attempts and what the next hop answered."""
    from tracker.queue import find
    from tracker.queue_list import one_delivery

    settings = load_settings(config)
    missing = False
    with reading(settings) as conn:
        for name in names_from(names):
            found = find(conn, name)
            if not found:
                warn(f"{name}: no delivery of this id or number")
                missing = True
            for delivery_id, _ in found:
                one, attempts = one_delivery(conn, delivery_id)
                if as_json:
                    put_json(json_of(one) | {"tries": json_of(attempts)})
                    continue
                head = f"{_id(one.id)}  {one.state.value}  {one.number or 'no number'}"
                say(f"{head}  {one.sender or '<>'} -> {one.recipient} by {one.hop}")
                for a in attempts:
                    ended = clock(a.ended_us, settings) if a.ended_us else "not noted: in doubt"
                    say(f"  {clock(a.started_us, settings)} .. {ended}  {a.peer or ''} {a.tls or ''}")
                    say(f"    {a.reply or a.result or ''}")
                if one.state.value == "queued":
                    due, end = clock(one.next_us, settings), clock(one.expires_us, settings)
                    say(f"  next attempt {due}, given up {end}")
    raise typer.Exit(1 if missing else 0)


@app.command()
def retry(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Try again now."""
    _act("retry", names, config, as_json)


@app.command()
def hold(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Keep in the queue until released."""
    _act("hold", names, config, as_json)


@app.command()
def release(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Let held deliveries go out."""
    _act("release", names, config, as_json)


@app.command()
def cancel(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Give up; the author is told that it failed."""
    _act("cancel", names, config, as_json)


@app.command()
def requeue(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Send again what was sent, failed or cancelled."""
    _act("requeue", names, config, as_json)


def _act(what: str, names: list[str], config: Config, as_json: bool) -> None:
    from gateway.acts import perform
    from tracker.model import now_us

    settings = load_settings(config)
    wanted = names_from(names)
    if not wanted:
        say("nothing to do")
        return
    request = {
        "do": "queue",
        "act": what,
        "names": wanted,
        "person": person(),
        "extend_us": now_us() + int(settings.relay.give_up_after.total_seconds() * 1_000_000),
    }
    done: list[dict[str, Any]] = perform(settings, request)["done"]
    for one in done:
        if as_json:
            put_json(one)
        elif one["error"]:
            warn(f"{one['delivery']}: {one['error']}")
        else:
            say(f"{one['delivery']}: {one['state']}  {one['recipient']}")
    raise typer.Exit(1 if any(one["error"] for one in done) else 0)


def _id(number: int) -> str:
    from tracker.model import id_text

    return id_text(number)
