"""``wasl policy versions``, ``diff``, ``rollback``, ``approve``, ``reload``: what was and is to be in force.

Files stay the truth: a rollback writes them. With ``policy.second_person`` a change waits for ``approve``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.console import Config, Json, load_settings, person, put_json, say, table, warn
from gateway.commands.reading import clock, reading
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings
    from policies.versions import Texts

Digest = Annotated[
    str, typer.Argument(metavar="DIGEST", help="A version, or as much of it as is unmistakable.")
]
Note = Annotated[str, typer.Option("--note", help="Why, for those who read the versions.")]


def versions(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the versions of the policy: who loaded them when, and which is in force."""
    from dataclasses import asdict

    from tracker import policy_store

    settings = load_settings(config)
    with reading(settings) as conn:
        found = policy_store.versions(conn, limit + 1)
    if as_json:
        for one in found[:limit]:
            put_json(asdict(one))
        return
    rows = []
    for one in found[:limit]:
        last = one.last
        in_force = clock(last.active_us, settings) if last is not None and last.active_us else ""
        second = last.second or "" if last is not None else ""
        note = (last.note if last is not None else "") or one.note
        rows.append(
            (one.digest, one.standing.value, clock(one.at_us, settings), one.by, second, in_force, note)
        )
    table(("version", "state", "first loaded", "by", "approved by", "in force since", "note"), rows)
    if len(found) > limit:
        warn(f"there are more than {limit}: see --limit")


def diff(
    old: Annotated[
        str, typer.Argument(metavar="[A]", help="A version, a folder, or: active, previous, folder.")
    ] = "active",
    new: Annotated[str, typer.Argument(metavar="[B]", help="The same.")] = "folder",
    config: Config = None,
) -> None:
    """Show how two versions of the policy differ; without names, what is in force and the folder."""
    from policies.versions import unified

    settings = load_settings(config)
    (old_name, old_texts), (new_name, new_texts) = (_texts(settings, name) for name in (old, new))
    lines = list(unified(old_texts, new_texts, (old_name, new_name)))
    _show_diff(lines)
    raise typer.Exit(1 if lines else 0)


def _show_diff(lines: list[str]) -> None:
    import sys

    if not sys.stdout.isatty():
        say("\n".join(lines)) if lines else None
        return
    from rich.console import Console
    from rich.text import Text

    from gateway.commands.console import safe

    styles = {"+++": "bold", "---": "bold", "@@": "cyan", "+": "green", "-": "red"}
    console = Console()
    for line in lines:
        style = next((styles[start] for start in styles if line.startswith(start)), "")
        console.print(Text(safe(line), style=style), soft_wrap=True)


def _texts(settings: Settings, name: str) -> tuple[str, Texts]:
    """A version by digest, by where it stands, or a folder; with what it is called in the answer."""
    from gateway.opening import policy_limits
    from policies.load import load_policy
    from policies.versions import texts_of
    from tracker import policy_store

    limits = policy_limits(settings)
    if name == "folder":
        return "folder", texts_of(load_policy(settings.policy.path, limits), limits)
    if "/" in name or Path(name).is_dir():
        return name.rstrip("/"), texts_of(load_policy(Path(name), limits), limits)
    with reading(settings) as conn:
        if name in ("active", "previous"):
            history = policy_store.history(conn, limit=2)
            place = 0 if name == "active" else 1
            if len(history) <= place:
                only = history and "only one has been in force so far"
                raise Trouble(f"there is no {name} version: {only or '`wasl serve` stores what it loads'}")
            digest = history[place].digest
        else:
            digest = policy_store.find(conn, name)
        return digest, policy_store.files_of(conn, digest) or {}


def rollback(digest: Digest, note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Write the files of a version back into the policy folder and put it in force."""
    _act("rollback", digest, note, config, as_json)


def approve(digest: Digest, config: Config = None, as_json: Json = False) -> None:
    """Agree, as a second person, to a proposed version; it is in force at once."""
    _act("approve", digest, "", config, as_json)


def _act(act: str, digest: str, note: str, config: Config, as_json: bool) -> None:
    from gateway.acts import perform
    from gateway.policy_desk import here

    settings = load_settings(config)
    request = {"do": "policy", "act": act, "digest": digest, "person": person(), "note": note}
    answer = perform(settings, request | here(settings))
    _told(answer, as_json)


def _told(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        put_json(answer)
    for fault in answer.get("faults", ()):
        warn(fault)
    if answer.get("faults"):
        warn("nothing was changed")
        raise typer.Exit(1)
    if not as_json:
        say(f"policy version {answer['in_force']} is in force")
        if answer["waiting"]:
            say(f"{answer['waiting']} waits for a second person: `wasl policy approve {answer['waiting']}`")


def reload(note: Note = "", config: Config = None, as_json: Json = False) -> None:
    """Have the running gateway read directory and policy again."""
    from gateway import control

    settings = load_settings(config)
    request = {"do": "reload", "person": person(), "note": note}
    answer = control.ask(settings.gateway.data_dir, request)
    policy = answer["policy"]
    _told({"faults": answer["faults"], "in_force": policy["version"], "waiting": policy["waiting"]}, as_json)
