"""An address is a server and a query; what is wrong with it is said without quoting it."""

from __future__ import annotations

import pytest

from medmtl.core.errors import ConfigError
from medmtl.pacs.address import PacsAddress, PacsQuery, is_pacs_address, parse_address


def test_all_keys_are_read() -> None:
    text = (
        "dicomweb+https://pacs.example:8443/dicom-web/?study=1.2&study=1.3&series=4.5"
        "&patient=A%26B&date=20200101-20201231&modality=CT"
    )
    query = PacsQuery(("1.2", "1.3"), ("4.5",), "A&B", "20200101-20201231", "CT")
    assert parse_address(text) == PacsAddress("https://pacs.example:8443/dicom-web", query)


@pytest.mark.parametrize("date", ["20200101", "20200101-", "-20200101", "20200101-20200102"])
def test_dates_may_be_ranges(date: str) -> None:
    assert parse_address(f"http://h/d?date={date}").query.date == date


def test_without_a_query_it_is_open() -> None:
    assert parse_address("http://localhost:8042/dicom-web").query.is_open
    assert not parse_address("http://h/d?study=1.2").query.is_open


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://", "expected http://HOST"),
        ("dicomweb+ftp://h/d", "expected http://HOST"),
        ("http://planted:secret@h/d", "user name or password"),
        ("http://h/d?studyuid=1.2", "expected one of study, series, patient"),
        ("http://h/d?study=", "study is malformed"),
        ("http://h/d?study=1.2/../x", "study is malformed"),
        ("http://h/d?series=planted", "series is malformed"),
        ("http://h/d?date=2020-01-01", "date is malformed"),
        ("http://h/d?modality=ct", "modality is malformed"),
        ("http://h/d?patient=*", "patient is empty"),
        ("http://h/d?patient=planted&patient=b", "patient is given twice"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_address(text)
    assert "planted" not in str(caught.value)


def test_a_patient_is_in_no_repr() -> None:
    assert "planted" not in repr(parse_address("http://h/d?patient=planted&study=1.2.99"))
    assert "1.2.99" not in repr(parse_address("http://h/d?patient=planted&study=1.2.99"))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("dicomweb+http://h", True), ("https://h/x", True), ("HTTP://h", True), ("folder", False)],
)
def test_an_address_is_told_from_a_folder(text: str, is_one: bool) -> None:
    assert is_pacs_address(text) == is_one
