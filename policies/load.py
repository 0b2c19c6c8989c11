"""Reading policy files: YAML to compiled rules, every fault at once with file and line.

The rules of ``default/safety.yaml`` are always in force; a policy folder replaces those of
``default/letters.yaml``. Unknown keys, values and agencies, ids that stand twice and rules that can
never be reached are faults. :class:`PolicyFile` keeps the last good policy when the files are
broken (promise 7). Raises :class:`policies.faults.ConfigFaults` and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from policies.agency import Mode
from policies.agency_entry import Text
from policies.author import AuthorKind
from policies.chain import Policy
from policies.directory import Directory
from policies.document import Document, read_documents
from policies.facts import Automatic, Crypto, Place, SenderKind
from policies.faults import ConfigFaults, Fault, Loc, faults_of, suggestion
from policies.rule import Condition, Effect, Refusal, Route, Rule, condition
from policies.verdict import Action, Kind
from tracker.model import Door

DEFAULT = Path(__file__).parent / "default"
SAFETY = DEFAULT / "safety.yaml"
LETTERS = DEFAULT / "letters.yaml"
FIRST_PRIORITY = 100  # what is below belongs to the safety rules
MAX_RULES = 5000

_ID = re.compile(r"[a-z][a-z0-9-]{1,59}")
_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_BRACES = re.compile(r"\{(?:recipient|sender|domain|agency)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ``settings`` stands for in ``size_over``, ``recipients_over`` and ``hops_over``."""

    size: int = 50_000_000
    recipients: int = 1000
    hops: int = 50


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("must be lower-case words joined by hyphens, such as inter-agency-letter")
    return text


def _listed(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else [value]


def _ascii(text: str) -> str:
    if not text.isascii():
        raise ValueError("stands in an SMTP reply and must be ASCII; the Arabic text goes under ar")
    return _braces(text)


def _braces(text: str) -> str:
    rest = _BRACES.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError("only {recipient}, {sender}, {domain} and {agency} are filled in")
    return text


ReceiptEvent = Literal["accepted", "relayed", "delivered", "late", "failed", "read", "processed"]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Description(Entry):
    ar: Text
    en: Text


class Reply(Entry):
    code: Annotated[int, Field(ge=400, le=599, strict=True)]
    status: str
    en: Annotated[Text, AfterValidator(_ascii), Field(max_length=400)]
    ar: Annotated[Text, AfterValidator(_braces), Field(max_length=400)]

    @model_validator(mode="after")
    def _agree(self) -> Reply:
        if not _STATUS.fullmatch(self.status) or self.status[0] != str(self.code)[0]:
            raise ValueError(f"status must be an enhanced status such as {self.code // 100}.7.1 (RFC 3463)")
        return self


def _bound(value: object) -> object:
    if value == "settings" or (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50
    ):
        return value
    raise ValueError("must be a whole number, or settings")


def _automatic(value: object) -> object:
    if isinstance(value, bool):
        return value
    known = [kind.value for kind in Automatic]
    values = value if isinstance(value, list) else [value]
    if not values or not all(v in known for v in values):
        raise ValueError(f"must be true, false, or some of {', '.join(known)}")
    return [Automatic(str(v)) for v in values]


Bound = Annotated[int | Literal["settings"], PlainValidator(_bound)]


class Match(Entry):
    """The match keys. All of them must hold; a list holds when one of its values does."""

    door: Annotated[list[Literal["relay", "submission"]], BeforeValidator(_listed)] | None = None
    """`relay`: an agency's server; `submission`: a signed-in client."""
    agency_server: bool | None = None
    """Whether the peer is an agency's at all: by network, certificate, credential or sign-in."""
    submitter: Annotated[list[str], BeforeValidator(_listed)] | None = None
    """Codes of agencies that hand the letter in."""
    submitter_mode: Annotated[list[Mode], BeforeValidator(_listed)] | None = None
    sender: Annotated[list[SenderKind], BeforeValidator(_listed)] | None = None
    """Whose the envelope sender is."""
    author: Annotated[list[AuthorKind], BeforeValidator(_listed)] | None = None
    """Whose the From field is."""
    author_is_account: bool | None = None
    """From is the very address that signed in."""
    vouched: bool | None = None
    """The agency's own server vouches for a sender of elsewhere."""
    recipient: Annotated[list[Place], BeforeValidator(_listed)] | None = None
    """Where the recipient lies."""
    recipient_agency: Annotated[list[str], BeforeValidator(_listed)] | None = None
    """Codes of agencies that receive."""
    recipient_mode: Annotated[list[Mode], BeforeValidator(_listed)] | None = None
    connected: bool | None = None
    """The recipient's agency has a next hop."""
    same_agency: bool | None = None
    outbound: bool | None = None
    """The submitter has a way to the outside."""
    automatic: Annotated[bool | list[Automatic], PlainValidator(_automatic)] | None = None
    """A message that no person wrote; `true` for any kind."""
    crypto: Annotated[list[Crypto], BeforeValidator(_listed)] | None = None
    size_over: Bound | None = None
    """Octets; `settings` for limits.message_size."""
    recipients_over: Bound | None = None
    hops_over: Bound | None = None
    looped: bool | None = None
    unreadable: bool | None = None
    """The header cannot be relied upon."""


class RuleEntry(Entry):
    """One of ``rules:``."""

    id: Annotated[str, AfterValidator(_id)]
    priority: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
    description: Description
    match: Match
    action: Action | None = None
    """What decides. Without one the rule only sets something and the chain goes on."""
    kind: Literal["letter", "pass", "report"] | None = None
    route: Route | None = None
    reply: Reply | None = None
    tag: bool | None = None
    subject_tag: bool | None = None
    sign: bool | None = None
    require_tls: bool | None = None
    receipts: (
        list[Literal["accepted", "relayed", "delivered", "late", "failed", "read", "processed"]] | None
    ) = None
    """The events that earn the author a receipt; [] for none."""

    @model_validator(mode="after")
    def _whole(self) -> RuleEntry:
        if (self.action is Action.REJECT) != (self.reply is not None):
            raise ValueError("action: reject and a reply belong together")
        if self.action is Action.ACCEPT and self.kind is None:
            raise ValueError("action: accept needs a kind")
        if self.action in (Action.REJECT, None) and (self.kind is not None or self.route is not None):
            raise ValueError("kind and route belong to action: accept, pass or hold")
        if self.action is Action.PASS and self.kind not in (None, "pass"):
            raise ValueError("action: pass passes; a letter is accepted")
        settings = (self.tag, self.subject_tag, self.sign, self.require_tls, self.receipts)
        if self.action is None and all(value is None for value in settings):
            raise ValueError("does nothing: give an action, or something to set")
        return self


def load_policy(
    folder: Path | str | None = None, limits: Limits | None = None, directory: Directory | None = None
) -> Policy:
    """The safety rules with those of a folder (default: the built-in letters), compiled.

    With a directory the agency codes in match keys are checked against it.
    """
    bounds = limits or Limits()
    files = [(SAFETY, f"default/{SAFETY.name}")]
    files += policy_files(Path(folder)) if folder is not None else [(LETTERS, f"default/{LETTERS.name}")]
    faults: list[Fault] = []
    rules: dict[str, Rule] = {}
    digest = hashlib.sha256(repr(bounds).encode())
    for file, name in files:
        try:
            documents, octets = read_documents(file, name)
        except ConfigFaults as e:
            faults += e.faults
            continue
        digest.update(f"{name}\0{len(octets)}\0".encode() + octets)
        for document in documents:
            for data, loc in _entries(document, faults):
                rule = _rule(data, loc, document, bounds, directory, file == SAFETY, faults)
                if rule is None:
                    continue
                other = rules.setdefault(rule.id, rule)
                if other is not rule:
                    what = f"the id {rule.id} is already that of {other.file}:{other.line}"
                    faults.append(document.fault((*loc, "id"), what))
    ordered = tuple(sorted(rules.values(), key=lambda r: (r.priority, r.id)))
    if len(ordered) > MAX_RULES:
        faults.append(Fault(file=files[-1][1], message=f"has more than {MAX_RULES} rules"))
    faults += _unreachable(ordered)
    if faults:
        raise ConfigFaults(faults)
    return Policy(ordered, digest.hexdigest()[:16])


def policy_files(root: Path) -> list[tuple[Path, str]]:
    """The files of a policy folder with the names that faults call them by, sorted."""
    try:
        if root.is_file():
            return [(root, root.name)]
        if not root.is_dir():
            hint = "make it with `wasl init`, or leave out policy.path for the built-in rules"
            raise ConfigFaults([Fault(file=str(root), message="there is no such folder", hint=hint)])
        found = sorted(p for p in root.rglob("*") if p.suffix in (".yaml", ".yml"))
        kept = [p for p in found if not p.name.startswith((".", "_")) and p.is_file()]
    except OSError as e:
        raise ConfigFaults([Fault(file=str(root), message=f"cannot be read: {e.strerror or e}")]) from None
    if not kept:
        hint = "leave out policy.path for the built-in rules"
        raise ConfigFaults([Fault(file=str(root), message="holds no rule file (*.yaml)", hint=hint)])
    return [(p, f"{root.name}/{p.relative_to(root).as_posix()}") for p in kept]


class PolicyFile:
    """The policy in force. :meth:`reload` replaces it only by one without faults."""

    def __init__(self, folder: Path | str | None = None, limits: Limits | None = None) -> None:
        """Reads the policy; raises :class:`ConfigFaults` when there is no good one to begin with."""
        self.folder = Path(folder) if folder is not None else None
        self.limits = limits or Limits()
        self.current = load_policy(self.folder, self.limits)
        self.faults: tuple[Fault, ...] = ()

    def reload(self, directory: Directory | None = None) -> tuple[Fault, ...]:
        """Read again. Empty: the new policy is in force. Else the faults; the old one stays."""
        try:
            self.current = load_policy(self.folder, self.limits, directory)
            self.faults = ()
        except ConfigFaults as e:
            self.faults = e.faults
        return self.faults


def _entries(document: Document, faults: list[Fault]) -> list[tuple[dict[str, Any], Loc]]:
    data = document.data
    if data is None:
        return []
    if not isinstance(data, dict) or "rules" not in data:
        faults.append(document.fault((), "must hold rules:, a list"))
        return []
    for key in data:
        if key != "rules":
            faults.append(document.fault((key,), "unknown key", suggestion(key, ("rules",))))
    if not isinstance(data["rules"], list):
        faults.append(document.fault(("rules",), "must be a list of rules"))
        return []
    out: list[tuple[dict[str, Any], Loc]] = []
    for i, entry in enumerate(data["rules"]):
        if isinstance(entry, dict):
            out.append((entry, ("rules", i)))
        else:
            faults.append(document.fault(("rules", i), "must be a rule: id, priority, match, action"))
    return out


def _rule(
    data: dict[str, Any],
    loc: Loc,
    document: Document,
    limits: Limits,
    directory: Directory | None,
    safety: bool,
    faults: list[Fault],
) -> Rule | None:
    try:
        entry = RuleEntry.model_validate(data)
    except ValidationError as e:
        faults += faults_of(e, RuleEntry, document.file, document.place, loc)
        return None
    if not safety and entry.priority < FIRST_PRIORITY:
        what = f"must be at least {FIRST_PRIORITY}; below are the safety rules"
        faults.append(document.fault((*loc, "priority"), what))
    if directory is not None:
        codes = [a.code for a in directory]
        for key in ("submitter", "recipient_agency"):
            for i, code in enumerate(getattr(entry.match, key) or ()):
                if code not in codes:
                    hint = suggestion(code, codes)
                    where = (*loc, "match", key, i)
                    faults.append(document.fault(where, f"there is no agency {code}", hint))
    return Rule(
        id=entry.id,
        priority=entry.priority,
        ar=entry.description.ar,
        en=entry.description.en,
        conditions=_conditions(entry.match, limits),
        effect=_effect(entry),
        file=document.file,
        line=document.place((*loc, "id"))[0],
    )


def _conditions(match: Match, limits: Limits) -> tuple[Condition, ...]:
    bounds = {"size_over": limits.size, "recipients_over": limits.recipients, "hops_over": limits.hops}
    out = []
    for key in Match.model_fields:
        value = getattr(match, key)
        if value is None:
            continue
        if value == "settings":
            value = bounds[key]
        if key == "door":
            value = [Door(v) for v in value]
        out.append(condition(key, value))
    return tuple(out)


def _effect(entry: RuleEntry) -> Effect:
    refusal = None
    if entry.reply is not None:
        reply = entry.reply
        refusal = Refusal(code=reply.code, status=reply.status, en=reply.en, ar=reply.ar)
    return Effect(
        action=entry.action,
        kind=Kind(entry.kind) if entry.kind is not None else None,
        route=entry.route,
        refusal=refusal,
        tag=entry.tag,
        subject_tag=entry.subject_tag,
        sign=entry.sign,
        require_tls=entry.require_tls,
        receipts=tuple(entry.receipts) if entry.receipts is not None else None,
    )


def _unreachable(rules: tuple[Rule, ...]) -> list[Fault]:
    """Rules behind one that always decides."""
    for i, rule in enumerate(rules):
        if not rule.conditions and rule.effect.action is not None:
            return [
                Fault(
                    file=later.file,
                    line=later.line,
                    key=later.id,
                    message=f"is never reached: {rule.id} before it decides everything",
                    hint="give it a lower priority",
                )
                for later in rules[i + 1 :]
            ]
    return []
