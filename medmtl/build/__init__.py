"""From a configuration to objects, and from objects to a run: where a name becomes a class."""

from medmtl.build.parts import RunParts, build, read_sources
from medmtl.build.run import TrainResult, train_run

__all__ = ["RunParts", "TrainResult", "build", "read_sources", "train_run"]
