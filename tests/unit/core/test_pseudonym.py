"""Pseudonyms: the same for the same secret, apart for another, and always a valid UID."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import UID

from medmtl.core.errors import ConfigError
from medmtl.core.pseudonym import Pseudonyms, kept_pseudonyms, read_pseudonyms

SECRET, OTHER = "s" * 32, "t" * 32


def test_equal_secrets_give_equal_names_and_others_do_not() -> None:
    one, same, other = Pseudonyms(SECRET), Pseudonyms(SECRET), Pseudonyms(OTHER)
    assert one.name("a", "b") == same.name("a", "b")
    assert one.uid("1.2.3") == same.uid("1.2.3")
    assert one.shift_days("p") == same.shift_days("p")
    assert one.fingerprint == same.fingerprint
    assert one.name("a", "b") != other.name("a", "b")
    assert one.uid("1.2.3") != other.uid("1.2.3")
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint != Pseudonyms(SECRET, "remove").fingerprint


def test_words_do_not_run_together() -> None:
    names = Pseudonyms(SECRET)
    assert names.name("ab", "c") != names.name("a", "bc")
    assert names.name("a") != names.name("a", "")


def test_uids_are_valid_and_nothing_stays_nothing() -> None:
    names = Pseudonyms(SECRET)
    uids = {names.uid(f"1.2.{number}") for number in range(500)}
    assert len(uids) == 500
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)
    assert names.uid("") == ""


def test_shifts_go_into_the_past_by_at_most_ten_years() -> None:
    shifts = [Pseudonyms(SECRET).shift_days(str(number)) for number in range(2000)]
    assert min(shifts) >= 1
    assert max(shifts) <= 3650
    assert len(set(shifts)) > 1000


def test_the_secret_is_shown_nowhere() -> None:
    assert SECRET not in repr(Pseudonyms(SECRET))
    with pytest.raises(ConfigError, match="32 characters") as caught:
        Pseudonyms("short-secret")
    assert "short-secret" not in str(caught.value)


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    path.write_text(f'secret = "{SECRET}"\ndates = "remove"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="chmod 600"):
        read_pseudonyms(path)
    path.chmod(0o600)
    assert read_pseudonyms(path) == Pseudonyms(SECRET, "remove")
    for content, said in (
        (f'secret = "{SECRET}"\ndates = "maybe"', "shift or remove"),
        (f'secret = "{SECRET}"\nmapping = "x"', "expected only dates, secret"),
        ('dates = "shift"', "32 characters"),
        (SECRET, "no TOML"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=said) as caught:
            read_pseudonyms(path)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pseudonyms(tmp_path / "absent.toml")


def test_a_kept_secret_is_drawn_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pseudonyms.toml"
    first = kept_pseudonyms(path)
    assert path.stat().st_mode & 0o077 == 0
    assert kept_pseudonyms(path) == first
    assert kept_pseudonyms(tmp_path / "other.toml") != first
    path.write_text("")
    with pytest.raises(ConfigError, match="key file: expected a secret"):
        kept_pseudonyms(path)
