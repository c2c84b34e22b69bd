"""Which backend runs a network: torch everywhere, OpenVINO on a CPU where it is installed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.inference.openvino_engine import OpenVinoEngine, is_installed

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from medmtl.inference.bundle import BundleSettings
    from medmtl.networks.joint import JointNet

__all__ = ["BACKENDS", "check_backend", "give_engine"]

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "openvino")


def check_backend(name: str, device: torch.device) -> None:
    """Refuse a backend that cannot run here.

    Raises:
        ConfigError: If the name is unknown, or OpenVINO is asked for and missing, or not for a CPU.
    """
    if name not in BACKENDS:
        raise ConfigError(f"Backend {name!r}: expected one of {', '.join(BACKENDS)}.")
    if name != "openvino":
        return
    if device.type != "cpu":
        raise ConfigError("Backend openvino runs on the CPU. Use --device cpu or --backend torch.")
    if not is_installed():
        raise ConfigError(
            "Backend openvino: it is not installed. Run `pip install openvino`, or use "
            "--backend torch."
        )


def give_engine(
    net: JointNet,
    settings: BundleSettings,
    *,
    backend: str,
    device: torch.device,
    cache: Path | None,
) -> str:
    """Give the network the engine of a backend, and return the name of what runs it.

    "auto" is OpenVINO on a CPU, where every network measured so far was faster (docs/speed.md), and
    torch where it is missing or cannot convert the network.

    Args:
        net: In evaluation mode, on `device`.
        settings: Of its bundle.
        backend: Of BACKENDS, checked before.
        device: Where the network is.
        cache: Folder of converted networks.

    Raises:
        ConfigError: If OpenVINO is asked for by name and cannot convert the network.
    """
    is_auto = backend == "auto"
    if backend == "torch" or (is_auto and not (device.type == "cpu" and is_installed())):
        return "torch"
    head = settings.network.head
    read = head.levels if head is not None and head.embedding else ()
    try:
        net.engine = OpenVinoEngine(net, maps=(*read, *settings.cam.levels), cache=cache)
    except ConfigError as error:
        if not is_auto:
            raise
        logger.warning("%s: torch is used instead. %s", settings.name, error)
        return "torch"
    return "openvino"
