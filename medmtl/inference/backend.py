"""Which backend runs a network: torch everywhere, OpenVINO on a CPU where it is installed.

On a CPU torch runs a network in its inference form (`medmtl.networks.inference_form`).

"int8" is OpenVINO with a network that `medmtl models quantise` made and proved.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.inference.openvino_cache import ConvertedCache
from medmtl.inference.openvino_engine import OpenVinoEngine, is_installed, own_floats, read_levels
from medmtl.inference.torch_engine import TorchEngine
from medmtl.networks.inference_form import InferenceForm
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from medmtl.inference.bundle import Bundle
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.openvino_cache import Precision as ConvertedPrecision
    from medmtl.inference.parity import ParityReport
    from medmtl.inference.torch_engine import Compiler, Precision
    from medmtl.networks.joint import JointNet

__all__ = ["BACKENDS", "check_backend", "give_engine", "map_levels", "verify_quantised"]

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "openvino", "int8")


def check_backend(name: str, device: torch.device) -> None:
    """Refuse a backend that cannot run here.

    Raises:
        ConfigError: If the name is unknown, or OpenVINO is asked for and missing, or not for a CPU.
    """
    if name not in BACKENDS:
        raise ConfigError(f"Backend {name!r}: expected one of {', '.join(BACKENDS)}.")
    if name not in ("openvino", "int8"):
        return
    if device.type != "cpu":
        raise ConfigError(f"Backend {name} runs on the CPU. Use --device cpu or --backend torch.")
    if not is_installed():
        raise ConfigError(
            f"Backend {name}: OpenVINO is not installed. Run `pip install openvino`, or use "
            "--backend torch."
        )


def give_engine(
    net: JointNet,
    settings: BundleSettings,
    *,
    backend: str,
    device: torch.device,
    cache: Path | None,
    precision: Precision = "float32",
    compiler: Compiler = "none",
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
        precision: Of torch on a GPU. A CPU stays in float32: there OpenVINO is the faster way.
        compiler: Of torch on a GPU.

    Raises:
        ConfigError: If OpenVINO is asked for by name and cannot convert the network, or int8 and
            there is no quantised network whose parity report holds.
    """
    is_auto = backend == "auto"
    if backend == "torch" or (is_auto and not (device.type == "cpu" and is_installed())):
        if device.type == "cuda" and (precision, compiler) != ("float32", "none"):
            net.engine = TorchEngine(net, precision=precision, compiler=compiler)
        return _torch(net, settings, device)
    converted: ConvertedPrecision = "int8" if backend == "int8" else "f32"
    try:
        net.engine = OpenVinoEngine(
            net, maps=map_levels(settings), cache=cache, precision=converted
        )
    except ConfigError as error:
        if not is_auto:
            raise
        logger.warning("%s: torch is used instead. %s", settings.name, error)
        return _torch(net, settings, device)
    return "int8" if converted == "int8" else "openvino"


def _torch(net: JointNet, settings: BundleSettings, device: torch.device) -> str:
    if device.type != "cpu" or not InferenceForm.fits(net):
        return "torch"
    form = InferenceForm(net, levels=read_levels(net, map_levels(settings)))
    if form.agrees(net):
        net.engine = form
    else:
        logger.warning(
            "%s: its inference form gives other answers with this version of torch; the network "
            "runs as it is, slower.",
            settings.name,
        )
    return "torch"


def map_levels(settings: BundleSettings) -> tuple[int, ...]:
    """Levels of the features that the head and the activation maps read."""
    head = settings.network.head
    if head is None and not isinstance(settings.preprocessing, PreprocessingConfig):
        return ()  # an imported network without a diagnosis: nothing reads a feature map
    read = head.levels if head is not None and head.embedding else ()
    return (*read, *settings.cam.levels)


def verify_quantised(bundle: Bundle, *, cache: Path) -> ParityReport | None:
    """The parity report of a bundle's network in int8; None where it was not quantised.

    Raises:
        ConfigError: If the network or its report was altered, or parity does not hold here.
    """
    if not is_installed():
        return None
    kept = ConvertedCache(cache)
    levels = read_levels(bundle.net, map_levels(bundle.settings))
    if not kept.place(bundle.net, levels, precision="int8").is_dir():
        return None
    return kept.quantised(bundle.net, levels, processor=own_floats())[1]
