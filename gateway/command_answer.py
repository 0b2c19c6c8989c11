"""The answer to a command mail: what was done with the letter, or why not, Arabic first, then English.

It goes to the person who wrote the command, into the thread, bears the letter's address to answer to (so that
the next command is a reply), and is marked as an automatic reply (RFC 3834 §5). Pure; nothing here fails but
an identity that cannot be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.command_words import Command, Doubt
from policies.facts import Facts
from tracker.filing import Bar, Deed, Filed, Purpose
from tracker.foreign_text import shown
from tracker.model import Address
from tracker.notice import GatewayIdentity
from tracker.plain_mail import Cell, PlainMail, Sheet, Table, compose

_DEEDS = {
    Deed.REGISTER: ("قيد في الوارد", "register"),
    Deed.REFER: ("إحالة", "refer"),
    Deed.PROGRESS: ("قيد الإجراء", "in progress"),
    Deed.RETURN: ("إعادة", "return"),
    Deed.CLOSE: ("إغلاق", "close"),
}
_DONE = ("تم", "done")
_NUMBERED = ("قُيّد برقم الوارد {number}", "registered as incoming {number}")
_PURPOSES = {Purpose.ACTION: ("للإجراء", "for action"), Purpose.INFORMATION: ("للعلم", "for information")}
_BARS = {
    Bar.UNKNOWN: ("الكتاب ليس لدى هذه الجهة", "the letter is not at this agency"),
    Bar.NOT_YOURS: (
        "هذا لديوان الجهة التي تسلّمت الكتاب",
        "this is for the registry of the agency that has it",
    ),
    Bar.REGISTERED: ("مقيّد من قبل برقم الوارد {number}", "registered already as incoming {number}"),
    Bar.TAKEN: ("رقم الوارد هذا لكتاب آخر", "another letter has this incoming number"),
    Bar.ASSIGNED: (
        "أرقام الوارد لهذه الجهة تُعطى تلقائياً: اكتبوا «قيد» وحدها",
        "this agency's incoming numbers are assigned: write only “register”",
    ),
    Bar.NUMBER: ("اكتبوا رقم الوارد: «قيد 512»", "write the incoming number: “register 512”"),
    Bar.ENDED: (
        "أُغلق الكتاب أو أُعيد من قبل؛ «قيد الإجراء» تعيد فتحه",
        "it was closed or returned; “in progress” opens it again",
    ),
    Bar.SAME: ("هذه حاله من قبل", "that is how it stands already"),
    Bar.REASON: ("اكتبوا السبب: «معاد: السبب»", "write the reason: “return: reason”"),
    Bar.TARGET: ("اكتبوا إلى من: «إحالة إلى …»", "write to whom: “refer to …”"),
}
_NOT_LISTED = (
    "لم يُنفَّذ شيء: عنوانكم ليس من عناوين الديوان المخوّلة لدى جهتكم في دليل البوابة.",
    "Nothing was done: your address is not among those that your agency entitled in the gateway's directory.",
)
_NOT_PROVEN = (
    "لم يُنفَّذ شيء: لا يثبت الخادم الذي وردت منه الرسالة من أي جهة هي. أرسلوها بحساب مسجَّل الدخول.",
    "Nothing was done: the server that it came from does not prove of which agency it is. "
    "Send it from an account that signs in at the gateway.",
)
_TITLES = {
    "done": ("نُفّذ ما طلبتم", "Your command was carried out"),
    "some": ("نُفّذ بعض ما طلبتم", "Some of your command was carried out"),
    "none": ("لم يُنفَّذ ما طلبتم", "Your command was not carried out"),
}
_HELP_TITLE = ("الأوامر", "Commands")
_DOUBTS = {
    Doubt.HELP: (
        "هذه هي الأوامر التي تُكتب إلى عنوان هذا الكتاب.",
        "These are the commands that can be written to this letter's address.",
    ),
    Doubt.UNREAD: (
        "لم يُفهم السطر الأول: \u2068{line}\u2069. اكتبوه كما في الجدول، وحده في سطره.",
        "The first line was not understood: \u2068{line}\u2069. Write it as in the table, alone on its line.",
    ),
    Doubt.BELOW: (
        "الأمر \u2068{line}\u2069 ليس في السطر الأول. اكتبوه قبل أي كلام أو توقيع أو اقتباس.",
        "The command \u2068{line}\u2069 is not the first line. "
        "Write it above any words, signature or quotation.",
    ),
}
_NOT_PASSED = (
    "لم يُنفَّذ شيء، ولم تُرسل رسالتكم إلى كاتب الكتاب. لمخاطبته اكتبوا إلى عنوانه مباشرة.",
    "Nothing was done, and your message did not go to the letter's author. "
    "To tell the author something, write to the author's own address.",
)
_FORMS = (
    (("قيد", "register"), ("قيد الكتاب في الوارد، والرقم يُعطى تلقائياً", "enter it; the number is assigned")),
    (
        ("قيد 512/2026", "register 512/2026"),
        ("قيد الكتاب برقم سجل الوارد لديكم", "enter it under the number of your own register"),
    ),
    (
        ("إحالة إلى مديرية المشتريات للإجراء: شرح", "refer to Procurement for action: remark"),
        (
            "إحالة إلى وحدة أو شخص، «للإجراء» أو «للعلم»؛ والشرح لا تراه إلا جهتكم",
            "refer to a unit or person, for action or for information; only your agency reads the remark",
        ),
    ),
    (("قيد الإجراء", "in progress"), ("الكتاب قيد العمل", "somebody works on it; opens it again if closed")),
    (
        ("معاد: السبب", "return: reason"),
        ("إعادة الكتاب، ويُبلَّغ كاتبه بالسبب", "return it; the author reads why"),
    ),
    (
        ("تم: النتيجة", "done: result"),
        ("إغلاق الكتاب، ويُبلَّغ كاتبه بالنتيجة", "close it; the author reads the result"),
    ),
)
_FORMS_HEAD = (("ما يُكتب", "معناه"), ("Write", "It means"))
_ABOUT = ("الكتاب رقم \u2068{number}\u2069.", "Letter \u2068{number}\u2069.")
_COLUMNS = (("الأمر", "النتيجة"), ("Command", "Result"))
_HEADS = ("ما طُلب", "What was asked")
_NEXT = (
    "يمكن الرد على هذه الرسالة بأمر آخر: قيد، إحالة إلى …، قيد الإجراء، معاد: السبب، تم: النتيجة.",
    "You can answer this message with another command: "
    "register, refer to …, in progress, return: reason, done: result.",
)


@dataclass(frozen=True, slots=True)
class Done:
    """One command and what became of it; ``filed`` None: the person may not act."""

    command: Command
    filed: Filed | None
    proven: bool = True

    @property
    def taken(self) -> bool:
        return self.filed is not None and self.filed.bar is None


def answer(
    gateway: GatewayIdentity,
    who: Address,
    back: Address,
    number: str | None,
    thread: Sequence[str],
    facts: Facts,
    done: Sequence[Done],
    at_us: int,
    doubt: tuple[Doubt, str] | None = None,
) -> bytes:
    """The message, complete. ``doubt``: what was meant as a command and is none."""
    taken = sum(one.taken for one in done)
    word = "done" if taken == len(done) else "some" if taken else "none"
    tag = f"[{number}] " if number else ""
    asks = doubt is not None and doubt[0] is Doubt.HELP
    title_ar, title_en = _HELP_TITLE if asks else _TITLES["none" if doubt is not None else word]
    sheets = [
        Sheet(
            language=language,
            title=(title_ar, title_en)[n],
            lead=_lead(n, number, done, doubt),
            tables=(_forms(n),) if doubt is not None else (_table(n, done),) if _may(done) else (),
            notes=(_NEXT[n],) if _may(done) else (),
            tone="calm" if asks or (word == "done" and doubt is None) else "warn",
        )
        for n, language in enumerate(("ar", "en"))
    ]
    return compose(
        PlainMail(
            gateway=gateway,
            to=(who,),
            subject=f"{tag}{title_ar} · {title_en}",
            kind="command",
            at_us=at_us,
            arabic=sheets[0],
            english=sheets[1],
            number=number,
            message_id=facts.message_id or (thread[-1] if thread else None),
            references=tuple(thread),
            reply_to=back,
            answers=True,
            seed=facts.message_id or "",
        )
    )


def _may(done: Sequence[Done]) -> bool:
    return all(one.filed is not None for one in done)


def _lead(
    n: int, number: str | None, done: Sequence[Done], doubt: tuple[Doubt, str] | None
) -> tuple[str, ...]:
    about = (_ABOUT[n].replace("{number}", number),) if number else ()
    if doubt is not None:
        told = _DOUBTS[doubt[0]][n].replace("{line}", shown(doubt[1], 200))
        return (*about, told, _NOT_PASSED[n])
    if _may(done):
        return about
    return (*about, _NOT_LISTED[n] if all(one.proven for one in done) else _NOT_PROVEN[n])


def _table(n: int, done: Sequence[Done]) -> Table:
    rows = tuple((Cell(_asked(n, one.command)), Cell(_result(n, one))) for one in done)
    return Table(title=_HEADS[n], columns=_COLUMNS[n], rows=rows)


def _forms(n: int) -> Table:
    rows = tuple((Cell(form[n]), Cell(means[n])) for form, means in _FORMS)
    return Table(title=_HELP_TITLE[n], columns=_FORMS_HEAD[n], rows=rows)


def _asked(n: int, one: Command) -> str:
    words = [_DEEDS[one.deed][n], shown(one.number, 80), shown(one.to, 200)]
    if one.deed is Deed.REFER:
        words.append(_PURPOSES[one.purpose][n])
    said = shown(one.text or one.remark, 400)
    return " ".join(word for word in words if word) + (f": {said}" if said else "")


def _result(n: int, one: Done) -> str:
    filed = one.filed
    if filed is None:
        return ""
    incoming = shown(filed.incoming or "", 80)
    if filed.bar is not None:
        return _BARS[filed.bar][n].replace("{number}", incoming)
    numbered = _NUMBERED[n].replace("{number}", incoming)
    if one.command.deed is Deed.REGISTER:
        return numbered if incoming else _DONE[n]
    return f"{_DONE[n]} ({numbered})" if incoming else _DONE[n]
