"""One run per case: a lock that the kernel lets go of when its process dies, even by SIGKILL.

So no lock is ever stale on a local disk, and none has to be guessed to be. On NFS the server
keeps the lock (Linux maps flock to a byte-range lock) until the client's lease ends.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock"]

_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}
_held: set[int] = set()

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close_in_child() -> None:
    """A decoder process that outlives a killed run must not keep the run's locks."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@dataclass(frozen=True)
class FileLock:
    """A lock that is held; `release` lets go of it and removes its file."""

    path: Path
    descriptor: int

    @classmethod
    def try_acquire(cls, path: Path) -> FileLock | None:
        """Take the lock, or return None at once where another process (or thread) holds it.

        Raises:
            OutputError: If the file system knows no locks.
            OSError: If the lock file cannot be made.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not cls._locked(descriptor):
                    os.close(descriptor)
                    return None
                if cls._is_current(path, descriptor):
                    _held.add(descriptor)
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder removed it between our open and our lock

    @staticmethod
    def _locked(descriptor: int) -> bool:
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            message = (
                f"the output folder's file system keeps no locks ({os.strerror(error.errno or 0)}),"
                " so runs could disturb each other. Write to a local disk and copy the results."
            )
            raise OutputError(message) from error
        return True

    @staticmethod
    def _is_current(path: Path, descriptor: int) -> bool:
        try:
            return os.path.samestat(path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go. The file goes first, while it is still ours; a waiting run then makes its own."""
        _held.discard(self.descriptor)
        try:
            self.path.unlink(missing_ok=True)
        except PermissionError:
            pass  # Windows does not remove an open file; an empty one may stay
        finally:
            os.close(self.descriptor)
