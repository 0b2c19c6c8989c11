"""Rules that can never decide anything, because an earlier one always decides first.

An earlier rule stands before a later one when it applies to everything that the later one applies to: each of
its conditions is one that the later rule asks for as well, or asks for more strictly (fewer values,
a higher bound), and it has no expression, limit or exception that the later one lacks. Conditions on words,
header fields and the like count as the same only when they are written alike. What a rule of the folder
holds goes on past rules that refuse or hold, so after such a rule these stand only before others of their
kind. This finds the common mistakes and calls no rule unreachable that an ordinary letter reaches.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.condition import Axis, Condition
from policies.faults import Fault
from policies.index import WAYLAYING
from policies.rule import Rule


def unreachable(rules: Sequence[Rule]) -> list[Fault]:
    """A fault for each rule that an earlier one always decides before; ``rules`` in their order."""
    out: list[Fault] = []
    deciding: dict[frozenset[str], list[tuple[Rule, bool]]] = {}  # by the axes that they ask about
    held = False  # an earlier rule may have held the letter
    changed = any(rule.effect.marks for rule in rules)  # what some rules see is not what others see
    for rule in rules:
        names = frozenset(c.name for c in rule.conditions)
        other = next(
            (
                earlier
                for asked, group in deciding.items()
                if asked <= names
                for earlier, passed_by in group
                if _covers(earlier, passed_by, rule)
            ),
            None,
        )
        if other is not None:
            before = (
                "before it decides everything" if not other.conditions else "decides on all it applies to"
            )
            out.append(
                Fault(
                    file=rule.file,
                    line=rule.line,
                    key=rule.id,
                    message=f"is never reached: {other.id} {before}",
                    hint="the safety rules come first" if other.safety else "give it a lower priority",
                )
            )
        changing = changed and names & {"classification", "urgency"}
        held = held or (rule.when is not None and rule.effect.protects)
        if rule.effect.action is None or rule.shadow or rule.limit is not None or rule.when is not None:
            held = held or (rule.lingers and not rule.shadow)
            continue
        if rule.unless is None and not changing:
            deciding.setdefault(names, []).append((rule, held))
        held = held or (rule.lingers and not rule.safety)
    return out


def _covers(earlier: Rule, passed_by: bool, later: Rule) -> bool:
    """``passed_by``: letters that are held already go past the earlier rule if it holds or refuses."""
    asked_on = earlier.effect.action in WAYLAYING and later.effect.action not in WAYLAYING
    if asked_on and (earlier.lingers or passed_by):
        return False  # what is held is still asked what it will be once it is released
    return all(any(_stricter(c, own) for c in later.conditions) for own in earlier.conditions)


def _stricter(one: Condition, other: Condition) -> bool:
    """Whether ``one`` holds only when ``other`` does."""
    if one.name != other.name:
        return False
    if one.axis is Axis.BOUND and "settings" not in (one.asks, other.asks):
        return one.bound >= other.bound
    if one.axis is Axis.FREE:
        return one.asks == other.asks
    if one.values and other.values:
        return one.values <= other.values
    return one.asks == other.asks
