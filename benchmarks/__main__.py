"""`python -m benchmarks [--quick] [NAME...]`: run one after another, then write page and plots."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.record import RESULTS, ROOT, write_page

NAMES = (
    "reading", "preprocessing", "scan", "resume", "joint_pass", "dicom_objects", "data_loading",
    "worklist", "sliding_window", "gpu", "pipeline", "study_cost", "viewer", "memory", "restore",
    "imported_speed", "operating_points", "end_to_end", "imported_end_to_end", "demo_time",
    "balancers", "parity_nnunet",
)  # fmt: skip
"""The cheap ones first."""
ON_REQUEST = ("encoder_acdc", "encoder_torso")
"""They train for an hour or more: only where they are named."""


def main() -> int:
    """Run each benchmark in a process of its own, so that none sees the other's memory."""
    parser = argparse.ArgumentParser(description="The measurements that the README quotes.")
    parser.add_argument(
        "names", nargs="*", choices=[[], *NAMES, *ON_REQUEST, "report"],
        help="Which ones; all if none. report only writes page and plots from what is known.",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="Small inputs, figures not kept.")
    parser.add_argument("--fresh", action="store_true", help="Forget what long ones measured.")
    parser.add_argument("--minutes", help="Where one can stop: after these.")
    arguments = parser.parse_args()
    further = ["--fresh"] if arguments.fresh else []
    further += ["--minutes", arguments.minutes] if arguments.minutes else []
    failed = []
    with tempfile.TemporaryDirectory() as aside:
        out = Path(aside) if arguments.quick else RESULTS
        for name in [name for name in arguments.names or NAMES if name != "report"]:
            command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(out)]
            command += [*further, *(["--quick"] if arguments.quick else [])]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(name)
    if not arguments.quick:
        write_page()
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
