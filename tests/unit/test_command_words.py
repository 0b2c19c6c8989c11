"""The words of command mails: what is a command, what is only somebody's words, what is kept as written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.command_words import Command, Doubt, command, commands, doubt
from tracker.filing import Deed, Purpose


def register(number: str = "") -> Command:
    return Command(deed=Deed.REGISTER, number=number)


def refer(to: str, purpose: Purpose = Purpose.ACTION, remark: str = "") -> Command:
    return Command(deed=Deed.REFER, to=to, purpose=purpose, remark=remark)


INFORMATION = Purpose.INFORMATION


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("قيد", register()),
        ("قيد 512", register("512")),
        ("قيد رقم ٥١٢/٢٠٢٦", register("٥١٢/٢٠٢٦")),
        ("قَيْد برقم: 512", register("512")),
        ("وارد 512", register("512")),
        ("register 512", register("512")),
        ("Register no. 512/2026", register("512/2026")),
        ("تم القيد برقم ٥١٢", register("٥١٢")),
        ("مقيّد برقم 512", register("512")),
        ("تمت الإحالة إلى قسم الصيدلة", refer("قسم الصيدلة")),
        ("إحالة إلى مديرية المشتريات", refer("مديرية المشتريات")),
        ("احاله الى مديرية المشتريات", refer("مديرية المشتريات")),
        ("إحالة إلى مديرية المشتريات للإجراء: يُرجى السرعة", refer("مديرية المشتريات", remark="يُرجى السرعة")),
        ("محال إلى: المستشار القانوني للعلم", refer("المستشار القانوني", INFORMATION)),
        ("refer to Procurement for action: urgent please", refer("Procurement", remark="urgent please")),
        ("Refer to the legal counsel (for information)", refer("the legal counsel", INFORMATION)),
        ("قيد الإجراء", Command(deed=Deed.PROGRESS)),
        ("قيد الاجراء: ينتظر رد المالية", Command(deed=Deed.PROGRESS, text="ينتظر رد المالية")),
        ("In progress.", Command(deed=Deed.PROGRESS)),
        ("معاد: لا يخصّ هذه الوزارة", Command(deed=Deed.RETURN, text="لا يخصّ هذه الوزارة")),
        ("return: not ours", Command(deed=Deed.RETURN, text="not ours")),
        ("معاد", Command(deed=Deed.RETURN)),
        ("تم", Command(deed=Deed.CLOSE)),
        ("تم.", Command(deed=Deed.CLOSE)),
        ("تمّ: صُرفت المخصصات", Command(deed=Deed.CLOSE, text="صُرفت المخصصات")),
        ("Done: paid", Command(deed=Deed.CLOSE, text="paid")),
    ],
)
def test_a_line_that_is_a_command(line: str, wanted: Command) -> None:
    assert command(line) == wanted
    assert commands(f"\n\n  {line}  \n\n-- \nالديوان") == (wanted,)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "تم استلام كتابكم وسنجيب",
        "قيد الدرس لدينا حالياً",
        "register me please",
        "done with this",
        "إحالة إلى",
        "سجل 12 طناً من القمح",
        "قيد 512 في سجل الوارد لدينا اليوم",
        "شكراً، تم",
        "إحالة إلى " + "كلمة " * 40,
        "تم: " + "x" * 700,
        "قيد " + "5" * 80,
    ],
)
def test_a_line_of_somebodys_words(line: str) -> None:
    assert command(line) is None


def test_several_commands_of_one_mail_end_at_the_first_other_line() -> None:
    text = "السلام عليكم ورحمة الله\n\nقيد 512\nإحالة إلى القسم\nشكراً\nتم\n"
    assert commands(text) == (register("512"), refer("القسم"))


def test_the_subject_speaks_when_the_text_is_empty() -> None:
    assert commands("\n \n", "Re: [MOF/2026/000123] تم: صرفت") == (Command(deed=Deed.CLOSE, text="صرفت"),)
    assert commands("شكراً لكم", "تم") == ()
    assert commands("", "كتاب رسمي") == ()


def test_a_command_below_a_quotation_and_above_one() -> None:
    assert commands("> الكتاب\n> نصّه\nقيد 512\n") == (register("512"),)
    assert commands("في 3/4/2026 كتب الديوان:\n> قيد\n\nتم\n") == (Command(deed=Deed.CLOSE),)
    assert commands("قيد 512\n\n-----Original Message-----\nمعاد: لا\n> تم\n") == (register("512"),)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("مساعدة", Doubt.HELP),
        ("Help!\n-- \nالديوان", Doubt.HELP),
        ("؟", Doubt.HELP),
        ("إحالة إلى", Doubt.UNREAD),
        ("محال لمن يلزم: ملاحظة: أخرى\nسرّ بيننا", None),  # a command, as it stands
        ("إحالة: سري بيننا", Doubt.UNREAD),
        ("قيد 512 في سجل الوارد لدينا اليوم", Doubt.UNREAD),
        ("قيد رقم ٥١٢ بتاريخ ٣ نيسان ٢٠٢٦", Doubt.UNREAD),
        ("معاد لا يخصنا", Doubt.UNREAD),
        ("أحمد العلي\nمدير الديوان\nقيد 512", Doubt.BELOW),
        ("مع التحية\nتم: صرفت\n-- \nالديوان", Doubt.BELOW),
        ("شكراً\n\n-----Original Message-----\nقيد 512", None),
        ("شكراً\nFrom: wasl\nتم", None),
        ("تم استلام كتابكم وسنجيب", None),
        ("تمّ صرف المخصصات", None),
        ("إعادة النظر في الموضوع مطلوبة", None),
        ("سجل 12 طناً من القمح", None),
        ("سطر\n" * 9 + "تم", None),
        ("", None),
    ],
)
def test_what_was_meant_as_a_command(text: str, wanted: Doubt | None) -> None:
    if wanted is not None:
        assert commands(text) == ()
    found = doubt(text) if not commands(text) else None
    assert (found[0] if found else None) is wanted


def test_a_subject_that_was_meant_as_a_command() -> None:
    assert doubt("", "RE: [MOF/2026/000123] مساعدة") == (Doubt.HELP, "مساعدة")
    assert doubt("", "RE: [MOF/2026/000123] كتاب رسمي") is None


@given(st.text(alphabet="قيد إحالةتم:. 512registo\n", max_size=1500))
def test_nothing_makes_it_raise_or_think_long(text: str) -> None:
    began = time.thread_time()
    commands(text, text)
    doubt(text, text)
    assert time.thread_time() - began < 5  # milliseconds; what looks back without end takes minutes
