"""MONAI without what it loads only for handlers and figures that no command here uses.

`import monai` imports all of MONAI, and with it mlflow, pandas and matplotlib: half of the time. It
takes each of them for optional, so they are hidden from it for a moment. Only the programs do this,
where no code of others shares the process.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

HIDDEN = (
    "cv2", "ignite", "jsonschema", "matplotlib", "mlflow", "pandas", "requests", "scipy.signal",
    "scipy.spatial", "sklearn", "tensorboard", "tensorboardX", "yaml",
)  # fmt: skip


def import_monai_lightly() -> None:
    """Import MONAI, unless somebody has done so; the hidden packages can be imported later."""
    if "monai" in sys.modules:
        return
    hidden = [name for name in HIDDEN if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden, cast("ModuleType", None)))
    try:
        import_module("monai")
    finally:
        for name in hidden:
            del sys.modules[name]
