"""The words of receipts, Arabic and English side by side, in one place for whoever edits them.

Every kind of receipt says what happened (``lead``), what that proves and what it does not
(``proves``), and has a short word for lists (``state``). The terms are those of the glossary that
the screens use. ``{number}`` is where the register number goes. Mail that is no letter has leads of
its own, which mention no number. The singular «المرسل إليه» stands for one or many, as in official
letters, so no sentence depends on a count.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracker.notice import Kind
from tracker.states import Event


@dataclass(frozen=True, slots=True)
class Bilingual:
    ar: str
    en: str

    def get(self, language: str) -> str:
        return self.ar if language == "ar" else self.en


@dataclass(frozen=True, slots=True, kw_only=True)
class KindWords:
    """What one kind of receipt says."""

    title: Bilingual
    lead: Bilingual
    proves: Bilingual
    plain_lead: Bilingual | None = None  # for mail that is no letter
    plain_proves: Bilingual | None = None
    tone: str = "calm"  # calm, good, warn or bad: the colour of the mark


B = Bilingual

KINDS: dict[Kind, KindWords] = {
    Kind.SUBMITTED: KindWords(
        title=B("إشعار قبول الإرسال", "Acceptance receipt"),
        lead=B(
            "قُبل كتابكم وقُيّد في الصادر بالرقم {number}، وسيُرسل إلى المرسل إليه المبيّن أدناه.",
            "Your letter has been accepted and registered as outgoing number {number}. "
            "It is being sent to the recipients below.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن الكتاب قُبل وحُفظت نسخة مطابقة له، ولا يثبت وصوله إلى أحد بعد.",
            "This proves that the letter was accepted and that an exact copy of it is kept. "
            "It does not prove that it has reached anyone yet.",
        ),
    ),
    Kind.REFUSED: KindWords(
        title=B("إشعار رفض الإرسال", "Refusal receipt"),
        lead=B(
            "لم يُرسل كتابكم رقم {number} إلى المرسل إليه المبيّن أدناه، وسبب الرفض مذكور بجانبه.",
            "Your letter {number} was not sent to the recipients below. The reason is given for each.",
        ),
        plain_lead=B(
            "لم تُرسل رسالتكم إلى المرسل إليه المبيّن أدناه، وسبب الرفض مذكور بجانبه.",
            "Your message was not sent to the recipients below. The reason is given for each.",
        ),
        proves=B(
            "لم يُسلَّم إليه شيء. يمكن إعادة الإرسال بعد إزالة السبب، أو مراجعة الديوان.",
            "Nothing was delivered to them. You can send again once the cause is removed, "
            "or ask your registry office.",
        ),
        plain_proves=B(
            "لم يُسلَّم إليه شيء. يمكن إعادة الإرسال بعد إزالة السبب.",
            "Nothing was delivered to them. You can send again once the cause is removed.",
        ),
        tone="bad",
    ),
    Kind.HELD: KindWords(
        title=B("إشعار حجز للمراجعة", "Held for approval"),
        lead=B(
            "كتابكم رقم {number} بانتظار الموافقة، ولم يُرسل بعد إلى المرسل إليه المبيّن أدناه.",
            "Your letter {number} is held for approval and has not yet been sent to the recipients below.",
        ),
        plain_lead=B(
            "رسالتكم بانتظار الموافقة، ولم تُرسل بعد إلى المرسل إليه المبيّن أدناه.",
            "Your message is held for approval and has not yet been sent to the recipients below.",
        ),
        proves=B("لا حاجة إلى إعادة الإرسال.", "There is no need to send it again."),
        tone="warn",
    ),
    Kind.RELAYED: KindWords(
        title=B("إشعار ترحيل", "Relay receipt"),
        lead=B(
            "قَبِل خادم بريد الجهة المرسل إليها كتابكم رقم {number}.",
            "The receiving agency's mail server has accepted your letter {number}.",
        ),
        plain_lead=B(
            "قَبِل خادم بريد الجهة المرسل إليها رسالتكم.",
            "The receiving mail server has accepted your message.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن خادم الجهة تسلّم الكتاب، ولا يثبت إيداعه في صندوق البريد ولا الاطلاع عليه.",
            "This proves that the agency's server took the letter over. "
            "It does not prove that it is in the mailbox or that anyone has seen it.",
        ),
        plain_proves=B(
            "لا يثبت ذلك إيداعها في صندوق البريد، وقد لا يصدر ذلك الخادم إشعار تسليم.",
            "This does not prove that it is in the mailbox. That server may issue no delivery notice.",
        ),
    ),
    Kind.DELIVERED: KindWords(
        title=B("إشعار تسليم", "Delivery receipt"),
        lead=B(
            "سُلّم كتابكم رقم {number} وأُودع في صندوق بريد المرسل إليه المبيّن أدناه.",
            "Your letter {number} has been delivered to the mailbox of the recipients below.",
        ),
        plain_lead=B(
            "سُلّمت رسالتكم وأُودعت في صندوق بريد المرسل إليه المبيّن أدناه.",
            "Your message has been delivered to the mailbox of the recipients below.",
        ),
        proves=B(
            "يثبت هذا الإشعار وصول الكتاب إلى صندوق البريد، ولا يثبت الاطلاع عليه.",
            "This proves that the letter is in the mailbox. It does not prove that anyone has seen it.",
        ),
        plain_proves=B(
            "لا يثبت ذلك الاطلاع عليها.",
            "This does not prove that anyone has seen it.",
        ),
        tone="good",
    ),
    Kind.LATE: KindWords(
        title=B("إنذار بتأخر التسليم", "Late delivery warning"),
        lead=B(
            "لم يُسلَّم كتابكم رقم {number} بعد إلى المرسل إليه المبيّن أدناه، والمحاولة مستمرة تلقائياً.",
            "Your letter {number} has not yet been delivered to the recipients below. "
            "Delivery is still being tried.",
        ),
        plain_lead=B(
            "لم تُسلَّم رسالتكم بعد إلى المرسل إليه المبيّن أدناه، والمحاولة مستمرة تلقائياً.",
            "Your message has not yet been delivered to the recipients below. Delivery is still being tried.",
        ),
        proves=B(
            "لا حاجة إلى إعادة الإرسال. وستُبلَّغون إن تعذّر التسليم نهائياً.",
            "There is no need to send it again. You will be told if delivery fails for good.",
        ),
        tone="warn",
    ),
    Kind.FAILED: KindWords(
        title=B("إشعار تعذّر التسليم", "Delivery failure"),
        lead=B(
            "تعذّر تسليم كتابكم رقم {number} إلى المرسل إليه المبيّن أدناه، ولن تُعاد المحاولة.",
            "Your letter {number} could not be delivered to the recipients below. "
            "No further attempt will be made.",
        ),
        plain_lead=B(
            "تعذّر تسليم رسالتكم إلى المرسل إليه المبيّن أدناه، ولن تُعاد المحاولة.",
            "Your message could not be delivered to the recipients below. No further attempt will be made.",
        ),
        proves=B(
            "الكتاب محفوظ برقمه. راجعوا السبب قبل إعادة الإرسال، أو بلّغوا الجهة بوسيلة أخرى.",
            "The letter is kept under its number. Look at the cause before you send again, "
            "or reach the agency by other means.",
        ),
        plain_proves=B(
            "راجعوا السبب قبل إعادة الإرسال.",
            "Look at the cause before you send again.",
        ),
        tone="bad",
    ),
    Kind.CANCELLED: KindWords(
        title=B("إشعار إلغاء الإرسال", "Sending cancelled"),
        lead=B(
            "أُلغي إرسال كتابكم رقم {number} إلى المرسل إليه المبيّن أدناه.",
            "The sending of your letter {number} to the recipients below was cancelled.",
        ),
        plain_lead=B(
            "أُلغي إرسال رسالتكم إلى المرسل إليه المبيّن أدناه.",
            "The sending of your message to the recipients below was cancelled.",
        ),
        proves=B("لم يُسلَّم إليه شيء.", "Nothing was delivered to them."),
        tone="bad",
    ),
    Kind.READ: KindWords(
        title=B("إشعار قراءة", "Read receipt"),
        lead=B(
            "ورد إشعار قراءة لكتابكم رقم {number} من المرسل إليه المبيّن أدناه.",
            "A read receipt for your letter {number} has come back from the recipients below.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن برنامج بريد المرسل إليه أفاد بعرض الكتاب، ولا يثبت ما اتُّخذ بشأنه.",
            "This proves that the recipient's mail program reported the letter as displayed. "
            "It does not prove what was done about it.",
        ),
        tone="good",
    ),
    Kind.REGISTERED: KindWords(
        title=B("إشعار قيد في الوارد", "Registration receipt"),
        lead=B(
            "قُيّد كتابكم رقم {number} في سجل الوارد لدى الجهة المرسل إليها.",
            "The receiving agency has entered your letter {number} in its incoming register.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن ديوان الجهة، أو الموظف المذكور، تسلّم الكتاب وقيّده.",
            "This proves that the registry of the agency, or the person named, took the letter in.",
        ),
        tone="good",
    ),
    Kind.REFERRED: KindWords(
        title=B("إشعار إحالة", "Referral notice"),
        lead=B(
            "أحالت الجهة المرسل إليها كتابكم رقم {number} داخلياً.",
            "The receiving agency has referred your letter {number} within its house.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن الجهة تسلّمت الكتاب وأحالته، ولا يثبت ما اتُّخذ بشأنه.",
            "This proves that the agency took the letter in and referred it. "
            "It does not prove what was done about it.",
        ),
    ),
    Kind.RETURNED: KindWords(
        title=B("إشعار إعادة الكتاب", "Return notice"),
        lead=B(
            "أعادت الجهة المرسل إليها كتابكم رقم {number}، والسبب مذكور أدناه.",
            "The receiving agency has returned your letter {number}. The reason is given below.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن الجهة تسلّمت الكتاب ثم أعادته.",
            "This proves that the agency received the letter and then returned it.",
        ),
        tone="bad",
    ),
    Kind.PROCESSED: KindWords(
        title=B("إشعار معالجة", "Processing receipt"),
        lead=B(
            "أُنجزت معالجة كتابكم رقم {number} لدى الجهة المرسل إليها.",
            "The receiving agency has finished processing your letter {number}.",
        ),
        proves=B(
            "يثبت هذا الإشعار أن الجهة أغلقت الكتاب أو أجابت عنه.",
            "This proves that the agency closed the letter or answered it.",
        ),
        tone="good",
    ),
    Kind.DIGEST: KindWords(
        title=B("إشعار مجمّع", "Summary receipt"),
        lead=B(
            "فيما يلي ما آل إليه كتابكم رقم {number} لدى كل مرسل إليه.",
            "This is how far your letter {number} has come with each of its recipients.",
        ),
        plain_lead=B(
            "فيما يلي ما آلت إليه رسالتكم لدى كل مرسل إليه.",
            "This is how far your message has come with each of its recipients.",
        ),
        proves=B(
            "يذكر كل سطر آخر ما ثبت بدليل، وما لم يُذكر فلا يوجد تأكيد عليه.",
            "Each line states the last thing for which there is evidence; of what is not stated "
            "there is no confirmation.",
        ),
    ),
}


_UNNUMBERED = (
    # What a sentence loses when the letter took no number (a shadow, a refusal in session).
    (" وقُيّد في الصادر بالرقم {number}", ""),
    (" رقم {number}", ""),
    (" and registered as outgoing number {number}", ""),
    ("letter {number}", "letter"),
)

STATES: dict[Event, Bilingual] = {
    Event.SUBMITTED: B("قُبل للإرسال", "accepted for sending"),
    Event.REFUSED: B("رُفض الإرسال", "refused"),
    Event.HELD: B("بانتظار الموافقة", "held for approval"),
    Event.RELAYED: B("رُحّل إلى خادم الجهة", "accepted by the agency's server"),
    Event.DELIVERED: B("سُلّم", "delivered to the mailbox"),
    Event.LATE: B("متأخر، والمحاولة مستمرة", "late, still being tried"),
    Event.FAILED: B("تعذّر التسليم", "not delivered"),
    Event.CANCELLED: B("أُلغي الإرسال", "cancelled"),
    Event.READ: B("ورد إشعار قراءة", "read receipt received"),
    Event.REGISTERED: B("قُيّد في الوارد", "registered"),
    Event.IN_PROGRESS: B("قيد الإجراء", "in progress"),
    Event.REFERRED: B("أُحيل", "referred"),
    Event.RETURNED: B("أُعيد", "returned"),
    Event.PROCESSED: B("أُنجزت معالجته", "processed"),
    Event.FETCHED: B("سُحب الكتاب", "fetched by the client"),
}

TONES: dict[Event, str] = {
    Event.REFUSED: "bad",
    Event.FAILED: "bad",
    Event.CANCELLED: "bad",
    Event.RETURNED: "bad",
    Event.HELD: "warn",
    Event.LATE: "warn",
    Event.DELIVERED: "good",
    Event.READ: "good",
    Event.REGISTERED: "good",
    Event.PROCESSED: "good",
}

CAUSES: dict[str, Bilingual] = {
    # By subject.detail of the enhanced status (RFC 3463, RFC 6531, RFC 7504, RFC 8689).
    "1.1": B("لا يوجد صندوق بريد بهذا العنوان.", "There is no mailbox of this address."),
    "1.2": B("نطاق العنوان غير معروف.", "The domain of the address is not known."),
    "1.3": B("صيغة العنوان غير صحيحة.", "The address is malformed."),
    "1.6": B("انتقل صندوق البريد ولم يُذكر عنوانه الجديد.", "The mailbox has moved and left no address."),
    "1.10": B("هذا النطاق لا يستقبل البريد.", "This domain accepts no mail."),
    "2.1": B("صندوق البريد معطّل.", "The mailbox is disabled."),
    "2.2": B("صندوق البريد ممتلئ.", "The mailbox is full."),
    "2.3": B("الرسالة أكبر من الحد المسموح به لصندوق البريد.", "The message is too large for the mailbox."),
    "3.1": B("لا توجد مساحة لدى خادم الجهة.", "The agency's server has no space left."),
    "3.2": B("خادم الجهة لا يقبل البريد حالياً.", "The agency's server accepts no mail at present."),
    "3.4": B("الرسالة أكبر مما يقبله خادم الجهة.", "The message is too large for the agency's server."),
    "4.1": B("خادم الجهة لا يجيب.", "The agency's server does not answer."),
    "4.2": B("انقطع الاتصال بخادم الجهة.", "The connection to the agency's server was lost."),
    "4.3": B("تعذّر العثور على خادم الجهة.", "The agency's server could not be looked up."),
    "4.4": B("لا يوجد طريق إلى خادم الجهة.", "There is no route to the agency's server."),
    "4.6": B("دارت الرسالة بين الخوادم دون أن تصل.", "The message went round in a loop."),
    "4.7": B("انقضت مدة المحاولة.", "The time for trying has run out."),
    "6.3": B(
        "خادم الجهة لا يقبل هذا الترميز، والكتاب لا يُغيَّر في الطريق.",
        "The agency's server does not take this encoding, and a message is not changed on its way.",
    ),
    "6.7": B(
        "خادم الجهة لا يقبل عناوين البريد بالعربية.",
        "The agency's server does not take addresses in Arabic script.",
    ),
    "7.1": B("لا تسمح سياسة التوجيه بالإرسال.", "The routing policy does not allow it."),
    "7.10": B("يُشترط نقل مشفّر لم يوفّره خادم الجهة.", "Encryption is required and was not offered."),
    "7.30": B("يُشترط نقل مشفّر لم يوفّره خادم الجهة.", "Encryption is required and was not offered."),
}

READ_MODES: dict[str, Bilingual] = {
    "manual-action": B("بفعل المستخدم", "by an act of the user"),
    "automatic-action": B("آلياً، دون فعل من المستخدم", "automatically, without an act of the user"),
    "": B("لم يذكرها البرنامج", "how is not said"),
}

LABELS: dict[str, Bilingual] = {
    "number": B("رقم الصادر", "Outgoing number"),
    "subject": B("الموضوع", "Subject"),
    "agency": B("الجهة المرسلة", "Sending agency"),
    "accepted": B("تاريخ القبول", "Accepted"),
    "sent": B("تاريخ الإرسال", "Sent"),
    "digest": B("بصمة المحتوى SHA-256", "Content digest SHA-256"),
    "recipient": B("المرسل إليه", "Recipient"),
    "state": B("الحالة", "State"),
    "time": B("الوقت", "Time"),
    "cause": B("السبب", "Cause"),
    "result": B("النتيجة", "Result"),
    "answer": B("جواب الخادم", "Server's answer"),
    "server": B("خادم البريد", "Mail server"),
    "tried": B("عدد المحاولات", "Attempts"),
    "last": B("آخر محاولة", "Last attempt"),
    "until": B("تستمر المحاولة حتى", "Will be tried until"),
    "incoming": B("رقم الوارد", "Incoming number"),
    "referred": B("أُحيل إلى", "Referred to"),
    "reply": B("أُجيب عنه بالكتاب رقم", "Answered by letter"),
    "shown": B("كيفية العرض كما أفاد البرنامج", "Displayed, as the program says"),
    "person": B("بواسطة", "By"),
    "nobody": B("الديوان، والموظف غير معروف", "the registry, person unknown"),
    "verify": B("للتحقّق", "Verify"),
    "attached": B(
        "الدليل مرفق بهذا الإشعار، ويمكن التحقّق منه دون اتصال بأي خادم.",
        "The evidence is attached and can be verified without asking any server.",
    ),
    "turned": B(
        "في النص أعلاه رموز خفية تقلب اتجاه الكتابة، وقد أُظهرت هكذا: [U+202E].",
        "The text above held hidden characters that turn the direction of writing; "
        "they are shown like this: [U+202E].",
    ),
    "more": B("مرسل إليهم آخرون لا يتسع لهم الجدول:", "More recipients than this table has room for:"),
    "returned": B("مرفق: ترويسة الرسالة الأصلية.", "Attached: the header of the original message."),
    "returned_full": B("مرفق: الرسالة الأصلية كاملة.", "Attached: the whole original message."),
    "footer": B(
        "أصدر هذا الإشعار تلقائياً {gateway}، ولا يُقرأ الرد عليه.",
        "Issued automatically by {gateway}. Answers to it are not read.",
    ),
}


def lead(kind: Kind, number: str | None, *, letter: bool, language: str) -> str:
    """The first sentence, with a letter's number or without one; ``{number}`` is left in place."""
    words = KINDS[kind]
    if not letter and words.plain_lead is not None:
        return words.plain_lead.get(language)
    text = words.lead.get(language)
    if number is None:
        for with_number, without in _UNNUMBERED:
            text = text.replace(with_number, without)
    return text


def proves(kind: Kind, *, letter: bool, language: str) -> str:
    """What the receipt proves, and what it does not."""
    words = KINDS[kind]
    return (words.proves if letter or words.plain_proves is None else words.plain_proves).get(language)
