"""``wasl letter``: letters by number, id or Message-ID, and where each of them is.

Whoever looks is written into the audit, as on the dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from gateway.commands.reading import clock, operator, reading
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings
    from tracker.letter_page import LetterPage
    from tracker.store import Connection

app = typer.Typer(no_args_is_help=True, help="Letters: list, show, trace; what a registry does with them.")

Ref = Annotated[str, typer.Argument(metavar="ID", help="A letter number, an id, or a Message-ID.")]


def _looked(settings: Settings, action: str, object_: str, **detail: object) -> None:
    """Write down that somebody looked, before anything is shown."""
    from gateway.acts import perform

    request = {"do": "audit", "action": action, "object": object_, "detail": detail, "person": person()}
    perform(settings, request)


@app.command("list")
def list_(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY…]", help="A search line as on the dashboard: from:MOF to:MOH words."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List letters, the newest first."""
    from zoneinfo import ZoneInfo

    from tracker.queries import letters
    from tracker.search import parse

    settings = load_settings(config)
    line = " ".join(query or ())
    _looked(settings, "search" if line else "list", line)
    with reading(settings) as conn:
        zone = ZoneInfo(settings.gateway.zone)
        found = letters(conn, operator(), parse(line), zone=zone, limit=limit, seconds=30)
    if as_json:
        for one in found.letters:
            put_json(json_of(one))
    else:
        rows = []
        for one in found.letters:
            states = sorted({r.state.value for r in one.recipients if r.state is not None})
            to = sorted({r.agency or r.address for r in one.recipients})
            rows.append(
                (
                    public_id(one.id),
                    one.number or one.kind,
                    clock(one.accepted_us, settings),
                    one.agency or "",
                    ", ".join(to),
                    ", ".join(states),
                    one.subject,
                )
            )
        table(("id", "number", "accepted", "from", "to", "state", "subject"), rows)
    if found.reached_us is not None:
        warn(f"the search stopped at {clock(found.reached_us, settings)}: narrow it with dates or an agency")
    elif found.next is not None:
        warn(f"there are more than {limit}: see --limit")


@app.command()
def show(ref: Ref, config: Config = None, as_json: Json = False) -> None:
    """Show a letter: one line a recipient, with how far it went."""
    from tracker.incoming import of_letter

    settings = load_settings(config)
    for page in _pages(settings, ref, "view-letter"):
        with reading(settings) as conn:
            entries = of_letter(conn, operator(), page.id)
        if as_json:
            put_json(json_of(page) | {"incoming": json_of(entries)})
            continue
        _head(page, settings)
        rows = [
            (
                public_id(r.id),
                r.address,
                r.agency or "outside",
                f"E{int(r.grade)} {r.grade.name.lower()}",
                r.state.value,
                r.outcome.value,
                r.tries,
                r.last_reply or "",
            )
            for r in page.recipients
        ]
        columns = ("id", "recipient", "agency", "grade", "state", "outcome", "tries", "last answer")
        table(columns, rows, right=(6,))
        for one in entries:
            where = " ".join(x for x in (one.stage or "", one.referred_to and f"with {one.referred_to}") if x)
            say(f"at {one.agency}: incoming {one.number or '(no number)'}  {where}  {one.note}".rstrip())


@app.command()
def trace(ref: Ref, config: Config = None, as_json: Json = False) -> None:
    """Show everything that happened to a letter, in order, each with what proves it."""
    settings = load_settings(config)
    for page in _pages(settings, ref, "view-letter"):
        if as_json:
            for line in page.events:
                put_json(json_of(line))
            continue
        _head(page, settings)
        names = {r.id: r.address for r in page.recipients}
        for line in page.events:
            who = names.get(line.delivery_id, "") if line.delivery_id is not None else ""
            proof = f"  ledger {line.ledger_index}" if line.ledger_index is not None else ""
            source = " ".join(x for x in (line.source, line.reporter) if x)
            at = clock(line.at_us, settings)
            say(f"{at}  E{int(line.grade)} {line.event.value:<10} {who}  [{source}]{proof}")
            for key in ("reply", "rule", "person", "diagnostic_code", "status"):
                if line.detail.get(key):
                    say(f"    {key}: {line.detail[key]}")
        for r in page.recipients:
            for a in r.attempts:
                at = clock(a.started_us, settings)
                say(f"{at}  attempt       {r.address}  {a.peer or a.hop} {a.tls or ''}")
                if a.transcript:
                    say("\n".join(f"    {text}" for text in a.transcript.splitlines()))


def _pages(settings: Settings, ref: str, action: str) -> list[LetterPage]:
    """The letters that ``ref`` means; several may bear one Message-ID. Raises ValueError for none."""
    from tracker.letter_page import read

    with reading(settings) as conn:
        ids = _find(conn, ref)
    if not ids:
        raise Trouble(f"there is no letter {ref}: give its number, id or Message-ID")
    _looked(settings, action, ref)
    with reading(settings) as conn:
        pages = [read(conn, operator(), one) for one in ids]
    return [page for page in pages if page is not None]


def _find(conn: Connection, ref: str) -> list[int]:
    from tracker.letter_page import find
    from tracker.queue import letters

    found = find(conn, operator(), ref)
    return letters(conn, ref) if found is None else [found]


def _head(page: LetterPage, settings: Settings) -> None:
    say(f"{page.number or page.kind}  {public_id(page.id)}  {clock(page.accepted_us, settings)}")
    say(f"from     {page.author_name} <{page.author}>  {page.agency or ''}")
    say(f"subject  {page.subject}")
    if page.message_id:
        say(f"id       {page.message_id}")
    if page.ledger is not None:
        sealed = "in a signed checkpoint" if page.ledger.sealed else "not in a checkpoint yet"
        say(f"ledger   entry {page.ledger.index}, {sealed}")
    for one in page.submissions:
        where = " ".join(str(x) for x in (one.door, one.peer, one.tls, one.account) if x)
        say(f"arrived  {clock(one.at_us, settings)}  {one.size} octets  {where}  sha256 {one.sha256.hex()}")
