"""`medmtl predict` in this process: `IN OUT MODEL`; prints its wall and processor seconds."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from medmtl.data.intake import open_input
from medmtl.inference.batch import run_batch
from medmtl.inference.predictor import load_predictor


def processor_s() -> float:
    """Of this process and of those of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> None:
    """Only the batch is timed; the model is loaded before."""
    source, out, model = sys.argv[1:]
    analyser = load_predictor(model, backend="auto")
    wall, processor = time.perf_counter(), processor_s()
    outcomes = run_batch(open_input(Path(source)), analyser, out=Path(out), input_path=Path(source))
    if any(outcome.status != "done" for outcome in outcomes):
        raise SystemExit("a case failed")
    seconds = {"wall_s": time.perf_counter() - wall, "processor_s": processor_s() - processor}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
