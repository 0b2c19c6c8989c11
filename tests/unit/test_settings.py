"""Settings: defaults, environment, secrets, places of keys, and the commented file that init writes."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.setting_values import duration, duration_text, endpoint, name_server, number_shape, octets
from gateway.settings import Endpoint, Settings, WireDoor
from gateway.settings_file import find_settings, read_settings
from gateway.settings_template import template
from gateway.toml_places import places
from policies.faults import ConfigFaults
from tracker.model import LetterNumber

LEAST = '[gateway]\nhostname = "wasl.gov.example"\ndomain = "wasl.gov.example"\n'


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "wasl.toml"
    file.write_text(text, "utf-8")
    return read_settings(file, environ)


def faults(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigFaults) as refused:
        load(tmp_path, text, **environ)
    return [str(f).removeprefix(f"{tmp_path}/") for f in refused.value.faults]


def test_what_need_not_be_said(tmp_path: Path) -> None:
    s = load(tmp_path, LEAST)
    assert s.limits.message_size == 50_000_000
    assert s.relay.warn_after == timedelta(hours=4) and s.relay.give_up_after == timedelta(days=5)
    assert s.numbers.shape == "{agency}/{year}/{seq:06d}"
    assert s.gateway.data_dir == tmp_path / "data"
    assert s.directory.path == tmp_path / "agencies"
    assert s.ledger.key == tmp_path / "secrets" / "ledger.pem"
    assert s.database_url == f"sqlite:///{tmp_path / 'data' / 'wasl.db'}"
    assert s.archive_path == tmp_path / "data" / "archive"
    assert s.base_url == "https://wasl.gov.example"
    assert s.ledger_origin == "wasl.gov.example/ledger"
    assert (s.receipts.accepted, s.receipts.relayed, s.receipts.digest_above) == (True, False, 5)
    assert s.listen == []


def test_listeners(tmp_path: Path) -> None:
    s = load(
        tmp_path,
        LEAST
        + '[tls]\ncertificate = "c.pem"\nkey = "/etc/k.pem"\n'
        + '[[listen]]\ndoor = "relay"\naddress = "0.0.0.0:25"\n'
        + '[[listen]]\ndoor = "submissions"\naddress = "[::]:465"\n',
    )
    assert [(x.door, x.address) for x in s.listen] == [
        (WireDoor.RELAY, Endpoint("0.0.0.0", 25)),
        (WireDoor.SUBMISSIONS, Endpoint("::", 465)),
    ]
    assert s.tls.certificate == tmp_path / "c.pem" and s.tls.key == Path("/etc/k.pem")


def test_the_environment_overrides_and_its_faults_name_the_variable(tmp_path: Path) -> None:
    s = load(
        tmp_path,
        LEAST + '[[listen]]\ndoor = "relay"\naddress = "0.0.0.0:25"\n',
        WASL__GATEWAY__HOSTNAME="other.gov.example",
        WASL__LIMITS__RECIPIENTS="200",
        WASL__RELAY__RETRY='["5s", "10s"]',
        WASL__LISTEN__0__ADDRESS="127.0.0.1:0",
        WASL__DATABASE__URL="postgresql+psycopg://wasl@db/wasl",
        UNRELATED="x",
    )
    assert s.gateway.hostname == "other.gov.example"
    assert s.limits.recipients == 200
    assert s.relay.retry == [timedelta(seconds=5), timedelta(seconds=10)]
    assert s.listen[0].address == Endpoint("127.0.0.1", 0)
    assert s.database_url == "postgresql+psycopg://wasl@db/wasl"
    assert faults(
        tmp_path, LEAST, WASL__LIMITS__RECIPIENTS="few", WASL__GATEWAY__="x", WASL__LISTEN__7__DOOR="y"
    ) == [
        "environment: WASL__GATEWAY__: names no setting (WASL__SECTION__KEY)",
        "environment: WASL__LIMITS__RECIPIENTS: must be a whole number",
        "environment: WASL__LISTEN__7__DOOR: names no setting (WASL__SECTION__KEY)",
    ]


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "db.secret").write_text("postgresql+psycopg://u:p@h/d\n")
    s = load(tmp_path, LEAST + '[database]\nurl_file = "db.secret"\n')
    assert s.database_url == "postgresql+psycopg://u:p@h/d"
    assert faults(tmp_path, LEAST + '[database]\nurl = "sqlite:///x"\nurl_file = "db.secret"\n') == [
        "wasl.toml:4: database: url and url_file exclude each other"
    ]


def test_no_file_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigFaults, match="wasl init"):
        read_settings(tmp_path / "nowhere.toml", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.settings_file.SYSTEM_FILE", tmp_path / "system.toml")
    with pytest.raises(ConfigFaults, match="wasl init"):
        find_settings(None)
    (tmp_path / "system.toml").write_text(LEAST)
    assert find_settings(None) == tmp_path / "system.toml"
    (tmp_path / "wasl.toml").write_text(LEAST)
    assert find_settings(None) == Path("wasl.toml")
    assert find_settings(Path("given.toml")) == Path("given.toml")


def test_the_template_is_a_settings_file_that_shows_every_default(tmp_path: Path) -> None:
    given = {"gateway": {"hostname": "wasl.gov.example", "domain": "wasl.gov.example"}}
    text = template(given, [{"door": "relay", "address": "0.0.0.0:25"}])
    s = load(tmp_path, text)
    assert s.listen[0].address == Endpoint("0.0.0.0", 25)
    plain = load(tmp_path, LEAST)
    # With every commented default made a key, the settings are still the same.
    lines = []
    for line in text.split("\n"):
        key, equals, value = line.removeprefix("# ").partition(" = ")
        commented = line.startswith("# ") and equals and key.isidentifier() and value
        lines.append(line.removeprefix("# ") if commented else line)
    spoken = load(tmp_path, "\n".join(lines))
    assert spoken.model_copy(update={"listen": []}) == plain
    for section in Settings.model_fields:
        assert f"[{section}]" in text, section
    assert tomllib.loads(text)["gateway"] == given["gateway"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("4h", 14400),
        ("5d", 432000),
        ("1h30m", 5400),
        ("2w", 1209600),
        (7, 7),
        ("0s", 0),
    ],
)
def test_durations(text: object, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)
    assert duration(duration_text(duration(text))) == duration(text)


@pytest.mark.parametrize(
    "text", ["", "5", "h", "5 parsecs", "-5m", True, None, 1.5, "9" * 40 + "s", "99999999w", -1]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError):
        duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("50 MB", 50_000_000), ("64KiB", 65536), (12, 12), ("7", 7), ("1 gib", 1 << 30)]
)
def test_sizes(text: object, size: int) -> None:
    assert octets(text) == size


@pytest.mark.parametrize("text", ["MB", "-1", "1.5 MB", True, None, -4])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError):
        octets(text)


def test_addresses() -> None:
    assert endpoint("[::1]:25") == Endpoint("::1", 25)
    assert str(Endpoint("::1", 25)) == "[::1]:25"
    assert endpoint("localhost:0") == Endpoint("localhost", 0)
    for text in ("::1:25", "localhost", "localhost:65536", ":25", "a b:25", "localhost:٢٥", 25):
        with pytest.raises(ValueError):
            endpoint(text)
    assert name_server("10.0.0.53") == Endpoint("10.0.0.53", 53)
    assert name_server("[::1]:5353") == Endpoint("::1", 5353)
    with pytest.raises(ValueError):
        name_server("ns.example")


@pytest.mark.parametrize(
    "shape", ["{agency}/{year}/{seq:06d}", "{year}-{agency}-{seq}", "No {seq:4d}.{agency}/{year}"]
)
def test_shapes_of_numbers_that_work(shape: str) -> None:
    assert LetterNumber.shape(number_shape(shape), "MOF", 2026, 123).seq == 123


@pytest.mark.parametrize(
    "shape",
    [
        "",
        "{agency}/{seq}",
        "{agency}{year}/{seq}",
        "{agency}/{year}/{seq!r}",
        "{agency.__class__}/{year}/{seq}",
        "٢/{agency}/{year}/{seq}",
        "{agency}/{year}/{seq:999999999d}",
    ],
)
def test_shapes_of_numbers_that_are_refused(shape: str) -> None:
    with pytest.raises(ValueError):
        number_shape(shape)


def test_places_of_keys() -> None:
    text = "\n".join(
        [
            "a = 1 # b = 2",
            "[x.y]",
            '"q" = [1,',
            "  {c = 2, d.e = 3}]",
            's = """',
            "f = 1",
            '"""',
            "[[l]]",
            "k = '#'",
            "[[l]]",
            "k = 2",
            "[l.sub]",
            "z = 1",
        ]
    )
    found = places(text)
    assert found[("a",)] == (1, 1)
    assert found[("x", "y", "q")] == (3, 1)
    assert found[("x", "y", "q", 1, "c")] == (4, 4)
    assert found[("x", "y", "q", 1, "d", "e")] == (4, 11)
    assert found[("x", "y", "s")] == (5, 1)
    assert ("x", "y", "f") not in found
    assert found[("l", 1, "k")] == (11, 1)
    assert found[("l", 1, "sub", "z")] == (13, 1)


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.", max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=st.text(alphabet="ab.=[]{}\"'#,\n 1\\-", max_size=120)
    | st.dictionaries(st.sampled_from([*Settings.model_fields, "x"]), value, max_size=4).map(
        lambda d: "\n".join(f"{k} = {v!r}" for k, v in d.items())
    )
    | st.binary(max_size=60).map(lambda b: b.decode("latin-1"))
)
def test_any_text_is_refused_with_faults_only(tmp_path: Path, text: str) -> None:
    file = tmp_path / "any.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigFaults) as refused:
        read_settings(file, {})
    assert refused.value.faults


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab.=[]{}\"'#,\n \\", max_size=200))
def test_the_walk_for_places_ends_on_any_text(text: str) -> None:
    assert places(text)[()] == (1, 1)
