"""medmtl: joint medical image segmentation and diagnosis. Research software, no medical device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medmtl.core.errors import (
        BundleError,
        ConfigError,
        InputRefusedError,
        MedmtlError,
        OutputError,
    )
    from medmtl.core.flags import Flag
    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import Covariates, Prediction
    from medmtl.core.study import Listing, Study
    from medmtl.core.volume import Volume

__version__ = "0.1.0"

__all__ = [
    "BundleError",
    "ConfigError",
    "Covariates",
    "Flag",
    "Geometry",
    "InputRefusedError",
    "LabelSchema",
    "Listing",
    "MedmtlError",
    "OutputError",
    "Prediction",
    "Study",
    "Volume",
    "__version__",
]

_MODULES = {
    "BundleError": "errors",
    "ConfigError": "errors",
    "Covariates": "prediction",
    "Flag": "flags",
    "Geometry": "geometry",
    "InputRefusedError": "errors",
    "LabelSchema": "labels",
    "Listing": "study",
    "MedmtlError": "errors",
    "OutputError": "errors",
    "Prediction": "prediction",
    "Study": "study",
    "Volume": "volume",
}
"""Modules of `medmtl.core`, imported when a name is asked for: numpy is a third of `--help`."""


if not TYPE_CHECKING:  # a checker knows the names from above

    def __getattr__(name: str) -> Any:
        """Import a public name from where it is (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"medmtl.core.{_MODULES[name]}"), name)
