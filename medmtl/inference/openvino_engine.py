"""Encoder and decoder of a joint network on the CPU by OpenVINO, in full precision.

The network is converted once and kept in a cache outside of the bundle, under a checksum of
everything that went into it. Pooling, measurements, the head and the gradients of activation maps
stay with torch: they start from the features and the masks that come out here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from medmtl.networks.backbones import Backbone
    from medmtl.networks.joint import JointNet

__all__ = ["OpenVinoEngine", "is_installed"]

logger = logging.getLogger(__name__)

_MODEL, _DIGEST = "model.xml", "sha256.json"
_FILES = (_MODEL, "model.bin")


def is_installed() -> bool:
    """Whether OpenVINO can be imported here."""
    return find_spec("openvino") is not None


def _openvino() -> ModuleType:
    """OpenVINO without its telemetry, which would report to a server: nothing here may do so.

    Where the telemetry package cannot be imported, OpenVINO takes an empty stub of its own.
    """
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
    return import_module("openvino")


class _Traced(nn.Module):
    """What is converted: a stem in, the features that are read later and the logits out."""

    def __init__(self, net: JointNet, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.levels = levels

    def forward(self, stem_bckji: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.net.encode_and_decode(stem_bckji)
        return *(features[level] for level in self.levels), logits


class OpenVinoEngine:
    """Runs a network's encoder and decoder by OpenVINO; made while the network has no engine.

    Args:
        net: In evaluation mode, on the CPU.
        maps: Levels of the features, as the diagnosis counts them, that are read later: those of
            the head and of the activation maps. Others come back empty.
        cache: Folder of converted networks; None keeps nothing.

    Raises:
        ConfigError: If OpenVINO is not installed or cannot convert the network.
    """

    def __init__(self, net: JointNet, *, maps: tuple[int, ...], cache: Path | None) -> None:
        depth = len(cast("Backbone", net.backbone).channels)
        self._count = depth if net.partner is None else 2 * depth
        # The diagnosis reads the last features, of two encoders those of the second.
        self._levels = tuple(sorted({self._count - depth + level % depth for level in maps}))
        self._compiled = self._compile(net, cache)

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        """Feature maps, empty where nobody reads them, and logits."""
        found = self._compiled([np.ascontiguousarray(stem_bckji.numpy())])
        outputs = [torch.from_numpy(found[number]) for number in range(len(self._levels) + 1)]
        features = [stem_bckji.new_empty(0)] * self._count
        for level, output in zip(self._levels, outputs, strict=False):
            features[level] = output
        return features, outputs[-1]

    def _compile(self, net: JointNet, cache: Path | None) -> Any:
        openvino = _openvino()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        core = openvino.Core()
        # A kept network is read whole: a file that changes under a mapping ends the process.
        core.set_property({"ENABLE_MMAP": False})
        place = None if cache is None else cache / self._key(net)
        if place is not None and _is_intact(place):
            return core.compile_model(str(place / _MODEL), "CPU", settings)
        model = self._convert(net)
        if place is not None:
            _keep(model, place)
        return core.compile_model(model, "CPU", settings)

    def _convert(self, net: JointNet) -> Any:
        """By the steps of `openvino.convert_model`, which is several times slower around them."""
        openvino = _openvino()
        torch_decoder = import_module("openvino.frontend.pytorch.ts_decoder")
        k, j, i = net.divisor
        stem = net.context(torch.randn(1, net.config.in_channels, 2 * k, 2 * j, 2 * i))
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # Tracing warns of each size it reads; that all stay free is tested at other sizes.
                warnings.simplefilter("ignore")
                graph: Any = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch's own
                    _Traced(net, self._levels), stem, check_trace=False
                )
                decoder = torch_decoder.TorchScriptPythonDecoder(graph)  # alive until the end
                front = import_module("openvino.frontend").FrontEndManager()
                front = front.load_by_framework("pytorch")
                model = front.convert(front.load(decoder))
                model.reshape(openvino.PartialShape([1, stem.shape[1], -1, -1, -1]))
        except Exception as error:
            message = (
                f"OpenVINO cannot convert this network ({type(error).__name__}). "
                "Use --backend torch."
            )
            raise ConfigError(message) from error
        return model

    def _key(self, net: JointNet) -> str:
        """Weights, settings, what comes out, and the versions of all that had a hand in it."""
        digest = hashlib.sha256()
        for name, value in net.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.numpy()).tobytes())
        versions = {name: version(name) for name in ("medmtl", "monai", "openvino", "torch")}
        facts = [net.config.model_dump(mode="json"), self._levels, versions]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        return digest.hexdigest()


def _is_intact(place: Path) -> bool:
    try:
        stated = json.loads((place / _DIGEST).read_text(encoding="utf-8"))
        return bool(stated == _digests(place))
    except (OSError, ValueError):
        return False


def _digests(place: Path) -> dict[str, str]:
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in _FILES}


def _keep(model: Any, place: Path) -> None:
    """Write aside and move into place; a cache that cannot be written is only slower."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
        try:
            _openvino().save_model(model, str(aside / _MODEL), compress_to_fp16=False)
            digests = json.dumps(_digests(aside))
            (aside / _DIGEST).write_text(digests, encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)  # what is there now is damaged
            aside.replace(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        logger.warning("the converted network is not kept: %s", type(error).__name__)
