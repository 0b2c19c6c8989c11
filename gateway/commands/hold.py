"""``wasl hold``: letters that a rule holds for approval, and what people decide about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from gateway.settings import Settings
    from tracker.holds import Hold

app = typer.Typer(no_args_is_help=True, help="Letters held for approval: list, show, release, refuse.")

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="ID…",
        help="Ids of holds, deliveries, letters or transactions, or letter numbers; - reads standard input.",
    ),
]
Note = Annotated[str, typer.Option("--note", "-n", help="Why: kept with the act and told to the author.")]


@app.command("list")
def list_(
    rule: Annotated[str | None, typer.Option(help="Only those of this rule.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List what waits for approval, the oldest first."""
    from gateway.holding import console_viewer
    from tracker.holds import open_holds

    settings = load_settings(config)
    with reading(settings) as conn:
        found = open_holds(conn, console_viewer(conn, person()), limit=limit, rule=rule)
    if as_json:
        for one in found.holds:
            put_json(json_of(one))
        return
    rows = [
        (
            _id(one.id),
            one.number or "",
            clock(one.since_us, settings),
            one.sender or "<>",
            one.recipient,
            one.rule,
            f"{one.given} of {one.needs}",
            " ".join(one.approvers),
            clock(one.expires_us, settings) if one.expires_us else "",
        )
        for one in found.holds
    ]
    columns = ("id", "number", "since", "sender", "recipient", "rule", "approved", "by whom", "until")
    table(columns, rows)
    if found.next is not None:
        warn(f"more than {limit}: see --limit")


@app.command()
def show(names: Names, config: Config = None, as_json: Json = False) -> None:
    """Show holds with their letter, the rule's reason and every act on them."""
    from gateway.holding import console_viewer, holds_named
    from tracker.holds import BARS, Bar, hold_page

    settings = load_settings(config)
    missing = False
    with reading(settings) as conn:
        viewer = console_viewer(conn, person())
        for name in names_from(names):
            found = [
                page for i in holds_named(conn, name) if (page := hold_page(conn, viewer, i)) is not None
            ]
            if not found:
                warn(f"{name}: no hold of this id or number")
                missing = True
            for one in found:
                if as_json:
                    put_json(json_of(one))
                    continue
                _show(one, settings)
                if one.bar not in (None, Bar.DECIDED):
                    say(f"  you cannot decide it: {BARS[one.bar]}")
    raise typer.Exit(1 if missing else 0)


def _show(one: Hold, settings: Settings) -> None:
    say(f"{_id(one.id)}  {one.state.value}  {one.number or 'no number'}")
    say(f"  {one.sender or '<>'} -> {one.recipient}")
    if one.subject:
        say(f"  {one.subject}")
    say(f"  rule {one.rule}: {one.reason_en or one.reason_ar}")
    end = f", then {one.at_expiry.value}" if one.expires_us else ""
    until = f", until {clock(one.expires_us, settings)}{end}" if one.expires_us else ""
    say(f"  {one.given} of {one.needs} approvals by {', '.join(one.approvers)}{until}")
    for act in one.approvals:
        say(f"    {clock(act.at_us, settings)}  {act.act.value}  {act.account}  {act.note}".rstrip())


@app.command()
def release(names: Names, note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Approve: goes out once as many different persons have as the rule asks for."""
    _act("release", names, note, config, as_json)


@app.command()
def refuse(names: Names, note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Refuse: it is not delivered, its number is cancelled, and the author is told."""
    _act("refuse", names, note, config, as_json)


def _act(what: str, names: list[str], note: str, config: Config, as_json: bool) -> None:
    from gateway.acts import perform
    from tracker.model import now_us

    settings = load_settings(config)
    wanted = names_from(names)
    if not wanted:
        say("nothing to do")
        return
    request = {
        "do": "hold",
        "act": what,
        "names": wanted,
        "person": person(),
        "note": note,
        "extend_us": now_us() + int(settings.relay.give_up_after.total_seconds() * 1_000_000),
    }
    done: list[dict[str, Any]] = perform(settings, request)["done"]
    for one in done:
        if as_json:
            put_json(one)
        elif one["error"]:
            warn(f"{one['hold']}: {one['error']}")
        else:
            waiting = f"  ({one['approvals']} of {one['needs']} approvals)" if one["state"] == "open" else ""
            say(f"{one['hold']}: {one['state']}  {one['number'] or ''}  {one['recipient']}{waiting}")
    raise typer.Exit(1 if any(one["error"] for one in done) else 0)


def _id(number: int) -> str:
    from tracker.model import id_text

    return id_text(number)
