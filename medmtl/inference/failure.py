"""The one place where any error of a case becomes a line of failures.csv.

What an unexpected exception says is never quoted: libraries put header values, and so patient
identities, into their messages. Its type and the line of ours that it passed are enough to find it.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError, MedmtlError, OutputError
from medmtl.core.study import Refusal
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

__all__ = ["attempt"]

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
_OUT_OF_MEMORY = ("OutOfMemoryError", "not enough memory", "can't allocate memory", "bad_alloc")


def attempt(case_id: str, stage: str, work: Callable[[], Result]) -> Result | Failure:
    """Do a stage's work; what goes wrong with this case comes back as a Failure.

    Raises:
        OutputError: Passed on, because it concerns every case: a full or read-only disk.
    """
    try:
        return work()
    except OutputError:
        raise
    except InputRefusedError as error:
        return Failure.from_refusal(Refusal.from_error(error), case_id=case_id)
    except MedmtlError as error:
        advice = "See the reason; the other cases are not affected."
        return Failure(case_id, case_id, stage, "refused", str(error), advice)
    except Exception as error:  # noqa: BLE001 - one bad case never stops the others
        # Lines of code only, without the message and its values.
        lines = "".join(traceback.format_tb(error.__traceback__))
        logger.debug("case %s, %s: %s\n%s", case_id, stage, type(error).__name__, lines)
        if _is_out_of_memory(error):
            return _out_of_memory(case_id, stage)
        return _unexpected(case_id, stage, error)


def _is_out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


def _out_of_memory(case_id: str, stage: str) -> Failure:
    return Failure(
        case_id,
        case_id,
        stage,
        "out-of-memory",
        "out-of-memory: the case needs more memory than this machine could give",
        "Close other programs or use a machine with more memory, then run the command again; "
        "only what is missing is computed.",
    )


def _unexpected(case_id: str, stage: str, error: Exception) -> Failure:
    return Failure(
        case_id,
        case_id,
        stage,
        "unexpected-error",
        f"unexpected-error: {type(error).__name__} at {_place(error)}",
        "The other cases are not affected. Please report it with the versions in run.json.",
    )


def _place(error: Exception) -> str:
    """The innermost line inside medmtl, such as "dicom/decode.py:88"; "outside medmtl" if none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE) and path.name != Path(__file__).name:
            return f"{path.relative_to(_PACKAGE).as_posix()}:{frame.lineno}"
    return "outside medmtl"
