"""The command line as somebody meets it for the first time: what it makes, says and refuses."""

from __future__ import annotations

import importlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.commands.console import SAYS_WHAT_TO_DO, explain, safe
from gateway.data_lock import DataLock
from gateway.opening import mac_secrets, open_record
from gateway.settings_file import read_settings
from gateway.trouble import Trouble
from gateway.version import version
from policies.agency import check_password
from policies.directory import load_directory
from tests.unit.shell import ROOT, Shell
from tracker.accounts import verify as right_password
from tracker.schema import audit

# Without a gateway.


def test_the_version_is_quick() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"wasl {version()}\n" and run.stderr == ""
    loaded = "import sys; sys.argv=['wasl','--version']; from gateway import cli; cli.main(); "
    loaded += "print(sorted(m for m in ('typer','pydantic','sqlalchemy','rich') if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[1] == "[]"


def test_every_command_explains_itself(wasl: Shell) -> None:
    top = wasl("--help")
    assert top.status == 0
    for name in [
        "init",
        "check",
        "serve",
        "agency",
        "keys",
        "user",
        "letter",
        "queue",
        "ledger",
        "inspect",
        "verify",
        "backup",
        "restore",
    ]:
        assert name in top.out
        assert wasl(name, "--help").status == 0, name
    assert wasl("frobnicate").status == 2


def test_no_settings_says_what_to_do(wasl: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["agency", "list"], ["queue", "list"], ["user", "list"], ["check"]):
        said = wasl(*words)
        assert said.status == 1 and "wasl init" in said.err and "Traceback" not in said.err


def test_inspect_needs_no_settings(wasl: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"From: a@b.example\r\nMessage-ID: <1@b>\r\n\r\nx")
    said = wasl("inspect", tmp_path / "a.eml", tmp_path / "nowhere.eml", "--json")
    # The inspection writes octets past the capture of text; its records are tested with it.
    assert said.status == 0


# init.


def test_init_makes_a_gateway_that_checks_out(home: Path, wasl: Shell) -> None:
    made = json.loads((home / "made.json").read_text())
    assert made["agencies"] == 2 and made["admin"] == "admin"
    for secret in ("secrets/ledger.pem", "secrets/mac.key"):
        assert stat.S_IMODE((home / secret).stat().st_mode) == 0o600
    settings = read_settings(home / "wasl.toml", {})
    assert len(mac_secrets(settings.secrets.mac)[0]) >= 16
    record = open_record(settings)
    try:
        with record.read() as conn:
            account = right_password(conn, "admin", made["password"])
    finally:
        record.close()
    assert account is not None and account.must_change and account.agency is None
    assert wasl("ledger", "key").out.strip() == made["ledger_key"]
    said = wasl("check", "--offline", "--json")
    assert said.status == 0 and {line["level"] for line in said.lines} == {"ok", "warning"}


def test_init_touches_nothing_that_is_there(home: Path, wasl: Shell) -> None:
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    said = wasl("init", home, "--hostname", "other.example")
    assert said.status == 1 and "is there already" in said.err
    assert {p: p.read_bytes() for p in home.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("option", [["--hostname", "a b"], ["--hostname", "h.example", "--relay", "25"]])
def test_init_refuses_what_cannot_be(wasl: Shell, tmp_path: Path, option: list[str]) -> None:
    said = wasl("init", tmp_path / "x", *option)
    assert said.status == 2 and not (tmp_path / "x").exists()


def test_init_without_a_folder_means_this_one(
    wasl: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wasl("init", "--hostname", "g.example", "--no-dkim").status == 0
    assert (tmp_path / "wasl.toml").exists()
    assert wasl("user", "list").status == 0


@pytest.mark.parametrize("apart", [False, True])
def test_init_writes_the_settings_that_config_names(wasl: Shell, tmp_path: Path, apart: bool) -> None:
    file, root = tmp_path / "etc" / "mail gateway.toml", tmp_path / ("srv" if apart else "etc")
    words = ["--hostname", "g.example", "--config", file, *([root] if apart else [])]
    said = wasl("init", *words)
    assert said.status == 0 and f"wasl check --config '{file}'" in said.out
    assert (root / "data" / "wasl.db").exists() and not (root / "wasl.toml").exists()
    assert ('data_dir = "data"' in file.read_text()) is not apart
    said = wasl("check", "--offline", "--config", file)
    assert said.status == 0, said.err


def test_an_init_that_was_refused_can_be_repeated(wasl: Shell, tmp_path: Path) -> None:
    csv, home = tmp_path / "a.csv", tmp_path / "gw"
    csv.write_text("code,name_ar,name_en,domain\nMOF,م,F,mof.example\nMOH,ص,H,mof.example\n")
    words = ["init", home, "--hostname", "g.example", "--agencies", csv]
    said = wasl(*words)
    assert said.status == 1 and f"{csv}:3: domains.0: the domain mof.example is already" in said.err
    csv.write_text(csv.read_text().replace("H,mof", "H,moh"))
    said = wasl(*words)
    assert said.status == 0 and "Password, shown this once" in said.out and "2 agencies" in said.out
    assert len(list((home / "secrets" / "dkim" / "g.example").iterdir())) == 2


# check.


def test_check_tells_all_faults_at_once(home: Path, wasl: Shell) -> None:
    (home / "agencies" / "mof.yaml").write_text("code: MOF\nnexthop: {}\n", "utf-8")
    (home / "policy" / "letters.yaml").write_text("rules:\n  - id: X\n", "utf-8")
    (home / "secrets" / "mac.key").write_text("not hexadecimal\n")
    (home / "secrets" / "ledger.pem").unlink()
    said = wasl("check", "--offline")
    assert said.status == 1
    for part in (
        "agencies/mof.yaml:2: nexthop: unknown key (did you mean next_hop?)",
        "policy/letters.yaml:2: rules.0.id: must be lower-case words",
        "mac.key:1: is no secret in hexadecimal",
        "ledger.pem: No such file",
    ):
        assert part in said.err, part
    faults = [line for line in wasl("check", "--offline", "--json").lines if line["level"] == "fault"]
    assert {"agencies/mof.yaml", "policy/letters.yaml"} <= {line.get("file") for line in faults}


def test_check_reads_on_when_the_settings_are_broken(home: Path, wasl: Shell) -> None:
    file = home / "wasl.toml"
    (home / "agencies").rename(home / "bodies")
    text = file.read_text("utf-8").replace("[limits]", "[limits]\nrecipents = 5\nmessage_size = 'much'")
    file.write_text(text.replace('# path = "agencies"', 'path = "bodies"'), "utf-8")
    (home / "bodies" / "mof.yaml").write_text("code: MOF\nnexthop: {}\n", "utf-8")
    (home / "policy" / "letters.yaml").write_text("rules:\n  - id: X\n", "utf-8")
    told = "bodies/mof.yaml:2: nexthop: unknown key", "policy/letters.yaml:2: rules.0.id: must be"
    said = wasl("check", "--offline")
    for part in (": limits.recipents: unknown key", ": limits.message_size: is no size", *told):
        assert part in said.err, (part, said.err)
    file.write_text("[gateway\n")  # nothing of it can be read: the usual places then
    (home / "bodies").rename(home / "agencies")
    said = wasl("check", "--offline")
    assert "wasl.toml:1: is not TOML" in said.err and "agencies/mof.yaml:2: nexthop" in said.err


def test_check_misses_keys_beside_broken_settings(home: Path, wasl: Shell) -> None:
    file = home / "wasl.toml"
    file.write_text(file.read_text("utf-8").replace("[limits]", "[limitss]"), "utf-8")
    for name in ("ledger.pem", "mac.key"):
        (home / "secrets" / name).unlink()
    said = wasl("check", "--offline")
    assert said.status == 1 and "limitss" in said.err
    assert "secrets/ledger.pem: there is no such file" in said.err and "secrets/mac.key" in said.err


def test_check_says_that_no_gateway_starts_on_an_older_database(home: Path, wasl: Shell) -> None:
    (home / "data" / "high-water.json").write_text('{"checkpoint": null, "numbers": {"MOF/2026/out": 9}}')
    said = wasl("check", "--offline")
    assert said.status == 1
    assert "the database is behind" in said.err and "stands at 0, but 9 was given out" in said.err


def test_check_names_the_line_of_a_broken_setting(home: Path, wasl: Shell) -> None:
    file = home / "wasl.toml"
    text = file.read_text("utf-8").replace("[limits]", "[limits]\nrecipents = 5")
    file.write_text(text, "utf-8")
    line = text[: text.index("recipents")].count("\n") + 1
    said = wasl("check", "--offline")
    assert said.status == 1
    assert f"wasl.toml:{line}: limits.recipents: unknown key (did you mean recipients?)" in said.err


def test_check_sees_keys_that_others_can_read(home: Path, wasl: Shell) -> None:
    (home / "secrets" / "ledger.pem").chmod(0o644)
    said = wasl("check", "--offline")
    assert said.status == 0 and "can be read by others: chmod 600" in said.err


# agency and keys.


def test_agencies_are_added_and_a_bad_one_leaves_no_file(home: Path, wasl: Shell) -> None:
    words = [
        "--name-ar",
        "الداخلية: الأمن",
        "--name-en",
        'Interior "x"',
        "--next-hop-template",
        "lmtp://127.0.0.1:24",
    ]
    said = wasl("agency", "add", "moi", "--domain", "moi.example", "--network", "10.3.0.0/16", *words)
    assert said.status == 0, said.err
    found = load_directory(home / "agencies").agency("MOI")
    assert found is not None and found.name_ar == "الداخلية: الأمن" and found.name_en == 'Interior "x"'
    assert found.next_hop is not None and found.next_hop.protocol == "lmtp"
    assert [a["code"] for a in wasl("agency", "list", "--json").lines] == ["MOF", "MOH", "MOI"]
    said = wasl("agency", "add", "BAD", "--domain", "moi.example", "--name-ar", "ا", "--name-en", "b")
    assert said.status == 1 and "moi.example is already that of" in said.err
    assert not (home / "agencies" / "bad.yaml").exists()
    said = wasl("agency", "add", "NEW", "--domain", "n.example", "--name-ar", "ا", "--name-en", "b",
                "--next-hop-template", "http://x")  # fmt: skip
    assert (
        said.status == 1
        and "is no next hop such as" in said.err
        and not (home / "agencies/new.yaml").exists()
    )
    assert wasl("agency", "show", "zzz").status == 1


def test_an_agencys_password_is_hashed(home: Path, wasl: Shell) -> None:
    hashed = wasl("agency", "password", "--password-stdin", stdin="a long pass phrase\n").out.strip()
    assert check_password("a long pass phrase", hashed)
    assert wasl("agency", "password", "--password-stdin", stdin="short\n").status == 1


def test_keys_are_made_written_and_shown(home: Path, wasl: Shell) -> None:
    made = wasl("keys", "make", "MOF", "--write", "--selector", "t")
    assert made.status == 0 and "t-rsa._domainkey.mof.example." in made.out
    mof = load_directory(home / "agencies").agency("MOF")
    assert mof is not None and [k.selector for k in mof.dkim] == ["t-rsa", "t-ed"]
    assert all(stat.S_IMODE(k.key_file.stat().st_mode) == 0o600 for k in mof.dkim)
    assert "PRIVATE" not in made.out + made.err
    assert "t-ed._domainkey.mof.example." in wasl("keys", "show", "MOF").out
    again = wasl("keys", "make", "MOF", "--selector", "t")
    assert again.status == 1 and "exists already" in again.err and "--selector" in again.err
    assert wasl("keys", "make", "ZZZ").status == 1


def test_a_new_secret_goes_in_front_and_the_old_one_stays(home: Path, wasl: Shell) -> None:
    file = home / "secrets" / "mac.key"
    (old,) = mac_secrets(file)
    assert wasl("keys", "secret", file).status == 0
    fresh, kept = mac_secrets(file)
    assert kept == old and fresh != old and stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)  # who could read it still can, whoever makes the new one
    assert wasl("keys", "secret", "--config", home / "wasl.toml").status == 0
    assert len(mac_secrets(file)) == 3 and stat.S_IMODE(file.stat().st_mode) == 0o640
    assert wasl("keys", "secret", home / "secrets" / "fresh.key").status == 0
    assert stat.S_IMODE((home / "secrets" / "fresh.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "\n\n", "zz\n", "00ff\n"])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mac.key").write_text(text)
    with pytest.raises(Trouble):
        mac_secrets(tmp_path / "mac.key")


# user, queue, letter, ledger on an empty record.


def test_accounts(home: Path, wasl: Shell) -> None:
    added = wasl("user", "add", "Samia", "--role", "registry", "--agency", "mof", "--json")
    assert added.status == 0 and added.lines[0]["agency"] == "MOF"
    first = str(added.lines[0]["password"])
    assert len(first) >= 20
    second = str(wasl("user", "reset", "samia", "--json").lines[0]["password"])
    assert second != first
    assert wasl("user", "reset", "samia", "--password-stdin", stdin="a chosen pass phrase\n").status == 0
    assert wasl("user", "disable", "samia").status == 0
    states = {line["name"]: line["disabled"] for line in wasl("user", "list", "--json").lines}
    assert states == {"admin": False, "samia": True}
    assert wasl("user", "enable", "samia").status == 0
    for words in (
        ["add", "samia", "--role", "registry", "--agency", "MOF"],
        ["add", "x", "--role", "registry"],
        ["add", "x", "--role", "registry", "--agency", "ZZZ"],
        ["reset", "nobody"],
    ):
        said = wasl("user", *words)
        assert said.status == 1 and said.err.startswith("wasl: ") and "Traceback" not in said.err, words
    assert wasl("user", "add", "x", "--role", "king").status == 2


def test_an_empty_queue(home: Path, wasl: Shell) -> None:
    listed = wasl("queue", "list")
    assert listed.status == 0 and listed.out.startswith("id\tnumber\tstate\t")
    assert "\x1b" not in listed.out
    assert wasl("queue", "list", "--json").out == ""
    for act in ("retry", "hold", "release", "cancel", "requeue", "show"):
        said = wasl("queue", act, "MOF/2026/000001")
        assert said.status == 1 and "no delivery of this id or number" in said.err, act
    assert wasl("queue", "hold", "-", stdin="").out == "nothing to do\n"
    assert len(wasl("queue", "hold", "-", "--json", stdin="a1 rest\n\nb2\n").lines) == 2
    assert wasl("queue", "list", "--state", "lost").status == 2


def test_a_refusal_says_why(home: Path, wasl: Shell) -> None:
    said = wasl("hold", "refuse", "MOF/2026/000001")
    assert said.status == 2 and "--note" in said.err
    said = wasl("hold", "refuse", "MOF/2026/000001", "--note", "the annex is missing")
    assert said.status == 1 and "no hold of this id or number" in said.err
    assert wasl("hold", "show", "MOF/2026/000001").status == 1


def test_looking_for_letters_is_itself_recorded(home: Path, wasl: Shell) -> None:
    assert wasl("letter", "list", "to:MOH", "secret").status == 0
    said = wasl("letter", "show", "MOF/2026/000001")
    assert said.status == 1 and "there is no letter MOF/2026/000001" in said.err
    record = open_record(read_settings(home / "wasl.toml", {}))
    try:
        with record.read() as conn:
            rows = conn.execute(select(audit.c.action, audit.c.object, audit.c.account)).all()
    finally:
        record.close()
    assert ("search", "to:MOH secret") in [(r.action, r.object) for r in rows]
    assert all(r.account.startswith("console:") for r in rows if r.action == "search")


def test_an_empty_ledger(home: Path, wasl: Shell) -> None:
    assert wasl("ledger", "head", "--json").lines[0]["size"] == 0
    assert wasl("ledger", "prove", "0").status == 1
    assert wasl("ledger", "verify").out == "0 entries, all of them fit\n"


def test_another_command_at_work_is_no_crash(home: Path, wasl: Shell) -> None:
    with DataLock(home / "data"):
        said = wasl("user", "disable", "admin")
    assert said.status == 1 and "is in use by process" in said.err


def test_before_there_is_a_database(home: Path, wasl: Shell) -> None:
    (home / "data" / "wasl.db").unlink()
    said = wasl("queue", "list")
    assert said.status == 1 and "there is no database" in said.err
    assert not (home / "data" / "wasl.db").exists(), "looking makes no database"


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m, names in SAYS_WHAT_TO_DO.items() for n in sorted(names)]
)
def test_errors_that_are_told_in_a_sentence_are_where_they_are_looked_for(module: str, name: str) -> None:
    kind = getattr(importlib.import_module(module), name)
    assert (kind.__module__, kind.__name__) == (module, name)
    assert explain(kind.__new__(kind, "this is wrong")) == ["wasl: this is wrong"]


# What came with letters does not reach the terminal raw.


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\u202eb", "a\rb", "a\x9bb", "a\ud800b"])
def test_control_and_direction_characters_show_as_escapes(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable() and shown.startswith("a\\u") and shown.endswith("b")
    assert safe("كتاب رقم 12") == "كتاب رقم 12"
