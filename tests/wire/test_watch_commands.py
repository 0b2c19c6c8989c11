"""Watched mailboxes through a whole gateway: the agency's file, `wasl check`, `wasl watch list`, evidence."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path
from typing import Any

from gateway.commands.reading import reading
from gateway.settings_file import read_settings
from tests.servers.dovecot import Dovecot
from tests.servers.place import wait_until
from tests.servers.wasl import House, copied_house, serving, wasl
from tests.wire.watch_house import Registry, box_name
from tracker import watch_lease
from tracker.evidence_kinds import evidence_kinds

LETTER = """From: A <a@mof.gov.example>
To: {to}
Subject: budget
Message-ID: <watched-{to}>
Date: Sun, 22 Nov 2026 10:00:00 +0300

hello
"""


def a_house(root: Path, server: Dovecot, box: str, *folders: str) -> House:
    house = copied_house(root)
    house.set("watch", poll="1s")
    house.set("dns", resolvers=["127.0.0.1"], timeout="1s")  # nobody answers there
    house.agency(
        "MOF",
        """code: MOF
name_ar: المالية
name_en: Finance
domains: [mof.gov.example]
networks: [127.0.0.1]
""",
    )
    means = "".join(f"      {name}: {meaning}\n" for name, meaning in (f.split("=") for f in folders))
    house.agency(
        "MOH",
        f"""code: MOH
name_ar: الصحة
name_en: Health
domains: [moh.gov.example]
registry: {box}
next_hop: {{host: 127.0.0.1, port: {server.lmtp_port}, protocol: lmtp, tls: none}}
networks: [192.0.2.1]
watch:
  - mailbox: {box}
    host: 127.0.0.1
    port: {server.imap_port}
    tls: none
    password: secret
    folders:
      INBOX: arrival
{means}""",
    )
    return house


def rows(house: House, *words: str, may_fail: bool = False) -> list[dict[str, Any]]:
    said = wasl(*words, "--config", str(house.settings), "--json", may_fail=may_fail)
    return [json.loads(line) for line in said.splitlines()]


def test_a_letter_through_the_gateway_into_a_watched_mailbox(dovecot_server: Dovecot, tmp_path: Path) -> None:
    box = box_name()
    with Registry(dovecot_server.imap_port, box) as clerk:
        clerk.make("منجز")
        house = a_house(tmp_path / "house", dovecot_server, box, "منجز=processed")
        assert [one["state"] for one in rows(house, "watch", "list", may_fail=True)] == ["not watched"]
        checked = rows(house, "check", "--agency", "MOH", may_fail=True)
        assert [one["text"] for one in checked if one["about"] == "server" and one["level"] == "fault"] == []
        with serving(house) as gateway:
            settings = read_settings(house.settings)

            def state() -> str:
                with reading(settings) as conn:
                    found = watch_lease.states(conn).get(box)
                return found.state if found is not None else ""

            wait_until(lambda: state() == "watching", "the watch", hint=gateway.log)
            with smtplib.SMTP("127.0.0.1", gateway.relay, timeout=90) as smtp:
                smtp.sendmail("a@mof.gov.example", [box], LETTER.format(to=box))

            def given(*kinds: str) -> bool:
                with reading(settings) as conn:
                    told = evidence_kinds(conn, agency="MOH")
                return {one.kind.value for one in told if one.deliveries} == set(kinds)

            wait_until(lambda: given("lmtp", "watch"), "the arrival", hint=gateway.log)
            clerk.move("INBOX", "منجز")
            wait_until(lambda: given("lmtp", "watch", "registry"), "the registry's act", hint=gateway.log)
            listed = rows(house, "watch", "list")[0]
            assert (listed["state"], listed["note"], listed["node"]) == ("watching", "", "0")
            found = {f["folder"]: f["letters"] for f in listed["folders"]}
            assert found == {"INBOX": 0, "منجز": 1}
            assert wasl("watch", "list", "--config", str(house.settings)).count(box) == 1
            assert wasl("agency", "evidence", "--config", str(house.settings)).count("never") == 3
        assert [one["state"] for one in rows(house, "watch", "list", may_fail=True)] == ["not watched"]
        assert "Traceback" not in gateway.log() and "hello" not in gateway.log()


def test_check_tells_a_folder_that_is_not_there_and_a_wrong_password(
    dovecot_server: Dovecot, tmp_path: Path
) -> None:
    box = box_name()
    with Registry(dovecot_server.imap_port, box) as clerk:
        clerk.make("منجزة")
    house = a_house(tmp_path / "house", dovecot_server, box, "منجز=processed")
    path = house.root / "agencies" / "moh.yaml"
    entry = f"imap:\n  - {{host: 127.0.0.1, port: {dovecot_server.imap_port}, tls: none}}\n"
    path.write_text(path.read_text() + entry)
    lines = path.read_text().splitlines()
    imap = f"agencies/moh.yaml:{len(lines)}: MOH imap"
    watch = f"agencies/moh.yaml:{lines.index('watch:') + 2}: MOH watch {box} at 127.0.0.1:"
    checked = rows(house, "check", "--agency", "MOH", may_fail=True)
    (fault,) = [one["text"] for one in checked if one["about"] == "server" and one["level"] == "fault"]
    assert fault.startswith(watch) and "folder منجز cannot be opened (is it منجزة?)" in fault
    assert f"{imap}: no [[listen]] entry for imap or imaps" in [one["text"] for one in checked]
    path.write_text(path.read_text().replace("password: secret", "password: wrong"))
    checked = rows(house, "check", "--agency", "MOH", may_fail=True)
    faults = [one["text"] for one in checked if one["about"] == "server" and one["level"] == "fault"]
    (people,) = [one for one in faults if one.startswith(imap)]
    (looked,) = [one for one in faults if one.startswith(watch)]
    assert f"it refuses {box}, the account of `watch:`" in people
    assert len(faults) == 2 and "LOGIN" in looked and "wrong" not in looked + people
