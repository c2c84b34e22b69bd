"""Time of `make demo` from a clean clone, with the installation and once installed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.record import ROOT, Row, finish, options

WITH_INSTALLATION_S, ONCE_INSTALLED_S = 600.0, 120.0


def _demo_row(what: str, checkout: Path, limit_s: float) -> Row:
    start = time.perf_counter()
    subprocess.run(["make", "demo", "OPEN=0"], cwd=checkout, check=True, stdin=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return Row(f"`make demo`, {what}", f"{seconds:.0f} s", f"< {limit_s:.0f} s", seconds < limit_s)


def _from_a_clean_clone() -> list[Row]:
    with tempfile.TemporaryDirectory() as aside:
        clone = Path(aside) / "medmtl"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        first = _demo_row("clean clone, with installation", clone, WITH_INSTALLATION_S)
        return [first, _demo_row("once installed", clone, ONCE_INSTALLED_S)]


def main() -> None:
    """Clone HEAD and run the demonstration twice; `--quick` runs it once in this checkout."""
    arguments = options(__doc__ or "")
    if arguments.quick:
        rows = [_demo_row("this checkout", ROOT, ONCE_INSTALLED_S)]
    else:
        rows = _from_a_clean_clone()
    finish("demo_time", rows, arguments)


if __name__ == "__main__":
    main()
