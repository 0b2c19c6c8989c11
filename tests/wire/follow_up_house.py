"""A house whose letters have due dates: late, due today, due soon, waiting, stuck, in doubt."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.wire.dashboard_house import House
from tests.wire.seed_letters import DAY, HOUR, MINUTE, Seeder, To

LATE = ("بشأن موازنة المشاريع الصحية للعام 2027", "طلب بيانات الموظفين المعارين", "متابعة تنفيذ قرار المجلس")


def _later_today() -> int:
    """Long enough from now that no test lasts so long; today, unless so little is left of it."""
    now = datetime.now(ZoneInfo("Asia/Amman"))
    left = (24 - now.hour) * HOUR - now.minute * MINUTE
    return left - 2 * MINUTE if left > HOUR else 3 * HOUR


def follow_up_house(root: Path) -> House:
    """The seeded letters, and those of this file; their ids by name in ``ids``."""
    house = House.build(root)
    with house.store.writer.begin() as conn:
        seeder = Seeder(conn, house.archive, _seq={"MOF": 700, "MOH": 700, "PM": 700})
        for n, subject in enumerate(LATE):
            house.ids[f"late{n}"] = seeder.letter(
                "MOF",
                subject,
                [To("MOH", ("delivered", "registered", "read")[n])],
                ago_us=(9 - n) * DAY,
                due_in_us=(4 + n) * DAY,
                urgency=("urgent", "", "immediate")[n],
                classification=("", "restricted", "")[n],
            )
        house.ids["today"] = seeder.letter(
            "MOF", "كتاب يستحق اليوم", [To("MOH", "relayed")], ago_us=DAY, due_in_us=DAY + _later_today()
        )
        house.ids["week"] = seeder.letter(
            "PM",
            "تعميم بشأن الدوام الرسمي",
            [To("MOH"), To("MOE"), To("MOJ")],
            ago_us=HOUR,
            due_in_us=4 * DAY,
        )
        house.ids["answered"] = seeder.letter(
            "PM", "كتاب رُدّ عليه", [To("MOH", "processed")], ago_us=4 * DAY, due_in_us=2 * DAY
        )
        house.ids["owed"] = seeder.letter(
            "MOH", "=cmd|' /C calc'!A1", [To("MOF"), To("MOI", "late")], ago_us=5 * DAY, due_in_us=2 * DAY
        )
        house.ids["secret"] = seeder.letter(
            "MOH", "كتاب لا يخص المالية", [To("AB")], ago_us=6 * DAY, due_in_us=DAY, classification="secret"
        )
        for n in range(12):
            seeder.letter(
                "PM", f"تعميم رقم {n}", [To("CSB", ("dsn", "read", "relayed")[n % 3])], ago_us=n * HOUR + HOUR
            )
    return house
