"""What the command line asks of the record, in the same words whether the gateway runs or not.

An act is ``fn(record, request) -> answer`` on plain JSON values, synchronous and safe to run in a
thread. While the gateway runs its control socket serves :data:`ACTS`, so that there is one writer;
else the command line takes the data directory's lock and calls the act itself
(:func:`perform`). A request that makes no sense raises ValueError with words for the person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.settings import Settings
from gateway.trouble import Trouble

if TYPE_CHECKING:
    from tracker.record import Record

Act = Callable[["Record", dict[str, Any]], dict[str, Any]]


def perform(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """Have an act done by the running gateway, or do it here when none runs.

    Raises control.Refused, ValueError, or Trouble when the data directory is taken by another command.
    """
    from gateway import control, opening
    from gateway.data_lock import Busy, DataLock

    data_dir = settings.gateway.data_dir
    try:
        return control.ask(data_dir, request)
    except control.NotRunning:
        pass
    if not data_dir.exists():
        raise Trouble(f"there is no {data_dir}: `wasl init` makes it")
    try:
        lock = DataLock(data_dir)
    except Busy as e:
        raise Trouble(str(e)) from None
    with lock:
        record = opening.open_record(settings)
        try:
            return ACTS[str(request["do"])](record, request)
        finally:
            record.close()
            record.archive.close()


def queue(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act``, ``names``, ``person``, ``extend_us`` → ``done``: one object a delivery."""
    from dataclasses import asdict

    from tracker.queue import Act as QueueAct
    from tracker.queue import act

    done = act(
        record,
        QueueAct(request["act"]),
        [str(name) for name in request["names"]],
        str(request["person"]),
        int(request["extend_us"]),
    )
    return {"done": [asdict(one) for one in done]}


def account(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act`` add, reset, disable or enable, ``name`` … → ``account``."""
    from gateway.accounts_desk import act_on_account

    return act_on_account(record, request)


def checkpoint(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """Sign the present head of the ledger → ``size``; None when it has not grown."""
    made = record.checkpoint()
    return {"size": None if made is None else made.size}


def audit(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``action``, ``object``, ``person``, ``detail``: that somebody searched or looked (promise 5)."""
    from tracker import audit as log

    row_id = record.ids.next()
    action = log.Action(request["action"])
    detail = dict(request.get("detail") or {})
    name, object_ = str(request["person"]), str(request.get("object", ""))
    record.write(
        lambda conn: log.record(
            conn, row_id, action, account=f"console:{name}", object_=object_, detail=detail, peer="local"
        )
    )
    return {}


def hold(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act`` release or refuse, ``names``, ``person``, ``note``, ``extend_us`` → ``done``, one a hold."""
    from gateway.holding import act_on_holds

    return act_on_holds(record, request)


def registry(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act`` register, refer, progress, return or close, ``names`` … → ``done``: one object a letter."""
    from gateway.registry import act_on_letters

    return act_on_letters(record, request)


def policy(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """``act`` approve or rollback, ``digest``, ``person``, ``note`` → ``activation`` or ``faults``."""
    from gateway.policy_desk import act_alone

    return act_alone(record, request)


ACTS: dict[str, Act] = {
    "queue": queue,
    "hold": hold,
    "registry": registry,
    "account": account,
    "checkpoint": checkpoint,
    "audit": audit,
    "policy": policy,
}
