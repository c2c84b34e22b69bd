"""`python -m benchmarks.peers [FOLDER]`: make the rivals' environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PEERS = Path.home() / ".cache" / "medmtl-peers"


def main() -> None:
    """nnU-Net with the torch it brings; its torchvision does not load beside a CPU torch."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PEERS
    python = folder / "nnunet" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "nnunet"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "nnunetv2"], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "-y", "torchvision"], check=True)


if __name__ == "__main__":
    main()
