"""A lock belongs to one holder and dies with its process, by whatever signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medmtl.inference.lock import FileLock

_HOLD = """
import os, sys, time
from pathlib import Path
from medmtl.inference.lock import FileLock
lock = FileLock.try_acquire(Path(sys.argv[1]))
print(lock is not None, flush=True)
if sys.argv[2] == "True" and os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def _hold(path: Path, *, fork: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLD, str(path), str(fork)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def test_a_second_holder_is_turned_away_until_the_first_lets_go(tmp_path: Path) -> None:
    first = FileLock.try_acquire(tmp_path / "case")
    assert first is not None
    assert FileLock.try_acquire(tmp_path / "case") is None
    first.release()
    assert list(tmp_path.iterdir()) == []
    second = FileLock.try_acquire(tmp_path / "case")
    assert second is not None
    second.release()


def test_a_killed_holder_loses_its_lock(tmp_path: Path) -> None:
    holder = _hold(tmp_path / "case")
    assert FileLock.try_acquire(tmp_path / "case") is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()
    taken = FileLock.try_acquire(tmp_path / "case")
    assert taken is not None
    taken.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_outlives_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A decoder process may live on for a while; the next run must not wait for it."""
    holder = _hold(tmp_path / "case", fork=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    taken = FileLock.try_acquire(tmp_path / "case")
    os.kill(child, signal.SIGKILL)
    assert taken is not None
    taken.release()


def test_many_threads_never_hold_it_together(tmp_path: Path) -> None:
    inside, most, taken = [0], [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(200):
            lock = FileLock.try_acquire(tmp_path / "case")
            if lock is None:
                continue
            with guard:
                inside[0] += 1
                taken[0] += 1
                most[0] = max(most[0], inside[0])
            with guard:
                inside[0] -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert taken[0] > 0
