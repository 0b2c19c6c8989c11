"""Faults of policy files in Arabic: the loader's sentences, each with what it is for Arabic readers.

The loader (``policies/faults.py``) speaks one language, that of terminals and logs. Here its sentences
stand once more, each beside its Arabic, ``{}`` for what is filled in, which is shown as it was written.
A test holds this table against every sentence in ``policies/``. What a parser below the loader says (YAML,
CEL) and what is not in the table stays English, in a direction of its own. Nothing here fails.
"""

from __future__ import annotations

import re
from functools import cache

from markupsafe import Markup, escape

from dashboard.language import Tongue
from dashboard.show import visible
from policies.faults import Fault

SENTENCES = (
    # Any value
    ("is required", "هذا المفتاح لازم"),
    ("unknown key", "مفتاح غير معروف"),
    ("must be text", "يجب أن يكون نصاً"),
    ("must not be empty", "يجب ألا يكون فارغاً"),
    ("must be a whole number", "يجب أن يكون عدداً صحيحاً"),
    ("must be a number", "يجب أن يكون عدداً"),
    ("must be true or false", "يجب أن يكون true أو false"),
    ("must be a list", "يجب أن يكون قائمة"),
    ("must be a block of keys", "يجب أن يكون مجموعة مفاتيح"),
    ("must be at least {}", "يجب ألا يقل عن {}"),
    ("must be more than {}", "يجب أن يزيد على {}"),
    ("must be at most {}", "يجب ألا يزيد على {}"),
    ("must be less than {}", "يجب أن يقل عن {}"),
    ("must be one of {}", "يجب أن يكون واحداً من: {}"),
    ("needs at least {} entry", "يلزم فيه ما لا يقل عن {}"),
    ("has more than {} entries", "فيه أكثر من {} من القيم"),
    ("is longer than {} characters", "أطول من {} حرفاً"),
    ("is no size such as 50 MB", "ليس حجماً مثل 50 MB"),
    ("must be a path", "يجب أن يكون مساراً"),
    ("holds a control or direction character", "فيه محرف تحكم أو محرف اتجاه"),
    ("must be an e-mail address", "يجب أن يكون عنوان بريد"),
    ("{} is no e-mail address: {}", "{} ليس عنوان بريد: {}"),
    ("{} is no network such as 10.1.0.0/16", "{} ليس شبكة مثل 10.1.0.0/16"),
    ("{} is no network such as 10.1.0.0/16: {}", "{} ليس شبكة مثل 10.1.0.0/16: {}"),
    ("must be a span of time such as {}", "يجب أن يكون مدة مثل {}"),
    ("is longer than three years", "أطول من ثلاث سنوات"),
    # Files
    ("cannot be read: {}", "تتعذر قراءته: {}"),
    ("is larger than {} octets", "أكبر من {} بايت"),
    ("there is no such folder", "لا يوجد مجلد بهذا الاسم"),
    ("holds no rule file (*.yaml)", "ليس فيه ملف قواعد (‎*.yaml)"),
    ("is not UTF-8", "ليس بترميز UTF-8"),
    ("is not YAML: {}", "ليس YAML صحيحاً: {}"),
    ("is nested too deeply", "متداخل أعمق مما يجوز"),
    ("expands to too many values", "يتسع إلى قيم أكثر مما يجوز"),
    ("the tag {} is not allowed", "الوسم {} غير مسموح به"),
    ("a key must be a word", "المفتاح يجب أن يكون كلمة"),
    ("stands twice", "مذكور مرتين"),
    ("{} stands twice", "{} مذكور مرتين"),
    ("must be one document", "يجب أن يكون وثيقة واحدة"),
    ("is empty", "فارغ"),
    ("must hold rules:, a list", "يجب أن يكون فيه rules:‎ وهي قائمة"),
    ("must be a list of rules", "يجب أن تكون قائمة قواعد"),
    ("must be a rule: id, priority, match, action", "يجب أن يكون قاعدة: id, priority, match, action"),
    ("there are more than {} rules", "عدد القواعد أكثر من {}"),
    ("over {} rules have a when:", "أكثر من {} قاعدة فيها when:"),
    ("could not be examined: {}", "تعذر فحصه: {}"),
    # Rules
    ("the id {} is already that of {}", "المعرّف {} مستعمل في {}"),
    ("must be at least {}; below are the safety rules", "يجب ألا يقل عن {}؛ فما دونه لقواعد الأمان"),
    (
        "must be lower-case words joined by hyphens, such as {}",
        "يجب أن يكون كلمات لاتينية صغيرة الأحرف بينها شرطات، مثل {}",
    ),
    (
        "stands in an SMTP reply and must be ASCII; the Arabic text goes under ar",
        "يُرسل في رد SMTP ولا يكون إلا ASCII؛ ومكان النص العربي تحت ar",
    ),
    (
        "only {recipient}, {sender}, {domain} and {agency} are filled in",
        "لا يُعبّأ إلا {recipient} و{sender} و{domain} و{agency}",
    ),
    (
        'must be true, false or a shape such as "[{number}]"',
        'يجب أن يكون true أو false أو شكلاً مثل "[{number}]"',
    ),
    ("must hold {number}", "يجب أن يكون فيه {number}"),
    (
        "only {number}, {agency}, {classification} and {urgency} are filled in",
        "لا يُعبّأ إلا {number} و{agency} و{classification} و{urgency}",
    ),
    ("must be a whole number, or settings", "يجب أن يكون عدداً صحيحاً أو settings"),
    ("must be true, false, or some of {}", "يجب أن يكون true أو false أو بعضاً من: {}"),
    (
        "must be an agency's code such as MOF, or a group such as ministries",
        "يجب أن يكون رمز جهة مثل MOF أو مجموعة مثل ministries",
    ),
    ("must be an agency's code such as MOF", "يجب أن يكون رمز جهة مثل MOF"),
    (
        "{} must be an address, @domain, or a group such as ministries",
        "{} يجب أن يكون عنواناً أو ‎@نطاقاً أو مجموعة مثل ministries",
    ),
    ("must be a type such as application/pdf or image/*", "يجب أن يكون نوعاً مثل application/pdf أو image/*‎"),
    (
        "must be what follows the last dot of a file name, such as pdf",
        "يجب أن يكون ما بعد آخر نقطة في اسم ملف، مثل pdf",
    ),
    (
        "must be a method and a result such as dmarc=fail (spf, dkim, dmarc, arc)",
        "يجب أن يكون طريقة ونتيجة مثل dmarc=fail ‏(spf, dkim, dmarc, arc)",
    ),
    ("must be two times of day such as 07:30-15:00", "يجب أن يكون وقتين من اليوم مثل ‎07:30-15:00"),
    (
        "must be two different times of day such as 07:30-15:00",
        "يجب أن يكون وقتين مختلفين من اليوم مثل ‎07:30-15:00",
    ),
    (
        "must be a block of field names with what they must hold",
        "يجب أن يكون أسماء حقول مع ما يجب أن تحمله",
    ),
    ("{} is no field name (RFC 5322 §2.2)", "{} ليس اسم حقل (RFC 5322 §2.2)"),
    (
        "{}: must be true, false, or text in which * stands for anything",
        "{}: يجب أن يكون true أو false أو نصاً تعني فيه * أي شيء",
    ),
    ("must be a role, an agency's code or an account's name", "يجب أن يكون دوراً أو رمز جهة أو اسم حساب"),
    ("must be true, false or requiretls", "يجب أن يكون true أو false أو requiretls"),
    (
        "status must be an enhanced status such as {} (RFC 3463)",
        "يجب أن يكون status رمز حالة مفصلاً مثل {} ‏(RFC 3463)",
    ),
    (
        "a limit has its action under then; leave out action",
        "إجراء الحد (limit) مكانه تحت then؛ احذف action",
    ),
    ("action: reject and a reply belong together", "‏action: reject و reply متلازمان"),
    ("hold: has the terms of action: hold", "‏hold:‎ لشروط action: hold وحدها"),
    ("action: accept needs a kind", "‏action: accept يلزمه kind"),
    (
        "kind and route belong to action: accept, pass or hold",
        "‏kind و route لا يكونان إلا مع accept أو pass أو hold",
    ),
    ("action: pass passes; a letter is accepted", "‏action: pass للمرور فقط؛ والكتاب يُقبل بـ accept"),
    ("route and hop exclude each other", "لا يجتمع route و hop"),
    ("{} and raise_{} exclude each other", "لا يجتمع {} و raise_{}"),
    ("does nothing: give an action, or something to set", "القاعدة لا تفعل شيئاً: أعطها action أو ما تضبطه"),
    (
        "what is refused goes nowhere: only notify can stand beside action: reject",
        "ما يُرفض لا يذهب إلى أحد: لا يكون مع action: reject إلا notify",
    ),
    ("is empty: the rule would never apply", "فارغ: لن تنطبق القاعدة أبداً"),
    ("there is no group {}", "لا توجد مجموعة باسم {}"),
    ("there is no next hop {}", "لا توجد محطة تالية باسم {}"),
    ("there is no agency {}", "لا توجد جهة رمزها {}"),
    ("there is no role {}", "لا يوجد دور باسم {}"),
    ("there is no classification {}", "لا توجد درجة سرية باسم {}"),
    ("there is no urgency {}", "لا توجد درجة استعجال باسم {}"),
    ("can never hold: none of these is {} or higher", "لا يتحقق أبداً: ليس في هذه ما يبلغ {}"),
    (
        "can never hold: who is no agency's server has no agency",
        "لا يتحقق أبداً: ما ليس خادم جهة لا جهة له",
    ),
    ("can never hold: the recipient is in no agency", "لا يتحقق أبداً: المرسل إليه ليس في جهة"),
    ("can never hold: no letter has so many", "لا يتحقق أبداً: لا يحمل كتاب هذا العدد"),
    ("is never reached: {} before it decides everything", "لا يُوصل إليها أبداً: قبلها {} تحسم كل شيء"),
    ("is never reached: {} decides on all it applies to", "لا يُوصل إليها أبداً: {} تحسم كل ما تنطبق عليه"),
    # Expressions
    ("is no CEL: it breaks off", "ليس عبارة CEL: العبارة ناقصة"),
    ("is no CEL: {}", "ليس عبارة CEL: {}"),
    ("cannot be answered: {}", "لا جواب لها: {}"),
    ("must be true or false, and is {}", "يجب أن تكون true أو false، وهي {}"),
    ("is nested deeper than {} brackets", "متداخلة أعمق من {} قوساً"),
    ("has more than {} loops (all, exists, filter, map)", "فيها أكثر من {} حلقات (all, exists, filter, map)"),
    ("has more than one map()", "فيها أكثر من map()‎ واحدة"),
    ("has more than {} loops within each other", "فيها أكثر من {} حلقات بعضها داخل بعض"),
    ("{} is a fact; the loop needs a name of its own", "{} اسم حقيقة من الحقائق؛ سمّ متغير الحلقة باسم آخر"),
    ("there is no {}", "لا يوجد {}"),
    ("there is no function {}", "لا توجد دالة {}"),
    ("{} has no {}", "{} ليس فيه {}"),
    ("the field's name must stand in quotes", "يجب أن يكون اسم الحقل بين علامتي اقتباس"),
    ("the pattern must stand in quotes", "يجب أن يكون النمط بين علامتي اقتباس"),
    ("the pattern is longer than {} characters", "النمط أطول من {} حرفاً"),
    (
        "the pattern counts further than {}, or more than three times",
        "النمط يعدّ أبعد من {}، أو أكثر من ثلاث مرات",
    ),
    ("the pattern is wrong: {}", "النمط خطأ: {}"),
    # Groups, marks, calendar, follow-up
    ("{} holds itself", "المجموعة {} تضم نفسها"),
    (
        "must be a lower-case word, such as top-secret",
        "يجب أن يكون كلمة لاتينية صغيرة الأحرف، مثل top-secret",
    ),
    ("says nothing: give a classification or an urgency", "لا معنى لها: أعطها درجة سرية أو درجة استعجال"),
    ("{} under {} means two things", "{} تحت {} له معنيان"),
    (
        "must be a begin and a later end, such as 08:00-15:30",
        "يجب أن يكون بداية ثم نهاية بعدها، مثل ‎08:00-15:30",
    ),
    ("{} is no time zone such as Asia/Amman", "{} ليس منطقة زمنية مثل Asia/Amman"),
    ("{} is no date such as 2026-05-25", "{} ليس تاريخاً مثل ‎2026-05-25"),
    ("overlap or touch", "متداخلة أو متلاصقة"),
    ("must not be before date", "يجب ألا يسبق date"),
    ("makes a holiday of over {} days", "يجعل العطلة أكثر من {} يوماً"),
    ("leave a whole year without a working day", "لا تترك في سنة كاملة يوم عمل"),
    (
        "must be such as {}, on the day, when due, {}",
        "يجب أن يكون مثل: {}, on the day, when due, {}",
    ),
    ("is further than a year from the due date", "أبعد من سنة عن موعد الاستحقاق"),
    ("must be a time of day such as 08:00", "يجب أن يكون وقتاً من اليوم مثل 08:00"),
    ("no agency {} in the directory", "لا توجد في الدليل جهة رمزها {}"),
    ("no urgency {} in marks.yaml", "لا توجد في marks.yaml درجة استعجال باسم {}"),
    ("no classification {} in marks.yaml", "لا توجد في marks.yaml درجة سرية باسم {}"),
    (
        "{} is a mailbox of {}, which may not see the letters of {}",
        "{} صندوق بريد لدى {}، ولا يجوز أن تطّلع على كتب {}",
    ),
    # Hints
    ("did you mean {}?", "أتقصد {}؟"),
    ("known: {}", "المعروف: {}"),
    ("leave it out", "احذفه"),
    ("leave the file out", "احذف الملف"),
    ("leave out policy.path for the built-in rules", "احذف policy.path لتعمل القواعد المضمّنة"),
    (
        "make it with `wasl init`, or leave out policy.path for the built-in rules",
        "أنشئه بالأمر wasl init، أو احذف policy.path لتعمل القواعد المضمّنة",
    ),
    ("write them as one", "اكتبها فترة واحدة"),
    ("first on line {}", "أول مرة في السطر {}"),
    ("indent with spaces, not tabs", "اجعل الإزاحة بمسافات لا بعلامات جدولة"),
    ("put text that holds a colon in quotes", "ضع النص الذي فيه نقطتان بين علامتي اقتباس"),
    ("the safety rules come first", "قواعد الأمان أولاً"),
    ("give it a lower priority", "أعطها أولوية (priority) أصغر"),
    ("something is missing", "ينقصها شيء"),
    ("the quote is not closed", "علامة الاقتباس لم تُغلق"),
    ("compare with ==, join with && and ||", "المقارنة بـ ==‎ والربط بـ &&‎ و ||‎"),
)
"""The loader's sentences with their Arabic, ``{}`` for what is filled in, in the same order on both sides."""

_HOLE = "{}"


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """The most precise sentence first: the one with the most letters of its own."""
    ordered = sorted(SENTENCES, key=lambda pair: -len(pair[0].replace(_HOLE, "")))
    return tuple(
        (
            re.compile("(.+?)".join(map(re.escape, english.split(_HOLE))), re.DOTALL),
            tuple(arabic.split(_HOLE)),
        )
        for english, arabic in ordered
    )


def arabic(text: str) -> Markup | None:
    """A sentence of the loader in Arabic, what was filled in as it was written; None for an unknown one."""
    for pattern, pieces in _patterns():
        match = pattern.fullmatch(text)
        if match is not None:
            out = escape(pieces[0])
            for value, piece in zip(match.groups(), pieces[1:], strict=True):
                out += Markup('<bdi dir="auto">') + visible(value) + Markup("</bdi>") + escape(piece)
            return out
    return None


def told(text: str, tongue: Tongue) -> Markup:
    """A message or a hint for one reader."""
    found = arabic(text) if tongue.code == "ar" else None
    return found if found is not None else Markup('<bdi dir="ltr">') + visible(text) + Markup("</bdi>")


def line(fault: Fault, tongue: Tongue) -> Markup:
    """A whole fault on one line: file and line, key, message and hint."""
    place = f"{fault.file}:{fault.line}" if fault.line else fault.file
    key = f": {fault.key}" if fault.key else ""
    head = Markup('<bdi dir="ltr" class="mono">') + visible(f"{place}{key}") + Markup("</bdi>: ")
    hint = Markup(" (") + told(fault.hint, tongue) + Markup(")") if fault.hint else Markup("")
    return head + told(fault.message, tongue) + hint
