"""``wasl policy explain`` and ``try``: why a letter was decided as it was, and what one would be decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from gateway.commands.console import Config, Json, json_of, load_settings, parsed, person, put_json, say, warn
from gateway.commands.reading import clock, operator, reading
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from gateway.settings import Settings
    from policies.explain import Reasoned
    from policies.verdict import Verdict
    from tracker.recorded import Recorded

Every = Annotated[bool, typer.Option("--all", help="Show the rules that did not apply, too.")]


def explain(
    ref: Annotated[str, typer.Argument(metavar="LETTER", help="A letter number, an id, or a Message-ID.")],
    every: Every = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell why a letter was decided as it was: policy version, rules, and the facts that answered them."""
    from pydantic_core import from_json

    from gateway.acts import perform
    from policies.explain import explain as reasons
    from policies.faults import ConfigFaults
    from policies.replay import read_facts
    from policies.versions import compile_version
    from tracker import policy_store, queue, recorded
    from tracker.letter_page import find

    settings = load_settings(config)
    with reading(settings) as conn:
        one = find(conn, operator(), ref)
        ids = queue.letters(conn, ref) if one is None else [one]
    if not ids:
        raise Trouble(f"there is no letter {ref}: give its number, id or Message-ID")
    perform(settings, {"do": "audit", "action": "view-letter", "object": ref, "person": person()})
    told = False
    with reading(settings) as conn:
        rows = [row for letter_id in ids for row in recorded.of_letter(conn, letter_id)]
        texts = {row.version: policy_store.files_of(conn, row.version) for row in rows}
    for row in rows:
        files = texts[row.version]
        if files is None:
            warn(f"policy version {row.version} was not stored: what was recorded is all that is known")
            _recorded(row, settings, as_json)
            continue
        try:
            found = reasons(compile_version(files), read_facts(row), from_json(row.decision))
        except (ConfigFaults, ValueError) as e:
            warn(f"policy version {row.version} cannot decide again with this program: {e}")
            _recorded(row, settings, as_json)
            continue
        told = True
        if as_json:
            put_json(_json(row, found))
            continue
        _head(row, settings)
        for reasoned in found:
            _tell(reasoned, settings, every)
    if not rows:
        raise Trouble(f"{ref} passed without being decided as a letter: nothing of it was kept")
    raise typer.Exit(0 if told else 1)


def try_(
    file: Annotated[Path, typer.Argument(metavar="FILE.eml", help="A message; - is standard input.")],
    to: Annotated[list[str], typer.Option("--to", help="A recipient; several times for several.")],
    sender: Annotated[str, typer.Option("--from", help="The envelope sender; <> for none.")],
    agency: Annotated[
        str | None, typer.Option(help="Who hands it in; the sender's agency when not given.")
    ] = None,
    door: Annotated[str, typer.Option(help="relay or submission.")] = "relay",
    at: Annotated[str | None, typer.Option(help="When it comes, such as 2026-11-22T10:00; now.")] = None,
    candidate: Annotated[
        Path | None, typer.Option("--candidate", metavar="DIR", help="A policy folder; that of the settings.")
    ] = None,
    every: Every = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell what would become of a message; nothing is sent and nothing recorded."""
    import sys

    from gateway.commands.policy_replay import moment
    from gateway.commands.policy_rules import compiled, surroundings
    from policies.explain import explain as reasons
    from policies.trial import Handing, facts_of
    from tracker.model import NULL_PATH, Address, Door, now_us

    settings = load_settings(config)
    zone = ZoneInfo(settings.gateway.zone)
    if door not in [d.value for d in Door]:
        raise typer.BadParameter(f"one of {', '.join(d.value for d in Door)}", param_hint="--door")
    policy, directory, _ = compiled(settings, candidate)
    code = agency.upper() if agency is not None else None
    if code is not None and directory.agency(code) is None:
        raise typer.BadParameter(f"there is no agency {code}", param_hint="--agency")
    octets = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    handing = Handing(
        sender=NULL_PATH if sender in ("", "<>") else parsed(Address.parse, sender, "--from"),
        recipients=tuple(parsed(Address.parse, one, "--to") for one in to),
        door=Door(door),
        agency=code,
        at_us=now_us() if at is None else parsed(lambda text: moment(text, zone), at, "--at"),
    )
    octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    facts = facts_of(octets, handing, surroundings(settings, directory), policy.needs_fields)
    found = reasons(policy, facts)
    if as_json:
        put_json({"policy": policy.version, "facts": facts.to_json(), "recipients": _reasons(found)})
        return
    say(f"policy {policy.version}")
    for reasoned in found:
        _tell(reasoned, settings, every)


def _head(row: Recorded, settings: Settings) -> None:
    from tracker.model import id_text

    name = row.number or row.kind
    say(f"{name}  {id_text(row.letter_id)}  {clock(row.at_us, settings)}  policy {row.version}")


def _tell(one: Reasoned, settings: Settings, every: bool) -> None:
    from policies.explain import applied

    v = one.verdict
    say(f"{v.recipient.address}  {_outcome(v, settings)}")
    hidden = 0
    for step in one.steps:
        if not every and not applied(step):
            hidden += 1
            continue
        rule = step.rule
        answer = "would" if step.shadow else step.answer.value
        because = f"  {step.key}: {step.value}" if step.key else ""
        say(f"  {answer:<5} {rule.priority:>6} {rule.id}  {rule.file}:{rule.line}{because}")
        if applied(step):
            say(f"               {rule.en}")
            say(f"               {rule.ar}")
    for key, value in v.reasons:
        say(f"  because {key}: {value}")
    if hidden:
        say(f"  {hidden} rules did not apply: --all")
    if one.limited and one.differs:
        warn("  a rate limit decided then, by what had come before")
    for change in () if one.limited else one.changes:
        warn(f"  recorded otherwise: {change.before}, now {change.after}")


def _outcome(v: Verdict, settings: Settings) -> str:
    words = [v.action.value, v.kind.value, f"by {v.rule}"]
    if v.reply is not None:
        words.append(f"({v.reply})")
    words += [f"to {v.hop}"] if v.hop else []
    words += [f"mailbox {v.mailbox}"] if v.mailbox is not None else []
    words += [v.classification] if v.classification else []
    words += [v.urgency] if v.urgency else []
    words += [f"due {clock(v.due_us, settings)}"] if v.due_us is not None else []
    return "  ".join(words)


def _reasons(found: list[Reasoned]) -> list[dict[str, object]]:
    from policies.explain import step_json

    return [
        {
            "verdict": one.verdict.to_json()
            | {"hits": list(one.verdict.hits), "would": list(one.verdict.would)},
            "text": {"ar": one.verdict.text_ar, "en": one.verdict.text_en},
            "rules": [step_json(step) for step in one.steps],
            "recorded": one.recorded,
            "differs": [json_of(change) for change in one.changes],
        }
        for one in found
    ]


def _json(row: Recorded, found: list[Reasoned]) -> dict[str, object]:
    from tracker.model import id_text

    return {
        "letter": id_text(row.letter_id),
        "number": row.number,
        "at_us": row.at_us,
        "policy": row.version,
        "facts_version": row.facts_version,
        "recipients": _reasons(found),
    }


def _recorded(row: Recorded, settings: Settings, as_json: bool) -> None:
    """What the record says by itself."""
    from pydantic_core import from_json

    decision = from_json(row.decision)
    if as_json:
        put_json({"number": row.number, "policy": row.version, "recorded": decision})
        return
    _head(row, settings)
    for v in decision.get("verdicts", ()):
        say(f"{v.get('to')}  {v.get('action')} {v.get('kind')}  by {v.get('rule')}  {v.get('reply', '')}")
