"""The README and the pages under docs/ against the code: tables, names of files, commands, settings.

``python docs/tables.py`` writes the generated tables anew. How the standards are cited is in ``_CITED``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from docs import tables
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
CITING = [
    path
    for folder in ("tracker", "policies", "dashboard", "gateway")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".yaml", ".html")
]
_WHERE = r"\s*§+\s*\d+(?:\.\d+)*(?:(?:, | and |-)§?\d+(?:\.\d+)+)*"
_SECTION = rf"(?:{_WHERE})?"
# "RFC 5321 §4.2", "RFC 2045, 2046 and 2231", "RFC 3464 and RFC 6533", "RFC 2033/2034".
_CITED = re.compile(
    rf"\bRFCs?\s+(\d{{3,5}}{_SECTION}(?:(?:,\s+(?:and )?|/|\s+and\s+)(?:RFC\s+)?\d{{3,5}}(?!\d){_SECTION})*)"
)
_KEYWORD = re.compile(r"\b(?:8BITMIME|[A-Z][A-Z0-9]{2,}(?: PLAIN| LOGIN)?) \((\d{4})(?:, (\d{4}))*(?=[,)])")


def cited(text: str) -> set[int]:
    """The numbers of the RFCs that a text cites."""
    found = {
        int(number)
        for match in _CITED.finditer(text)
        for number in re.findall(r"\d{3,5}", re.sub(_WHERE, "", match[1]))
    }
    if found:  # "8BITMIME (6152)" only where RFCs are spoken of
        found |= {int(n) for match in _KEYWORD.finditer(text) for n in match.groups() if n}
    return found


def standards() -> list[tuple[set[int], str, list[str]]]:
    """The rows of the README's table: numbers, support, files."""
    rows = []
    for line in tables.standing(README, "standards").splitlines()[2:]:
        numbers, _, support, _, files = (cell.strip() for cell in line.strip("|").split("|"))
        names = [] if files == "–" else files.split(", ")
        rows.append(({int(n) for n in numbers.split(", ")}, support, names))
    return rows


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_generated_table_is_what_the_code_says(name: str) -> None:
    assert tables.standing(README, name) == tables.TABLES[name](), "run `python docs/tables.py`"


def test_every_setting_has_its_words() -> None:
    for row in tables.TABLES["settings"]().splitlines()[2:]:
        assert not re.search(r"\|\s*\|$", row), row


def test_every_setting_is_read() -> None:
    """A key that nothing reads is a promise that nobody keeps."""
    code = "\n".join(
        path.read_text("utf-8")
        for path in CITING
        if path.suffix == ".py" and path.name not in ("settings.py", "settings_template.py")
    )
    own = {"database.url_file", "archive.secret_key_file"}  # read where they are declared
    keys = re.findall(r"^\| `([a-z]+\.[a-z_]+)`", tables.TABLES["settings"](), re.MULTILINE)
    assert len(keys) > 60
    assert [k for k in keys if k not in own and not re.search(rf"[.\"]{k.partition('.')[2]}\b", code)] == []


def test_every_metric_is_explained() -> None:
    code = (ROOT / "gateway/metrics.py").read_text("utf-8")
    page = (ROOT / "docs/administration.md").read_text("utf-8")
    made = set(re.findall(r'"(wasl_[a-z_]+)"', code))
    assert len(made) > 10
    assert made == set(re.findall(r"`(wasl_[a-z_]+)(?:\{[a-z,]+\})?`", page))


def test_citations_are_recognised() -> None:
    text = "RFC 2047, 2231 and RFC 6532 §3.7 and 6533; RFC 5321 §4.5.3.1.8: at least 100; AUTH (4954, 4616)"
    assert cited(text) == {2047, 2231, 6532, 6533, 5321, 4954, 4616}
    assert cited("the year (2026), SIZE (1870) and 5321") == set()


def test_every_standard_that_the_code_cites_has_a_row() -> None:
    where: dict[int, list[str]] = defaultdict(list)
    for path in CITING:
        for number in cited(path.read_text("utf-8")):
            where[number].append(path.relative_to(ROOT).as_posix())
    listed = set().union(*(numbers for numbers, _, _ in standards()))
    assert {n: files for n, files in where.items() if n not in listed} == {}


def test_every_row_names_files_that_cite_it() -> None:
    seen: set[int] = set()
    for numbers, support, files in standards():
        assert support in ("yes", "partial", "no"), numbers
        assert bool(files) == (support != "no"), f"{numbers}: a file for what is there, none for what is not"
        assert not numbers & seen, f"{numbers}: twice"
        seen |= numbers
        for name in files:
            assert cited((ROOT / name).read_text("utf-8")) & numbers, f"{name} does not cite {numbers}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files of the house, links, commands and settings that a page speaks of exist."""
    text = page.read_text("utf-8")
    complaints = []
    for name in re.findall(
        r"\b((?:tracker|policies|dashboard|gateway|tests|bench|deploy|docs)/[\w./-]*\w)", text
    ):
        if not (ROOT / name).exists():
            complaints.append(f"there is no {name}")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not (page.parent / target).exists():
            complaints.append(f"a link to {target}, which is not there")
    known = {name for name, _ in tables.every_command()}
    groups = {name.split()[0] for name in known}
    for line in re.findall(
        r"(?:^|`|\$ |sudo -u wasl |\| )wasl ([a-z]+(?: [a-z][a-z-]*)?)", text, re.MULTILINE
    ):
        if line not in groups and not known & {line, line.split()[0]}:
            complaints.append(f"there is no command wasl {line}")
    for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", text):
        model = Settings.model_fields.get(section)
        if model is not None and f"`{section}.{key}`" not in tables.TABLES["settings"]():
            complaints.append(f"there is no setting {section}.{key}")
    assert not complaints, "\n".join(sorted(set(complaints)))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_can_be_read_anywhere(page: Path) -> None:
    """Lines fit (tables and code may be longer), no path of a machine, every fence is closed."""
    fenced = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith(("|", "![")):
            assert len(line) <= 115, f"{page.name}:{number}: {len(line)} characters"
        assert not re.search(r"/work/|/root/|/home/\w+/", line), f"{page.name}:{number}"
    assert not fenced
