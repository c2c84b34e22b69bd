"""A run over 10,000 finished cases: how long until that is known and the tables stand."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.record import Row, finish, options
from medmtl.inference.batch import BatchOptions, run_batch
from tests.threshold_batch import ThresholdAnalyser, list_studies, write_studies

CASES, QUICK_CASES = 10_000, 100
LIMIT_S = 5.0


def main() -> None:
    """The cases are tiny, because a finished case is never opened."""
    arguments = options(__doc__ or "")
    count = QUICK_CASES if arguments.quick else CASES
    with tempfile.TemporaryDirectory() as aside:
        source, out = Path(aside) / "in", Path(aside) / "out"
        write_studies(source, count, shape=(8, 8, 4))
        listing = list_studies(source)

        def run() -> list[str]:
            outcomes = run_batch(
                listing,
                ThresholdAnalyser(),
                out=out,
                input_path=source,
                options=BatchOptions(formats=("json",), summary_every_s=1e9),
            )
            return [outcome.status for outcome in outcomes]

        start = time.perf_counter()
        if run() != ["done"] * count:
            raise SystemExit("a case failed")
        first_s = time.perf_counter() - start
        start = time.perf_counter()
        if run() != ["resumed"] * count:
            raise SystemExit("a case was computed again")
        again_s = time.perf_counter() - start
    rows = [
        Row(f"first run over {count} tiny cases", f"{first_s:.1f} s"),
        Row(f"resume check of {count} finished cases, tables included", f"{again_s:.1f} s",
            f"< {LIMIT_S:g} s", again_s < LIMIT_S),
    ]  # fmt: skip
    finish("resume", rows, arguments)


if __name__ == "__main__":
    main()
