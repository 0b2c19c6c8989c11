"""The directory: look-ups, sharing, reloading, and files from anyone."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.agency_files import read_csv, write_agencies
from policies.agency import Agency, Forwards, Mode, NextHop, check_password, hash_password
from policies.agency_entry import domain_name, host_name
from policies.directory import Directory, DirectoryFile, load_directory
from policies.faults import ConfigFaults, Fault
from tracker.model import Address

MOF = """\
code: MOF
name_ar: وزارة المالية
name_en: Ministry of Finance
domains: [mof.gov.example, مالية.example]
registry: diwan@mof.gov.example
next_hop: {host: mail.mof.gov.example, tls: required}
outbound: {host: "2001:db8::25", port: 2525}
networks: [10.1.0.0/16, 192.0.2.7, "2001:db8:1::/48"]
certificates: [Mail.MOF.gov.example]
sign_in: {kind: imap, host: imap.mof.gov.example, port: 993, tls: implicit, user_form: local}
receipts: {relayed: true, read: false}
"""

MOH = """\
templates:
  lmtp: &lmtp {host: 127.0.0.1, port: 24, protocol: lmtp, tls: none}
agencies:
  - code: MOH
    name_ar: وزارة الصحة
    name_en: Ministry of Health
    domains: moh.gov.example
    next_hop: *lmtp
    networks: [10.1.2.0/24]
    mode: shadow
  - code: PM
    name_ar: رئاسة الوزراء
    name_en: Prime Ministry
    domains: [pm.gov.example]
    forwards: all
    networks: [198.51.100.0/24]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "agencies"
    home.mkdir()
    (home / "mof.yaml").write_text(MOF, "utf-8")
    (home / "others.yml").write_text(MOH, "utf-8")
    (home / "_example.yaml").write_text("code: [", "utf-8")
    return home


def test_agencies_are_read_from_single_and_shared_files(folder: Path) -> None:
    directory = load_directory(folder)
    assert [a.code for a in directory] == ["MOF", "MOH", "PM"]
    mof = directory.agency("MOF")
    assert mof is not None
    assert mof.registry == Address.parse("diwan@mof.gov.example")
    assert mof.mode is Mode.ACTIVE and mof.active
    assert mof.receipt("relayed", False) is True
    assert mof.receipt("read", True) is False
    assert mof.receipt("delivered", True) is True
    assert mof.sign_in is not None and mof.sign_in.user_name(Address.parse("a.b@mof.gov.example")) == "a.b"
    assert (mof.file, mof.line) == ("agencies/mof.yaml", 1)
    pm = directory.agency("PM")
    assert (
        pm is not None and pm.forwards is Forwards.ALL and (pm.file, pm.line) == ("agencies/others.yml", 11)
    )
    assert directory.agency("XXX") is None


def test_a_domain_is_found_in_any_case_and_either_form_but_only_exactly(folder: Path) -> None:
    directory = load_directory(folder)
    for host in ("mof.gov.example", "MOF.Gov.Example", "مالية.example", "xn--mgbe4fc1a.example"):
        found = directory.by_domain(host)
        assert found is not None and found.code == "MOF", host
    for host in ("sub.mof.gov.example", "gov.example", "", "[10.1.0.1]", "xmof.gov.example"):
        assert directory.by_domain(host) is None, host


def test_the_narrowest_network_comes_first_and_a_shared_one_names_all(folder: Path) -> None:
    directory = load_directory(folder)

    def codes(ip: str) -> list[str]:
        return [a.code for a in directory.by_network(ip)]

    assert codes("10.1.2.3") == ["MOH", "MOF"]
    assert codes("10.1.3.3") == ["MOF"]
    assert codes("::ffff:10.1.2.3") == ["MOH", "MOF"]
    assert codes("192.0.2.7") == ["MOF"]
    assert codes("192.0.2.8") == []
    assert codes("2001:db8:1:2::3") == ["MOF"]
    assert codes("2001:db8:2::3") == []
    assert codes("fe80::1%eth0") == []
    assert codes("no address") == []
    assert any("shared with MOF" in str(w) and "others.yml:9" in str(w) for w in directory.warnings)


def test_hops_have_names_and_know_whether_their_250_is_the_mailbox(folder: Path) -> None:
    directory = load_directory(folder)
    moh, out, mof = directory.hop("MOH"), directory.hop("MOF:outbound"), directory.hop("MOF")
    assert moh is not None and moh.protocol == "lmtp" and moh.is_final and not moh.verify
    assert out is not None and (out.host, out.port, out.tls) == ("2001:db8::25", 2525, "opportunistic")
    assert mof is not None and mof.verify and not mof.is_final
    assert directory.hop("PM") is None and directory.hop("MOH:outbound") is None


def test_certificates_and_credentials(tmp_path: Path) -> None:
    hashed = hash_password("a long pass phrase")
    text = MOF + f'credentials: [{{username: mof-relay, password_hash: "{hashed}"}}]\n'
    file = tmp_path / "mof.yaml"
    file.write_text(text, "utf-8")
    directory = load_directory(file)
    assert [a.code for a in directory.by_certificate(["x.example", "MAIL.mof.gov.example"])] == ["MOF"]
    assert directory.by_certificate(["mail.moh.gov.example"]) == ()
    found = directory.by_credential("mof-relay")
    assert found is not None
    agency, credential = found
    assert agency.code == "MOF"
    assert credential.check("a long pass phrase") and not credential.check("a long pass phrasE")
    assert hashed not in repr(credential)
    assert directory.by_credential("nobody") is None


@pytest.mark.parametrize(
    "hashed", ["", "scrypt$", "x", "scrypt$16384$8$1$AAAA$AAAA", "scrypt$3$8$1$" + "A" * 22 + "$" + "A" * 44]
)
def test_a_hash_that_cannot_be_read_is_never_right(hashed: str) -> None:
    assert not check_password("", hashed)
    assert not check_password("password", hashed)


def test_passwords_of_next_hops_come_from_files_and_do_not_show(tmp_path: Path) -> None:
    (tmp_path / "mof.secret").write_text("s3cret pass\nnot this\n")
    text = MOF.replace(
        "{host: mail.mof.gov.example, tls: required}",
        "{host: mail.mof.gov.example, tls: required, username: wasl, password_file: mof.secret}",
    )
    (tmp_path / "mof.yaml").write_text(text, "utf-8")
    hop = load_directory(tmp_path / "mof.yaml").hop("MOF")
    assert hop is not None and hop.password == "s3cret pass"
    assert "s3cret" not in repr(hop)


def test_the_version_follows_the_content(folder: Path) -> None:
    first = load_directory(folder).version
    assert load_directory(folder).version == first
    (folder / "mof.yaml").write_text(MOF.replace("diwan@", "registry@"), "utf-8")
    assert load_directory(folder).version != first


def test_the_gateways_own_domain_is_nobodys(folder: Path) -> None:
    with pytest.raises(ConfigFaults, match="gateway's own domain"):
        load_directory(folder, reserved=["pm.gov.example"])


def test_every_fault_of_every_file_at_once(folder: Path) -> None:
    (folder / "mof.yaml").write_text(MOF.replace("required", "perhaps"), "utf-8")
    (folder / "others.yml").write_text(MOH.replace("mode: shadow", "mood: shadow"), "utf-8")
    (folder / "third.yaml").write_bytes(b"code: \xff\n")
    with pytest.raises(ConfigFaults) as refused:
        load_directory(folder)
    assert [(f.file, f.line, f.key) for f in refused.value.faults] == [
        ("agencies/mof.yaml", 6, "next_hop.tls"),
        ("agencies/others.yml", 10, "agencies.0.mood"),
        ("agencies/third.yaml", 1, ""),
    ]


def test_a_broken_file_leaves_the_last_good_directory_in_force(folder: Path) -> None:
    held = DirectoryFile(folder)
    good = held.current
    assert not held.changed()
    (folder / "mof.yaml").write_text("code: [", "utf-8")
    assert held.changed()
    faults = held.reload()
    assert len(faults) == 1 and held.faults == faults and held.current is good
    assert not held.changed()
    (folder / "mof.yaml").write_text(MOF.replace("Ministry of Finance", "Finance"), "utf-8")
    assert held.changed() and held.reload() == () and held.faults == ()
    assert held.current is not good
    (folder / "mof.yaml").unlink()
    assert held.changed() and held.reload() == ()
    assert held.current.agency("MOF") is None


def test_a_start_with_a_broken_file_takes_the_last_good_directory(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "directory.json"
    good = DirectoryFile(folder, kept=kept).current
    assert kept.stat().st_mode & 0o077 == 0, "next hops have passwords"
    (folder / "mof.yaml").write_text("code: [", "utf-8")
    held = DirectoryFile(folder, kept=kept)
    assert held.current.version == good.version and held.current.agency("MOF") == good.agency("MOF")
    assert [fault.file for fault in held.faults] == ["agencies/mof.yaml"]
    assert held.reload() == held.faults and not held.changed()
    with pytest.raises(ConfigFaults):
        DirectoryFile(folder)
    (folder / "mof.yaml").unlink()
    assert DirectoryFile(folder, kept=kept).current.agency("MOF") is None
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "mof.yaml").write_text("code: [", "utf-8")
    with pytest.raises(ConfigFaults):  # what was kept is of another folder
        DirectoryFile(moved, kept=kept)


def test_no_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults, match="wasl init"):
        load_directory(tmp_path / "nowhere")


def test_look_ups_are_quick() -> None:
    hops = [NextHop(name=f"A{i}", host="h.example") for i in range(200)]
    nets = [ipaddress.ip_network(f"10.{i}.0.0/{16 + i % 9}", strict=False) for i in range(200)]
    directory = Directory(
        Agency(
            code=f"A{i}",
            name_ar="ا",
            name_en="A",
            domains=(f"a{i}.example",),
            next_hop=hops[i],
            networks=(nets[i],),
        )
        for i in range(200)
    )
    started = time.thread_time()
    for _ in range(200):
        for i in range(0, 200, 10):
            assert directory.by_network(f"10.{i}.0.1")
            assert directory.by_domain(f"a{i}.example")
            assert directory.hop(f"A{i}")
    assert (time.thread_time() - started) / (200 * 20 * 3) < 50e-6  # a microsecond or two
    for i in range(20_000):  # a scanner does not fill the memory
        directory.by_network(str(ipaddress.ip_address(0xC0000000 + i)))
    assert len(directory._peers) <= 8192


@pytest.mark.parametrize("text", ["mof.gov.example", "MOF.GOV.example.", "مالية.example", "a-b.c1"])
def test_domain_names(text: str) -> None:
    assert domain_name(text) == domain_name(domain_name(text))


@pytest.mark.parametrize(
    "text",
    ["", "mof", "-a.example", "a..example", "a b.example", "a_b.example", "1.2.3.4", "x" * 64 + ".example"],
)
def test_what_is_no_domain_name(text: str) -> None:
    with pytest.raises(ValueError):
        domain_name(text)


def test_host_names() -> None:
    assert host_name("[::1]") == "::1"
    assert host_name("LOCALHOST") == "localhost"
    with pytest.raises(ValueError, match="the port is a key of its own"):
        host_name("mail.example:25")


def test_import_writes_all_agencies_or_none(tmp_path: Path) -> None:
    source = Path(__file__).parent.parent.parent / "policies" / "agencies.csv"
    home = tmp_path / "agencies"
    made = write_agencies(home, read_csv(source, None), "smtp://mail.{domain}:2525", ("wasl.example",))
    assert len(made) == 112
    directory = load_directory(home)
    hop = directory.hop("MOF")
    assert hop is not None and (hop.host, hop.port) == ("mail.mof.gov.example", 2525)
    assert directory.agency("MOF").name_ar == "وزارة المالية"  # type: ignore[union-attr]
    bad = tmp_path / "bad.csv"
    bad.write_text(
        'code;name_ar;name_en;domain\nNEW;جديد;New;new.example\nBAD;"سيئ: ""نعم""";Bad;mof.gov.example\n',
        "utf-8",
    )
    with pytest.raises(ConfigFaults) as refused:
        write_agencies(home, read_csv(bad, None), None, ())
    assert [(f.file, f.line, f.key) for f in refused.value.faults] == [(str(bad), 3, "domains.0")]
    assert not (home / "new.yaml").exists() and not (home / "bad.yaml").exists()


def test_csv_faults_name_the_column(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("code,name_ar,nam_en,domain\n")
    with pytest.raises(ConfigFaults) as refused:
        read_csv(file, None)
    assert [f.key for f in refused.value.faults] == ["nam_en", "name_en"]


def test_a_csv_row_with_more_values_than_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    good, split = "MOF,المالية,Finance,mof.example", "MOT,النقل,Roads, bridges and transport,mot.example"
    file.write_text(f"code,name_ar,name_en,domain\n{good}\n{split}\n", "utf-8")
    with pytest.raises(ConfigFaults) as refused:
        read_csv(file, None)
    assert [(f.line, f.message) for f in refused.value.faults] == [(3, "more values than columns")]


# Whatever stands in a file, the loader raises nothing but its own error.

leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=20),
    st.sampled_from(
        ["MOF", "mof.gov.example", "10.0.0.0/8", "a@b.example", "required", "required\n", "../x", "\0"]
    ),
)
KEYS = """
    code name_ar name_en domains registry next_hop outbound networks certificates credentials sign_in dkim
    receipts mode forwards authserv_ids host port tls ca username password password_file kind selector
    key_file agencies
"""
keys = st.sampled_from(KEYS.split())
tree = st.recursive(
    leaf,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=5), inner, max_size=8)
    ),
    max_leaves=25,
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.dictionaries(keys, tree, max_size=12))
def test_any_document_of_the_shape_is_read_or_refused_with_a_position(
    tmp_path: Path, data: dict[str, object]
) -> None:
    import json

    file = tmp_path / "any.yaml"
    file.write_text(json.dumps(data, ensure_ascii=True, allow_nan=True), "utf-8")
    try:
        load_directory(file)
    except ConfigFaults as refused:
        assert refused.faults and all(isinstance(f, Fault) and f.file == "any.yaml" for f in refused.faults)
        assert all(f.line >= 1 for f in refused.faults if f.key)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    octets=st.binary(max_size=200)
    | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t", max_size=120).map(str.encode)
)
def test_any_octets_are_read_or_refused(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "any.yaml"
    file.write_bytes(octets)
    try:
        load_directory(file)
    except ConfigFaults as refused:
        assert refused.faults


def test_a_bomb_of_aliases_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))
    started = time.thread_time()
    with pytest.raises(ConfigFaults, match="too many values"):
        load_directory(file)
    assert time.thread_time() - started < 20  # far less; a billion values would take hours
