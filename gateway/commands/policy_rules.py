"""``wasl policy check``, ``test``, ``rules`` and ``schema``: rules before they meet a letter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.console import (
    Config,
    Json,
    UnusedConfig,
    check_settings,
    load_settings,
    progress,
    put_json,
    say,
    table,
    warn,
)
from gateway.commands.reading import clock, reading
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gateway.settings import Settings
    from policies.chain import Policy
    from policies.directory import Directory
    from policies.facts import Surroundings
    from policies.faults import Fault
    from policies.rule import Rule
    from tracker.model import Address

Folder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A policy folder. Default: that of the settings.")
]


def compiled(settings: Settings, folder: Path | None) -> tuple[Policy, Directory, Path | None]:
    """The policy of a folder, checked against the directory; raises ConfigFaults with every fault of both."""
    from gateway.opening import open_directory, policy_limits
    from policies.faults import ConfigFaults
    from policies.load import load_policy

    where = folder if folder is not None else settings.policy.path
    faults: list[Fault] = []
    directory: Directory | None = None
    try:
        directory = open_directory(settings).current
    except ConfigFaults as e:
        faults += e.faults
    try:
        policy = load_policy(where, policy_limits(settings), directory)
    except ConfigFaults as e:
        faults += e.faults
    if faults:
        raise ConfigFaults(faults)
    assert directory is not None
    return policy, directory, where


def check(folder: Folder = None, config: Config = None, as_json: Json = False) -> None:
    """Check the files of a policy: every fault at once with file and line."""
    from policies.faults import ConfigFaults

    settings = load_settings(config)
    try:
        policy, _, _ = compiled(settings, folder)
    except ConfigFaults as e:
        for fault in e.faults:
            if as_json:
                put_json(fault.to_json())
            else:
                warn(fault.exact)
        if len(e.faults) > 1 and not as_json:
            warn(f"{len(e.faults)} faults")
        raise typer.Exit(1) from None
    if as_json:
        put_json({"version": policy.version, "rules": len(policy.rules)})
    else:
        say(f"{len(policy.rules)} rules, version {policy.version}")


def test(
    folder: Folder = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Examples with these letters in the name.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try the examples beside the rules; tell where the rules do otherwise. Exit status 1 then."""
    from zoneinfo import ZoneInfo

    from policies.example import FOLDER, examples, try_example
    from tracker.model import now_us

    settings = load_settings(config)
    policy, directory, where = compiled(settings, folder)
    if where is None:
        raise Trouble("the rules are the built-in ones: give a folder, or set policy.path")
    around = surroundings(settings, directory)
    zone = ZoneInfo(settings.gateway.zone)
    found = examples(where, zone, now_us())
    if only is not None:
        found = [one for one in found if only.casefold() in one.name.casefold()]
    wrong = 0
    told: list[tuple[str, list[str]]] = []
    with progress("examples") as show:
        for i, one in enumerate(found, 1):
            misfits = try_example(policy, one, around, zone)
            wrong += bool(misfits)
            told.append((f"{one.file}:{one.line}: {one.name}", [str(misfit) for misfit in misfits]))
            show(i, len(found))
    for name, misfits_ in told:
        if as_json:
            put_json({"example": name, "ok": not misfits_, "misfits": misfits_})
        for text in () if as_json else misfits_:
            warn(f"{name}: {text}")
    if not found and not as_json:
        warn(f"there is no example in {where / FOLDER}")
    elif not as_json:
        say(f"{len(found)} examples, {wrong or 'none'} not as expected")
    raise typer.Exit(1 if wrong else 0)


def surroundings(settings: Settings, directory: Directory) -> Surroundings:
    from gateway.opening import mac_secrets
    from gateway.reverse_path import ReversePath
    from policies.facts import Surroundings

    domain, postmaster = settings.gateway.domain, settings.gateway.postmaster
    try:
        back = ReversePath(mac_secrets(settings.secrets.mac), domain)
    except Trouble:  # who writes rules need not be able to read the gateway's secrets
        return Surroundings(directory=directory, domain=domain, postmaster=postmaster)

    def is_return(address: Address) -> bool:
        return back.parse(address) is not None

    return Surroundings(directory=directory, domain=domain, is_return=is_return, postmaster=postmaster)


def rules(
    folder: Folder = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Count hits of so many days.")] = 30,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the rules in the order in which they are asked: match, action, how often they applied."""
    from gateway.opening import policy_limits
    from policies.load import load_policy
    from tracker.model import now_us
    from tracker.rule_hits import RuleUse, uses

    settings = load_settings(config)
    where = folder if folder is not None else settings.policy.path
    policy = load_policy(where, policy_limits(settings))
    found: dict[str, RuleUse] = {}
    try:
        with reading(settings) as conn:
            found = uses(conn, [rule.id for rule in policy.rules], now_us() - days * 86_400_000_000)
    except Trouble as e:
        warn(f"no hits are counted: {e}")
    rows = []
    for rule in policy.rules:
        use = found.get(rule.id, RuleUse())
        if as_json:
            put_json(
                dict(rule.entry)
                | {
                    "file": rule.file,
                    "line": rule.line,
                    "hits": use.hits,
                    "shadow_hits": use.shadow,
                    "more": use.more,
                    "last_us": use.last_us,
                }
            )
        match, does = _columns(rule)
        last = clock(use.last_us, settings) if use.last_us is not None else ""
        rows.append((rule.priority, rule.id, match, does, f"{use.hits}{'+' if use.more else ''}", last))
    if not as_json:
        heads = ("priority", "rule", "match", "action", f"{days} days", "last")
        table(heads, rows, right=(0, 4))


_NAMES = frozenset({"id", "priority", "description", "match", "unless", "when", "mode"})


def _columns(rule: Rule) -> tuple[str, str]:
    """What a rule asks and what it does, each on one line."""
    entry = rule.entry
    asks = [_brief(entry.get("match") or {})]
    asks += [f"unless {_brief(entry['unless'])}"] if entry.get("unless") else []
    asks += [f"when {entry['when']}"] if entry.get("when") else []
    does = _brief({key: value for key, value in entry.items() if key not in _NAMES})
    return "; ".join(text for text in asks if text), f"shadow: {does}" if rule.shadow else does


def _brief(values: Mapping[str, Any]) -> str:
    """Match keys or effects on one line."""
    return "; ".join(
        _value(value) if key == "action" else f"{key}: {_value(value)}" for key, value in values.items()
    )


def _value(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key} {_value(one)}" for key, one in value.items() if key not in ("ar", "en"))
    return str(value)


def schema(
    of: Annotated[
        str, typer.Argument(metavar="[KIND]", help="Of which files: rules, groups, calendar or marks.")
    ] = "rules",
    config: UnusedConfig = None,
) -> None:
    """Print the JSON Schema of policy files, for editors that check and complete."""
    import json

    from policies.schema_export import FILES, json_schema

    check_settings(config)
    if of not in FILES:
        raise typer.BadParameter(f"one of {', '.join(FILES)}", param_hint="KIND")
    print(json.dumps(json_schema(of), ensure_ascii=False, indent=2))
