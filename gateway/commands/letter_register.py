"""``wasl letter register`` and its like: what a registry does with letters that its agency received.

Done in the same words and with the same record as on the dashboard and by mail; who sits at the terminal is
named in the evidence.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands.console import Config, Json, load_settings
from gateway.commands.named import act_on_named

Names = Annotated[
    list[str],
    typer.Argument(metavar="ID…", help="Letter numbers, ids or Message-IDs; - reads standard input."),
]
At = Annotated[
    str, typer.Option("--agency", "-a", metavar="CODE", help="At which agency, when it went to several.")
]


def register(
    names: Names,
    number: Annotated[
        str, typer.Option("--number", "-n", help="The registry's own incoming number, if it keeps its own.")
    ] = "",
    agency: At = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Enter letters in an agency's incoming register (قيد في الوارد)."""
    _act("register", names, agency, config, as_json, number=number)


def refer(
    names: Names,
    to: Annotated[str, typer.Option("--to", "-t", help="The unit or person.")],
    information: Annotated[
        bool, typer.Option("--for-information", help="For information (للعلم), not for action (للإجراء).")
    ] = False,
    remark: Annotated[
        str, typer.Option("--remark", "-r", help="Beside the referral, for that agency's own eyes.")
    ] = "",
    agency: At = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Refer letters to a unit or person inside the agency (إحالة)."""
    purpose = "information" if information else "action"
    _act("refer", names, agency, config, as_json, to=to, purpose=purpose, remark=remark)


def progress(
    names: Names,
    text: Annotated[str, typer.Option("--text", help="What is being done.")] = "",
    agency: At = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Set letters in progress (قيد الإجراء); opens again what was closed or returned."""
    _act("progress", names, agency, config, as_json, text=text)


def return_(
    names: Names,
    reason: Annotated[str, typer.Option("--reason", help="Why: told to the author.")],
    agency: At = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Return letters with a reason (إعادة)."""
    _act("return", names, agency, config, as_json, text=reason)


def close(
    names: Names,
    result: Annotated[str, typer.Option("--result", help="What came of it: told to the author.")] = "",
    agency: At = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Close letters as dealt with (إغلاق)."""
    _act("close", names, agency, config, as_json, text=result)


def _act(what: str, names: list[str], agency: str, config: Config, as_json: bool, **more: str) -> None:
    from gateway.registry import shapes
    from policies.directory import load_directory

    settings = load_settings(config)
    directory = load_directory(settings.directory.path, (settings.gateway.domain,))
    known = shapes(directory, settings.numbers.incoming)
    request: dict[str, Any] = {"do": "registry", "act": what, "agency": agency, "shapes": known, **more}
    act_on_named(settings, names, request, _line, as_json)


def _line(one: dict[str, Any]) -> str:
    who = f"{one['letter']} {one['agency']}".rstrip()
    if one["error"]:
        return f"{who}: {one['error']}" + (f" ({one['incoming']})" if one["incoming"] else "")
    return f"{who}: {one['stage']}  {one['incoming'] or ''}".rstrip()
