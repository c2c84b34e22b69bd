"""Who may do what: three roles, each with the rights of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reader", "Role", "is_recent", "reader_of_claims"]

Role = Literal["viewer", "reviewer", "admin"]
"""A viewer looks; a reviewer also answers, corrects and signs; an admin also exports and starts
analyses."""

_ROLES: tuple[Role, ...] = get_args(Role)
_LONGEST_S = 12 * 3600
"""A role that was taken away holds no longer than this; Streamlit's cookie lives for 30 days."""


@dataclass(frozen=True)
class Reader:
    """Who sits in front of a page.

    Attributes:
        name: Stands under reviews.
        role: What this person may do.
    """

    name: str
    role: Role

    def may(self, wanted: Role) -> bool:
        """Whether the rights of a role are among this reader's."""
        return _ROLES.index(self.role) >= _ROLES.index(wanted)


def reader_of_claims(claims: Mapping[str, Any], *, roles_claim: str) -> Reader | None:
    """The reader behind a login; None where the claim names no role of ours.

    Args:
        claims: Of the identity token, as its provider signed them.
        roles_claim: The claim with the roles, a text or a list; dots lead into nested claims,
            as in "realm_access.roles".
    """
    value: Any = claims
    for part in roles_claim.split("."):
        value = value.get(part) if hasattr(value, "get") else None
    given = value if isinstance(value, list | tuple) else [value]
    held = [role for role in _ROLES if role in given]
    subject = _name(claims)
    return Reader(subject, held[-1]) if held and subject else None


def is_recent(claims: Mapping[str, Any], *, now_s: float) -> bool:
    """Whether the login is of half a day at most, or does not say when it was."""
    issued_s = claims.get("iat")
    return not isinstance(issued_s, int | float) or now_s - issued_s < _LONGEST_S


def _name(claims: Mapping[str, Any]) -> str:
    """Anybody can claim an address that was not verified: then it is nobody's name."""
    is_refused = str(claims.get("email_verified")).lower() == "false"
    email = "" if is_refused else claims.get("email")
    chosen = str(claims.get("preferred_username") or "")
    account = "" if "@" in chosen else chosen  # an address again, and nobody verified it
    return str(email or account or claims.get("sub", ""))
