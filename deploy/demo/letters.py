"""The sample letters: who writes what to whom, and what should become of it.

A letter knows its envelope, its text and its attachments; :meth:`Letter.octets` makes the message as a mail
client would. ``fates`` says for each recipient where the letter must end, ``receipts`` which receipts the
author must find in the mailbox, ``refusal`` how the gateway must answer what it may not take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate

from deploy.demo import attachments as made
from deploy.demo.agencies import FINANCE, HEALTH, PLANNING, REGISTRY, Person


@dataclass(frozen=True, kw_only=True)
class Fate:
    """Where a letter stands for one recipient, in the words of ``wasl letter show``."""

    state: str
    grade: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.state}, {self.grade}, {self.outcome}"


DELIVERED = Fate(state="sent", grade="delivered", outcome="open")
FETCHED = Fate(state="sent", grade="fetched", outcome="open")
READ = Fate(state="sent", grade="read", outcome="open")
REGISTERED = Fate(state="sent", grade="registered", outcome="open")
PROCESSED = Fate(state="sent", grade="processed", outcome="closed")
REFUSED_THERE = Fate(state="failed", grade="accepted", outcome="failed")  # the next hop said no at once
HELD = Fate(state="held", grade="accepted", outcome="open")
BOUNCED = Fate(state="failed", grade="relayed", outcome="failed")  # taken by the server, then a DSN said no


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file that goes with a letter."""

    name: str
    kind: str
    octets: bytes


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One sample letter. Without fates it is no letter to Wasl: private mail, or refused."""

    key: str
    author: Person
    client: str  # the program that sends it, see clients.py
    subject: str
    text: str
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    fates: dict[str, Fate] = field(default_factory=dict)
    receipts: tuple[str, ...] = ()  # kinds, as the field Wasl-Receipt names them
    account: str = ""  # who signs in, if that is not the author
    sender: str = ""  # the envelope's sender, if that is not the author
    refusal: str = ""  # code and status of the answer that refuses it
    answers: str = ""  # Message-ID of the letter that this one answers
    urgency: str = ""  # as policy must read it from the letter's marks; with a due date

    @property
    def message_id(self) -> str:
        domain = self.author.address.rpartition("@")[2]
        return f"<{self.key}.demo@{domain}>"

    @property
    def recipients(self) -> tuple[str, ...]:
        return (*self.to, *self.cc, *self.bcc)

    @property
    def envelope_sender(self) -> str:
        return self.sender or self.author.address

    @property
    def signs_in_as(self) -> str:
        return self.account or self.author.address

    def octets(self) -> bytes:
        """The message with CRLF at the end of each line; Bcc stands in it, as some clients leave it."""
        message = EmailMessage(policy=SMTP)
        message["From"] = f'"{self.author.name}" <{self.author.address}>'
        message["To"] = ", ".join(self.to)
        for name, people in (("Cc", self.cc), ("Bcc", self.bcc)):
            if people:
                message[name] = ", ".join(people)
        message["Subject"] = self.subject
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = self.message_id
        if self.answers:
            message["In-Reply-To"] = message["References"] = self.answers
        message.set_content(self.text)
        for file in self.attachments:
            main, _, sub = file.kind.partition("/")
            message.add_attachment(file.octets, maintype=main, subtype=sub, filename=file.name)
        return message.as_bytes()


_CLOSING = "\nوتفضلوا بقبول فائق الاحترام،\n"
_BUDGET = "مخصصات موازنة وزارة الصحة للسنة المالية القادمة"


def first() -> tuple[Letter, ...]:
    """What is sent at once."""
    sami, lina, omar = FINANCE.person("sami"), FINANCE.person("lina"), PLANNING.person("omar")
    return (
        Letter(
            key="budget",
            author=FINANCE.person("diwan"),
            client="swaks",
            subject=_BUDGET,
            text=f"معالي وزير الصحة الأكرم،\n\nأرفق لمعاليكم جدول {_BUDGET}، راجياً الاطلاع.\n{_CLOSING}",
            to=("diwan@moh.gov.example",),
            attachments=(
                Attachment(
                    name="جدول المخصصات.pdf",
                    kind=made.PDF,
                    octets=made.pdf("Ministry of Finance", "Annex 1: allocations, in thousands of dinars"),
                ),
            ),
            fates={"diwan@moh.gov.example": PROCESSED},
            receipts=("submitted", "delivered", "processed"),
        ),
        _circular(sami),
        Letter(
            key="grant",
            author=omar,
            client="curl",
            subject="Grant agreement no. 7: request for clinic data",
            text="Dear Dr Khatib,\n\nplease let us have the figures behind this chart by Thursday.\n\n"
            "Omar Nasser\nMinistry of Planning and International Cooperation\n",
            to=("rana@moh.gov.example",),
            attachments=(Attachment(name="clinics.png", kind=made.PNG, octets=made.png()),),
            fates={"rana@moh.gov.example": FETCHED},
            receipts=("submitted", "delivered"),
        ),
        Letter(
            key="through-postfix",
            author=lina,
            client="postfix",
            subject="محضر اجتماع لجنة التمويل",
            text=f"السادة وزارة التخطيط والتعاون الدولي المحترمين،\n\nأرسل إليكم محضر الاجتماع.\n{_CLOSING}",
            to=("plans@mop.gov.example",),
            fates={"plans@mop.gov.example": READ},
            receipts=("submitted", "delivered", "read"),
        ),
        Letter(
            key="urgent",
            author=lina,
            client="msmtp",
            subject="[عاجل] طلب خطة المشاريع للربع القادم",
            text=f"السادة وزارة التخطيط والتعاون الدولي المحترمين،\n\nنرجو تزويدنا بالخطة.\n{_CLOSING}",
            to=("diwan@mop.gov.example",),
            fates={"diwan@mop.gov.example": REGISTERED},
            receipts=("submitted", "delivered", "registered"),
            urgency="urgent",
        ),
        Letter(
            key="locked",
            author=sami,
            client="swaks",
            subject="كشوف الرواتب",
            text=f"الدكتورة رنا المحترمة،\n\nأرفق الكشوف، وكلمة السر تصلكم بالهاتف.\n{_CLOSING}",
            to=("rana@moh.gov.example",),
            attachments=(_locked("كشوف الرواتب"),),
            fates={"rana@moh.gov.example": DELIVERED},
            receipts=("submitted", "held", "delivered"),
        ),
        Letter(
            key="waiting",
            author=sami,
            client="swaks",
            subject="جدول المكافآت",
            text=f"السادة المحترمين،\n\nأرفق الجدول.\n{_CLOSING}",
            to=("plans@mop.gov.example",),
            attachments=(_locked("جدول المكافآت"),),
            fates={"plans@mop.gov.example": HELD},
            receipts=("submitted", "held"),
        ),
        Letter(
            key="nobody-there",
            author=FINANCE.person("diwan"),
            client="swaks",
            subject="استفسار عن كتاب سابق",
            text=f"تحية طيبة وبعد،\n\nنرجو إعلامنا بما تم.\n{_CLOSING}",
            to=("archive@moh.gov.example",),
            fates={"archive@moh.gov.example": REFUSED_THERE},
            receipts=("submitted", "failed"),
        ),
        Letter(
            key="bounced",
            author=omar,
            client="curl",
            subject="Minutes of the steering committee",
            text="Dear colleagues,\n\nthe minutes of our last meeting will follow tomorrow.\n\nOmar Nasser\n",
            to=("minutes@mof.gov.example",),
            fates={"minutes@mof.gov.example": BOUNCED},
            receipts=("submitted", "failed"),
        ),
        Letter(
            key="internal",
            author=sami,
            client="swaks",
            subject="قهوة بعد الدوام؟",
            text="أراك في الرابعة.\n",
            to=(lina.address,),
        ),
        Letter(
            key="forged",
            author=HEALTH.person("diwan"),
            account=sami.address,
            client="swaks",
            subject="كتاب باسم وزارة أخرى",
            text="لا يجوز أن يمر.\n",
            to=("diwan@mop.gov.example",),
            refusal="553 5.7.1",
        ),
        Letter(
            key="forged-from",
            author=HEALTH.person("diwan"),
            account=sami.address,
            sender=sami.address,
            client="swaks",
            subject="حقل «من» لوزارة أخرى",
            text="لا يجوز أن يمر.\n",
            to=("diwan@mop.gov.example",),
            refusal="550 5.7.1",
        ),
        Letter(
            key="top-secret",
            author=omar,
            client="curl",
            subject="[سري للغاية] محضر اللجنة",
            text="لا يُرسل مثل هذا بالبريد.\n",
            to=("diwan@mof.gov.example",),
            refusal="550 5.7.1",
        ),
        Letter(
            key="unknown-domain",
            author=sami,
            client="swaks",
            subject="إلى نطاق غير معروف",
            text="لا أحد هناك.\n",
            to=("info@nowhere.example",),
            refusal="550 5.1.2",
        ),
    )


def _locked(name: str) -> Attachment:
    octets = made.locked_zip(f"{name}.csv", b"1250.500;JOD\n" * 40, b"told by telephone")
    return Attachment(name=f"{name}.zip", kind=made.ZIP, octets=octets)


def _circular(author: Person) -> Letter:
    to = ("diwan@moh.gov.example", "diwan@mop.gov.example")
    cc = ("rana@moh.gov.example", "omar@mop.gov.example", "plans@mop.gov.example")
    bcc = ("audit@mop.gov.example",)
    return Letter(
        key="circular",
        author=author,
        client="msmtp",
        subject="تعميم رقم 4: إجراءات إغلاق السنة المالية",
        text="إلى الوزارات كافة،\n\nيرجى التقيد بالمواعيد الواردة في المرفق.\n" + _CLOSING,
        to=to,
        cc=cc,
        bcc=bcc,
        attachments=(
            Attachment(
                name="تعميم إغلاق السنة المالية.docx",
                kind=made.DOCX,
                octets=made.docx("تعميم رقم 4", "تُقفل الحسابات في نهاية يوم عمل 30 كانون الأول."),
            ),
        ),
        # What the registry closes is closed for its whole agency.
        fates=dict.fromkeys((*to, *cc, *bcc), DELIVERED) | dict.fromkeys((REGISTRY, cc[0]), PROCESSED),
        receipts=("submitted", "digest"),  # more than five recipients: the good news come together
    )


def answer(number_and_subject: str, message_id: str) -> Letter:
    """What the registry of Health writes when the first letter is in its mailbox."""
    return Letter(
        key="answer",
        author=HEALTH.person("diwan"),
        client="msmtp",
        subject=f"رد: {number_and_subject}",
        text=f"إشارة إلى كتابكم، نعلمكم بالموافقة على الجدول.\n{_CLOSING}",
        to=("diwan@mof.gov.example",),
        answers=message_id,
        fates={"diwan@mof.gov.example": DELIVERED},
        receipts=("submitted", "delivered"),
    )
