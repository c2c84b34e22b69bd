"""Encoder and decoder of a joint network on the CPU by OpenVINO.

The network is converted once and kept in a cache outside of the bundle, under a checksum of
everything that went into it (`openvino_cache`). In full precision that happens by itself; a network
in int8 is made by `medmtl models quantise`, and refused unless its parity report holds. Pooling,
measurements, the head and the gradients of activation maps stay with torch: they start from the
features and the masks that come out here.
"""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.core.errors import ConfigError
from medmtl.inference.openvino_cache import MODEL, ConvertedCache, Precision
from medmtl.inference.openvino_sizes import SizedNetwork
from medmtl.networks.inference_form import portable_form

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from medmtl.inference.parity import Floats
    from medmtl.networks.backbones import Backbone
    from medmtl.networks.joint import JointNet

__all__ = [
    "OpenVinoEngine", "convert", "is_installed", "lent_outputs", "openvino_quietly", "own_floats",
    "read_levels",
]  # fmt: skip


def is_installed() -> bool:
    """Whether OpenVINO can be imported here."""
    return find_spec("openvino") is not None


def openvino_quietly() -> ModuleType:
    """OpenVINO without its telemetry, which would report to a server: nothing here may do so.

    Where the telemetry package cannot be imported, OpenVINO takes an empty stub of its own. Its
    tables of numpy's types are made here: two threads that asked for one first, at the same time,
    waited for each other for ever.
    """
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
    openvino = import_module("openvino")
    openvino.Type.f32.to_dtype()
    openvino.Tensor(np.zeros(1, dtype=np.float32))
    return openvino


def own_floats(core: Any = None) -> Floats:
    """bfloat16 where the processor computes in it faster, by OpenVINO's own choice."""
    core = openvino_quietly().Core() if core is None else core
    chosen = core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return "bf16" if chosen == "bf16" else "f32"


class _Traced(nn.Module):
    """What is converted: a stem in, the features that are read later and the logits out."""

    def __init__(self, net: JointNet, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.levels = levels

    def forward(self, stem_bckji: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.net.encode_and_decode(stem_bckji)
        return *(features[level] for level in self.levels), logits


class _Networks:
    """Compiled networks, each for one thread at a time: maps and outputs lie in their memory.

    Args:
        core: OpenVINO's.
        model: OpenVINO's, shared.
        floats: In what layers run that are not in int8.
    """

    def __init__(self, core: Any, model: Any, floats: Floats) -> None:
        self._core, self._model, self._floats = core, model, floats
        self._free: dict[int, list[SizedNetwork]] = {}

    @contextmanager
    def borrowed(self) -> Iterator[SizedNetwork]:
        """One for the cores that torch has in this thread; those for other numbers go."""
        cores = torch.get_num_threads()
        free = self._free.get(cores)
        if free is None:
            self._free = {cores: (free := [])}
        try:
            network = free.pop()
        except IndexError:  # all are at work
            network = self._made(cores)
        try:
            yield network
        finally:
            free.append(network)

    def _made(self, cores: int) -> SizedNetwork:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._floats,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,  # two networks of one thread would share the first core
        }
        return SizedNetwork(self._core, self._model, settings)


class _Lent(threading.local):
    """What a thread has borrowed for longer than one answer."""

    network: SizedNetwork | None = None


class OpenVinoEngine:
    """Runs a network's encoder and decoder by OpenVINO; made while the network has no engine.

    Several threads may run it at a time, each on the cores that torch has in it.

    Args:
        net: In evaluation mode, on the CPU.
        maps: Levels of the features, as the diagnosis counts them, that are read later: those of
            the head and of the activation maps. Others come back empty.
        cache: Folder of converted networks; None keeps nothing.
        precision: "f32", or "int8" for what `medmtl models quantise` left in the cache.
        model: A converted network to run instead.
        floats: In what layers run that are not in int8; of a network of the cache its parity
            report says it.

    Raises:
        ConfigError: If OpenVINO is not installed or cannot convert the network, or if there is no
            network in int8 whose parity report holds.
    """

    def __init__(
        self,
        net: JointNet,
        *,
        maps: tuple[int, ...],
        cache: Path | None,
        precision: Precision = "f32",
        model: Any = None,
        floats: Floats = "f32",
    ) -> None:
        depth = len(cast("Backbone", net.backbone).channels)
        self._count = depth if net.partner is None else 2 * depth
        self._levels = read_levels(net, maps)
        openvino = openvino_quietly()
        core = openvino.Core()
        # A kept network is read whole: a file that changes under a mapping ends the process.
        core.set_property({"ENABLE_MMAP": False})
        kept = ConvertedCache(cache) if cache is not None else None
        if model is None and precision == "int8":
            if kept is None:
                raise ConfigError("Backend int8 needs the folder of converted networks.")
            place, report = kept.quantised(net, self._levels, processor=own_floats(core))
            model, floats = str(place / MODEL), report.floats
        elif model is None:
            model = self._full_precision(net, kept)
        self.floats = floats
        self._networks = _Networks(
            core, core.read_model(model) if isinstance(model, str) else model, floats
        )
        self._lent = _Lent()

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        """Feature maps, empty where nobody reads them, and logits."""
        stem = np.ascontiguousarray(stem_bckji.numpy())
        if self._lent.network is not None:
            found = self._lent.network(stem, lends=True)
        else:
            with self._networks.borrowed() as network:
                found = network(stem, lends=False)
        outputs = [torch.from_numpy(found[number]) for number in range(len(self._levels) + 1)]
        features = [stem_bckji.new_empty(0)] * self._count
        for level, output in zip(self._levels, outputs, strict=False):
            features[level] = output
        return features, outputs[-1]

    @contextmanager
    def lending(self) -> Iterator[None]:
        """See `lent_outputs`; for the thread that calls it."""
        with self._networks.borrowed() as network:
            self._lent.network = network
            try:
                yield
            finally:
                self._lent.network = None
                network.let_go()

    def _full_precision(self, net: JointNet, kept: ConvertedCache | None) -> Any:
        place = None if kept is None else kept.place(net, self._levels)
        if kept is not None and place is not None and kept.is_intact(place):
            return str(place / MODEL)
        model = convert(net, self._levels, is_rewritten=True)
        if kept is not None and place is not None:
            kept.keep(model, place, save=openvino_quietly().save_model)
        return model


@contextmanager
def lent_outputs(engine: object) -> Iterator[None]:
    """Within it, what comes out of OpenVINO is its own memory, which the next call writes over.

    A copy of a tile's logits takes hundreds of megabytes. At the end all memory of maps is given
    back, since what follows has maps of its own. Other engines are left alone.
    """
    if not isinstance(engine, OpenVinoEngine):
        yield
        return
    with engine.lending():
        yield


def read_levels(net: JointNet, maps: tuple[int, ...]) -> tuple[int, ...]:
    """Places in `JointNet.encode` of levels counted as the diagnosis counts them."""
    depth = len(cast("Backbone", net.backbone).channels)
    count = depth if net.partner is None else 2 * depth
    # The diagnosis reads the last features, of two encoders those of the second.
    return tuple(sorted({count - depth + level % depth for level in maps}))


def convert(net: JointNet, levels: tuple[int, ...], *, is_rewritten: bool = False) -> Any:
    """By the steps of `openvino.convert_model`, which is several times slower around them.

    Args:
        net: The network.
        levels: Places in `JointNet.encode` of the feature maps that come out.
        is_rewritten: Whether its `portable_form` is converted, where there is one.

    Raises:
        ConfigError: If OpenVINO cannot convert the network.
    """
    openvino = openvino_quietly()
    torch_decoder = import_module("openvino.frontend.pytorch.ts_decoder")
    k, j, i = net.divisor
    stem = net.context(torch.randn(1, net.config.in_channels, 2 * k, 2 * j, 2 * i))
    root: nn.Module = _Traced(net, levels)
    if is_rewritten:
        root = portable_form(root) or root
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns of each size it reads; that all stay free is tested at other sizes.
            warnings.simplefilter("ignore")
            graph: Any = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch's own
                root, stem, check_trace=False
            )
            decoder = torch_decoder.TorchScriptPythonDecoder(graph)  # alive until the end
            front = import_module("openvino.frontend").FrontEndManager()
            front = front.load_by_framework("pytorch")
            model = front.convert(front.load(decoder))
            model.reshape(openvino.PartialShape([1, stem.shape[1], -1, -1, -1]))
    except Exception as error:
        message = (
            f"OpenVINO cannot convert this network ({type(error).__name__}). Use --backend torch."
        )
        raise ConfigError(message) from error
    return model
