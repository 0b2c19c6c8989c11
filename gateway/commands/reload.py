"""``wasl reload``: the running gateway reads directory, policy and keys again; what came of it is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import Config, Json, load_settings, person, put_json, say, warn

if TYPE_CHECKING:
    from gateway.settings import Settings


def reload(
    note: Annotated[
        str, typer.Option("--note", help="Why, for those who read the versions of the policy.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have the running gateway read directory, policy and keys again, as SIGHUP does.

    Prints what is in force and every fault with file and line; exit status 1 if there is one. What is broken
    changes nothing: the last good one stays in force.
    """
    from gateway import control

    settings = load_settings(config)
    answer = control.ask(
        settings.gateway.data_dir, {"do": "reload", "person": person(), "note": note}, timeout_s=300
    )
    good, broken = _signing_keys(settings)
    faults = [*answer["faults"], *broken]
    policy = answer["policy"]
    if as_json:
        answer.pop("ok")
        put_json(answer | {"faults": faults, "keys": good})
    else:
        say(f"directory of {answer['agencies']} agencies is in force, version {answer['directory'][:12]}")
        say(f"policy version {policy['version']} is in force")
        if policy["waiting"]:
            say(f"{policy['waiting']} waits for a second person: `wasl policy approve {policy['waiting']}`")
        say(f"{good} signing keys can be used")
        say(f"ledger key {answer['ledger_key']}")
        for fault in faults:
            warn(fault)
        if faults:
            warn(f"{len(faults)} faults: what was in force stays in force")
    raise typer.Exit(1 if faults else 0)


def _signing_keys(settings: Settings) -> tuple[int, list[str]]:
    """How many DKIM keys can be used, and what is wrong with the others.

    Read here: the gateway's own process, which reads what anybody sends, holds no key.
    """
    from gateway.opening import open_directory
    from gateway.sign import SigningKey, SigningKeyError
    from policies.faults import ConfigFaults

    named = [("wasl.toml", settings.gateway.domain, key.selector, key.key_file) for key in settings.dkim]
    try:
        for agency in open_directory(settings).current:
            named += [(agency.file, key.domain, key.selector, key.key_file) for key in agency.dkim]
    except ConfigFaults:
        pass  # the gateway has said so
    faults = []
    for file, domain, selector, path in named:
        try:
            SigningKey.load(path, domain=domain, selector=selector)
        except OSError as error:
            faults.append(f"{file}: dkim {selector}: {path}: {error.strerror or error}")
        except SigningKeyError as error:
            faults.append(f"{file}: dkim {selector}: {path}: {error}")
    return len(named) - len(faults), faults
