"""``wasl followup``: what agencies owe answers to, what is due to be reminded of, the digests."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from gateway.commands.console import Config, Json, load_settings, parsed, person, put_json, say, table, warn
from gateway.commands.reading import clock, operator, reading

if TYPE_CHECKING:
    from gateway.followup_plan import FollowUpPlan
    from gateway.settings import Settings
    from policies.chain import Policy
    from policies.directory import Directory
    from tracker.waiting_list import Waiting

app = typer.Typer(no_args_is_help=True, help="Follow-up of letters: list, run, digest.")

At = Annotated[
    str | None, typer.Option(metavar="TIME", help="As if it were 2026-11-22T08:00 in the gateway's zone.")
]


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="late, today, week, answer (all with a due date), registration, read, undelivered or doubt."
        ),
    ] = "late",
    agency: Annotated[str | None, typer.Option(help="Only what this agency owes.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Only what is owed to this agency.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 1000,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List letters that wait, with what was done about each and what follow-up does next.

    What is due first comes first. Letters without a due date are looked for in the last 90 days.
    """
    from gateway.followup_mail import edges
    from gateway.followup_plan import FollowUpPlan
    from tracker import waiting_list
    from tracker.board import What
    from tracker.followups import Awaited
    from tracker.model import now_us

    settings = load_settings(config)
    wanted = parsed(What, what, "WHAT")
    policy, directory = _policy(settings)
    plan = FollowUpPlan(lambda: directory, lambda: policy)
    at = now_us()
    asked = waiting_list.Asked(
        what=wanted, agency=agency.upper() if agency else None, sender=sender.upper() if sender else None
    )
    _noted(settings, f"followup {what}", {"agency": agency or "", "from": sender or ""})
    with reading(settings) as conn:
        lines = list(waiting_list.all_waiting(conn, operator(), asked, edges(policy.calendar, at), limit + 1))
        due = [
            Awaited(
                delivery_id=one.delivery_id,
                letter_id=one.letter_id,
                agency=one.agency or "",
                recipient=one.address,
                urgency=one.urgency,
                due_us=one.due_us,
                accepted_us=one.accepted_us,
            )
            for one in lines[:limit]
            if one.due_us is not None
        ]
        steps = {u.delivery.delivery_id: u for u in plan.upcoming(conn, due, at)}
    rows = []
    for one in lines[:limit]:
        known = steps.get(one.delivery_id)
        taken = [s for s in known.done if s.state.value != "passed"] if known else []
        told = _line(one) | {
            "done": [{"step": s.step, "at_us": s.at_us, "to": list(s.recipients)} for s in taken],
            "next": None if known is None or known.next is None else known.next.key,
            "next_us": None if known is None else known.next_us,
        }
        if as_json:
            put_json(told)
            continue
        rows.append(
            (
                one.number or told["letter"],
                one.sender or "",
                one.agency or "",
                one.address,
                clock(one.due_us, settings)[:16] if one.due_us is not None else "",
                told["grade"],
                taken[-1].step if taken else "",
                f"{told['next']} ({clock(told['next_us'], settings)[:16]})" if told["next"] else "",
            )
        )
    if not as_json:
        table(("number", "from", "agency", "recipient", "due", "reached", "last step", "next step"), rows)
    if len(lines) > limit:
        warn(f"more than {limit}: see --limit")


def _line(one: Waiting) -> dict[str, Any]:
    from tracker.model import id_text

    return {
        "letter": id_text(one.letter_id),
        "delivery": id_text(one.delivery_id),
        "number": one.number,
        "from": one.sender,
        "agency": one.agency,
        "recipient": one.address,
        "due_us": one.due_us,
        "accepted_us": one.accepted_us,
        "state": one.state.value,
        "grade": f"E{int(one.grade)}",
        "outcome": one.outcome.value,
    }


@app.command()
def run(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done; nothing is recorded or sent.")
    ] = False,
    at: At = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Look now for what is due, instead of at the gateway's next look within half a minute."""
    from gateway import control
    from gateway.trouble import Trouble
    from tracker.model import now_us

    settings = load_settings(config)
    if not dry_run:
        if at is not None:
            raise typer.BadParameter("only with --dry-run", param_hint="--at")
        try:
            answer = control.ask(settings.gateway.data_dir, {"do": "followup"})
        except control.NotRunning as error:
            what = "it follows up by itself as soon as it runs; --dry-run shows what is due"
            raise Trouble(f"{error}: {what}") from None
        if as_json:
            put_json({"mails": answer["mails"]})
        else:
            say(f"{answer['mails']} messages sent")
        return
    policy, directory = _policy(settings)
    lot = _look(settings, policy, directory, now_us() if at is None else _time(at, settings))
    for step in lot.steps:
        told = {
            "delivery": step.subject,
            "agency": step.agency,
            "kind": step.kind.value,
            "step": step.step,
            "due_us": step.due_us,
            "to": list(step.recipients),
            "taken": step.taken,
        }
        if as_json:
            put_json(told)
        else:
            way = f"to {' '.join(step.recipients)}" if step.recipients else ""
            act = step.kind.value if step.taken else "pass over"
            say(f"{act}  {step.subject}  {step.agency}  {step.step}  {way}".rstrip())
    for digest in lot.digests:
        if as_json:
            put_json({"kind": "digest", "digest": digest.subject, "to": list(digest.recipients)})
        else:
            say(f"digest  {digest.subject}  to {' '.join(digest.recipients)}")
    if not as_json and not (lot.steps or lot.digests):
        say("nothing is due")


def _look(settings: Settings, policy: Policy, directory: Directory, at_us: int) -> Any:
    from gateway.followup_plan import FollowUpPlan

    plan: FollowUpPlan = FollowUpPlan(lambda: directory, lambda: policy)
    with reading(settings) as conn:
        return plan.due(conn, at_us)


@app.command()
def digest(
    agency: Annotated[str | None, typer.Option(help="Of this agency; else of all.")] = None,
    both_ends: Annotated[
        bool, typer.Option("--both-ends", help="As its compliance staff gets it: what others owe, too.")
    ] = False,
    at: At = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what today's digest says; nothing is sent."""
    from gateway.followup_mail import FollowUpMail
    from gateway.followup_plan import WHOLE
    from gateway.trouble import Trouble
    from tracker import follow_digest
    from tracker.model import now_us
    from tracker.notice import GatewayIdentity
    from tracker.plain_mail import plain

    settings = load_settings(config)
    policy, directory = _policy(settings)
    code = agency.upper() if agency else None
    if code is not None and directory.agency(code) is None:
        raise Trouble(f"there is no agency {code} in the directory")
    gateway = GatewayIdentity(
        domain=settings.gateway.domain,
        hostname=settings.gateway.hostname,
        zone=ZoneInfo(settings.gateway.zone),
    )
    mail = FollowUpMail(gateway, settings.base_url, lambda: directory, lambda: policy)
    subject = f"{WHOLE if both_ends or code is None else 'registry'} {code or ''}".strip()
    _noted(settings, f"digest {subject}", {})
    with reading(settings) as conn:
        told = mail.digest(conn, subject, code, now_us() if at is None else _time(at, settings))
    if as_json:
        put_json(
            {
                "day": told.day.isoformat(),
                "late": told.late_count.value,
                "arrived": told.arrived_count.value,
                "counts": {what.value: c.value for what, c in told.own.items()} if told.own else None,
                "agencies": len(told.agencies),
                "empty": told.empty,
            }
        )
        return
    # A mail isolates what is written from left to right (UAX #9); a terminal would show escapes.
    say(re.sub("[\r\u2066-\u2069]", "", plain(*follow_digest.sheets(told))).rstrip())
    if told.empty:
        warn("nothing to say: no mail is sent")


def _noted(settings: Settings, what: str, detail: dict[str, Any]) -> None:
    """Whoever looks is written into the audit, as on the dashboard."""
    from gateway.acts import perform

    request = {"do": "audit", "action": "list", "object": what, "detail": detail, "person": person()}
    perform(settings, request)


def _policy(settings: Settings) -> tuple[Policy, Directory]:
    """The policy and directory of the files, as the gateway reads them."""
    from gateway.opening import open_directory, policy_limits
    from policies.load import load_policy

    directory = open_directory(settings).current
    return load_policy(settings.policy.path, policy_limits(settings), directory), directory


def _time(text: str, settings: Settings) -> int:
    moment = parsed(datetime.fromisoformat, text, "--at")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(settings.gateway.zone))
    return int(moment.timestamp()) * 1_000_000
