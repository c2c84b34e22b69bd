"""Networks converted for OpenVINO, each in a folder named by the checksum of what went into it.

A folder holds the network, for int8 its parity report, and the checksums of both. A damaged copy in
full precision is made anew; a damaged or unproven one in int8 is refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmtl.core.errors import ConfigError
from medmtl.inference.parity import ParityReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from medmtl.inference.parity import Floats
    from medmtl.networks.joint import JointNet

__all__ = ["MODEL", "ConvertedCache", "Precision"]

logger = logging.getLogger(__name__)

Precision = Literal["f32", "int8"]
MODEL = "model.xml"
_FORM = "joined maps convolved apart"
"""How networks in full precision are written before they are converted."""
_BINARY, _DIGEST, _PARITY = "model.bin", "sha256.json", "parity.json"


class ConvertedCache:
    """The folder of converted networks; it may be deleted at any time.

    Args:
        root: Made if need be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(
        self, net: JointNet, levels: tuple[int, ...], *, precision: Precision = "f32"
    ) -> Path:
        """Weights, settings, what comes out, and the versions of all that had a hand in it."""
        digest = hashlib.sha256()
        for name, value in net.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.numpy()).tobytes())
        versions = {name: version(name) for name in ("medmtl", "monai", "openvino", "torch")}
        facts = [net.config.model_dump(mode="json"), levels, versions]
        facts += [precision] if precision != "f32" else [_FORM]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        return self.root / digest.hexdigest()

    def is_intact(self, place: Path) -> bool:
        """Whether a folder holds what was put there."""
        try:
            stated = json.loads((place / _DIGEST).read_text(encoding="utf-8"))
            return bool(stated == _digests(place))
        except (OSError, ValueError):
            return False

    def quantised(
        self, net: JointNet, levels: tuple[int, ...], *, processor: Floats
    ) -> tuple[Path, ParityReport]:
        """The folder of a network in int8 that may be used, and its parity report.

        Args:
            net: In evaluation mode.
            levels: Of the features that come out.
            processor: `openvino_engine.own_floats`.

        Raises:
            ConfigError: If there is none, it was altered, its parity report does not hold, or holds
                for bfloat16 and the processor has none.
        """
        place = self.place(net, levels, precision="int8")
        if not place.is_dir():
            raise ConfigError(
                "Backend int8: no quantised network of this model. Run `medmtl models quantise "
                "MODEL --manifest DIR`, or use --backend openvino."
            )
        report = self.report(place)
        if problems := report.problems():
            raise ConfigError(
                f"Backend int8: the quantised network is refused, {'; '.join(problems)}. "
                "Use --backend openvino."
            )
        if report.floats == "bf16" and processor != "bf16":
            raise ConfigError(
                "Backend int8: the parity report was measured with bfloat16, which this processor "
                "does not have. Run `medmtl models quantise` on this machine, or use --backend "
                "openvino."
            )
        return place, report

    def report(self, place: Path) -> ParityReport:
        """The parity report of a network in int8.

        Raises:
            ConfigError: If a file is missing or altered.
        """
        if not self.is_intact(place):
            raise ConfigError(
                "Backend int8: the quantised network or its parity report was altered or damaged. "
                "Run `medmtl models quantise` again."
            )
        return ParityReport.model_validate_json((place / _PARITY).read_bytes())

    def keep(
        self,
        model: Any,
        place: Path,
        *,
        save: Callable[..., object],
        report: ParityReport | None = None,
    ) -> bool:
        """Write aside and move into place; whether that was possible.

        Args:
            model: OpenVINO's.
            place: Of `place`.
            save: `openvino.save_model`.
            report: Of a network in int8.
        """
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=place.parent))
            try:
                save(model, str(aside / MODEL), compress_to_fp16=False)
                if report is not None:
                    text = report.model_dump_json(indent=2) + "\n"
                    (aside / _PARITY).write_text(text, encoding="utf-8")
                (aside / _DIGEST).write_text(json.dumps(_digests(aside)), encoding="utf-8")
                shutil.rmtree(place, ignore_errors=True)  # what is there now is damaged or older
                aside.replace(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except (OSError, RuntimeError) as error:
            logger.warning("the converted network is not kept: %s", type(error).__name__)
            return False
        return True


def _digests(place: Path) -> dict[str, str]:
    names = [MODEL, _BINARY, *([_PARITY] if (place / _PARITY).exists() else [])]
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in names}
