"""``wasl hold``: letters that a rule holds for approval, and what people decide about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import (
    Config,
    Json,
    json_of,
    load_settings,
    person,
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
            public_id(one.id),
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
    from tracker.holds import hold_page

    settings = load_settings(config)
    with reading(settings) as conn:
        viewer = console_viewer(conn, person())

        def find(name: str) -> list[Hold]:
            pages = (hold_page(conn, viewer, hold_id) for hold_id in holds_named(conn, name))
            return [page for page in pages if page is not None]

        def put(one: Hold) -> None:
            if as_json:
                put_json(json_of(one))
            else:
                _show(one, settings)

        show_named(names, "hold", find, put)


def _show(one: Hold, settings: Settings) -> None:
    from tracker.holds import BARS, Bar

    say(f"{public_id(one.id)}  {one.state.value}  {one.number or 'no number'}")
    say(f"  {one.sender or '<>'} -> {one.recipient}")
    if one.subject:
        say(f"  {one.subject}")
    say(f"  rule {one.rule}: {one.reason_en or one.reason_ar}")
    end = f", then {one.at_expiry.value}" if one.expires_us else ""
    until = f", until {clock(one.expires_us, settings)}{end}" if one.expires_us else ""
    say(f"  {one.given} of {one.needs} approvals by {', '.join(one.approvers)}{until}")
    for act in one.approvals:
        say(f"    {clock(act.at_us, settings)}  {act.act.value}  {act.account}  {act.note}".rstrip())
    if one.bar not in (None, Bar.DECIDED):
        say(f"  you cannot decide it: {BARS[one.bar]}")


@app.command()
def release(names: Names, note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Approve: goes out once as many different persons have as the rule asks for."""
    _act("release", names, note, config, as_json)


@app.command()
def refuse(names: Names, note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Refuse, saying why: it is not delivered, its number is cancelled, and the author is told."""
    if not note.strip():
        note = _asked_why(names)
    _act("refuse", names, note, config, as_json)


def _asked_why(names: list[str]) -> str:
    """The note that a refusal needs, from the person at the terminal; nobody else can be asked."""
    import sys

    if "-" in names or not sys.stdin.isatty():
        raise typer.BadParameter("a refusal says why: the author is told", param_hint="--note")
    said: str = typer.prompt("Why (the author is told)")
    return said


def _act(what: str, names: list[str], note: str, config: Config, as_json: bool) -> None:
    settings = load_settings(config)
    request = {"do": "hold", "act": what, "note": note, "extend_us": given_up_us(settings)}
    act_on_named(settings, names, request, _line, as_json)


def _line(one: dict[str, Any]) -> str:
    if one["error"]:
        return f"{one['hold']}: {one['error']}"
    waiting = f"  ({one['approvals']} of {one['needs']} approvals)" if one["state"] == "open" else ""
    return f"{one['hold']}: {one['state']}  {one['number'] or ''}  {one['recipient']}{waiting}"
