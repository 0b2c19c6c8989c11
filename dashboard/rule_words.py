"""A rule in words: when it applies and what it does, as short phrases in the reader's language.

The phrases follow the keys of a rule's file. A key or value without words here is shown as it stands in the
file, so that a newer engine never makes the page lie. Values that people wrote (addresses, names, texts)
are marked as such and shown isolated; agencies are named by the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dashboard import show
from dashboard.language import N_, Tongue

AGENCY_KEYS = frozenset({"submitter", "recipient_agency"})

_MODES = {"active": N_("in service"), "shadow": N_("in shadow"), "off": N_("switched off")}
_KINDS = {
    "own": N_("the agency itself"),
    "agency": N_("another agency"),
    "outside": N_("the outside"),
    "gateway": N_("the gateway's domain"),
    "return": N_("a return address of the gateway"),
    "null": N_("nobody (null sender)"),
    "missing": N_("missing"),
    "ambiguous": N_("ambiguous"),
    "postmaster": N_("the gateway's postmaster"),
}
_PLACES = {**_KINDS, "agency": N_("an agency of the directory")}
_AUTOMATIC = {
    "null-sender": N_("null sender"),
    "report": N_("report"),
    "auto-replied": N_("automatic answer"),
    "auto-generated": N_("made by a system"),
    "list": N_("list"),
    "bulk": N_("bulk"),
}
_CRYPTO = {
    "none": N_("neither encrypted nor signed"),
    "smime": N_("encrypted (S/MIME)"),
    "pgp": N_("encrypted (PGP)"),
    "signed": N_("signed"),
}
_URGENCY = {
    "normal": N_("Normal"),
    "urgent": N_("Urgent"),
    "very-urgent": N_("Very urgent"),
    "immediate": N_("Immediate"),
}
_CLASSIFICATION = {
    "ordinary": N_("Ordinary"),
    "restricted": N_("Restricted"),
    "secret": N_("Secret"),
    "top-secret": N_("Top secret"),
}
_DOORS = {"relay": N_("relay from an agency's server"), "submission": N_("a signed-in client")}

_DAYS = {
    "sunday": N_("Sunday"),
    "monday": N_("Monday"),
    "tuesday": N_("Tuesday"),
    "wednesday": N_("Wednesday"),
    "thursday": N_("Thursday"),
    "friday": N_("Friday"),
    "saturday": N_("Saturday"),
}

# Match keys with a list of values: what stands before the values, and the values' words.
_ODD = {
    "mismatch": N_("its content is not what its name says"),
    "double-extension": N_("a program behind a document's name"),
    "two-names": N_("two names"),
    "bidi": N_("direction characters in its name"),
    "control": N_("control characters in its name"),
    "nul": N_("a NUL in its name"),
    "path": N_("a path in its name"),
    "polyglot": N_("content of two kinds"),
    "embedded": N_("a file inside a document"),
}
_LISTS: dict[str, tuple[str, Mapping[str, str]]] = {
    "door": (N_("came in by"), _DOORS),
    "peer": (N_("comes from the network"), {}),
    "submitter": (N_("from"), {}),
    "submitter_mode": (N_("the sender's agency is"), _MODES),
    "sender": (N_("envelope sender:"), _KINDS),
    "sender_mailbox": (N_("envelope sender:"), {}),
    "author": (N_("the From field belongs to"), _KINDS),
    "author_mailbox": (N_("author:"), {}),
    "recipient": (N_("recipient:"), _PLACES),
    "recipient_agency": (N_("to"), {}),
    "recipient_mailbox": (N_("recipient:"), {}),
    "recipient_mode": (N_("the recipient's agency is"), _MODES),
    "automatic": (N_("automatic message:"), _AUTOMATIC),
    "classification": (N_("classification:"), _CLASSIFICATION),
    "urgency": (N_("urgency:"), _URGENCY),
    "subject_contains": (N_("the subject holds"), {}),
    "header": (N_("header field"), {}),
    "authentication": (N_("authentication result:"), {}),
    "crypto": (N_("content:"), _CRYPTO),
    "attachment_type": (N_("the content of an attachment is"), {}),
    "attachment_extension": (N_("the name of an attachment ends in"), {}),
    "attachment_name": (N_("an attachment is called"), {}),
    "attachment_odd": (N_("strange about an attachment:"), _ODD),
    "weekday": (N_("came in on"), _DAYS),
    "time": (N_("came in at"), {}),
}
_FLAGS: dict[str, tuple[str, str]] = {
    "agency_server": (N_("from a connected agency"), N_("from no connected agency")),
    "vouched": (N_("the agency's server vouches for the sender"), N_("nobody vouches for the sender")),
    "same_agency": (N_("inside one agency"), N_("between two agencies")),
    "connected": (N_("the recipient's agency is connected"), N_("the recipient's agency is not connected")),
    "registry_routing": (
        N_("the recipient's agency wants letters at its registry office"),
        N_("the recipient's agency takes letters at each mailbox"),
    ),
    "outbound": (N_("the sender has a way to the outside"), N_("the sender has no way to the outside")),
    "looped": (N_("goes in circles"), N_("does not go in circles")),
    "unreadable": (N_("the header cannot be relied upon"), N_("the header can be relied upon")),
    "author_is_account": (N_("the author is who signed in"), N_("the author is not who signed in")),
    "automatic": (N_("written by no person"), N_("written by a person")),
    "answers": (N_("answers an earlier letter"), N_("answers no earlier letter")),
    "reply_by": (
        N_("the author says by when an answer is due"),
        N_("the author asks for no answer by a day"),
    ),
    "attachment_encrypted": (N_("has an encrypted attachment"), N_("has no encrypted attachment")),
    "attachment_signed": (N_("has a signed attachment"), N_("has no signed attachment")),
    "attachment_macros": (N_("has an attachment with macros"), N_("has no attachment with macros")),
    "attachment_executable": (N_("has a program attached"), N_("has no program attached")),
    "attachment_archive": (N_("has an archive attached"), N_("has no archive attached")),
    "attachment_undecided": (
        N_("an attachment could not be looked into"),
        N_("every attachment could be looked into"),
    ),
    "undecidable": (N_("could not be read to the end"), N_("could be read to the end")),
    "forged_marks": (
        N_("bore Wasl fields that its sender may not set"),
        N_("bore no Wasl fields that its sender may not set"),
    ),
    "working_time": (N_("came in within office hours"), N_("came in outside office hours")),
}
_BOUNDS = {
    "size_over": N_("larger than"),
    "recipients_over": N_("more recipients than"),
    "hops_over": N_("more servers on the way than"),
    "classification_at_least": N_("classification at least"),
    "urgency_at_least": N_("urgency at least"),
    "attachments_over": N_("more attachments than"),
    "attachment_size_over": N_("an attachment larger than"),
}
_ACTIONS = {
    "accept": N_("accept"),
    "hold": N_("hold for approval"),
    "reject": N_("refuse"),
    "pass": N_("let pass"),
}
_ROUTES = {
    "recipient": N_("to the recipient's server"),
    "outbound": N_("by the sender's way to the outside"),
    "gateway": N_("taken in by the gateway"),
}
_ASKS = {
    "always": N_("asks for a read receipt"),
    "author": N_("asks for a read receipt if the author does"),
    "never": N_("asks for no read receipt"),
}
_WORDS = {
    "letter": N_("as a letter"),
    "report": N_("as a report"),
    "accepted": N_("accepted"),
    "relayed": N_("relayed"),
    "delivered": N_("delivered"),
    "late": N_("late"),
    "failed": N_("failed"),
    "read": N_("read"),
    "processed": N_("processed"),
    "answered": N_("that of the letter it answers"),
    "author": N_("the author"),
    "registry": N_("the registry office"),
    "release": N_("release"),
    "refuse": N_("refuse"),
    "requiretls": N_("all the way"),
    "mailbox": N_("mailbox"),
    "agency": N_("agency"),
    "pair": N_("pair of agencies"),
    "compliance": N_("compliance"),
    "admin": N_("administrator"),
    "approver": N_("approver"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value in a phrase; ``written`` when it is not a word of ours."""

    text: str
    written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """One condition or effect: a label in the reader's language, and values."""

    label: str
    values: tuple[Value, ...] = ()
    tone: str = ""
    code: bool = False  # the label is a key of the file

    @property
    def text(self) -> str:
        return " ".join([self.label, *(value.text for value in self.values)]).strip()


@dataclass(frozen=True, slots=True)
class Teller:
    """Puts rules into words for one reader; ``agency`` names a code."""

    tongue: Tongue
    agency: Callable[[str], str]

    def match(
        self, match: Mapping[str, Any], when: str = "", unless: Mapping[str, Any] | None = None
    ) -> tuple[Phrase, ...]:
        """The conditions; a rule without any applies to every letter."""
        out = [self._condition(key, value) for key, value in match.items()]
        if unless:
            between = self._say(N_("and"))
            both = f" {between} ".join(self._condition(key, value).text for key, value in unless.items())
            out.append(Phrase(label=self._say(N_("unless")), values=(Value(text=both),)))
        if when:
            out.append(Phrase(label=self._say(N_("when")), values=(Value(text=when, written=True),)))
        return tuple(out) or (Phrase(label=self._say(N_("every letter"))),)

    def effects(self, effects: Mapping[str, Any]) -> tuple[Phrase, ...]:
        """What the rule does: its action first, then what it sets."""
        out = []
        action = str(effects.get("action") or "")
        if action:
            label = self._word(_ACTIONS, action)
            kind = effects.get("kind")
            more = [self._value("", kind)] if kind in ("letter", "report") else []
            out.append(Phrase(label=label, values=tuple(more), tone=action))
        for key, value in effects.items():
            if key not in ("action", "kind") and value is not None:
                out += self._effect(key, value)
        return tuple(out)

    def approvers(self, named: Iterable[str]) -> tuple[Value, ...]:
        """Who may decide a hold, as the rule names them."""
        return tuple(self._approver(name) for name in named)

    def _condition(self, key: str, value: Any) -> Phrase:
        if isinstance(value, bool) and key in _FLAGS:
            yes, no = _FLAGS[key]
            return Phrase(label=self._say(yes if value else no))
        if key in _BOUNDS:
            return Phrase(label=self._say(_BOUNDS[key]), values=(self._bound(key, value),))
        if key in _LISTS:
            label, words = _LISTS[key]
            return Phrase(label=self._say(label), values=self._values(key, value, words))
        return Phrase(label=key, values=self._values(key, value, {}), code=True)

    def _bound(self, key: str, value: Any) -> Value:
        if value == "settings":
            return Value(text=self._say(N_("the settings allow")))
        if key in ("size_over", "attachment_size_over") and isinstance(value, int):
            return Value(text=show.size(value, self.tongue))
        if isinstance(value, int):
            return Value(text=show.grouped(value))
        return self._value(key, value, {**_CLASSIFICATION, **_URGENCY})

    def _values(self, key: str, value: Any, words: Mapping[str, str]) -> tuple[Value, ...]:
        if isinstance(value, Mapping):
            return tuple(Value(text=f"{name}: {_plain(item)}", written=True) for name, item in value.items())
        listed = value if isinstance(value, (list, tuple)) else [value]
        return tuple(self._value(key, item, words) for item in listed)

    def _value(self, key: str, value: Any, words: Mapping[str, str] | None = None) -> Value:
        text = _plain(value)
        if key in AGENCY_KEYS:
            return Value(text=self.agency(text), written=True)
        known = (words if words is not None else _WORDS).get(text)
        return Value(text=self._say(known)) if known else Value(text=text, written=True)

    def _effect(self, key: str, value: Any) -> Iterable[Phrase]:
        say = self._say
        match key, value:
            case "reply", dict():
                text = str(value.get("ar" if self.tongue.code == "ar" else "en") or value.get("en") or "")
                code = f"{value.get('code', '')} {value.get('status', '')}".strip()
                told = f"{code} {text}".strip()
                yield Phrase(label=say(N_("with the reply")), values=(Value(text=told, written=True),))
            case "hold", dict():
                yield from self._hold(value)
            case "route", str():
                yield Phrase(label=self._word(_ROUTES, value))
            case "tag", bool():
                yield Phrase(label=say(N_("with our fields")) if value else say(N_("without our fields")))
            case "subject_tag", bool():
                yield Phrase(
                    label=say(N_("number in the subject")) if value else say(N_("no number in the subject"))
                )
            case "sign", bool():
                yield Phrase(label=say(N_("signed")) if value else say(N_("not signed")))
            case "ask_read", str() if value in _ASKS:
                yield Phrase(label=self._word(_ASKS, value))
            case "digest", bool():
                yield Phrase(
                    label=say(N_("receipts gathered in one message"))
                    if value
                    else say(N_("receipts at once"))
                )
            case "subject_tag", str():
                yield Phrase(
                    label=say(N_("number in the subject as")), values=(Value(text=value, written=True),)
                )
            case "require_tls", False:
                yield Phrase(label=say(N_("encryption is not required")))
            case "require_tls", _:
                more = (self._value("", value),) if isinstance(value, str) else ()
                yield Phrase(label=say(N_("only over encrypted connections")), values=more)
            case "receipts", []:
                yield Phrase(label=say(N_("no receipts")))
            case "limit", dict():
                yield self._limit(value)
            case _:
                yield self._setting(key, value)

    def _hold(self, value: Mapping[str, Any]) -> Iterable[Phrase]:
        approvers = value.get("approvers")
        if approvers:
            named = [
                self._approver(item) for item in (approvers if isinstance(approvers, list) else [approvers])
            ]
            yield Phrase(label=self._say(N_("approved by")), values=tuple(named))
        if value.get("persons") == 2:
            yield Phrase(label=self._say(N_("two different persons")))
        if value.get("expires"):
            then = str(value.get("then") or "refuse")
            after = Value(text=_plain(value["expires"]), written=True)
            yield Phrase(label=self._say(N_("expires after")), values=(after,))
            yield Phrase(label=self._say(N_("then:")), values=(self._value("", then),))

    def _approver(self, item: Any) -> Value:
        text = _plain(item)
        if text in _WORDS:
            return self._value("", text)
        named = self.agency(text) if text.isupper() else text
        return Value(text=named, written=True)

    def _limit(self, value: Mapping[str, Any]) -> Phrase:
        per = self._value("", value.get("per", "")).text
        told = self._say(
            N_("at most %(count)s in %(window)s per %(per)s"),
            count=_plain(value.get("count", "")),
            window=_plain(value.get("window", "")),
            per=per,
        )
        then = self._word(_ACTIONS, str(value.get("then") or "hold"))
        return Phrase(
            label=told,
            values=(Value(text=self._say(N_("what is above: %(then)s"), then=then)),),
            tone=str(value.get("then") or "hold"),
        )

    def _setting(self, key: str, value: Any) -> Phrase:
        label = _SETTINGS.get(key)
        words = {**_CLASSIFICATION, **_URGENCY} if "classification" in key or "urgency" in key else _WORDS
        values = self._values("", value, words)
        return Phrase(label=self._say(label) if label else key, values=values, code=label is None)

    def _word(self, words: Mapping[str, str], key: str) -> str:
        return self._say(words[key]) if key in words else key

    def _say(self, text: str, **values: object) -> str:
        return self.tongue.say(text, **values)


_SETTINGS = {
    "mailbox": N_("delivered to"),
    "hop": N_("by the server"),
    "copy": N_("copy to"),
    "classification": N_("classification becomes"),
    "raise_classification": N_("classification at least"),
    "urgency": N_("urgency becomes"),
    "raise_urgency": N_("urgency at least"),
    "due": N_("answer due in"),
    "receipts": N_("receipts for"),
    "receipts_to": N_("receipts to"),
    "ask_read": N_("asking for a read receipt"),
    "answers": N_("an answer, to the letter that it answers:"),
    "subject_tag": N_("subject tag"),
    "notify": N_("notify"),
}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return (
            ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
            if isinstance(value, dict)
            else ", ".join(_plain(item) for item in value)
        )
    return str(value)
