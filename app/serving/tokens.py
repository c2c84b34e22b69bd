"""Random tokens that name what a session may fetch, and die with it."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TokenBook"]

Resource = TypeVar("Resource")


class TokenBook(Generic[Resource]):
    """Who may fetch what. Safe to use from several threads.

    Args:
        is_active: Whether a session is connected at this moment.
    """

    def __init__(self, is_active: Callable[[str], bool]) -> None:
        self._is_active = is_active
        self._tokens: dict[tuple[str, str], str] = {}
        self._resources: dict[str, tuple[str, Resource]] = {}
        self._lock = threading.Lock()

    def issue(self, session_id: str, *, key: str, resource: Resource) -> str:
        """The token of a resource in a session; the same key has the same token every time.

        A page that runs again must give the browser the same address, or it would load all anew.
        """
        with self._lock:
            self._forget_ended(keep=session_id)
            token = self._tokens.setdefault((session_id, key), secrets.token_urlsafe(24))
            self._resources[token] = (session_id, resource)
        return token

    def redeem(self, token: str) -> Resource | None:
        """What the token names; None where it is unknown or its session has ended."""
        with self._lock:
            found = self._resources.get(token)
        if found is None or not self._is_active(found[0]):
            return None
        return found[1]

    def _forget_ended(self, *, keep: str) -> None:
        sessions = {session for session, _ in self._tokens} - {keep}
        ended = {session for session in sessions if not self._is_active(session)}
        for place in [place for place in self._tokens if place[0] in ended]:
            self._resources.pop(self._tokens.pop(place), None)
