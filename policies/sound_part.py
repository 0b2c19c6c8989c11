"""What is left of a broken rule when the keys that are wrong are taken out.

Whoever mends a file wants to hear everything that is wrong with it at once: an unknown key in a rule must
not hide that the agency beside it does not exist. So what remains of a rule whose shape is wrong is read
once more, only for its further faults. Keys that are required get a stand-in; where the rule as a whole makes
no sense what decides is left out, and where that does not help :func:`sound_part` gives up and answers None.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from policies.rule_entry import RuleEntry

ROUNDS = 6
_REQUIRED: dict[str, Any] = {"id": "unnamed", "priority": 500, "description": {"ar": "-", "en": "-"}}
_DECIDING = ("action", "kind", "reply", "hold", "limit", "route", "mailbox", "hop")


def sound_part(data: Mapping[str, Any], error: ValidationError) -> RuleEntry | None:
    """The rule without what ``error`` complains about."""
    rest: dict[Any, Any] = deepcopy(dict(data))
    for _ in range(ROUNDS):
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            _take_out(rest, item["loc"])
        for key, value in _REQUIRED.items():
            rest.setdefault(key, value)
        try:
            return RuleEntry.model_validate(rest)
        except ValidationError as e:
            error = e
    return None


def _take_out(rest: dict[Any, Any], loc: tuple[int | str, ...]) -> None:
    if not loc:
        for key in _DECIDING:
            rest.pop(key, None)
        rest.setdefault("tag", True)  # a rule must do something
        return
    block = rest.get(loc[0])
    if loc[0] in ("match", "unless") and len(loc) > 1 and isinstance(block, dict):
        block.pop(loc[1], None)
        if block or loc[0] == "match":
            return
    rest.pop(loc[0], None)
