"""Who may do what: three roles, each with the rights of the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reader", "Role", "reader_of_claims"]

Role = Literal["viewer", "reviewer", "admin"]
"""A viewer looks; a reviewer also answers, corrects and signs; an admin also exports and starts
analyses."""

_ROLES: tuple[Role, ...] = get_args(Role)


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
    subject = str(claims.get("email") or claims.get("preferred_username") or claims.get("sub", ""))
    return Reader(subject, held[-1]) if held and subject else None
