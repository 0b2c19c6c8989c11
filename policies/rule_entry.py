"""The shape in which a policy file describes a rule.

These models are what stands under ``rules:``. Every key is documented at its field; the JSON Schema
for editors and the reference in docs/policy.md are made of them (``policies/schema_export.py``).
Unknown keys are refused and values are checked one by one; what needs the rest of the policy
(agencies, groups, words of marks.yaml, expressions) is checked by ``policies/load.py``.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    model_validator,
)

from policies.agency import Mode
from policies.agency_entry import Text, mailbox, plain
from policies.author import AuthorKind
from policies.entry import MANY, ONE, Description, Entry, Weekday
from policies.facts import Automatic, Crypto, Place, SenderKind
from policies.period import Period, period
from policies.rule import SETTINGS, Per, Route, RuleMode
from policies.verdict import Action, Then
from tracker.model import Address

MAX_EXPRESSION = 2000  # characters of ``when:``
_FIELDS = {"copy": "copy_to"}  # keys whose field has another name
RECEIPT_WORDS = ("author", "registry")

_ID = re.compile(r"[a-z][a-z0-9-]{1,59}")
_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_BRACES = re.compile(r"\{(?:recipient|sender|domain|agency)\}")
_SHAPE = re.compile(r"\{(?:number|agency|classification|urgency)\}")
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+^_`|~-]{1,80}")
_RESULT = re.compile(r"(spf|dkim|dmarc|arc|auth)=[a-z]{2,12}")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+_-]*/(?:\*|[a-z0-9][a-z0-9.+_-]*)")
_EXTENSION = re.compile(r"[^\s./\\]{1,20}")
_GROUP = re.compile(r"[a-z][a-z0-9-]{0,59}")
_AGENCY_OR_GROUP = re.compile(r"[A-Z][A-Z0-9-]{0,15}|[a-z][a-z0-9-]{0,59}")
_APPROVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,127}")


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("must be lower-case words joined by hyphens, such as inter-agency-letter")
    return text


def _ascii(text: str) -> str:
    if not text.isascii():
        raise ValueError("stands in an SMTP reply and must be ASCII; the Arabic text goes under ar")
    return _braces(text)


def _braces(text: str) -> str:
    rest = _BRACES.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError("only {recipient}, {sender}, {domain} and {agency} are filled in")
    return text


def _shape(value: object) -> object:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError('must be true, false or a shape such as "[{number}]"')
    text = plain(value)
    rest = _SHAPE.sub("", text)
    if "{number}" not in text:
        raise ValueError("must hold {number}")
    if "{" in rest or "}" in rest:
        raise ValueError("only {number}, {agency}, {classification} and {urgency} are filled in")
    if len(text) > 60:
        raise ValueError("is longer than 60 characters")
    return text


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
    if not values or not all(isinstance(v, str) and v in known for v in values):
        raise ValueError(f"must be true, false, or some of {', '.join(known)}")
    return [Automatic(str(v)) for v in values]


def _code(text: str) -> str:
    if not _AGENCY_OR_GROUP.fullmatch(text):
        raise ValueError("must be an agency's code such as MOF, or a group such as ministries")
    return text


def _mailbox_or(text: str) -> str:
    """An address, ``@domain`` or the name of a group; folded to be compared."""
    if text.startswith("@"):
        return mailbox(f"x{text}").key[1:]
    if "@" in text:
        return mailbox(text).key
    if _GROUP.fullmatch(text):
        return text
    raise ValueError(f"{text!r} must be an address, @domain, or a group such as ministries")


def _media_type(text: str) -> str:
    text = text.lower()
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError("must be a type such as application/pdf or image/*")
    return text


def _extension(text: str) -> str:
    text = text.lower().removeprefix(".")
    if not _EXTENSION.fullmatch(text):
        raise ValueError("must be what follows the last dot of a file name, such as pdf")
    return text


def _result(text: str) -> str:
    text = text.lower()
    if not _RESULT.fullmatch(text):
        raise ValueError("must be a method and a result such as dmarc=fail (spf, dkim, dmarc, arc)")
    return text


def _clock(text: str) -> str:
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError("must be two times of day such as 07:30-15:00")
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if end > 24 * 60 or begin == end:
        raise ValueError("must be two different times of day such as 07:30-15:00")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as e:
        raise ValueError(f"{text!r} is no network such as 10.1.0.0/16: {e}") from None


def _fields(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise ValueError("must be a block of field names with what they must hold")
    out: dict[str, bool | list[str]] = {}
    for name, wanted in value.items():
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{str(name)!r} is no field name (RFC 5322 §2.2)")
        if not isinstance(wanted, bool):
            wanted = wanted if isinstance(wanted, list) else [wanted]
            if not wanted or not all(isinstance(w, str) and 0 < len(w) <= 200 for w in wanted):
                raise ValueError(f"{name}: must be true, false, or text in which * stands for anything")
        if name.lower() in out:
            raise ValueError(f"{name} stands twice")
        out[name.lower()] = wanted
    return out


def _span(value: object) -> Period:
    return period(value)


def _window(value: object) -> Period:
    return period(value, working=False)


def _target(value: object) -> object:
    return value if value == "registry" else mailbox(value)


def _receiver(text: str) -> str:
    return text if text in RECEIPT_WORDS else str(mailbox(text))


def _approver(text: str) -> str:
    if not _APPROVER.fullmatch(text):
        raise ValueError("must be a role, an agency's code or an account's name")
    return text


def _tls(value: object) -> object:
    if isinstance(value, bool) or value == "requiretls":
        return value
    raise ValueError("must be true, false or requiretls")


def _expression(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"is longer than {MAX_EXPRESSION} characters")
    return text


Word = Annotated[str, Field(min_length=1, max_length=200)]
Codes = Annotated[list[Annotated[str, AfterValidator(_code)]], ONE, MANY]
Mailboxes = Annotated[list[Annotated[str, AfterValidator(_mailbox_or)]], ONE, MANY]
Words = Annotated[list[Word], ONE, MANY]
Bound = Annotated[
    int | Literal["settings"],
    PlainValidator(_bound, json_schema_input_type=Annotated[int, Field(ge=0)] | Literal["settings"]),
]
Number = Annotated[int, Field(ge=0, lt=1 << 50, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Span = Annotated[Period, PlainValidator(_span, json_schema_input_type=str)]
Window = Annotated[Period, PlainValidator(_window, json_schema_input_type=str)]
Addresses = Annotated[
    list[Annotated[Address, PlainValidator(mailbox, json_schema_input_type=str)]],
    ONE,
    Field(min_length=1, max_length=20),
]
ReceiptEvent = Literal[
    "accepted", "relayed", "delivered", "late", "failed", "read", "registered", "referred", "processed"
]


Odd = Literal[
    "mismatch",
    "double-extension",
    "two-names",
    "bidi",
    "control",
    "nul",
    "path",
    "polyglot",
    "embedded",
]


AskRead = Literal["always", "author", "never"]


class Reply(Entry):
    """What a refusal says. `{recipient}`, `{sender}`, `{domain}` and `{agency}` are filled in."""

    code: Annotated[int, Field(ge=400, le=599, strict=True)]
    """SMTP reply code: 4xx to try again later, 5xx for good."""
    status: str
    """Enhanced status code (RFC 3463), such as 5.7.1."""
    en: Annotated[Text, AfterValidator(_ascii), Field(max_length=400)]
    """In English, ASCII: it stands in the SMTP reply."""
    ar: Annotated[Text, AfterValidator(_braces), Field(max_length=400)]
    """In Arabic, for the page that the author reads."""

    @model_validator(mode="after")
    def _agree(self) -> Reply:
        if not _STATUS.fullmatch(self.status) or self.status[0] != str(self.code)[0]:
            raise ValueError(f"status must be an enhanced status such as {self.code // 100}.7.1 (RFC 3463)")
        return self


class Match(Entry):
    """The match keys. All of them must hold; a list holds when one of its values does."""

    door: Annotated[list[Literal["relay", "submission"]], ONE, MANY] | None = None
    """`relay`: an agency's server; `submission`: a signed-in client."""
    agency_server: Flag | None = None
    """Whether the peer is an agency's at all: by network, certificate, credential or sign-in."""
    peer: Annotated[list[Annotated[str, AfterValidator(_network)]], ONE, MANY] | None = None
    """Networks or addresses that the letter comes from, such as 10.1.0.0/16."""
    submitter: Codes | None = None
    """Codes or groups of agencies that hand the letter in."""
    submitter_mode: Annotated[list[Mode], ONE, MANY] | None = None
    """Mode of the agency that hands the letter in."""
    sender: Annotated[list[SenderKind], ONE, MANY] | None = None
    """Whose the envelope sender is."""
    sender_mailbox: Mailboxes | None = None
    """Envelope senders: addresses, @domains or groups."""
    author: Annotated[list[AuthorKind], ONE, MANY] | None = None
    """Whose the From field is."""
    author_mailbox: Mailboxes | None = None
    """From: addresses, @domains or groups."""
    author_is_account: Flag | None = None
    """From is the very address that signed in."""
    vouched: Flag | None = None
    """The agency's own server vouches for a sender of elsewhere."""
    recipient: Annotated[list[Place], ONE, MANY] | None = None
    """Where the recipient lies."""
    recipient_agency: Codes | None = None
    """Codes or groups of agencies that receive."""
    recipient_mailbox: Mailboxes | None = None
    """Recipients: addresses, @domains or groups."""
    recipient_mode: Annotated[list[Mode], ONE, MANY] | None = None
    """Mode of the agency that receives."""
    registry_routing: Flag | None = None
    """The recipient's agency wants its letters at its registry mailbox (`registry_routing` in its file)."""
    connected: Flag | None = None
    """The recipient's agency has a next hop."""
    same_agency: Flag | None = None
    """Sender and recipient are of one agency."""
    outbound: Flag | None = None
    """The submitter has a way to the outside."""
    automatic: (
        Annotated[
            bool | list[Automatic],
            PlainValidator(_automatic, json_schema_input_type=bool | Automatic | list[Automatic]),
        ]
        | None
    ) = None
    """A message that no person wrote; `true` for any kind."""
    classification: Words | None = None
    """Classifications of marks.yaml, as marked or as an earlier rule set it."""
    classification_at_least: Word | None = None
    """This classification or a higher one."""
    urgency: Words | None = None
    """Urgencies of marks.yaml, as marked or as an earlier rule set it."""
    urgency_at_least: Word | None = None
    """This urgency or a higher one."""
    answers: Flag | None = None
    """Answers a letter that the record knows."""
    reply_by: Flag | None = None
    """The author says by when an answer is due (Reply-By)."""
    subject_contains: Words | None = None
    """Words of the subject; alef, hamza, ya, ta marbuta, diacritics and case do not matter."""
    header: (
        Annotated[
            dict[str, bool | list[str]],
            PlainValidator(_fields, json_schema_input_type=dict[str, bool | str | list[str]]),
        ]
        | None
    ) = None
    """Header fields: `true` there, `false` not there, else text in which `*` stands for anything."""
    authentication: Annotated[list[Annotated[str, AfterValidator(_result)]], ONE, MANY] | None = None
    """Results of SPF, DKIM, DMARC and ARC on what came in, such as `dmarc=fail`."""
    crypto: Annotated[list[Crypto], ONE, MANY] | None = None
    """Whether the whole message is encrypted or signed."""
    attachment_type: Annotated[list[Annotated[str, AfterValidator(_media_type)]], ONE, MANY] | None = None
    """Types of attachments by content, such as application/pdf or image/*."""
    attachment_extension: Annotated[list[Annotated[str, AfterValidator(_extension)]], ONE, MANY] | None = None
    """What follows the last dot of an attachment's name."""
    attachment_name: Words | None = None
    """Names of attachments, `*` stands for anything."""
    attachment_encrypted: Flag | None = None
    """An attachment is encrypted, or something in it."""
    attachment_signed: Flag | None = None
    """An attachment is signed."""
    attachment_macros: Flag | None = None
    """An attachment bears macros, or something in it."""
    attachment_executable: Flag | None = None
    """An attachment is a program by its content, or something in it."""
    attachment_archive: Flag | None = None
    """An attachment is an archive."""
    attachment_odd: Annotated[list[Odd], ONE, MANY] | None = None
    """What is strange about an attachment's name or form: its extension belies the content (`mismatch`), a
    program's extension behind a document's (`double-extension`), the message calls it two things
    (`two-names`), direction or control characters (`bidi`, `control`, `nul`), a path, content of two kinds
    (`polyglot`), a program or file inside a document (`embedded`)."""
    attachment_undecided: Flag | None = None
    """What an attachment holds could not be found out."""
    attachments_over: Number | None = None
    """More attachments than this."""
    attachment_size_over: Number | None = None
    """The largest attachment has more octets than this."""
    size_over: Bound | None = None
    """Octets; `settings` for limits.message_size."""
    recipients_over: Bound | None = None
    """More recipients than this; `settings` for limits.recipients."""
    hops_over: Bound | None = None
    """More Received fields than this; `settings` for limits.hops."""
    looped: Flag | None = None
    """The letter goes in circles: it comes to a recipient that it has had, or has been here too often."""
    unreadable: Flag | None = None
    """The header cannot be relied upon."""
    undecidable: Flag | None = None
    """The structure, or an attachment, could not be read to the end."""
    forged_marks: Flag | None = None
    """It bore Wasl- fields from somebody who may not set them (they are taken out)."""
    working_time: Flag | None = None
    """It came in within office hours (calendar.yaml)."""
    weekday: Annotated[list[Weekday], ONE, Field(min_length=1, max_length=7)] | None = None
    """Days on which it came in, in the zone of calendar.yaml."""
    time: (
        Annotated[list[Annotated[str, AfterValidator(_clock)]], ONE, Field(min_length=1, max_length=20)]
        | None
    ) = None
    """Times of day at which it came in, such as 07:30-15:00; past midnight when the end is earlier."""


class Hold(Entry):
    """On what terms a letter is held."""

    approvers: Annotated[list[Annotated[str, AfterValidator(_approver)]], ONE, Field(max_length=50)] = Field(
        default_factory=list
    )
    """Roles (admin, compliance, registry), agencies' codes or account names; none: whoever may decide."""
    persons: Annotated[int, Field(ge=1, le=2, strict=True)] = 1
    """How many different persons must agree to its release."""
    expires: Span | None = None
    """When waiting ends, such as `2 working days` or `8h`."""
    then: Then = Then.REFUSE
    """What happens when it expires."""


class Limit(Entry):
    """How many recipients may be written to in a window of time; the rule applies to what is above."""

    per: Per
    """What is counted: the envelope sender, the submitting agency, or submitter and receiver."""
    count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
    """Letters, counted for each recipient."""
    window: Window
    """Such as `1h`."""
    then: Literal["reject", "hold"] = "hold"
    """What happens to what is above; `reject` needs a reply."""


class RuleEntry(Entry):
    """One of `rules:`."""

    id: Annotated[str, AfterValidator(_id)]
    """Lower-case words joined by hyphens; stands in the record for good."""
    priority: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
    """Lower is asked first; below 100 are the safety rules."""
    description: Description
    """What the rule is for, for people."""
    mode: RuleMode = RuleMode.ACTIVE
    """`shadow`: what it would have done is recorded and counted, nothing is changed."""
    match: Match
    """When it applies."""
    unless: Match | None = None
    """It does not apply when all of these hold."""
    when: Annotated[str, AfterValidator(_expression), Field(max_length=MAX_EXPRESSION)] | None = None
    """A condition in CEL, asked when the match keys hold."""
    action: Action | None = None
    """What decides. Without one the rule only sets something and the chain goes on."""
    kind: Literal["letter", "pass", "report"] | None = None
    """What is accepted: a letter that is registered, or mail that passes."""
    route: Route | None = None
    """`outbound`: by the submitter's way to the outside."""
    hop: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """Next hop by its name: an agency's code, or CODE:outbound."""
    mailbox: (
        Annotated[Literal["registry"] | Address, PlainValidator(_target, json_schema_input_type=str)] | None
    ) = None
    """Deliver to this address instead; `registry`: the registry mailbox of the recipient's agency."""
    copy_to: Annotated[Addresses | None, Field(alias="copy")] = None
    """Who gets a copy besides."""
    reply: Reply | None = None
    """What a refusal says; with `hold`: what is said if it is refused."""
    hold: Hold | None = None
    """Terms of `action: hold`."""
    limit: Limit | None = None
    """The rule applies to what exceeds a rate."""
    require_tls: Annotated[
        bool | Literal["requiretls"] | None,
        PlainValidator(_tls, json_schema_input_type=bool | Literal["requiretls"]),
    ] = None
    """Deliver over TLS only; `requiretls`: and ask every hop for it (RFC 8689)."""
    classification: Word | None = None
    """Set it."""
    raise_classification: Word | None = None
    """Set it where it is lower; `answered`: to that of the letter that is answered."""
    urgency: Word | None = None
    """Set it."""
    raise_urgency: Word | None = None
    """Set it where it is lower; `answered`: to that of the letter that is answered."""
    due: Span | None = None
    """When an answer is due, such as `3 working days`, `4 working hours` or `48h`."""
    receipts: Annotated[list[ReceiptEvent], ONE] | None = None
    """The events that earn the author a receipt; [] for none."""
    receipts_to: (
        Annotated[list[Annotated[str, AfterValidator(_receiver)]], ONE, Field(min_length=1, max_length=20)]
        | None
    ) = None
    """Who gets the receipts: author, registry (of the author's agency) or addresses."""
    digest: Flag | None = None
    """Receipts in a digest instead of at once."""
    answers: Literal["closes", "advances", "nothing"] | None = None
    """What an answer does at its own agency to the letter that it answers."""
    ask_read: AskRead | None = None
    """Whether the copy asks the recipient's mail program for a read receipt; `author`: if the author does."""
    tag: Flag | None = None
    """false: the copy goes out exactly as it came."""
    subject_tag: Annotated[bool | str | None, PlainValidator(_shape, json_schema_input_type=bool | str)] = (
        None
    )
    """Whether the number stands in the subject, or in which shape, such as "[{number}]"."""
    sign: Flag | None = None
    """false: no DKIM signature of the author's agency."""
    notify: Addresses | None = None
    """Who is told that the rule applied."""

    @model_validator(mode="after")
    def _whole(self) -> RuleEntry:
        limited = self.limit is not None
        if limited and self.action is not None:
            raise ValueError("a limit has its action under then; leave out action")
        action = Action(self.limit.then) if self.limit is not None else self.action
        replies = action in (Action.REJECT, Action.HOLD)
        if (action is Action.REJECT and self.reply is None) or (self.reply is not None and not replies):
            raise ValueError("action: reject and a reply belong together")
        if self.hold is not None and action is not Action.HOLD:
            raise ValueError("hold: has the terms of action: hold")
        if action is Action.ACCEPT and self.kind is None:
            raise ValueError("action: accept needs a kind")
        if action in (Action.REJECT, None) and (self.kind is not None or self.route is not None):
            raise ValueError("kind and route belong to action: accept, pass or hold")
        if action is Action.PASS and self.kind not in (None, "pass"):
            raise ValueError("action: pass passes; a letter is accepted")
        if self.route is not None and self.hop is not None:
            raise ValueError("route and hop exclude each other")
        for word in ("classification", "urgency"):
            if getattr(self, word) is not None and getattr(self, f"raise_{word}") is not None:
                raise ValueError(f"{word} and raise_{word} exclude each other")
        settings = [name for name in SETTINGS if getattr(self, _FIELDS.get(name, name)) is not None]
        if action is None and not settings:
            raise ValueError("does nothing: give an action, or something to set")
        if action is Action.REJECT and settings != (["notify"] if self.notify else []):
            raise ValueError("what is refused goes nowhere: only notify can stand beside action: reject")
        return self
