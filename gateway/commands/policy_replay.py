"""``wasl policy replay``: what a candidate policy would have done to the letters of the last weeks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from gateway.commands.console import (
    Config,
    Json,
    load_settings,
    parsed,
    person,
    progress,
    put_json,
    say,
    table,
    warn,
)
from gateway.commands.reading import clock

if TYPE_CHECKING:
    from gateway.settings import Settings
    from policies.replay import Changed
    from policies.replay_report import Report
    from policies.reread import Rereader
    from tracker.store import Store

SHOWN = 60  # lines of a table; the rest is in --json and --csv


def replay(
    candidate: Annotated[
        Path | None,
        typer.Option(
            "--candidate", metavar="DIR", help="Folder of the candidate; the folder of the settings."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="DIGEST", help="A stored version as the candidate.")
    ] = None,
    since: Annotated[str, typer.Option(help="From when: 30d, 12h, or 2026-11-01.")] = "30d",
    until: Annotated[str | None, typer.Option(help="Up to when; now.")] = None,
    agency: Annotated[str | None, typer.Option(help="Tell only of letters from or to this agency.")] = None,
    examples: Annotated[int, typer.Option(min=0, max=1000, help="Letters named of each kind of change.")] = 3,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write every change to a file.")
    ] = None,
    from_archive: Annotated[
        bool,
        typer.Option(
            "--from-archive", help="Read letters again whose facts lack something: slower, complete."
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Lead a candidate policy past recorded letters and tell what it would have decided otherwise."""
    from gateway.acts import perform
    from gateway.opening import open_directory, open_store, policy_limits
    from policies.load import load_policy
    from policies.replay_report import change_json, run
    from policies.versions import compile_version
    from tracker import policy_store
    from tracker.model import now_us

    settings = load_settings(config)
    zone = ZoneInfo(settings.gateway.zone)
    since_us = parsed(lambda text: moment(text, zone), since, "--since")
    until_us = None if until is None else parsed(lambda text: moment(text, zone), until, "--until")
    code = agency.upper() if agency is not None else None
    store = open_store(settings)
    try:
        if version is not None:
            with store.reader.connect() as conn:
                digest = policy_store.find(conn, version)
                texts = policy_store.files_of(conn, digest) or {}
            policy = compile_version(texts)
        else:
            folder = candidate or settings.policy.path
            policy = load_policy(folder, policy_limits(settings), open_directory(settings).current)
        perform(
            settings,
            {
                "do": "audit",
                "action": "policy-tried",
                "object": policy.version,
                "detail": {"since_us": since_us, "until_us": until_us or now_us(), "agency": code},
                "person": person(),
            },
        )
        with _writing(csv, settings) as write, progress("letters") as show:

            def told(changed: Changed) -> None:
                write(changed)
                if as_json:
                    put_json(change_json(changed))

            report = run(
                store.reader.connect,
                policy,
                since_us=since_us,
                until_us=until_us,
                agency=code,
                examples=examples,
                reread=_rereader(settings, store) if from_archive else None,
                progress=show,
                told=told,
            )
    finally:
        store.close()
    if as_json:
        put_json({"summary": report.to_json()})
    else:
        _tell(report, settings)


def _rereader(settings: Settings, store: Store) -> Rereader:
    from gateway.opening import open_archive
    from policies.reread import Rereader
    from tracker.recorded import archive_key

    archive = open_archive(settings)
    return Rereader(
        lambda submission_id: archive_key(store.reader.connect, submission_id),
        lambda key: archive.open(key).view(),
    )


def moment(text: str, zone: ZoneInfo) -> int:
    """``30d`` ago, or the beginning of a day, or a time, as microseconds UTC; raises ValueError."""
    ago = re.fullmatch(r"(\d{1,6})\s*(min|m|h|d|w)(?:ays?|ours?|eeks?)?", text.strip().lower())
    if ago is not None:
        unit = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}[ago[2]]
        when = datetime.now(zone) - timedelta(**{unit: int(ago[1])})
    else:
        try:
            when = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError("a span such as 30d or 12h, or a day such as 2026-11-01") from None
        when = when if when.tzinfo is not None else when.replace(tzinfo=zone)
    return int(when.timestamp() * 1_000_000)


@contextmanager
def _writing(path: Path | None, settings: Settings) -> Iterator[Any]:
    """A function that writes a changed transaction as lines of a CSV file; nothing without a file."""
    if path is None:
        yield lambda changed: None
        return
    import csv

    from policies.replay_report import side
    from tracker.model import id_text

    with path.open("w", encoding="utf-8-sig", newline="") as out:
        lines = csv.writer(out)
        columns = "letter number accepted from recipient to what before after rule_before rule_after"
        lines.writerow(columns.split())

        def write(changed: Changed) -> None:
            head = (id_text(changed.letter_id), changed.number or "", clock(changed.at_us, settings))
            for c in changed.changes:
                sides = (c.aspect.value, side(c, False), side(c, True), c.rule_before, c.rule_after)
                cells = (*head, changed.agency or "", c.recipient, c.agency or "", *sides)
                lines.writerow([_cell(cell) for cell in cells])

        yield write


def _cell(text: str) -> str:
    """Text that a spreadsheet must not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _tell(report: Report, settings: Settings) -> None:
    from policies.replay_report import name_of

    window = f"{clock(report.since_us, settings)} to {clock(report.until_us, settings)}"
    about = f", from or to {report.agency}" if report.agency else ""
    say(f"candidate {report.candidate}: {report.letters:,} letters{about}, {window}")
    if not report.changed:
        say("no letter would be decided otherwise")
    else:
        counts = ", ".join(f"{aspect.value} {n:,}" for aspect, n in report.aspects.items() if n)
        say(f"{report.changed:,} letters would be decided otherwise: {counts}")
        rows = [
            (
                g.aspect.value,
                g.before,
                g.after,
                g.rule_before,
                g.rule_after,
                g.letters,
                g.recipients,
                " ".join(name_of(one) for one in g.examples),
            )
            for g in report.groups[:SHOWN]
        ]
        heads = ("what", "was", "would be", "by rule", "would be by", "letters", "recipients", "examples")
        table(heads, rows, right=(5, 6))
        if len(report.groups) > SHOWN or report.left_out:
            warn(f"{len(report.groups) - SHOWN + report.left_out:,} more kinds of changes: --json, --csv")
    moved = [
        (rule, t.before, t.after, t.shadow_before, t.shadow_after)
        for rule, t in sorted(report.rules.items())
        if (t.before, t.shadow_before) != (t.after, t.shadow_after)
    ]
    if moved:
        say()
        columns = ("rule", "applied to", "would apply to", "in shadow", "would in shadow")
        table(columns, moved[:SHOWN], right=(1, 2, 3, 4))
    for line in _unknown(report):
        warn(line)


def _unknown(report: Report) -> Iterator[str]:
    u = report.unknown
    if u.broken:
        yield f"{u.broken:,} letters were left out: their facts cannot be read by this version"
    if u.older:
        yield (
            f"{u.older:,} letters have facts of an older version: what those lack (marks, content of "
            "attachments, letters answered) counts as not there (--from-archive)"
        )
    if u.fields:
        yield (
            f"of {u.fields:,} letters not every header field that the candidate asks for was kept: "
            "there it counts as not there (--from-archive)"
        )
