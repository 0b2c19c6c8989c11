"""Policy versions as the command line manages them, the same with and without a running gateway.

``wasl policy`` sends its request through the control socket when the gateway runs, and hands it to
:func:`act_on_policy` itself when none does (``gateway.acts``). Raises what
:class:`gateway.policy_watch.PolicyWatch` raises; faults of files are answered as words, not raised.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.policy_watch import PolicyWatch
from policies.faults import ConfigFaults
from policies.load import Limits
from tracker.policy_store import Activation

if TYPE_CHECKING:
    from gateway.settings import Settings
    from tracker.record import Record


def act_on_policy(watch: PolicyWatch, request: dict[str, Any]) -> dict[str, Any]:
    """Do ``request["act"]``: approve or rollback a ``digest`` for a ``person``.

    Answers ``activation``, the version ``in_force`` and the one ``waiting``, or ``faults``.
    """
    act, digest = request.get("act"), str(request.get("digest") or "")
    by, note = str(request.get("person") or ""), str(request.get("note") or "")
    try:
        if act == "approve":
            done = watch.approve(digest, by=by)
        elif act == "rollback":
            done = watch.rollback(digest, by=by, note=note)
        else:
            raise ValueError(f"no such act: {act!r}")
    except ConfigFaults as e:
        return {"faults": [str(fault) for fault in e.faults]}
    return {"activation": _plain(done), "in_force": watch.current.version, "waiting": watch.waiting}


def _plain(done: Activation) -> dict[str, Any]:
    return asdict(done) | {"state": done.state.value}


def here(settings: Settings) -> dict[str, Any]:
    """What a request bears for the case that no gateway runs: where the policy is."""
    from gateway.opening import policy_limits

    section = settings.policy
    return {
        "folder": str(section.path) if section.path is not None else None,
        "limits": asdict(policy_limits(settings)),
        "second_person": section.second_person,
        "data_dir": str(settings.gateway.data_dir),
    }


def act_alone(record: Record, request: dict[str, Any]) -> dict[str, Any]:
    """:func:`act_on_policy` where no gateway runs."""
    folder = request.get("folder")
    watch = PolicyWatch(
        record,
        Path(folder) if folder else None,
        Limits(**request["limits"]),
        None,
        second_person=bool(request.get("second_person")),
        data_dir=Path(request["data_dir"]),
    )
    return act_on_policy(watch, request)
