"""``wasl queue``: what waits, and what an administrator does about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import (
    Config,
    Json,
    json_of,
    load_settings,
    public_id,
    put_json,
    say,
    table,
    warn,
)
from gateway.commands.named import act_on_named, given_up_us, show_named
from gateway.commands.reading import clock, reading

if TYPE_CHECKING:
    from gateway.settings import Settings
    from tracker.queue_list import Try, Waiting

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
            public_id(one.id),
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
    with reading(settings) as conn:

        def put(found: tuple[int, object]) -> None:
            one, attempts = one_delivery(conn, found[0])
            if as_json:
                put_json(json_of(one) | {"tries": json_of(attempts)})
            else:
                _show(one, attempts, settings)

        show_named(names, "delivery", lambda name: find(conn, name), put)


def _show(one: Waiting, attempts: Sequence[Try], settings: Settings) -> None:
    head = f"{public_id(one.id)}  {one.state.value}  {one.number or 'no number'}"
    say(f"{head}  {one.sender or '<>'} -> {one.recipient} by {one.hop}")
    for a in attempts:
        ended = clock(a.ended_us, settings) if a.ended_us else "not noted: in doubt"
        say(f"  {clock(a.started_us, settings)} .. {ended}  {a.peer or ''} {a.tls or ''}")
        say(f"    {a.reply or a.result or ''}")
    if one.state.value == "queued":
        due, end = clock(one.next_us, settings), clock(one.expires_us, settings)
        say(f"  next attempt {due}, given up {end}")


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
    settings = load_settings(config)
    request = {"do": "queue", "act": what, "extend_us": given_up_us(settings)}
    act_on_named(settings, names, request, _line, as_json)


def _line(one: dict[str, Any]) -> str:
    return f"{one['delivery']}: " + (one["error"] or f"{one['state']}  {one['recipient']}")
