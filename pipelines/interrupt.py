"""Ctrl-C ends the program, wherever it finds it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

__all__ = ["INTERRUPTED", "end_after_interrupt", "leave_interrupted"]

INTERRUPTED = 130
"""128 + SIGINT, with which typer ends at Ctrl-C."""
_GRACE_S = 10.0


def end_after_interrupt(grace_s: float = _GRACE_S) -> None:
    """See to it that what Ctrl-C raises ends the program within `grace_s` seconds.

    Python raises it between any two instructions of the main thread, so that a lock which was just
    taken may be left locked, and what waits for it then waits for ever. A command that handles the
    signal itself replaces this.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # deaf to it, as what a shell starts in the background

    def interrupt(number: int, frame: FrameType | None) -> None:
        _in_time(grace_s, leave_interrupted)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def leave_interrupted() -> NoReturn:
    """Say how to go on, remove temporary folders, and wait for no thread that is still at work."""
    _in_time(_GRACE_S, lambda: os._exit(INTERRUPTED))
    try:
        sys.stderr.write(
            "medmtl: stopped. What is finished is kept; start the same command again to go on.\n"
        )
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
    finally:
        os._exit(INTERRUPTED)


def _in_time(grace_s: float, leave: Callable[[], NoReturn]) -> None:
    """Leave after so many seconds: a handler runs even where the main thread waits for a lock."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGALRM, lambda _number, _frame: leave())
        signal.setitimer(signal.ITIMER_REAL, grace_s)
