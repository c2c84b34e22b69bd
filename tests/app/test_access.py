"""Roles from the claims of a login."""

from __future__ import annotations

from typing import Any

import pytest

from app.services.access import Reader, is_recent, reader_of_claims


@pytest.mark.parametrize(
    ("claims", "roles_claim", "expected"),
    [
        ({"sub": "a", "roles": ["viewer"]}, "roles", Reader("a", "viewer")),
        ({"sub": "a", "roles": "reviewer"}, "roles", Reader("a", "reviewer")),
        ({"sub": "a", "roles": ["admin", "viewer", "x"]}, "roles", Reader("a", "admin")),
        ({"sub": "a", "email": "a@b.c", "roles": ["viewer"]}, "roles", Reader("a@b.c", "viewer")),
        (
            {"sub": "a", "email": "b@b.c", "email_verified": False, "roles": ["viewer"]},
            "roles",
            Reader("a", "viewer"),
        ),
        (
            {"sub": "a", "email": "a@b.c", "email_verified": True, "roles": ["viewer"]},
            "roles",
            Reader("a@b.c", "viewer"),
        ),
        (
            {"sub": "a", "preferred_username": "anna", "roles": ["viewer"]},
            "roles",
            Reader("anna", "viewer"),
        ),
        (  # an address that nobody verified, by another claim
            {
                "sub": "a",
                "email": "chief@b.c",
                "email_verified": False,
                "preferred_username": "chief@b.c",
                "roles": ["viewer"],
            },
            "roles",
            Reader("a", "viewer"),
        ),
        ({"sub": "a", "realm": {"roles": ["admin"]}}, "realm.roles", Reader("a", "admin")),
        ({"sub": "a", "roles": ["administrator", "Admin"]}, "roles", None),
        ({"sub": "a", "roles": []}, "roles", None),
        ({"sub": "a"}, "roles", None),
        ({"sub": "a", "roles": "admin"}, "roles.more", None),
        ({"roles": ["admin"]}, "roles", None),
        ({"sub": "a", "roles": 7}, "roles", None),
        ({"sub": "a", "roles": True}, "roles", None),
        ({"sub": "a", "roles": [{"name": "admin"}, "viewer"]}, "roles", Reader("a", "viewer")),
        ({"sub": "a", "roles": {"admin": False}}, "roles", None),
    ],
)
def test_a_role_comes_from_its_claim(
    claims: dict[str, Any], roles_claim: str, expected: Reader | None
) -> None:
    assert reader_of_claims(claims, roles_claim=roles_claim) == expected


def test_a_login_of_yesterday_is_asked_for_again() -> None:
    hour_s = 3600
    assert is_recent({"iat": 0}, now_s=11 * hour_s)
    assert not is_recent({"iat": 0}, now_s=24 * hour_s)
    assert is_recent({}, now_s=24 * hour_s)


def test_a_role_has_the_rights_of_those_before() -> None:
    rights = {
        role: [Reader("a", role).may(wanted) for wanted in ("viewer", "reviewer", "admin")]
        for role in ("viewer", "reviewer", "admin")
    }
    assert rights == {
        "viewer": [True, False, False],
        "reviewer": [True, True, False],
        "admin": [True, True, True],
    }
