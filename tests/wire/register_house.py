"""A dashboard with its register desk: seeded letters, a record, and agencies that number in either way.

Stands on :class:`tests.wire.dashboard_house.House`; acts go through the gateway's own :class:`RegistryActs`
to the record. MOH has its incoming numbers assigned, MOJ keeps its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update

from dashboard.desk import DashboardDesk
from gateway.registry import RegistryActs
from policies.directory import Directory
from tests.wire.dashboard_house import House, password_hash
from tests.wire.policy_house import directory
from tests.wire.seed_letters import DAY, HOUR, MINUTE, Seeder, To
from tracker import schema
from tracker.access import Role
from tracker.ledger import LedgerKey
from tracker.linking import LinkState
from tracker.model import Address
from tracker.record import Record

MORE_PEOPLE = {
    "moj.diwan": (Role.REGISTRY, "MOJ", "ديوان وزارة العدل"),
    "moh.view": (Role.VIEWER, "MOH", "سامي"),
}
SHAPE = "{seq}/{year}"


def year() -> int:
    """Of the numbers that the register gives now."""
    return datetime.now(ZoneInfo("Asia/Amman")).year


def agencies() -> Directory:
    """The sample agencies; MOH's numbers are assigned, and its registry may act by mail."""
    return Directory(
        replace(a, incoming="assigned", registry=Address.parse("diwan@moh.gov.example"))
        if a.code == "MOH"
        else a
        for a in directory()
    )


@dataclass
class RegisterHouse:
    """A house and its record, with letters that wait at two registries."""

    house: House
    record: Record
    letters: dict[str, int]

    @classmethod
    def build(cls, root: Path) -> RegisterHouse:
        house = House.build(root)
        assert isinstance(house.seeder_key, LedgerKey)
        made = cls(house, Record(house.store, house.archive, house.seeder_key, zone="Asia/Amman"), {})
        with house.store.writer.begin() as conn:
            for name, (role, agency, display) in MORE_PEOPLE.items():
                conn.execute(
                    insert(schema.account).values(
                        id=house.source.next(), name=name, password=password_hash(), role=role.value,
                        agency=agency, display=display, must_change=False, created_us=0,
                    )
                )  # fmt: skip
            seeder = Seeder(
                conn, house.archive, key=house.seeder_key, _seq={"MOF": 300, "MOI": 400, "MOH": 500}
            )
            made._letters(seeder)
        return made

    def _letters(self, seeder: Seeder) -> None:
        letters = self.letters
        letters["budget"] = seeder.letter(
            "MOF", "مخصصات الربع الأخير <b>2026</b>", [To("MOH", "delivered")],
            ago_us=5 * DAY, urgency="urgent", due_in_us=3 * DAY,
        )  # fmt: skip
        letters["staff"] = seeder.letter(
            "MOI", "كشف الموظفين المنتدبين", [To("MOH", "relayed"), To("MOH", "delivered", "hr")],
            ago_us=2 * DAY, author="omar", author_name="عمر الزعبي",
        )  # fmt: skip
        letters["supply"] = seeder.letter(
            "MOF", "Supply of vaccines for schools", [To("MOH", "read")],
            ago_us=26 * HOUR, classification="restricted",
        )  # fmt: skip
        letters["both"] = seeder.letter(
            "MOF", "تعميم الدوام", [To("MOH", "delivered"), To("MOJ", "delivered")], ago_us=3 * HOUR
        )
        letters["court"] = seeder.letter("MOI", "تبليغات المحاكم", [To("MOJ", "relayed")], ago_us=2 * HOUR)
        # A letter of MOJ's to MOF that names one which MOJ never had.
        letters["names"] = seeder.letter(
            "MOJ", "إشارة إلى المخصصات", [To("MOF", "delivered")], ago_us=40 * MINUTE, author="rami"
        )
        conn = seeder.conn
        conn.execute(
            insert(schema.letter_link).values(
                letter_id=letters["names"], to_id=letters["budget"], state=LinkState.PROPOSED.value,
                how="text", agency="MOJ", effect="nothing", by="", at_us=seeder.now_us,
            )
        )  # fmt: skip
        # An answer of MOH's, and what MOF wrote on it again.
        first = seeder.letter("MOF", "طلب معلومات", [To("MOH", "delivered")], ago_us=9 * DAY)
        answer = seeder.letter(
            "MOH", "رد: طلب معلومات", [To("MOF", "delivered")], ago_us=8 * DAY, thread=first
        )
        again = seeder.letter("MOF", "طلب معلومات إضافية", [To("MOH", "delivered"), To("AB", "delivered")],
                              ago_us=7 * DAY, thread=first)  # fmt: skip
        letters |= {"asked": first, "answer": answer, "again": again}
        for one, to in ((answer, first), (again, answer)):
            conn.execute(
                insert(schema.letter_link).values(
                    letter_id=one, to_id=to, state=LinkState.DONE.value, how="header", agency="",
                    effect="closes", by="", at_us=seeder.now_us,
                )
            )  # fmt: skip
        conn.execute(update(schema.letter).where(schema.letter.c.id == first).values(thread_id=first))

    def desk(self, base_url: str = "http://dashboard.test") -> DashboardDesk:
        known = agencies()
        acts = RegistryActs(
            self.record, lambda: known, SHAPE, lambda number: Address("wasl-" + "a" * 32, "wasl.gov.example")
        )
        return replace(
            self.house.desk(base_url),
            write=self.record.write,
            next_id=self.record.ids.next,
            changes=self.record,
            register=acts,
        )

    def entries(self, agency: str = "MOH") -> list[Any]:
        with self.record.read() as conn:
            i = schema.incoming.c
            return list(conn.execute(select(schema.incoming).where(i.agency == agency).order_by(i.id)))

    def close(self) -> None:
        self.record.close()
        self.house.close()
