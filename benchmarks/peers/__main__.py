"""`python -m benchmarks.peers [FOLDER]`: make the rivals' environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path.home() / ".cache" / "medmtl-peers"


def environment(folder: Path) -> list[str | Path]:
    """An empty environment; returns how its pip is called."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]


def nnunet(folder: Path) -> None:
    """With the torch it brings; its torchvision does not load beside a CPU torch."""
    pip = environment(folder)
    subprocess.run([*pip, "install", "nnunetv2"], check=True)
    subprocess.run([*pip, "uninstall", "-y", "torchvision"], check=True)


def totalsegmentator(folder: Path) -> None:
    """Only what its resampling imports; no torch and no weights."""
    pip = environment(folder)
    subprocess.run([*pip, "install", "--no-deps", "TotalSegmentator"], check=True)
    subprocess.run([*pip, "install", "joblib", "nibabel", "numpy", "psutil", "scipy"], check=True)


def main() -> None:
    """Those that are not there yet."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PEERS
    for make in (totalsegmentator, nnunet):
        if not (folder / make.__name__).exists():
            make(folder / make.__name__)


if __name__ == "__main__":
    main()
