"""Agencies from the command line and from CSV: what is none is refused with its line, and nothing is written.

The directory leaves alone what begins with ``_`` or a dot, and a code may hold anything: neither may make a
file that is written and not read, or one outside the folder.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.agency_files import read_csv, write_agencies
from policies.directory import load_directory
from policies.faults import ConfigFaults
from tests.unit.shell import Shell

HEAD = "code,name_ar,name_en,domain\n"
NO_CODE = "code: must be capital letters and digits, such as MOF (at most 16)"
NAMES = ("--name-ar", "ا", "--name-en", "b")


def faults(file: Path, text: str, home: Path) -> list[str]:
    """What is said of a CSV file, without the folder of that file."""
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigFaults) as refused:
        write_agencies(home, read_csv(file, None), None, ())
    return [str(fault).replace(f"{file.parent}/", "") for fault in refused.value.faults]


@pytest.mark.parametrize("code", ["_HR", "../../x", "%K2", ".K3", "ÉT", "1E3", "", "A" * 17, "A\nB"])
def test_a_code_that_is_none_makes_no_file(home: Path, wasl: Shell, code: str) -> None:
    before = sorted(home.parent.rglob("*.yaml"))
    said = wasl("agency", "add", code, "--domain", "hr.example", *NAMES)
    assert (said.status, said.out) == (1, "") and NO_CODE in said.err
    (home / "new.csv").write_text(f'{HEAD}MOI,ا,Interior,moi.example\n"{code}",ا,b,hr.example\n', "utf-8")
    said = wasl("agency", "import", "new.csv")
    assert (said.status, said.out) == (1, "")
    assert said.err == f"new.csv:{3 + code.count(chr(10))}: {NO_CODE}\n"
    assert sorted(home.parent.rglob("*.yaml")) == before


def test_every_bad_code_is_said_at_once_and_no_folder_is_made(tmp_path: Path) -> None:
    home = tmp_path / "agencies"
    rows = "_A,ا,b,a.example\nMOF,ا,b,b.example\n.B,ا,b,c.example\nMOF,ا,b,d.example\n"
    assert faults(tmp_path / "a.csv", HEAD + rows, home) == [
        f"a.csv:2: {NO_CODE}",
        f"a.csv:4: {NO_CODE}",
        "a.csv:5: code: the code MOF is already that of a.csv:3",
    ]
    assert not home.exists()


def test_what_two_rows_share_is_told_by_their_lines(tmp_path: Path) -> None:
    home = tmp_path / "agencies"
    rows = "AAA,ا,b,x.example\nBBB,ا,b,x.example\n"
    (said,) = faults(tmp_path / "a.csv", HEAD + rows, home)
    assert said == "a.csv:3: domains.0: the domain x.example is already that of AAA at a.csv:2"
    (said,) = faults(tmp_path / "a.csv", f"{HEAD}AAA,ا,b,x.example\naaa,ا,b,y.example\n", home)
    assert said == "a.csv:3: code: the code AAA is already that of a.csv:2"
    assert list(home.iterdir()) == []


def test_an_agency_that_is_there_is_not_written_over(home: Path, wasl: Shell) -> None:
    before = (home / "agencies" / "mof.yaml").read_text("utf-8")
    said = wasl("agency", "add", "mof", "--domain", "hr.example", *NAMES)
    assert said.status == 1 and "mof.yaml is there already: nothing was written" in said.err
    (home / "new.csv").write_text(f"{HEAD}MOF,ا,b,mof.example\nMOI,ا,b,moi.example\n", "utf-8")
    said = wasl("agency", "import", "new.csv")
    assert said.status == 1 and said.err.startswith("new.csv:2: ") and "--skip-existing" in said.err
    assert wasl("agency", "import", "new.csv", "--skip-existing").out.startswith("1 agencies written")
    assert (home / "agencies" / "mof.yaml").read_text("utf-8") == before


def test_words_that_yaml_reads_as_something_else_are_text(tmp_path: Path) -> None:
    file, home = tmp_path / "a.csv", tmp_path / "agencies"
    words = ["true", "False", "NULL", "yes", "no", "on", "off", "y", "N", "E1"]
    rows = "".join(f"{word},{word},{word},{word}.example\n" for word in words)
    file.write_text(f"{HEAD}{rows}ONE,1E3,null,one.example\n", "utf-8")
    write_agencies(home, read_csv(file, None), None, ())
    read = load_directory(home)
    for word in words:
        agency = read.agency(word.upper())
        assert agency is not None and (agency.name_ar, agency.name_en) == (word, word)
        assert agency.domains == (f"{word.lower()}.example",)
    one = read.agency("ONE")
    assert one is not None and (one.name_ar, one.name_en) == ("1E3", "null")
    assert "code: E1\n" in (home / "e1.yaml").read_text("utf-8"), "what needs no quotes has none"
    assert 'code: "TRUE"\n' in (home / "true.yaml").read_text("utf-8")


def test_a_name_that_is_no_text_leaves_nothing(home: Path, wasl: Shell) -> None:
    said = wasl("agency", "add", "HR", "--domain", "hr.example", "--name-ar", "\udcff", "--name-en", "b")
    assert (said.status, said.err) == (1, "HR: is not UTF-8\n")
    assert not (home / "agencies" / "hr.yaml").exists()


def test_a_column_named_twice_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("code,name_ar,name_en,domain, name_en,domains\nMOF,ا,Finance,a.example,Other,\n", "utf-8")
    with pytest.raises(ConfigFaults) as refused:
        read_csv(file, None)
    assert [str(f) for f in refused.value.faults] == [f"{file}:1: name_en: the column stands twice"]
