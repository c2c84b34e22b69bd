"""No folder of this machine and no password reaches a tracking server."""

from __future__ import annotations

import json
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.tracking.places import without_credentials, without_places

SECRETS = [
    "/home/anna/Meier_Hans_1950/ct",
    Path("/data/Meier_Hans"),
    PureWindowsPath(r"C:\Users\anna\Meier"),
    "C:/Users/anna",
    r"\\server\share\Meier",
    "~/Meier",
    "../Meier/ct",
    "images/../../Meier",
    "file:///home/anna/Meier",
    "sqlite:////home/anna/Meier.db",
]


@pytest.mark.parametrize("secret", SECRETS, ids=str)
def test_a_path_that_leaves_the_folder_is_hidden_at_any_depth(secret: object) -> None:
    hidden = json.dumps(without_places({"data": [{"root": secret}]}))
    assert "Meier" not in hidden
    assert "anna" not in hidden


def test_two_places_stay_two_and_one_stays_one() -> None:
    first, again, other = (without_places(path) for path in ("/a/b", "/a/b", "/a/c"))
    assert first == again
    assert first != other


@pytest.mark.parametrize("plain", ["upgrad", "images/case_1.nii.gz", "a/b", "1e-3", "", "LPS"])
def test_other_texts_stay_as_they_are(plain: str) -> None:
    assert without_places(plain) == plain


def test_passwords_go_and_hosts_stay() -> None:
    assert without_credentials("https://anna:geheim@ml.example.org/x") == "https://ml.example.org/x"
    assert without_places({"uri": "postgresql://u:p@db/x"}) == {"uri": "postgresql://db/x"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(JSON)
def test_what_comes_out_is_json_and_comes_out_the_same_again(value: object) -> None:
    once = without_places(value)
    assert json.loads(json.dumps(once)) == once
    assert without_places(once) == once
