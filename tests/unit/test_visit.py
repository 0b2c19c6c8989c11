"""What a page says of the request's own: to whom a letter went, in a word for each."""

from types import SimpleNamespace
from typing import Any, cast

from dashboard.desk import AgencyName
from dashboard.visit import Visit
from tracker.queries import ListedRecipient

_NAMES = {"MOH": AgencyName(code="MOH", ar="وزارة الصحة", en="Ministry of Health")}


def _recipient(address: str, agency: str | None = None) -> ListedRecipient:
    return ListedRecipient(agency=agency, address=address, state=None, grade=None, outcome=None, late=False)


def test_an_agency_is_named_once_however_many_of_its_mailboxes_a_letter_went_to() -> None:
    visit = cast(Any, Visit.__new__(Visit))
    visit.desk = SimpleNamespace(name=_NAMES.__getitem__)
    visit.tongue = SimpleNamespace(code="ar")
    went = [
        _recipient("a@moh.example", "MOH"),
        _recipient("b@moh.example", "MOH"),
        _recipient("c@elsewhere.example"),
        _recipient("c@elsewhere.example"),
    ]
    assert visit.parties(went) == ["وزارة الصحة", "c@elsewhere.example"]
