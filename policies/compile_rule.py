"""A rule of a file made into a :class:`policies.rule.Rule`: names looked up, groups and degrees spelt out.

What needs more than the rule itself is checked here: agencies, next hops, groups, classifications and
urgencies that do not exist, values of keys that can never hold together, expressions. Each fault goes to
the list that is passed in, with its place and a hint; the rule is made all the same, so that the rest of
the policy can be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from policies.case import Surface
from policies.condition import Condition, condition
from policies.directory import Directory
from policies.document import Document
from policies.expression import Compile, Expression, ExpressionFault
from policies.faults import Fault, Loc, suggestion
from policies.rule import Effect, HoldSpec, Limit, Refusal, Rule
from policies.rule_entry import Match, RuleEntry
from policies.verdict import Action, Kind
from tracker.access import Role
from tracker.model import Door

AGENCIES = ("submitter", "recipient_agency")
MAILBOXES = ("sender_mailbox", "author_mailbox", "recipient_mailbox")
DEGREES = ("classification", "urgency")
ROLES = [role.value for role in Role]


def compile_rule(
    entry: RuleEntry,
    data: Mapping[str, Any],
    loc: Loc,
    document: Document,
    surface: Surface,
    bounds: Mapping[str, int],
    directory: Directory | None,
    compiled: Compile,
    safety: bool,
    faults: list[Fault],
) -> tuple[Rule, frozenset[str]]:
    """The rule, and the header fields that it needs in the facts."""
    making = _Making(loc, document, surface, bounds, directory, faults)
    when = making.expression(entry.when, compiled) if entry.when is not None else None
    conditions = making.conditions(entry.match, "match")
    rule = Rule(
        id=entry.id,
        priority=entry.priority,
        ar=entry.description.ar,
        en=entry.description.en,
        conditions=conditions,
        unless=making.conditions(entry.unless, "unless") if entry.unless is not None else None,
        when=when,
        effect=making.effect(entry),
        limit=(
            Limit(per=entry.limit.per, count=entry.limit.count, window_us=entry.limit.window.amount)
            if entry.limit is not None
            else None
        ),
        mode=entry.mode,
        safety=safety,
        file=document.file,
        line=document.place((*loc, "id"))[0],
        entry=dict(data),
    )
    if entry.unless is not None and not rule.unless:
        making.fault(("unless",), "is empty: the rule would never apply", "leave it out")
    fields = set(when.fields if when is not None else ())
    for match in (entry.match, entry.unless):
        if match is not None and match.header is not None:
            fields |= set(match.header)
    return rule, frozenset(fields)


class _Making:
    def __init__(
        self,
        loc: Loc,
        document: Document,
        surface: Surface,
        bounds: Mapping[str, int],
        directory: Directory | None,
        faults: list[Fault],
    ) -> None:
        self._loc = loc
        self._document = document
        self._surface = surface
        self._bounds = bounds
        self._directory = directory
        self._codes = [a.code for a in directory] if directory is not None else None
        self._faults = faults

    def fault(self, where: Loc, message: str, hint: str = "") -> None:
        self._faults.append(self._document.fault((*self._loc, *where), message, hint))

    def expression(self, source: str, compiled: Compile) -> Expression | None:
        try:
            return compiled(source)
        except ExpressionFault as e:
            where = (*self._loc, "when")
            line, column = self._document.inside(where, e.offset)
            key = ".".join(str(part) for part in where)
            self._faults.append(
                Fault(
                    file=self._document.file,
                    line=line,
                    column=column,
                    key=key,
                    message=str(e),
                    hint=e.hint,
                )
            )
            return None

    def conditions(self, match: Match, block: str) -> tuple[Condition, ...]:
        out = []
        for key in Match.model_fields:
            value = getattr(match, key)
            if value is None:
                continue
            asks = ""
            if value == "settings" and key in self._bounds:
                value, asks = self._bounds[key], "settings"
            elif key == "door":
                value = [Door(v) for v in value]
            elif key in AGENCIES:
                value = self._agencies(value, (block, key))
            elif key in MAILBOXES:
                value = self._mailboxes(value, (block, key))
            elif key in DEGREES:
                scale = key
                for i, word in enumerate(value):
                    self._degree(scale, word, (block, key, i))
            elif key.endswith("_at_least"):
                scale = key.removesuffix("_at_least")
                self._degree(scale, value, (block, key))
                value = self._scale(scale).at_least(value)
            out.append(condition(key, value, asks))
        self._together(match, block)
        return tuple(out)

    def effect(self, entry: RuleEntry) -> Effect:
        reply, limit, hold = entry.reply, entry.limit, entry.hold
        self._effect_names(entry)
        action = Action(limit.then) if limit is not None else entry.action
        return Effect(
            action=action,
            kind=Kind(entry.kind) if entry.kind is not None else None,
            route=entry.route,
            refusal=(
                Refusal(code=reply.code, status=reply.status, en=reply.en, ar=reply.ar)
                if reply is not None
                else None
            ),
            hold=(
                HoldSpec(
                    approvers=tuple(hold.approvers),
                    persons=hold.persons,
                    expires=hold.expires,
                    then=hold.then,
                )
                if hold is not None
                else None
            ),
            hop=entry.hop,
            mailbox=entry.mailbox,
            copies=tuple(entry.copy_to or ()),
            notify=tuple(entry.notify or ()),
            tag=entry.tag,
            subject_tag=entry.subject_tag if isinstance(entry.subject_tag, bool | None) else True,
            subject_shape=entry.subject_tag if isinstance(entry.subject_tag, str) else None,
            sign=entry.sign,
            require_tls=None if entry.require_tls is None else bool(entry.require_tls),
            requiretls=None if entry.require_tls is None else entry.require_tls == "requiretls",
            classification=entry.classification,
            raise_classification=entry.raise_classification,
            urgency=entry.urgency,
            raise_urgency=entry.raise_urgency,
            due=entry.due,
            receipts=tuple(entry.receipts) if entry.receipts is not None else None,
            receipts_to=tuple(entry.receipts_to) if entry.receipts_to is not None else None,
            digest=entry.digest,
            answers=entry.answers,
            ask_read=entry.ask_read,
        )

    def _effect_names(self, entry: RuleEntry) -> None:
        for key in ("classification", "raise_classification", "urgency", "raise_urgency"):
            word = getattr(entry, key)
            if word is not None and not (word == "answered" and key.startswith("raise_")):
                self._degree(key.removeprefix("raise_"), word, (key,))
        if entry.hop is not None and self._directory is not None and self._directory.hop(entry.hop) is None:
            names = [hop.name for hop in self._directory.hops]
            self.fault(("hop",), f"there is no next hop {entry.hop}", suggestion(entry.hop, names))
        for i, name in enumerate(entry.hold.approvers if entry.hold is not None else ()):
            if name.isupper():
                self._agency(name, ("hold", "approvers", i))
            elif name not in ROLES and (close := get_close_matches(name, ROLES, n=1, cutoff=0.8)):
                # Accounts are not known here; what is nearly a role is none of them.
                where = ("hold", "approvers", i)
                self.fault(where, f"there is no role {name}", f"did you mean {close[0]}?")

    def _scale(self, name: str) -> Any:
        marks = self._surface.marks
        return marks.classifications if name == "classification" else marks.urgencies

    def _degree(self, scale: str, word: str, where: Loc) -> None:
        known = self._scale(scale).words
        if word not in known:
            self.fault(where, f"there is no {scale} {word}", suggestion(word, known))

    def _agency(self, code: str, where: Loc) -> None:
        if self._codes is not None and code not in self._codes:
            self.fault(where, f"there is no agency {code}", suggestion(code, self._codes))

    def _agencies(self, values: Iterable[str], where: Loc) -> frozenset[str]:
        out: set[str] = set()
        for i, name in enumerate(values):
            if name[0].isupper():
                self._agency(name, (*where, i))
                out.add(name)
            elif self._group(name, (*where, i)):
                out |= self._surface.groups[name].agencies
        return frozenset(out)

    def _mailboxes(self, values: Iterable[str], where: Loc) -> frozenset[str]:
        out: set[str] = set()
        for i, name in enumerate(values):
            if "@" in name:
                out.add(name)
            elif self._group(name, (*where, i)):
                group = self._surface.groups[name]
                out |= group.mailboxes | {f"agency:{code}" for code in group.agencies}
        return frozenset(out)

    def _group(self, name: str, where: Loc) -> bool:
        if name in self._surface.groups:
            return True
        self.fault(where, f"there is no group {name}", suggestion(name, self._surface.groups))
        return False

    def _together(self, match: Match, block: str) -> None:
        """Keys that never hold together."""
        if match.classification is not None and match.classification_at_least is not None:
            up = self._scale("classification").at_least(match.classification_at_least)
            if up.isdisjoint(match.classification):
                what = f"none of these is {match.classification_at_least} or higher"
                self.fault((block, "classification"), f"can never hold: {what}")
        if match.urgency is not None and match.urgency_at_least is not None:
            up = self._scale("urgency").at_least(match.urgency_at_least)
            if up.isdisjoint(match.urgency):
                what = f"none of these is {match.urgency_at_least} or higher"
                self.fault((block, "urgency"), f"can never hold: {what}")
        if match.agency_server is False:
            for key in ("submitter", "submitter_mode", "account", "same_agency", "outbound", "vouched"):
                value = getattr(match, key, None)
                if (
                    value is not None
                    and value is not False
                    and not (key == "submitter_mode" and "off" in value)
                ):
                    self.fault((block, key), "can never hold: who is no agency's server has no agency")
        outside = match.recipient is not None and "agency" not in match.recipient
        if outside and "postmaster" not in (match.recipient or ()):
            for key in ("recipient_agency", "connected", "same_agency", "registry_routing"):
                if getattr(match, key):
                    self.fault((block, key), "can never hold: the recipient is in no agency")
        if match.attachments_over is not None and match.attachments_over > 10_000:
            self.fault((block, "attachments_over"), "can never hold: no letter has so many")
