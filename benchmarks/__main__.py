"""`python -m benchmarks [--quick] [NAME...]`: run them one after the other, then write the page."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.record import RESULTS, ROOT, write_page

NAMES = (
    "scan", "reading", "restore", "resume", "joint_pass", "end_to_end", "memory", "demo_time",
    "dicom_objects", "imported_speed",
    "data_loading", "balancers", "viewer", "worklist",
)  # fmt: skip


def main() -> int:
    """Run each benchmark in a process of its own, so that none sees the other's memory."""
    parser = argparse.ArgumentParser(description="The measurements that the README quotes.")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], help="Which ones; all if none.")
    parser.add_argument("--quick", action="store_true", help="Small inputs, figures not kept.")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as aside:
        out = Path(aside) if arguments.quick else RESULTS
        for name in arguments.names or NAMES:
            command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(out)]
            command += ["--quick"] if arguments.quick else []
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(name)
    if not arguments.quick:
        write_page()
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
