"""Requests again where that may help, with growing pauses; all else becomes a short reason."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from medmtl.pacs.errors import PacsError, PacsUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Answer = TypeVar("Answer")

__all__ = ["PassingError", "Retry", "status_of"]

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403, 407})
_LONGEST_WAIT_S = 60.0
_ROOT = "the root of the DICOMweb service, such as http://HOST:8042/dicom-web"
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


class PassingError(Exception):
    """A request that failed in a way that may pass; `final` is raised where it does not."""

    def __init__(self, final: PacsError) -> None:
        super().__init__()
        self.final = final


@dataclass(frozen=True)
class Retry:
    """How often, and how long after each other.

    Attributes:
        attempts: In all.
        first_wait_s: Before the second attempt; doubled each time, up to a minute, and spread by a
            random half so that many clients do not come back at once.
    """

    attempts: int = 5
    first_wait_s: float = 0.5

    def call(self, what: str, request: Callable[[], Answer]) -> Answer:
        """Do a request.

        Args:
            what: For the error: "The query of studies". Without any address or identity.
            request: Raises `requests` exceptions, or ValueError for an answer that is malformed,
                or PassingError; a PacsError is passed on at once.

        Raises:
            PacsUnreachableError: If the archive is down or lets us not in.
            PacsError: If it answers with another error.
        """
        for number in range(1, self.attempts + 1):
            try:
                return request()
            except (requests.RequestException, ValueError, PassingError) as error:
                # The exception's own text holds the address, the query and so patient ids.
                if number == self.attempts or not _may_pass(error):
                    raise _explained(what, error) from None
                time.sleep(self._wait_s(number, error))
        raise PacsError(f"{what} was never tried: expected at least one attempt.")

    def _wait_s(self, number: int, error: Exception) -> float:
        wait_s = self.first_wait_s * 2 ** (number - 1) * random.uniform(1.0, 1.5)  # noqa: S311 - no secret
        return float(min(max(wait_s, _asked_wait_s(error)), _LONGEST_WAIT_S))


def status_of(error: Exception) -> int | None:
    """The HTTP status of a failed request, or None where there was no answer."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _asked_wait_s(error: Exception) -> float:
    """What the server asks for in Retry-After (RFC 9110 10.2.3), where it is a number."""
    response = getattr(error, "response", None)
    text = "" if response is None else str(response.headers.get("Retry-After", ""))
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _may_pass(error: Exception) -> bool:
    if isinstance(error, PassingError):
        return True
    status = status_of(error)
    if status is not None:
        return status in _PASSING
    if isinstance(error, requests.exceptions.SSLError) or _is_shut_out(error):
        return False
    return isinstance(error, _BROKEN)


def _is_shut_out(error: Exception) -> bool:
    """Whether the archive ended TLS, not we: with an alert (RFC 8446 6.2), or the connection."""
    text = str(error).upper()
    if isinstance(error, requests.exceptions.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in text and "MATCH" not in text
    return isinstance(error, requests.ConnectionError) and "ALERT" in text


def _explained(what: str, error: Exception) -> PacsError:
    if isinstance(error, PassingError):
        return error.final
    status = status_of(error)
    if status in _REFUSED:
        return PacsUnreachableError(
            f"{what} failed: the archive answers HTTP {status}. Check --credentials and the rights "
            "of this user."
        )
    if status == 404:
        return PacsError(
            f"{what} failed: the archive knows no such thing (HTTP 404). Check that the address is "
            f"{_ROOT}."
        )
    if status is not None:
        return PacsError(f"{what} failed: the archive answers HTTP {status}.")
    if _is_shut_out(error):
        return PacsUnreachableError(
            f"{what} failed: the archive ends the TLS handshake. It may want a certificate of this "
            "machine (--certificate, --key), or another one."
        )
    if isinstance(error, requests.exceptions.SSLError):
        return PacsUnreachableError(
            f"{what} failed: the archive's TLS certificate is not trusted. Give the certificate of "
            "its authority with --ca-file."
        )
    if isinstance(error, requests.Timeout):
        return PacsUnreachableError(f"{what} failed: the archive did not answer in time.")
    if isinstance(error, _BROKEN):
        return PacsUnreachableError(
            f"{what} failed: the archive cannot be reached. Check the address and that it runs."
        )
    return PacsError(
        f"{what} failed: the answer is not DICOMweb ({type(error).__name__}). Check that the "
        f"address is {_ROOT}."
    )
