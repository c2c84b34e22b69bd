"""Every setting of a training run, its default, unit and range; one file per table of the TOML.

Weakest to strongest: the defaults here, the TOML file, `--set key=value`. A setting that does not
exist is an error: all problems of a config are named at once, each with the nearest key that does
exist. Nothing in a config can run code.
"""

from medmtl.config.bundle import BundleInfo
from medmtl.config.compare import ArmConfig, CompareConfig
from medmtl.config.data import DataConfig, ManifestSource
from medmtl.config.encoder import EncoderConfig
from medmtl.config.head_refit import HeadRefitConfig
from medmtl.config.tracking import TrackingConfig
from medmtl.config.train import TrainConfig, load_config
from medmtl.config.trainer import TrainerConfig

__all__ = [
    "ArmConfig",
    "BundleInfo",
    "CompareConfig",
    "DataConfig",
    "EncoderConfig",
    "HeadRefitConfig",
    "ManifestSource",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "load_config",
]
