"""A dashboard with its second floor: a record, a policy folder, rules that applied, letters that are held.

Stands on :class:`tests.wire.dashboard_house.House`; the policy is watched by the gateway's own
``PolicyWatch`` over a real folder, decisions on holds go through the record. The facts and decisions of the
seeded letters are computed by the engine, so that they can be led past a candidate.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from dashboard.desk import DashboardDesk
from gateway.policy_watch import PolicyWatch
from gateway.web_policy import PolicyPages
from policies.agency import Agency, NextHop
from policies.directory import Directory
from policies.facts import Surroundings
from policies.load import LETTERS, Limits
from policies.trial import Handing, facts_of
from tests.wire.dashboard_house import House
from tests.wire.seed_letters import DAY, HOUR, MINUTE, Seeder, To, agency_rows
from tracker import schema
from tracker.access import Viewer
from tracker.hold_desk import Decided, Decision
from tracker.holds import Act
from tracker.ledger import LedgerKey
from tracker.model import Address, now_us
from tracker.record import Record

OWN_RULES = """\
# Rules of our own. They come before those that tell what a letter is.

rules:
  - id: tls-for-restricted
    priority: 101
    description:
      ar: الكتب إلى الجهات الأخرى لا تُرسل إلا عبر اتصال مشفّر
      en: Letters to other agencies leave over encrypted connections only
    match:
      recipient: agency
      same_agency: false
      submitter: [MOF, MOH, MOI]
    require_tls: true

  # Sent to many people at once.
  - id: many-recipients
    priority: 102
    description:
      ar: كتاب إلى أكثر من مئة مستلم يُحجز للموافقة
      en: A letter to more than a hundred recipients waits for approval
    match: {recipients_over: 100}
    action: hold

  - id: no-receipts-for-lists
    priority: 103
    description:
      ar: لا إشعارات على رسائل القوائم
      en: What a list sends earns no receipts
    match: {automatic: [list, bulk]}
    receipts: []
"""
PROGRAM = ("setup.exe", "application/pdf", "application/vnd.microsoft.portable-executable", 881_230)


def directory() -> Directory:
    """The sample agencies, each with a network of its own."""
    return Directory(
        Agency(
            code=row["code"],
            name_ar=row["name_ar"],
            name_en=row["name_en"],
            domains=(row["domain"],),
            next_hop=NextHop(name=row["code"], host="127.0.0.1"),
            networks=(ipaddress.ip_network(f"10.{number}.0.0/16"),),
        )
        for number, row in enumerate(agency_rows(), 1)
    )


@dataclass
class PolicyHouse:
    """A house, its record and its policy folder."""

    house: House
    record: Record
    watch: PolicyWatch
    folder: Path
    two_persons: bool = False
    holds: dict[str, int] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)

    @classmethod
    def build(cls, root: Path, *, two_persons: bool = False, letters: bool = True) -> PolicyHouse:
        house = House.build(root, letters=letters)
        key = house.seeder_key if isinstance(house.seeder_key, LedgerKey) else LedgerKey.make("wasl.test/l")
        record = Record(house.store, house.archive, key)
        folder = root / "policy"
        folder.mkdir()
        (folder / "letters.yaml").write_text(LETTERS.read_text("utf-8"), "utf-8")
        (folder / "own.yaml").write_text(OWN_RULES, "utf-8")
        watch = PolicyWatch(record, folder, Limits(), directory(), second_person=two_persons)
        made = cls(house, record, watch, folder, two_persons)
        if letters:
            record.write(made._decide_again)
            record.write(made._hold)
        return made

    def _decide_again(self, conn: Connection) -> None:
        """Facts, decisions and rule hits of the seeded letters, as the engine has them."""
        around = Surroundings(directory=directory(), domain="wasl.gov.example")
        policy = self.watch.current
        s, d = schema.submission.c, schema.delivery.c
        for row in conn.execute(select(schema.submission)).all():
            to = conn.scalars(select(d.recipient).where(d.submission_id == row.id)).all()
            with contextlib.closing(self.house.archive.open(row.archive_key)) as content:
                octets = bytes(content.view())
            sender = Address.parse(row.sender)
            handing = Handing(
                sender=sender, recipients=tuple(Address.parse(one) for one in to), at_us=row.at_us
            )
            facts = facts_of(octets, handing, around)
            decision = policy.decide(facts)
            told = facts.to_json()
            if row.facts.get("attachments"):
                told["attachments"] = row.facts["attachments"]
            conn.execute(
                update(schema.submission)
                .where(s.id == row.id)
                .values(
                    facts=told,
                    facts_version=2,
                    decision=decision.to_json(),
                    policy_version=policy.version,
                )
            )
            for rule in {hit for verdict in decision.verdicts for hit in verdict.hits}:
                conn.execute(
                    insert(schema.rule_hit).values(
                        rule=rule, letter_id=row.letter_id, shadow=rule == "no-receipts-for-lists"
                    )
                )

    def _hold(self, conn: Connection) -> None:
        """Some held letters: for one person, for two, of another agency, about to expire."""
        assert isinstance(self.house.seeder_key, LedgerKey)
        seeder = Seeder(
            conn, self.house.archive, key=self.house.seeder_key, _seq={"MOF": 700, "MOI": 800, "MOH": 900}
        )
        self._held(
            seeder, "program", "MOF", "MOH", "نظام الموارد البشرية المحدّث",
            rule="hold-programs", ar="مرفق برنامجاً قابلاً للتنفيذ", en="A program is attached",
            approvers=["compliance", "admin"], attachments=[PROGRAM], ago_us=40 * MINUTE,
        )  # fmt: skip
        self._held(
            seeder, "pair", "MOF", "CUSTOMS", "اتفاقية تبادل البيانات الضريبية",
            rule="hold-secret", ar="كتاب سري يحتاج موافقة شخصين", en="A secret letter needs two persons",
            approvers=["compliance", "admin"], needs=2, classification="secret",
            expires_in=90 * MINUTE, ago_us=3 * HOUR, urgency="urgent",
        )  # fmt: skip
        self._held(
            seeder, "many", "MOI", "MOJ", "تعميم بشأن إجازة نهاية العام",
            rule="many-recipients", ar="كتاب إلى أكثر من مئة مستلم", en="Over a hundred recipients",
            approvers=["registry", "compliance"], expires_in=2 * DAY, at_expiry="release",
            ago_us=5 * HOUR,
        )  # fmt: skip
        self._held(
            seeder, "named", "MOH", "MOF", "Audit of hospital purchases <b>2026</b>",
            rule="ask-the-bureau", ar="يقرر ديوان المحاسبة", en="The Audit Bureau decides",
            approvers=["AB"], ago_us=26 * HOUR,
        )  # fmt: skip

    def _held(
        self,
        seeder: Seeder,
        name: str,
        sender: str,
        to: str,
        subject: str,
        *,
        rule: str,
        ar: str,
        en: str,
        approvers: Sequence[str],
        ago_us: int,
        needs: int = 1,
        classification: str = "",
        urgency: str = "",
        expires_in: int | None = None,
        at_expiry: str = "refuse",
        attachments: Sequence[tuple[str, str, str, int]] = (),
    ) -> None:
        letter_id = seeder.letter(
            sender,
            subject,
            [To(to, "held")],
            ago_us=ago_us,
            attachments=attachments,
            classification=classification,
            urgency=urgency,
        )
        conn, at = seeder.conn, seeder.now_us - ago_us
        delivery = conn.scalar(select(schema.delivery.c.id).where(schema.delivery.c.letter_id == letter_id))
        hold_id = seeder.id(at)
        conn.execute(
            insert(schema.hold).values(
                id=hold_id,
                letter_id=letter_id,
                delivery_id=delivery,
                rule=rule,
                reason_ar=ar,
                reason_en=en,
                approvers=list(approvers),
                needs=needs,
                since_us=at,
                expires_us=None if expires_in is None else seeder.now_us + expires_in,
                at_expiry=at_expiry,
                state="open",
            )
        )
        conn.execute(insert(schema.rule_hit).values(rule=rule, letter_id=letter_id, shadow=False))
        if attachments:
            facts = conn.scalar(
                select(schema.submission.c.facts).where(schema.submission.c.letter_id == letter_id)
            )
            assert facts is not None
            facts["attachments"][0]["executable"] = True
            conn.execute(
                update(schema.submission)
                .where(schema.submission.c.letter_id == letter_id)
                .values(facts=facts)
            )
        self.holds[name], self.letters[name] = hold_id, letter_id

    def desk(self, base_url: str = "http://dashboard.test") -> DashboardDesk:
        def decide(ids: Sequence[int], person: Viewer, act: Act, note: str, /) -> Sequence[Decided]:
            at = now_us()
            return self.record.decide(
                [
                    Decision(hold_id=one, person=person, act=act, at_us=at, expires_us=at + DAY, note=note)
                    for one in ids
                ]
            )

        return replace(
            self.house.desk(base_url),
            write=self.record.write,
            next_id=self.record.ids.next,
            changes=self.record,
            policy=PolicyPages(self.watch, two_persons=self.two_persons),
            decide_holds=decide,
        )

    def close(self) -> None:
        self.record.close()
        self.house.close()
