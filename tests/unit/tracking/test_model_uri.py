"""Addresses of the registry."""

from __future__ import annotations

import pytest

from medmtl.core.errors import ConfigError
from medmtl.tracking.model_uri import ModelUri, is_model_uri, parse_model_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("models:/cardiac-mr@champion", ModelUri("cardiac-mr", alias="champion")),
        ("models:/cardiac-mr/12", ModelUri("cardiac-mr", version="12")),
        ("models:/cardiac-mr/latest", ModelUri("cardiac-mr")),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, uri: ModelUri) -> None:
    assert parse_model_uri(text) == uri
    assert str(uri) == text


@pytest.mark.parametrize(
    "text",
    ["models:/", "models:/a", "models:/a/Production", "models:/a@", "models:/a/b/1", "models://a/1",
     "models:/a/1/../..", "models:/a@b/c"],
)  # fmt: skip
def test_another_spelling_is_refused_with_the_right_ones(text: str) -> None:
    assert is_model_uri(text)
    with pytest.raises(ConfigError, match="expected models:/NAME@ALIAS"):
        parse_model_uri(text)


def test_folders_and_names_are_no_addresses() -> None:
    assert not is_model_uri("cardiac-mr")
    assert not is_model_uri("./models/x")
