"""`medmtl` on the command line: hands over to the programs, wherever they were installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec


def main() -> None:
    """Run the command line (medmtl._pipelines in a wheel, pipelines in a checkout)."""
    name = "medmtl._pipelines" if find_spec("medmtl._pipelines") else "pipelines"
    import_module(f"{name}.__main__").main()


if __name__ == "__main__":
    main()
