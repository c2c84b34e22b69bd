"""The routes: who gets what, in which form; and that nothing changes place on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.serving.assets import asset_path, asset_url
from app.serving.coarse_map import LARGEST_SIDE, coarse_map
from app.serving.file_cache import FileCache
from app.serving.gateway import Gateway
from app.serving.regular import as_regular, from_regular
from app.serving.routes import viewer_routes
from app.serving.sources import NiftiSource, OutsideError
from medmtl.core.geometry import Geometry, points_to_space
from medmtl.core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.serving.sources import VolumeSource

ROOT = Path(__file__).resolve().parents[2]
ME, OTHER = "session-a", "session-b"


@dataclass
class Served:
    """A client over a gateway whose sessions can end."""

    gateway: Gateway
    client: TestClient
    folder: Path
    active: set[str] = field(default_factory=lambda: {ME, OTHER})

    def get(self, url: str) -> Any:
        return self.client.get(f"/base/{url}")


@pytest.fixture
def served(tmp_path: Path) -> Served:
    cache, folder = tmp_path / "cache", tmp_path / "case"
    cache.mkdir()
    folder.mkdir()
    active = {ME, OTHER}
    gateway = Gateway(FileCache(cache, max_bytes=1 << 20), is_active=lambda who: who in active)
    app = Starlette(routes=viewer_routes(gateway, base_url_path="/base/"))
    return Served(gateway, TestClient(app), folder, active)


def oblique(*, code_flip: bool = True) -> NDArray[np.float64]:
    """Rows to the head, columns to the left, turned by 20 degrees about the left axis."""
    angle = np.deg2rad(20)
    turn = np.array([
        [1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)],
    ])  # fmt: skip
    affine = np.eye(4)
    order = np.array([[0, -1, 0], [0, 0, -1 if code_flip else 1], [1, 0, 0]], dtype=float)
    affine[:3, :3] = turn @ order @ np.diag([2.0, 1.0, 3.0])
    affine[:3, 3] = (10, -20, 30)
    return affine


def write(served: Served, name: str, array: NDArray[Any]) -> NiftiSource:
    nib.save(nib.Nifti1Image(array, oblique()), served.folder / name)
    return NiftiSource(served.folder, name)


def voxels(rng: np.random.Generator, dtype: Any = np.int16) -> NDArray[Any]:
    return rng.integers(0, 200, (9, 7, 5)).astype(dtype)


def test_image_arrives_as_gzip_on_a_regular_grid_with_every_voxel_in_its_place(
    served: Served, rng: np.random.Generator
) -> None:
    array = voxels(rng)
    answer = served.get(served.gateway.register_volume(ME, write(served, "a.nii.gz", array)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.headers  # or a browser would unpack it twice
    assert answer.headers["cache-control"].startswith("private")
    image = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    for index in np.ndindex(array.shape):
        place = apply_affine(np.linalg.inv(image.affine) @ oblique(), index)
        assert np.asarray(image.dataobj)[tuple(np.rint(place).astype(int))] == array[index]


def test_labels_are_bytes_until_they_need_more(served: Served, rng: np.random.Generator) -> None:
    few = write(served, "few.nii.gz", voxels(rng, np.uint16))
    many = write(served, "many.nii.gz", (voxels(rng).astype(np.uint16) * 2))
    for source, dtype in ((few, np.uint8), (many, np.uint16)):
        answer = served.get(served.gateway.register_labels(ME, source))
        image = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
        assert image.get_data_dtype() == dtype


def test_map_is_a_few_kilobytes_and_keeps_its_peak(served: Served) -> None:
    shape, peak = (256, 256, 100), np.array([60, 180, 70])
    grid = np.indices(shape, dtype=np.float32)
    cam = np.exp(-(((grid - peak.reshape(3, 1, 1, 1)) / 25) ** 2).sum(0)).astype(np.float32)
    source = write(served, "cam.nii.gz", cam)
    answer = served.get(served.gateway.register_map(ME, source))
    assert len(answer.content) < 20_000
    image = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    assert image.get_data_dtype() == np.uint8
    assert max(image.shape) <= LARGEST_SIDE
    top = np.unravel_index(np.asarray(image.dataobj).argmax(), image.shape)
    there = apply_affine(np.linalg.inv(oblique()) @ image.affine, top)
    assert np.abs(there - peak).max() <= 4.5  # half a block of 8, and its own centre


@pytest.mark.parametrize("size", [31, 32, 33, 100])
def test_blocks_of_a_coarse_map_lie_over_the_voxels_they_stand_for(size: int) -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, size)[:, None, None], (size, 4, 4))
    volume = Volume(ramp, Geometry.from_parts(shape=ramp.shape, spacing_mm=(1, 1, 1)))
    coarse = coarse_map(volume)
    centres = points_to_space(
        coarse.geometry.affine_lps, [(i, 0, 0) for i in range(coarse.array.shape[0] - 1)]
    )
    expected = centres[:, 0] / (size - 1)
    assert coarse.array[:-1, 0, 0] / 255 == pytest.approx(expected, abs=0.003)


def test_regular_grid_and_back_is_the_same_array(rng: np.random.Generator) -> None:
    array = voxels(rng)
    volume = Volume(array, Geometry(array.shape, np.diag([-1.0, -1, 1, 1]) @ oblique()))
    assert np.array_equal(from_regular(as_regular(volume).array, volume.geometry), array)


def test_a_page_that_runs_again_gets_the_same_address(
    served: Served, rng: np.random.Generator
) -> None:
    source = write(served, "a.nii.gz", voxels(rng))
    first = served.gateway.register_volume(ME, source)
    assert served.gateway.register_volume(ME, source) == first
    assert served.gateway.register_volume(OTHER, source) != first


def test_addresses_die_with_their_session(served: Served, rng: np.random.Generator) -> None:
    source = write(served, "a.nii.gz", voxels(rng))
    mine = served.gateway.register_volume(ME, source)
    theirs = served.gateway.register_volume(OTHER, source)
    assert served.get(mine).status_code == 200
    served.active.discard(ME)
    assert served.get(mine).status_code == 403
    assert served.get(theirs).status_code == 200


@pytest.mark.parametrize(
    "path", ["medmtl/volume/guess.nii.gz", "medmtl/slice/guess", "medmtl/slice/guess/info"]
)
def test_a_guessed_token_opens_nothing(served: Served, path: str) -> None:
    assert served.get(path).status_code == 403


def test_no_path_leaves_its_folder(served: Served, rng: np.random.Generator) -> None:
    outside = served.folder.parent / "secret.nii.gz"
    nib.save(nib.Nifti1Image(voxels(rng), np.eye(4)), outside)
    (served.folder / "link.nii.gz").symlink_to(outside)
    for name in ("../secret.nii.gz", str(outside), "link.nii.gz"):
        with pytest.raises(OutsideError, match="leads out"):
            served.gateway.register_volume(ME, NiftiSource(served.folder, name))
        with pytest.raises(OutsideError):
            NiftiSource(served.folder, name).read()


@pytest.mark.parametrize(
    "name", ["../routes.py", "..%2Froutes.py", "%2e%2e/routes.py", "style.css"]
)
def test_only_the_built_files_are_assets(served: Served, name: str) -> None:
    assert served.get(f"medmtl/asset/{name}").status_code == 404


def test_built_viewer_may_be_kept_for_ever(served: Served) -> None:
    answer = served.get(asset_url("volume_viewer.js"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


def test_built_viewer_is_that_of_the_sources() -> None:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "app" / "frontend" / "src").iterdir()):
        digest.update(path.read_bytes())
    banner = asset_path("volume_viewer.js").read_text(encoding="utf-8").splitlines()[0]
    assert digest.hexdigest()[:16] in banner, "run `make frontend`"


def test_damaged_volume_is_said_in_words(served: Served) -> None:
    (served.folder / "bad.nii.gz").write_bytes(gzip.compress(b"no image"))
    answer = served.get(
        served.gateway.register_volume(ME, NiftiSource(served.folder, "bad.nii.gz"))
    )
    assert answer.status_code == 422
    assert "bad.nii.gz" in answer.text


def test_changed_file_has_a_new_address(served: Served, rng: np.random.Generator) -> None:
    source = write(served, "a.nii.gz", voxels(rng))
    before = served.gateway.register_volume(ME, source)
    write(served, "a.nii.gz", rng.integers(0, 9, (20, 20, 20)).astype(np.int16))
    assert served.gateway.register_volume(ME, source) != before


@dataclass
class Saved:
    """What a mask writer was given."""

    masks: list[tuple[NDArray[Any], Geometry]] = field(default_factory=list)
    bases: list[VolumeSource | None] = field(default_factory=list)

    def __call__(self, mask: NDArray[Any], geometry: Geometry, base: VolumeSource | None) -> None:
        self.masks.append((mask, geometry))
        self.bases.append(base)


def test_edited_mask_comes_back_on_the_source_grid(
    served: Served, rng: np.random.Generator
) -> None:
    array, saved = voxels(rng), Saved()
    source = write(served, "a.nii.gz", array)
    served.get(served.gateway.register_volume(ME, source))
    mask = (array > 100).astype(np.uint8)
    regular = as_regular(source.read().with_array(mask)).array
    url = served.gateway.register_mask_writer(ME, source, save=saved)
    body = gzip.compress(regular.tobytes(order="F"))
    answer = served.client.post(f"/base/{url}?dtype=uint8", content=body)
    assert answer.json() == {"voxels": int(mask.sum())}
    ((written, geometry),) = saved.masks
    assert np.array_equal(written, mask)
    assert geometry.is_close(source.read().geometry)


def test_an_edited_mask_says_which_mask_was_edited(
    served: Served, rng: np.random.Generator
) -> None:
    source, saved = write(served, "a.nii.gz", voxels(rng, np.uint8)), Saved()
    url = served.gateway.register_mask_writer(ME, source, save=saved)
    for base in (
        served.gateway.register_labels(ME, source), served.gateway.register_volume(ME, source), "",
    ):  # fmt: skip
        body = gzip.compress(bytes(source.read().array.size))
        assert served.client.post(f"/base/{url}", params={"base": base}, content=body).is_success
    assert saved.bases == [source, None, None]


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip",
        gzip.compress(b"short"),
        gzip.compress(bytes(9 * 7 * 5 + 1)),
        gzip.compress(bytes(50_000_000)),  # 50 kB that would become 50 MB
        bytes(1_000_000),
        gzip.compress(bytes(9 * 7 * 5))[:-4],
    ],
    ids=["junk", "short", "long", "bomb", "large", "cut"],
)
def test_anything_but_the_voxels_is_no_mask(
    served: Served, rng: np.random.Generator, body: bytes
) -> None:
    saved = Saved()
    url = served.gateway.register_mask_writer(
        ME, write(served, "a.nii.gz", voxels(rng)), save=saved
    )
    assert served.client.post(f"/base/{url}", content=body).status_code == 400
    assert not saved.masks


def test_mask_that_cannot_be_written_is_no_success(
    served: Served, rng: np.random.Generator
) -> None:
    def full(mask: NDArray[Any], geometry: Geometry, base: VolumeSource | None) -> None:
        raise OSError(28, "No space left on device")

    url = served.gateway.register_mask_writer(ME, write(served, "a.nii.gz", voxels(rng)), save=full)
    answer = served.client.post(f"/base/{url}", content=gzip.compress(bytes(9 * 7 * 5)))
    assert answer.status_code == 507
    assert "No space left" in answer.text


def axial(**further: Any) -> dict[str, Any]:
    """A plane of 40 x 30 pixels of 1 mm around the middle of `cube`."""
    return {
        "origin_lps": [-19.5, -14.5, 0.0], "right_mm": [1, 0, 0], "down_mm": [0, 1, 0],
        "width": 40, "height": 30, "window": [0, 100], **further,
    }  # fmt: skip


@pytest.fixture
def stack(served: Served) -> str:
    """An image of 40 x 30 x 10 mm: bright on the patient's left, label 1 in front."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0])
    affine[:3, 3] = (19.5, 14.5, -4.5)
    image = np.zeros((40, 30, 10), dtype=np.int16)
    image[20:] = 100
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[:, :10] = 1
    cam = np.zeros(image.shape, dtype=np.float32)
    cam[:, 20:] = 1.0
    for name, array in (("i", image), ("l", labels), ("m", cam)):
        nib.save(nib.Nifti1Image(array, affine), served.folder / f"{name}.nii.gz")
    source, mask, heat = (NiftiSource(served.folder, f"{name}.nii.gz") for name in "ilm")
    return served.gateway.register_slices(ME, source, labels=mask, maps={"x": heat})


def drawn(served: Served, stack: str, query: dict[str, Any]) -> NDArray[np.uint8]:
    answer = served.client.get(f"/base/{stack}", params={"q": json.dumps(query)})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_slice_drawn_here_has_left_on_the_right(served: Served, stack: str) -> None:
    picture = drawn(served, stack, axial())
    assert picture.shape == (30, 40, 3)
    assert picture[:, :20].max() == 0
    assert picture[:, 20:].min() == 255
    assert drawn(served, stack, axial(is_inverted=True))[:, :20].min() == 255


def test_slice_drawn_here_has_masks_and_map(served: Served, stack: str) -> None:
    orange = {"label": 1, "colour": [255, 128, 0], "opacity": 1.0}
    picture = drawn(served, stack, axial(segments=[orange]))
    assert (picture[:10] == (255, 128, 0)).all()
    outline = drawn(served, stack, axial(segments=[{**orange, "is_outline": True}]))
    assert (outline[9] == (255, 128, 0)).all()
    assert (outline[5, :20] == 0).all()
    cam = {
        "finding": "x",
        "threshold": 0.5,
        "opacity": 1.0,
        "colours": "viridis",
        "low": 0,
        "high": 1,
    }
    heat = drawn(served, stack, axial(cam=cam))
    assert (heat[25] == heat[25, 0]).all()
    assert heat[25, 0].tolist() == [253, 231, 37]  # the upper end of viridis
    assert (heat[15, :20] == 0).all()


def test_another_mask_on_the_same_image_is_another_picture(
    served: Served, rng: np.random.Generator
) -> None:
    image = write(served, "a.nii.gz", voxels(rng))
    masks = [write(served, name, voxels(rng, np.uint8)) for name in ("m.nii.gz", "n.nii.gz")]
    old, new = (served.gateway.register_slices(ME, image, labels=mask) for mask in masks)
    assert old != new
    assert served.gateway.register_slices(ME, image, labels=masks[0]) == old


def test_facts_and_value_of_a_slice_stack(served: Served, stack: str) -> None:
    facts = served.get(f"{stack}/info").json()
    assert facts["shape"] == [40, 30, 10]
    assert facts["percentiles"] == [0.0, 100.0]
    value = served.client.get(f"/base/{stack}/value", params={"x": 10, "y": -10, "z": 0}).json()
    assert value == {"value": 100.0, "label": 1}
    outside = served.client.get(f"/base/{stack}/value", params={"x": 999, "y": 0, "z": 0}).json()
    assert outside == {"value": None, "label": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"width": 100_000},
        {"window": [0, "x"]},
        {"more": 1},
        {"origin_lps": [0, 0]},
        {"right_mm": [1e9, 0, 0]},
    ],
)
def test_slice_query_out_of_range_is_refused(
    served: Served, stack: str, change: dict[str, Any]
) -> None:
    answer = served.client.get(f"/base/{stack}", params={"q": json.dumps(axial(**change))})
    assert answer.status_code == 400
    assert next(iter(change)) in answer.text


def test_maps_are_prepared_once_the_image_is(served: Served, rng: np.random.Generator) -> None:
    image = write(served, "a.nii.gz", voxels(rng))
    cam = write(served, "m.nii.gz", voxels(rng, np.float32) / 200)
    bad = NiftiSource(served.folder, "bad.nii.gz")
    (served.folder / "bad.nii.gz").write_bytes(b"damaged")
    served.gateway.register_slices(ME, image, maps={"bad": bad, "x": cam})
    cache = served.folder.parent / "cache"
    assert not list(cache.iterdir())
    served.get(served.gateway.register_volume(ME, image))
    made = cache / f"{cam.key}.map.nii.gz"
    for _ in range(200):
        if made.is_file():
            break
        time.sleep(0.05)
    assert made.is_file()


def test_least_recently_used_files_make_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=250)

    def make(path: Path) -> None:
        path.write_bytes(bytes(100))

    for name in ("a", "b", "a", "c"):
        cache.get(name, make)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_failed_making_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=250)

    def fail(path: Path) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail)

    def make(path: Path) -> None:
        path.write_bytes(b"x")

    assert cache.get("a", make).read_bytes() == b"x"
