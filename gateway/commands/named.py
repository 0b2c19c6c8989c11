"""What a person names on the command line: ids and numbers, each of which may mean several things or nothing.

``-`` stands for the first word of each line of standard input, or the id in each JSON object, so that a
list of one command feeds the next. A name that means nothing, or an act that was not taken, is said on
standard error; the others are shown or done all the same, and the command then ends with exit status 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from gateway.commands.console import names_from, person, put_json, say, warn

if TYPE_CHECKING:
    from gateway.settings import Settings

T = TypeVar("T")


def show_named(
    names: Sequence[str], what: str, find: Callable[[str], Sequence[T]], put: Callable[[T], None]
) -> NoReturn:
    """Put whatever each name means; ``what`` it should have been is said of those that mean nothing."""
    missing = False
    for name in names_from(names):
        found = find(name)
        if not found:
            warn(f"{name}: no {what} of this id or number")
            missing = True
        for one in found:
            put(one)
    raise typer.Exit(1 if missing else 0)


def act_on_named(
    settings: Settings,
    names: Sequence[str],
    request: dict[str, Any],
    line: Callable[[dict[str, Any]], str],
    as_json: bool,
) -> None:
    """Have an act done on all that is named, and say of each what became of it.

    ``request`` is the act's (:mod:`gateway.acts`) but for names and person; ``line`` tells one answer, whose
    ``error`` is empty where it was done. Raises what :func:`gateway.acts.perform` raises.
    """
    from gateway.acts import perform

    wanted = names_from(names)
    if not wanted:
        say("nothing to do")
        return
    done: list[dict[str, Any]] = perform(settings, request | {"names": wanted, "person": person()})["done"]
    for one in done:
        if as_json:
            put_json(one)
        elif one["error"]:
            warn(line(one))
        else:
            say(line(one))
    raise typer.Exit(1 if any(one["error"] for one in done) else 0)


def given_up_us(settings: Settings) -> int:
    """When the relay gives up what it is handed now: microseconds of UTC."""
    from tracker.model import now_us

    return now_us() + int(settings.relay.give_up_after.total_seconds() * 1_000_000)
