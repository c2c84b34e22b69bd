"""medmtl: joint medical image segmentation and diagnosis. Research software, no medical device."""

from __future__ import annotations

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
