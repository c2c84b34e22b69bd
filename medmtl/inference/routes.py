"""How a joint network gets from a volume to its masks: in medmtl's own way, nnU-Net's or MONAI's.

Everything after that, findings, evidence, uncertainty, is the same: see `predictor.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import load_folds
from medmtl.inference.joint_pass import joint_pass
from medmtl.inference.monai_predictor import MonaiPredictor, check_finite
from medmtl.inference.phases import choose_phases, pick_phases
from medmtl.inference.plans_predictor import grid_labels, orientation_flags, region_volumes
from medmtl.inference.plans_window import window_logits
from medmtl.inference.window_pass import window_pass
from medmtl.inference.windows import WindowedVolume
from medmtl.postprocess.restore import restore_labels
from medmtl.transforms.imported_grid import GridInput, ImportedGrid, MonaiGrid
from medmtl.transforms.plans import PlansPreprocessing
from medmtl.transforms.preprocessing import Preprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.flags import Flag
    from medmtl.core.prediction import Covariates, Measurement
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle import Bundle
    from medmtl.inference.joint_pass import JointPass
    from medmtl.inference.operating_point import OperatingPoint
    from medmtl.networks.backbones import Backbone
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.monai_plan import MonaiPreprocessing
    from medmtl.transforms.plans import PlansInput
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = ["ImportedRoute", "MonaiRoute", "OwnRoute", "PlansRoute", "Route", "route_of"]


class Route(Protocol):
    """From volumes to masks and back, for one bundle."""

    def prepare(self, volume: Volume) -> Any:
        """The volume on the network grid, with `array_kji`, `geometry` and `content_geometry`."""

    def run(
        self,
        net: JointNet,
        inputs: Sequence[Any],
        *,
        covariates: Covariates,
        cam_findings: Sequence[int] = (),
    ) -> JointPass:
        """Masks and diagnosis of prepared volumes."""

    def label_map(self, volume: Volume, prepared: Any, logits: torch.Tensor) -> NDArray[Any]:
        """Labels on the grid of the volume."""

    def phases(
        self, net: JointNet, volumes: Sequence[Volume], *, class_index: int
    ) -> tuple[int, int, NDArray[np.float64]]:
        """End diastole, end systole and the curve in mL, as `choose_phases`."""

    def facts(
        self, study: Study, volume: Volume, labels: NDArray[Any]
    ) -> tuple[list[Flag], list[Measurement]]:
        """What there is to say of one volume and its masks besides."""


@dataclass(frozen=True, eq=False)
class OwnRoute:
    """The one of networks that medmtl trained from nothing."""

    bundle: Bundle
    preprocessing: Preprocessing
    device: torch.device
    overlap: float

    def prepare(self, volume: Volume) -> NetworkInput:
        """See `Preprocessing`."""
        return self.preprocessing.apply(volume)

    def run(
        self,
        net: JointNet,
        inputs: Sequence[NetworkInput],
        *,
        covariates: Covariates,
        cam_findings: Sequence[int] = (),
    ) -> JointPass:
        """See `joint_pass`."""
        return joint_pass(
            net,
            inputs,
            covariates=covariates,
            cam_findings=cam_findings,
            cam=self.bundle.settings.cam,
            device=self.device,
            overlap=self.overlap,
        )

    def label_map(
        self, volume: Volume, prepared: NetworkInput, logits: torch.Tensor
    ) -> NDArray[Any]:
        """See `restore_labels`."""
        labels = [0, *(segment.label for segment in self.bundle.settings.segments)]
        return restore_labels(logits, prepared.content_geometry, volume.geometry, labels=labels)

    def phases(
        self, net: JointNet, volumes: Sequence[Volume], *, class_index: int
    ) -> tuple[int, int, NDArray[np.float64]]:
        """See `choose_phases`."""
        return choose_phases(
            net, self.preprocessing, volumes, class_index=class_index, device=self.device
        )

    def facts(
        self, study: Study, volume: Volume, labels: NDArray[Any]
    ) -> tuple[list[Flag], list[Measurement]]:
        """Nothing more."""
        del study, volume, labels
        return [], []


class ImportedRoute(ABC):
    """What both imported routes do alike: masks as the import has them, then `window_pass`.

    Args:
        bundle: Of an imported network with a diagnosis.
        device: Where the network runs.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        self.bundle, self.device = bundle, device

    @property
    @abstractmethod
    def patch_kji(self) -> tuple[int, int, int]:
        """What the encoder takes at once."""

    @abstractmethod
    def logits(self, net: JointNet, image_kji: torch.Tensor, *, mirrors: bool) -> torch.Tensor:
        """(C, K, J, I) of the masks, without gradient; `mirrors` in all views, else in one."""

    def windowed(
        self,
        net: JointNet,
        image_kji: torch.Tensor,
        spacing_mm: Sequence[float],
        *,
        mirrors: bool = True,
    ) -> WindowedVolume:
        """An image on the network's grid, spacing along (K, J, I), with its masks.

        Its features are of the first fold.
        """
        k, j, i = spacing_mm
        return WindowedVolume(
            image_kji,
            self.logits(net, image_kji, mirrors=mirrors),
            (k, j, i),
            self.patch_kji,
            self.bundle.settings.regions,
        )

    @abstractmethod
    def prepare(self, volume: Volume) -> GridInput:
        """A volume on the network's grid."""

    @abstractmethod
    def label_map(self, volume: Volume, prepared: GridInput, logits: torch.Tensor) -> NDArray[Any]:
        """Labels on the grid of the volume."""

    def phase_labels(self, net: JointNet, volume: Volume) -> NDArray[Any]:
        """Labels of one phase on its own grid, of one view."""
        prepared = self.prepare(volume)
        return self.label_map(volume, prepared, self.logits(net, _image(prepared), mirrors=False))

    def run(
        self,
        net: JointNet,
        inputs: Sequence[GridInput],
        *,
        covariates: Covariates,
        cam_findings: Sequence[int] = (),
    ) -> JointPass:
        """See `window_pass`."""
        return window_pass(
            net,
            [self.windowed(net, _image(one), one.geometry.spacing_mm[::-1]) for one in inputs],
            covariates=covariates,
            cam_findings=cam_findings,
            cam=self.bundle.settings.cam,
            device=self.device,
        )

    def phases(
        self, net: JointNet, volumes: Sequence[Volume], *, class_index: int
    ) -> tuple[int, int, NDArray[np.float64]]:
        """Every phase by itself."""
        label = self.bundle.settings.segments[class_index - 1].label
        curve = [
            int((self.phase_labels(net, volume) == label).sum()) * volume.geometry.voxel_mm3 / 1000
            for volume in volumes
        ]
        return (*pick_phases(curve, volumes), np.array(curve))


class PlansRoute(ImportedRoute):
    """The one of networks from nnU-Net: its steps, so that the masks are those of the import.

    Args:
        bundle: With preprocessing `nnunet_plans`.
        device: Where the networks run.

    Raises:
        BundleError: If the weights of a fold are altered.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        preprocessing, window = bundle.settings.preprocessing, bundle.settings.sliding_window
        if not isinstance(preprocessing, PlansPreprocessing) or window is None:
            raise BundleError(f"Bundle {bundle.folder.name}: not imported from nnU-Net.")
        super().__init__(bundle, device=device)
        self.window = window
        self.grid = ImportedGrid(preprocessing)
        self.transpose = preprocessing.transpose
        (_, *others) = load_folds(bundle)
        self.others = [net.requires_grad_(requires_grad=False).to(device) for net in others]

    def prepare(self, volume: Volume) -> GridInput:
        """See `ImportedGrid`."""
        return self.grid.apply(volume)

    @property
    def patch_kji(self) -> tuple[int, int, int]:
        """Of the plans; one slice of a network of slices."""
        size = (1, *self.window.patch_size)[-3:]
        k, j, i = (size[self.transpose.index(axis)] for axis in range(3))
        return k, j, i

    def logits(self, net: JointNet, image_kji: torch.Tensor, *, mirrors: bool) -> torch.Tensor:
        """By nnU-Net's sliding window, the mean of all folds."""
        settings, window = self.bundle.settings, self.window
        if not mirrors:
            window = window.model_copy(update={"mirror_axes": ()})
        logits = window_logits(
            [one.backbone for one in (net, *self.others)],
            image_kji.cpu().permute(self.transpose).contiguous()[None],
            window,
            classes=len(settings.segments) + int(settings.network.has_background),
            device=self.device,
        )
        back = (self.transpose.index(axis) + 1 for axis in range(3))
        return logits.permute(0, *back).clone()  # no tensor of inference mode: gradients come

    def label_map(self, volume: Volume, prepared: GridInput, logits: torch.Tensor) -> NDArray[Any]:
        """As nnU-Net brings its answer back."""
        del volume
        plans: PlansInput = prepared.source
        logits_cabc = logits.permute(0, *(axis + 1 for axis in self.transpose)).contiguous()
        settings = self.bundle.settings
        return plans.whole_labels(grid_labels(logits_cabc.numpy(), plans, settings))

    def facts(
        self, study: Study, volume: Volume, labels: NDArray[Any]
    ) -> tuple[list[Flag], list[Measurement]]:
        """Doubts about the orientation; volumes of whole regions."""
        settings = self.bundle.settings
        flags = orientation_flags(study, self.grid.settings)
        return flags, region_volumes(labels, volume, settings)


class MonaiRoute(ImportedRoute):
    """The one of networks from a MONAI bundle: its transforms and its window.

    Args:
        bundle: With preprocessing `monai`.
        device: Where the network runs.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        super().__init__(bundle, device=device)
        self.masks = MonaiPredictor(bundle, device=device)
        self.grid = MonaiGrid(cast("MonaiPreprocessing", bundle.settings.preprocessing))
        self.masks.transforms = self.grid.transforms  # only those that were applied can be undone

    def prepare(self, volume: Volume) -> GridInput:
        """See `MonaiGrid`."""
        check_finite(volume.id, [volume.array])
        return self.grid.apply(volume)

    @property
    def patch_kji(self) -> tuple[int, int, int]:
        """Of its window."""
        i, j, k = self.masks.window.roi_size
        return k, j, i

    def logits(self, net: JointNet, image_kji: torch.Tensor, *, mirrors: bool) -> torch.Tensor:
        """By MONAI's sliding window, which mirrors nothing."""
        del mirrors
        image = image_kji.permute(2, 1, 0).contiguous()[None]
        logits = self.masks.logits(image, cast("Backbone", net.backbone))
        return logits.permute(0, 3, 2, 1).clone()

    def label_map(self, volume: Volume, prepared: GridInput, logits: torch.Tensor) -> NDArray[Any]:
        """As MONAI brings its answer back."""
        del volume
        return self.masks.label_map(logits.permute(0, 3, 2, 1).contiguous(), prepared.source)

    def facts(
        self, study: Study, volume: Volume, labels: NDArray[Any]
    ) -> tuple[list[Flag], list[Measurement]]:
        """Nothing more."""
        del study, volume, labels
        return [], []


def _image(prepared: GridInput) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(prepared.array_kji))


def route_of(bundle: Bundle, *, device: torch.device, point: OperatingPoint) -> Route:
    """The route that a bundle's preprocessing asks for, at an operating point.

    Raises:
        BundleError: If the weights of a fold are altered.
    """
    preprocessing = bundle.settings.preprocessing
    if isinstance(preprocessing, PreprocessingConfig):
        grid = point.preprocessing(preprocessing)
        return OwnRoute(bundle, Preprocessing(grid), device, point.overlap)
    if isinstance(preprocessing, PlansPreprocessing):
        return PlansRoute(bundle, device=device)
    return MonaiRoute(bundle, device=device)
