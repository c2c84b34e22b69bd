"""The two networks of `end_to_end`, trained on torso phantoms: labels have the shapes of organs.

    python -m benchmarks.trained_bundle [--network NAME] [--minutes N]

Masks are learned on patches in bfloat16, the head on whole studies. Each network is kept in
`~/.cache/medmtl-benchmarks/trained` as a bundle of medmtl's own, and as one that takes nnU-Net's
steps; then it is quantised with its parity report, for `--backend int8`. What is there already is
not made again, and a training that was stopped goes on where it was, to the same network: every
step draws its patch by its own number.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.random_bundle import BACKBONES, MODEL
from benchmarks.record import WORK
from medmtl.core.errors import ConfigError
from medmtl.core.prediction import Covariates
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.inference.backend import give_engine, verify_quantised
from medmtl.inference.bundle import find_bundle, load_bundle, write_bundle
from medmtl.inference.joint_pass import covariate_tensors, large_study_output
from medmtl.inference.plans_window import SlidingWindow
from medmtl.losses.segmentation import dice_cross_entropy
from medmtl.networks.joint import JointNet
from medmtl.phantom import generate_torso
from medmtl.postprocess.components import ComponentRules
from medmtl.training.head import HeadOptions, collect_head_inputs, fit_head
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing
from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig, WindowHU
from pipelines.model_source import converted_cache
from pipelines.recipes.torso_manifest import make_case, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from medmtl.data.cases import VolumeRow
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.networks.backbones import Backbone

TRAINED = WORK / "trained"
SPACING_MM = (1.5625, 1.5625, 2.4)
"""400 x 400 x 384 mm become 256 x 256 x 160 voxels."""
INTENSITY = WindowHU(low_hu=-1000, high_hu=600)
"""As wide as the plans of a CT data set with lungs among its segments: lung is not air."""
SEEDS = tuple(range(7000, 7012))
"""The head learns from the same phantoms, each in a pass over the whole body."""
PATCH_KJI = {"SegResNet of 16 filters": (48, 64, 64), "five-level nnU-Net network": (48, 48, 48)}
STEPS = {"SegResNet of 16 filters": 1600, "five-level nnU-Net network": 3000}
"""Of training on one patch; a step takes about 0.5 and 0.65 s of one core."""
PATCH_OF_NNUNET = (128, 128, 128)
PARITY_SEEDS = {"train": range(7200, 7202), "val": range(7210, 7227)}
"""Seventeen studies of six findings: one decision that changes is within one in a hundred."""
PARITY_MM = 2.5
MIDDLE = 80
"""Voxels of the middles of the cases: one window of nnU-Net in the plane."""
MIDDLES = 5
"""Validation cases for the masks alone: their Dice needs fewer than decisions do."""
PEAK_LR, WARMUP_STEPS = 3e-3, 10
SHARE_OF_OWN_STATISTICS = 0.6
"""Batch norms learn their statistics in this share of the steps; they are fixed for the rest."""
LESION_WEIGHT = 3.0
SAVED_EVERY_S = 60.0
COVARIATES = covariate_tensors(Covariates(), torch.device("cpu"))


def settings_of(network: str, *, name: str) -> BundleSettings:
    """The shipped CT model's, with another backbone, grid and window, not calibrated."""
    settings = load_bundle(find_bundle(MODEL)).settings
    config = settings.network.model_copy(update={"backbone": BACKBONES[network]})
    preprocessing = cast("PreprocessingConfig", settings.preprocessing).model_copy(
        update={"spacing_mm": SPACING_MM, "divisor": (16, 16, 16), "intensity": INTENSITY}
    )
    raw = {"scale": 1.0, "offset": 0.0, "calibrated": False}
    findings = tuple(one.model_copy(update=raw) for one in settings.findings)
    update = {"name": name, "network": config, "preprocessing": preprocessing, "findings": findings}
    return settings.model_copy(update=update)


def example(seed: int) -> dict[str, Tensor]:
    """One phantom on the network grid; generated once."""
    path = TRAINED / "examples" / f"{seed}.pt"
    if not path.exists():
        phantom = generate_torso(seed, spacing_mm=SPACING_MM)
        steps = Preprocessing(cast("PreprocessingConfig", _plain().preprocessing))
        prepared = steps.apply(phantom.volume)
        labels = steps.apply_labels(phantom.label_map, prepared)
        names = _plain().network.findings
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "image": torch.from_numpy(prepared.array_kji).half(),
                "labels": torch.from_numpy(np.ascontiguousarray(labels)),
                "findings": torch.tensor([float(phantom.findings[name]) for name in names]),
            },
            path,
        )
    return cast("dict[str, Tensor]", torch.load(path, weights_only=True))


def _plain() -> BundleSettings:
    return settings_of(next(iter(BACKBONES)), name="example")


def patch(
    examples: Sequence[dict[str, Tensor]], size: tuple[int, int, int], *, number: int
) -> tuple[Tensor, Tensor]:
    """A patch (1, 1, K, J, I) and its labels, two of three around a voxel of some segment."""
    rng = np.random.default_rng(number)
    one = examples[int(rng.integers(len(examples)))]
    image, labels = one["image"], one["labels"]
    centre = [int(rng.integers(n)) for n in image.shape]
    if rng.random() < 2 / 3:
        label = rng.choice(torch.unique(labels)[1:].numpy())
        places = (labels == int(label)).nonzero()
        centre = places[rng.integers(len(places))].tolist()
    starts = [
        min(max(0, at - part // 2), whole - part)
        for at, part, whole in zip(centre, size, image.shape, strict=True)
    ]
    where = tuple(slice(a, a + n) for a, n in zip(starts, size, strict=True))
    values = image[where].float()
    values = values * rng.uniform(0.95, 1.05) + rng.normal(0, 0.005)
    return values.clamp(-1, 1)[None, None], labels[where].long()[None]


def train(
    net: JointNet,
    examples: Sequence[dict[str, Tensor]],
    kept: Path,
    *,
    size: tuple[int, int, int],
    steps: int,
    until_s: float,
) -> bool:
    """Masks in so many steps in all; False where the time ended before, with what is done kept.

    Args:
        net: Changed in place.
        examples: Phantoms.
        kept: File of the state, read if there is one.
        size: Of a patch.
        steps: In all, also those of earlier starts.
        until_s: On the clock of `time.monotonic`.
    """
    optimiser = torch.optim.AdamW(net.backbone.parameters(), weight_decay=1e-4)
    first = 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    own = int(SHARE_OF_OWN_STATISTICS * steps)
    saved_s = time.monotonic()
    for step in range(first, steps):
        if step == own:
            average_statistics(net, [patch(examples, size, number=steps + n)[0] for n in range(24)])
        _training(net, is_fixed=step >= own)
        lr = PEAK_LR * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / WARMUP_STEPS)
        loss = _step(net, optimiser, *patch(examples, size, number=step))
        if step % 10 == 0:
            print(f"step {step} of {steps}: loss {loss:.3f}", flush=True)
        now_s = time.monotonic()
        if now_s - saved_s > SAVED_EVERY_S or now_s > until_s:
            saved_s = now_s
            _keep(kept, net, optimiser, step + 1)
        if now_s > until_s:
            return False
    _keep(kept, net, optimiser, steps)
    net.eval()
    return True


def _step(net: JointNet, optimiser: torch.optim.Optimizer, image: Tensor, labels: Tensor) -> float:
    backbone = cast("Backbone", net.backbone)
    weights = torch.tensor([1.0] * 7 + [LESION_WEIGHT] * 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = backbone.decode(backbone.encode(image))
    loss = dice_cross_entropy(logits, labels, class_weights=weights)
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(net.backbone.parameters(), 12.0)
    optimiser.step()
    return loss.item()


def _keep(kept: Path, net: JointNet, optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    aside = kept.with_suffix(".partial")
    torch.save(state, aside)
    aside.replace(kept)


def _norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [module for module in net.modules() if isinstance(module, kind)]


def _training(net: JointNet, *, is_fixed: bool) -> None:
    net.train()
    if is_fixed:
        for norm in _norms(net):
            norm.eval()


@torch.no_grad()
def average_statistics(net: JointNet, images: Sequence[Tensor]) -> None:
    """The mean over many patches: a patch alone is a poor sample of a body."""
    backbone = cast("Backbone", net.backbone)
    net.train()
    for norm in _norms(net):
        norm.reset_running_stats()
        norm.momentum = None
    for image in images:
        with torch.autocast("cpu", torch.bfloat16):
            backbone.decode(backbone.encode(image))


def fit_diagnosis(
    net: JointNet, settings: BundleSettings, examples: Sequence[dict[str, Tensor]]
) -> None:
    """The head alone, on what it reads of whole studies."""
    net.eval().requires_grad_(requires_grad=False)
    give_engine(net, settings, backend="auto", device=torch.device("cpu"), cache=None)
    spacing_mm = torch.tensor([[SPACING_MM[::-1]]])
    views = [
        (one["findings"], COVARIATES, cast("Callable[[], object]", partial(
            large_study_output, net, [one["image"].float()[None, None]], spacing_mm=spacing_mm,
            covariates=COVARIATES, device=torch.device("cpu"),
        )))
        for one in examples
    ]  # fmt: skip
    table = collect_head_inputs(net, views)
    net.engine = None
    cast("nn.Module", net.head).requires_grad_(requires_grad=True)
    fit_head(net, table, HeadOptions(steps=800, covariate_dropout=0.0), np.random.default_rng(0))


def as_nnunet(folder: Path, bundle: Path) -> None:
    """The masks of a bundle by nnU-Net's own steps, as an imported network has them."""
    own = load_bundle(bundle)
    config = cast("PreprocessingConfig", own.settings.preprocessing)
    window = cast("WindowHU", config.intensity)
    low, high = window.low_hu, window.high_hu
    channel = ChannelIntensity(
        scheme="ct", low=low, high=high, mean=(low + high) / 2, deviation=(high - low) / 2
    )
    k, j, i = SPACING_MM[::-1]
    network = own.settings.network.model_copy(update={"findings": (), "head": None})
    update = {
        "name": folder.name,
        "preprocessing": PlansPreprocessing(spacing_mm=(k, j, i), channels=(channel,)),
        "sliding_window": SlidingWindow(patch_size=PATCH_OF_NNUNET),
        "network": network,
        "findings": (),
        "rules": (),
        "speeds": {},
        "ranges": None,
        "components": ComponentRules(),  # nnU-Net removes no pieces
    }
    weights = {
        name: value for name, value in own.net.state_dict().items() if name.startswith("backbone.")
    }
    settings = own.settings.model_copy(update=update)
    write_bundle(folder, settings, weights, card="", metrics_json="{}", is_half=False)


def write_cases() -> Path:
    """A manifest of phantoms for the parity of int8, and its files."""
    folder = TRAINED / "cases"
    if not (folder / "manifest.toml").exists():
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        made = tuple(
            make_case(seed, split, folder, spacing_mm=PARITY_MM)
            for split, seeds in PARITY_SEEDS.items()
            for seed in seeds
        )
        write_manifest(manifest_of(made), folder)
    return folder


def write_middles() -> Path:
    """The same cases without their borders, for the network as an imported one: few windows."""
    whole, folder = write_cases(), TRAINED / "middles"
    if not (folder / "manifest.toml").exists():
        known = read_manifest(whole)
        learned = [case for case in known.cases if case.split == "train"]
        shown = [case for case in known.cases if case.split == "val"][:MIDDLES]
        cases = tuple(
            replace(case, volumes=tuple(_middle_of(row, whole, folder) for row in case.volumes))
            for case in (*learned, *shown)
        )
        write_manifest(replace(known, cases=cases), folder)
    return folder


def _middle_of(row: VolumeRow, whole: Path, folder: Path) -> VolumeRow:
    """The row of a volume, whose files are written here with the middles of those of `whole`."""
    for name in (row.image, str(row.segmentation)):
        image = nib.load(whole / name)
        starts = [max(0, size - MIDDLE) // 2 for size in image.shape]
        part = tuple(slice(start, start + MIDDLE) for start in starts)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.slicer[part], folder / name)
    return replace(row, sha256=None)


CASES = {"bundle": write_cases, "as-nnunet": write_middles}
"""What proves each bundle of a network."""


def quantise(folder: Path, bundles: Collection[str] = tuple(CASES)) -> None:
    """Bundles by the command, whose parity report decides whether they may be used.

    A report that does not hold stays, so that it is said and not tried again.
    """
    for name in bundles:
        bundle = folder / name
        try:
            report = verify_quantised(load_bundle(bundle), cache=converted_cache())
        except ConfigError as error:
            print(f"{folder.name}, {name}: {error}")
            continue
        if report is None:
            command = [sys.executable, "-m", "medmtl", "models", "quantise", str(bundle)]
            subprocess.run([*command, "--manifest", str(CASES[name]())], check=False)


def make(
    network: str,
    *,
    root: Path = TRAINED,
    steps: int | None = None,
    seeds: Sequence[int] = SEEDS,
    until_s: float = math.inf,
) -> Path:
    """The folder of a network; trains what is not trained yet and writes the bundles.

    Args:
        network: Of BACKBONES.
        root: Where it is kept.
        steps: Of training; None for those of STEPS.
        seeds: Of the phantoms that it learns from.
        until_s: On the clock of `time.monotonic`.

    Raises:
        TimeoutError: If the time ended first; another start goes on.
    """
    folder = root / network.replace(" ", "-").lower()
    steps = steps or STEPS[network]
    if not (folder / "bundle").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        settings = settings_of(network, name=f"torso-{folder.name}")
        net = JointNet(settings.network)
        examples = [example(seed) for seed in seeds]
        size = PATCH_KJI[network]
        if not train(
            net, examples, folder / "training.pt", size=size, steps=steps, until_s=until_s
        ):
            raise TimeoutError(f"{network}: not trained yet; start again to go on")
        fit_diagnosis(net, settings, examples)
        card = f"# {settings.name}\n\n{steps} steps on generated torsos, for timing only.\n"
        write_bundle(folder / "bundle", settings, net.state_dict(), card=card, metrics_json="{}")
    if not (folder / "as-nnunet").exists():
        as_nnunet(folder / "as-nnunet", folder / "bundle")
    return folder


def main() -> None:
    """Both networks, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=tuple(BACKBONES))
    parser.add_argument("--minutes", type=float, default=120, help="Where training can stop.")
    arguments = parser.parse_args()
    until_s = time.monotonic() + 60 * arguments.minutes
    for network in [arguments.network] if arguments.network else BACKBONES:
        quantise(make(network, until_s=until_s))


if __name__ == "__main__":
    try:
        main()
    except TimeoutError as error:
        raise SystemExit(str(error)) from error
